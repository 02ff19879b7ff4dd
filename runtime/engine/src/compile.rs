//! Compiling components, and sealing what was compiled.
//!
//! In flow a component's bytes, out flows compiled code; with a key, a sealed file that `load` accepts. The
//! caller runs [`compile`] in a child process with limits on time and memory, for a crafted component can
//! cost plenty of both, and seals what came back.
//!
//! A sealed file is the compiled code (an ELF image, mapped as it is), then the hash of the engine settings
//! it was made for, then a keyed BLAKE3 MAC over digest, settings, length and code.
//!
//! Invariant: compiled code is made by this function or not at all; nothing a user uploads is ever treated
//! as such.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use gilliam_model::{digest::Digest, image::Shape};
use wasmtime::Engine;

use crate::{
    engines::{self, EngineKind},
    inspect::inspect,
};

/// What the MAC covers first, so that the key's other uses and later formats cannot be confused with this
/// one.
const MAC_CONTEXT: &[u8] = b"gilliam compiled code, format 1";
/// Bytes behind the code: settings hash and MAC.
pub(crate) const TRAILER_BYTES: usize = 64;

/// The key that authenticates compiled code: 32 random bytes that never leave the node.
#[derive(Clone)]
pub struct CompileKey([u8; 32]);

impl CompileKey {
    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for CompileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompileKey(..)")
    }
}

/// A component as it is to be run: which bytes, in which shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Artefact {
    /// How it is run.
    pub shape: Shape,
    /// The engine that was chosen for it.
    pub engine: EngineKind,
    /// The component's digest; the caller has verified it.
    pub digest: Digest,
}

/// Why a component could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The compiler could not be set up.
    #[error("cannot set the compiler up: {0}")]
    Setup(String),
    /// The component is invalid, of another shape, or uses what the platform switches off.
    #[error("cannot compile the component: {0}")]
    Component(String),
}

/// Why compiled code could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The settings could not be computed.
    #[error("cannot compute the engine settings: {0}")]
    Settings(String),
    /// The file could not be written.
    #[error("cannot write compiled code to {path}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Compiles a component of `shape` for `kind`. Takes seconds of CPU and hundreds of megabytes for large
/// components.
pub fn compile(shape: Shape, kind: EngineKind, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let found = inspect(component).map_err(|error| CompileError::Component(error.to_string()))?;
    if found != shape {
        let message = format!("its shape is {found}, not {shape}");
        return Err(CompileError::Component(message));
    }
    if !EngineKind::candidates(shape, false).contains(&kind) {
        return Err(CompileError::Setup(format!("{kind} runs no {shape}")));
    }
    let engine = engines::compiler(kind).map_err(|error| CompileError::Setup(format!("{error:#}")))?;
    engine
        .precompile_component(component)
        .map_err(|error| CompileError::Component(format!("{error:#}")))
}

/// The bytes that authenticate `code` as compiled for `artefact` under `key`: what follows the code in a
/// sealed file.
pub fn seal(key: &CompileKey, artefact: &Artefact, code: &[u8]) -> Result<[u8; TRAILER_BYTES], SealError> {
    let engine =
        engines::compiler(artefact.engine).map_err(|error| SealError::Settings(format!("{error:#}")))?;
    let settings = SettingsHash::of(&engine);
    let mut mac = Mac::new(key, &artefact.digest, &settings, code.len() as u64);
    mac.update(code);
    let mut trailer = [0; TRAILER_BYTES];
    trailer[..32].copy_from_slice(&settings.0);
    trailer[32..].copy_from_slice(mac.finish().as_bytes());
    Ok(trailer)
}

/// Writes compiled code and its seal to `path`, atomically and durably, readable by the owner alone. The
/// folder is the caller's: private (0700), on one file system.
pub fn write_sealed(
    path: &Path,
    key: &CompileKey,
    artefact: &Artefact,
    code: &[u8],
) -> Result<(), SealError> {
    let trailer = seal(key, artefact, code)?;
    let write = || -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let name = path
            .file_name()
            .ok_or(io::ErrorKind::InvalidInput)?
            .to_string_lossy();
        // One writer per process and file name; a leftover of a killed one is replaced.
        let draft = folder.join(format!(".{name}.{}.draft", std::process::id()));
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&draft)?;
        file.write_all(code)?;
        file.write_all(&trailer)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| SealError::Write {
        path: path.display().to_string(),
        source,
    })
}

pub(crate) fn file_name(digest: &Digest, settings: &SettingsHash) -> String {
    let hash = blake3::Hash::from_bytes(settings.0).to_hex();
    format!("{}-{}.cwasm", digest.hex(), &hash[..16])
}

/// Everything of an engine that compiled code depends on, the version of wasmtime included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SettingsHash(pub(crate) [u8; 32]);

impl SettingsHash {
    pub(crate) fn of(engine: &Engine) -> Self {
        use std::hash::Hash as _;
        let mut hasher = Blake3Hasher(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(*hasher.0.finalize().as_bytes())
    }
}

struct Blake3Hasher(blake3::Hasher);

impl std::hash::Hasher for Blake3Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    fn finish(&self) -> u64 {
        0 // never asked for: the digest is taken from the hasher itself
    }
}

pub(crate) struct Mac(blake3::Hasher);

impl Mac {
    pub(crate) fn new(key: &CompileKey, digest: &Digest, settings: &SettingsHash, code_bytes: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&key.0);
        hasher.update(MAC_CONTEXT);
        hasher.update(digest.to_string().as_bytes());
        hasher.update(&settings.0);
        hasher.update(&code_bytes.to_le_bytes());
        Self(hasher)
    }

    pub(crate) fn update(&mut self, code: &[u8]) {
        self.0.update(code);
    }

    /// Compared in constant time by its `PartialEq`.
    pub(crate) fn finish(&self) -> blake3::Hash {
        self.0.finalize()
    }
}
