//! Mapping compiled code: the one place with unsafe code.
//!
//! In flow a sealed file and the key, out flows a component linked against its engine's host functions.
//!
//! What is authenticated is what is mapped: the file is opened once, read through that descriptor to verify
//! its MAC, and mapped through the same descriptor (`/proc/self/fd`), so a swapped path changes nothing.
//! Between the two, and for as long as it is mapped, only a process of the node's own user could alter the
//! file: it must be a regular file of that user which nobody may write, and `write_sealed` makes it so and
//! never touches it again.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
    sync::Arc,
};

use gilliam_model::image::Shape;
use wasmtime::{Engine, component::Component};
use wasmtime_wasi_http::{p2::bindings::ProxyPre, p3::bindings::ServicePre};

use crate::{
    compile::{Artefact, CompileKey, Mac, SettingsHash, TRAILER_BYTES},
    engines::Engines,
    guest::Guest,
    slots::Slots,
};

/// Bytes read at a time while a file is verified.
const READ_BYTES: usize = 1 << 20;
/// Permission bits that let anybody write.
const MODE_WRITE: u32 = 0o222;

/// Why compiled code could not be loaded. [`LoadError::recompile`] says whether to compile again.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read compiled code from {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Made for another engine or version.
    #[error("compiled code in {path} was made for other engine settings")]
    Stale {
        /// The file.
        path: String,
    },
    /// Not made by this node for this component, altered since, or open to alteration.
    #[error("compiled code in {path} is not authentic: {reason}")]
    Unauthentic {
        /// The file.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Authentic, but wasmtime refuses it.
    #[error("cannot map compiled code from {path}: {message}")]
    Map {
        /// The file.
        path: String,
        /// wasmtime's message.
        message: String,
    },
    /// The component imports what the platform does not offer, or lacks the exports of its shape.
    #[error("cannot link the component: {0}")]
    Link(String),
}

impl LoadError {
    /// Whether compiling the component anew would help.
    pub fn recompile(&self) -> bool {
        !matches!(self, LoadError::Link(_))
    }
}

/// A component, mapped and linked: instances of any number start from it. Cheap to clone.
#[derive(Clone)]
pub struct Loaded(pub(crate) Arc<LoadedInner>);

pub(crate) struct LoadedInner {
    pub(crate) engines: Engines,
    pub(crate) artefact: Artefact,
    pub(crate) pre: Pre,
}

/// The linked component, by shape.
pub(crate) enum Pre {
    HttpP2(ProxyPre<Guest>),
    HttpP3(ServicePre<Guest>),
    CommandP2(wasmtime_wasi::p2::bindings::CommandPre<Guest>),
    CommandP3(wasmtime_wasi::p3::bindings::CommandPre<Guest>),
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("artefact", &self.0.artefact)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// What was loaded.
    pub fn artefact(&self) -> Artefact {
        self.0.artefact
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engines.kind(self.0.artefact.shape).engine
    }

    /// The slots that its instances run in.
    pub(crate) fn slots(&self) -> &Slots {
        &self.0.engines.kind(self.0.artefact.shape).slots
    }
}

/// Verifies and maps compiled code. Reads the whole file once (about 1 GB/s and more): run it where
/// blocking is allowed.
pub fn load(
    engines: &Engines,
    artefact: &Artefact,
    key: &CompileKey,
    path: &Path,
) -> Result<Loaded, LoadError> {
    let kind = engines.kind(artefact.shape);
    let shown = || path.display().to_string();
    let mut file = File::open(path).map_err(|source| LoadError::Read {
        path: shown(),
        source,
    })?;
    verify(&mut file, artefact, key, &kind.settings, &shown)?;
    let component = map(&kind.engine, &file).map_err(|error| LoadError::Map {
        path: shown(),
        message: format!("{error:#}"),
    })?;
    let link = || -> wasmtime::Result<Pre> {
        let pre = kind.linker.instantiate_pre(&component)?;
        Ok(match artefact.shape {
            Shape::HttpP2 => Pre::HttpP2(ProxyPre::new(pre)?),
            Shape::HttpP3 => Pre::HttpP3(ServicePre::new(pre)?),
            Shape::CommandP2 => Pre::CommandP2(wasmtime_wasi::p2::bindings::CommandPre::new(pre)?),
            Shape::CommandP3 => Pre::CommandP3(wasmtime_wasi::p3::bindings::CommandPre::new(pre)?),
        })
    };
    let pre = link().map_err(|error| LoadError::Link(format!("{error:#}")))?;
    Ok(Loaded(Arc::new(LoadedInner {
        engines: engines.clone(),
        artefact: *artefact,
        pre,
    })))
}

fn verify(
    file: &mut File,
    artefact: &Artefact,
    key: &CompileKey,
    settings: &SettingsHash,
    shown: &dyn Fn() -> String,
) -> Result<(), LoadError> {
    let read = |source| LoadError::Read {
        path: shown(),
        source,
    };
    let unauthentic = |reason| LoadError::Unauthentic {
        path: shown(),
        reason,
    };
    let meta = file.metadata().map_err(read)?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(unauthentic("not a file of this user"));
    }
    if meta.mode() & MODE_WRITE != 0 {
        return Err(unauthentic("the file is writable"));
    }
    let code_bytes = meta
        .len()
        .checked_sub(TRAILER_BYTES as u64)
        .ok_or_else(|| unauthentic("too short"))?;
    let mut mac = Mac::new(key, &artefact.digest, settings, code_bytes);
    let mut buffer = vec![0; READ_BYTES];
    let mut left = code_bytes;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
        file.read_exact(&mut buffer[..want]).map_err(read)?;
        mac.update(&buffer[..want]);
        left -= want as u64;
    }
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact(&mut trailer).map_err(read)?;
    let (made_for, tag) = trailer.split_at(32);
    if made_for != settings.0 {
        return Err(LoadError::Stale { path: shown() });
    }
    let tag: [u8; 32] = tag.try_into().map_err(|_| unauthentic("too short"))?;
    if mac.finish() != blake3::Hash::from_bytes(tag) {
        return Err(unauthentic("the seal does not match"));
    }
    Ok(())
}

#[allow(
    unsafe_code,
    reason = "wasmtime maps compiled code as executable; it cannot check where it came from"
)]
fn map(engine: &Engine, file: &File) -> wasmtime::Result<Component> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: `deserialize_file` needs a file that `precompile_component` made and that does not change
    // while it is mapped. `verify` has just checked a MAC over the content of this very descriptor's file
    // under a key that only this node has, which `seal` gives to nothing but compiled code; the file is
    // this user's and writable by nobody, and the path names the descriptor, not a name in a folder.
    unsafe { Component::deserialize_file(engine, path) }
}
