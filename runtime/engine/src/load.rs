//! Mapping compiled code: the one place with unsafe code.
//!
//! In flow a sealed file and the key, out flows a handle; whoever starts an instance opens it and gets the
//! component, mapped and linked against its engine's host functions. What nobody uses is unmapped after a
//! while ([`Residency`](crate::residency)) and mapped again when it is next opened: a handle alone costs a few
//! hundred bytes.
//!
//! What is authenticated is what is mapped: the file is opened once, verified through that descriptor
//! (`sealed.rs` says what that means for a file that was mapped before), and mapped through the same
//! descriptor (`/proc/self/fd`), so a swapped path changes nothing. Between the two, and for as long as it is
//! mapped, only a process of the node's own user could alter the file: it must be a regular file of that user
//! which nobody may write, and `Sealing` makes it so and never touches it again.

use std::{
    fmt,
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use gilliam_model::{code::Code, image::Shape};
use wasmtime::{Engine, component::Component};
use wasmtime_wasi_http::{p2::bindings::ProxyPre, p3::bindings::ServicePre};

use crate::{
    compile::{Artefact, CompileKey, Tier},
    engines::{EngineKind, Engines, KindEngine},
    failure::Failure,
    guest::Guest,
    job::WorkerPre,
    lane::Lane,
    residency::Mapped,
    sealed::{self, Stamp, read_error, shown},
    slots::Slots,
    warm::Warm,
};

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
    /// The component's tables, memories or instances are more or larger than an engine holds.
    #[error("the component is too large to run: {0}")]
    TooLarge(String),
    /// The component imports what the platform does not offer, or lacks the exports of its shape.
    #[error("cannot link the component: {0}")]
    Link(String),
}

impl LoadError {
    /// Whether compiling the component anew would help.
    pub fn recompile(&self) -> bool {
        !matches!(self, LoadError::Link(_) | LoadError::TooLarge(_))
    }
}

/// A component that instances of any number start from: mapped when it is opened, and as long as it is used.
/// Cheap to clone.
#[derive(Clone)]
pub struct Loaded(Arc<Handle>);

struct Handle {
    engines: Engines,
    shape: Shape,
    engine: EngineKind,
    key: CompileKey,
    state: Mutex<State>,
    /// Held by whoever maps the file; others wait for what comes of it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    artefact: Artefact,
    path: Arc<Path>,
    open: Weak<Open>,
    /// Of the file when it was last found authentic.
    stamp: Option<Stamp>,
}

/// A component, mapped and linked, for as long as this is held.
pub(crate) type Open = Mapped<Pre>;

/// The linked component, by shape.
pub(crate) enum Pre {
    HttpP2(ProxyPre<Guest>),
    HttpP3(ServicePre<Guest>),
    CommandP2(wasmtime_wasi::p2::bindings::CommandPre<Guest>),
    CommandP3(wasmtime_wasi::p3::bindings::CommandPre<Guest>),
    Job(WorkerPre),
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("artefact", &self.artefact())
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// What was loaded.
    pub fn artefact(&self) -> Artefact {
        self.0.state().artefact
    }

    /// Puts another build of the same component in the place of the one that was loaded: lanes and commands
    /// that start from now on run it. Blocks, as [`load`] does.
    pub fn swap(&self, tier: Tier, path: &Path) -> Result<(), LoadError> {
        let artefact = Artefact {
            tier,
            ..self.artefact()
        };
        let (open, stamp) = self.0.map_file(&artefact, path, None)?;
        let old = {
            let mut state = self.0.state();
            let old = state.open.upgrade();
            *state = State {
                artefact,
                path: path.into(),
                open: Arc::downgrade(&open),
                stamp,
            };
            old
        };
        if let Some(old) = old {
            self.engines().residency().forget(&old);
        }
        Ok(())
    }

    /// Whether a lane that starts now would run this very code.
    pub(crate) fn is_current(&self, open: &Arc<Open>) -> bool {
        Weak::as_ptr(&self.0.state().open) == Arc::as_ptr(open)
    }

    /// Whether its code is mapped now.
    pub fn is_open(&self) -> bool {
        self.0.state().open.strong_count() > 0
    }

    /// The component, mapped on a blocking thread if it is not mapped yet. Those who ask at once share one
    /// mapping, also when some of them give up. Must run within a tokio runtime.
    pub(crate) async fn open(&self) -> Result<Arc<Open>, Failure> {
        if let Some(open) = self.opened() {
            return Ok(open);
        }
        let turn = self.0.turn.clone().lock_owned().await;
        if let Some(open) = self.opened() {
            return Ok(open);
        }
        let mapping = self
            .engines()
            .residency()
            .mappings()
            .clone()
            .acquire_owned()
            .await;
        let mapping = mapping.expect("the semaphore is never closed");
        let handle = self.0.clone();
        let map = move || {
            let open = handle.map();
            drop((turn, mapping));
            open
        };
        let open = tokio::task::spawn_blocking(map)
            .await
            .map_err(|error| Failure::new(Code::R99, error.to_string()))?;
        open.map_err(|error| {
            // The path is not the app's business.
            tracing::error!(%error, digest = %self.artefact().digest, "cannot map compiled code again");
            Failure::new(Code::R99, "its compiled code cannot be mapped again")
        })
    }

    fn opened(&self) -> Option<Arc<Open>> {
        let open = self.0.state().open.upgrade()?;
        self.engines().residency().used(&open);
        Some(open)
    }

    pub(crate) fn engines(&self) -> &Engines {
        &self.0.engines
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.kind().engine
    }

    /// The slots that its instances run in.
    pub(crate) fn slots(&self) -> &Slots {
        &self.kind().slots
    }

    fn kind(&self) -> &KindEngine {
        let kind = self.engines().kind(self.0.engine);
        kind.expect("it was loaded into that engine")
    }

    /// The idle lanes in those slots, of all instances.
    pub(crate) fn warm(&self) -> &Arc<Warm<Lane>> {
        &self.kind().warm
    }
}

/// Verifies, maps and links compiled code. Reads the whole file once (about 1 GB/s and more): run it where
/// blocking is allowed.
pub fn load(
    engines: &Engines,
    artefact: &Artefact,
    key: &CompileKey,
    path: &Path,
) -> Result<Loaded, LoadError> {
    let handle = Arc::new(Handle {
        engines: engines.clone(),
        shape: artefact.shape,
        engine: artefact.engine,
        key: key.clone(),
        state: Mutex::new(State {
            artefact: *artefact,
            path: path.into(),
            open: Weak::new(),
            stamp: None,
        }),
        turn: Arc::default(),
    });
    handle.map()?;
    Ok(Loaded(handle))
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(open) = self.state().open.upgrade() {
            self.engines.residency().forget(&open);
        }
    }
}

impl Handle {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn map(&self) -> Result<Arc<Open>, LoadError> {
        let (artefact, path, known) = {
            let state = self.state();
            (state.artefact, state.path.clone(), state.stamp)
        };
        let (open, stamp) = self.map_file(&artefact, &path, known)?;
        let mut state = self.state();
        // Unless another build came meanwhile.
        if state.artefact == artefact {
            state.stamp = stamp;
            state.open = Arc::downgrade(&open);
        }
        Ok(open)
    }

    fn map_file(
        &self,
        artefact: &Artefact,
        path: &Path,
        known: Option<Stamp>,
    ) -> Result<(Arc<Open>, Option<Stamp>), LoadError> {
        let kind = self.engines.kind(self.engine);
        let kind = kind.ok_or_else(|| LoadError::Stale { path: shown(path) })?;
        let mut file = File::open(path).map_err(|source| read_error(path, source))?;
        let authentic = sealed::verify(&mut file, path, artefact, &self.key, &kind.settings, known)?;
        let component = map(&kind.engine, &file).map_err(|error| match too_large(&error) {
            Some(message) => LoadError::TooLarge(message),
            None => LoadError::Map {
                path: shown(path),
                message: format!("{error:#}"),
            },
        })?;
        let link = || -> wasmtime::Result<Pre> {
            let pre = kind.linker.instantiate_pre(&component)?;
            Ok(match self.shape {
                Shape::HttpP2 => Pre::HttpP2(ProxyPre::new(pre)?),
                Shape::HttpP3 => Pre::HttpP3(ServicePre::new(pre)?),
                Shape::CommandP2 => Pre::CommandP2(wasmtime_wasi::p2::bindings::CommandPre::new(pre)?),
                Shape::CommandP3 => Pre::CommandP3(wasmtime_wasi::p3::bindings::CommandPre::new(pre)?),
                Shape::Job => Pre::Job(WorkerPre::new(pre)?),
            })
        };
        let pre = link().map_err(|error| LoadError::Link(format!("{error:#}")))?;
        let open = self.engines.residency().admit(pre, authentic.bytes);
        Ok((open, authentic.stamp))
    }
}

/// Why a component does not fit its engine's pool. That error has no public type; its text is part of the
/// pinned version and held by a test.
fn too_large(error: &wasmtime::Error) -> Option<String> {
    let is_pools = format!("{error:#}").contains("does not fit in pooling allocator requirements");
    is_pools.then(|| error.root_cause().to_string())
}

#[allow(
    unsafe_code,
    reason = "wasmtime maps compiled code as executable; it cannot check where it came from"
)]
fn map(engine: &Engine, file: &File) -> wasmtime::Result<Component> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: `deserialize_file` needs a file that `precompile_component` made and that does not change
    // while it is mapped. `sealed::verify` has just found that this very descriptor's file is one whose MAC was checked
    // under a key that only this node has, which `seal` gives to nothing but compiled code; the file is
    // this user's and writable by nobody, and the path names the descriptor, not a name in a folder.
    unsafe { Component::deserialize_file(engine, path) }
}
