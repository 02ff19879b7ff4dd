//! Compiling components, and sealing what was compiled.
//!
//! In flow a component's bytes, out flows compiled code ([`compile`]); in flows compiled code with the key, out
//! flows a sealed file that `load` accepts ([`Sealing`]). The two are apart: the caller runs [`compile`] in a
//! child process with limits on time and memory, for a crafted component can cost plenty of both and may take
//! the compiler over, and that child never sees the key. It can spoil the code of its own component, no other.
//!
//! A component has up to two builds ([`Tier`]). A sealed file is the compiled code (an ELF image, mapped as it
//! is), then the hash of the engine settings it is for, then a keyed BLAKE3 MAC over digest, tier, settings,
//! code and length.
//!
//! Invariant: compiled code is made by this function or not at all; nothing a user uploads is ever treated
//! as such.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use gilliam_model::{digest::Digest, image::Shape};
use wasmtime::Engine;

use crate::{
    engines::{self, EngineKind, Engines},
    inspect::{self, inspect},
};

/// What the MAC covers first, so that the key's other uses and later formats cannot be confused with this
/// one.
const MAC_CONTEXT: &[u8] = b"gilliam compiled code, format 2";
/// Drafts of one file at once: one that is given up, and another one that has begun.
const DRAFTS_MAX: u32 = 8;
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

/// How much work went into compiled code. What a guest does is the same with both, and so is its fuel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// All of Cranelift's optimisations.
    #[default]
    Optimised,
    /// None, and the fast register allocator where its frames are not too large for the call stack: a component
    /// to start with, in half to three quarters of the time.
    Quick,
}

impl Tier {
    /// Both.
    pub const ALL: [Tier; 2] = [Tier::Optimised, Tier::Quick];

    /// Its name in file names, arguments and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Optimised => "optimised",
            Tier::Quick => "quick",
        }
    }
}

/// A component as it is to be run: which bytes, in which shape, built how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Artefact {
    /// How it is run.
    pub shape: Shape,
    /// The engine that was chosen for it.
    pub engine: EngineKind,
    /// The component's digest; the caller has verified it.
    pub digest: Digest,
    /// Which build of it.
    pub tier: Tier,
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

/// Compiles a component of `shape` for `kind`. Takes seconds of CPU and hundreds of megabytes for large
/// components.
pub fn compile(
    shape: Shape,
    kind: EngineKind,
    tier: Tier,
    component: &[u8],
) -> Result<Vec<u8>, CompileError> {
    let found = inspect(component).map_err(|error| CompileError::Component(error.to_string()))?;
    if found != shape {
        let message = format!("its shape is {found}, not {shape}");
        return Err(CompileError::Component(message));
    }
    if !EngineKind::candidates(shape, false).contains(&kind) {
        return Err(CompileError::Setup(format!("{kind} runs no {shape}")));
    }
    let engine = engines::compiler(kind, tier, inspect::function_bytes_max(component));
    let engine = engine.map_err(|error| CompileError::Setup(format!("{error:#}")))?;
    engine
        .precompile_component(component)
        .map_err(|error| CompileError::Component(format!("{error:#}")))
}

/// A sealed file on its way: compiled code is written to it piece by piece, and [`Sealing::finish`] puts it in
/// its place. Dropped before, it leaves nothing.
#[derive(Debug)]
pub struct Sealing {
    path: PathBuf,
    draft: PathBuf,
    /// None once it is in its place.
    file: Option<File>,
    settings: SettingsHash,
    mac: Mac,
    bytes: u64,
}

impl Sealing {
    /// Begins the file `path`. Its folder is the caller's: private (0700), on one file system; leftovers of
    /// killed processes are its to remove.
    pub fn create(engines: &Engines, artefact: &Artefact, key: &CompileKey, path: &Path) -> io::Result<Self> {
        let kind = engines.kind(artefact.engine).ok_or(io::ErrorKind::Unsupported)?;
        Self::with_settings(kind.settings, artefact, key, path)
    }

    fn with_settings(
        settings: SettingsHash,
        artefact: &Artefact,
        key: &CompileKey,
        path: &Path,
    ) -> io::Result<Self> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let (name, process) = (name.display(), std::process::id());
        // A draft of its own for each that is under way, however many follow each other.
        let drafts = (0..DRAFTS_MAX).map(|number| folder.join(format!(".{name}.{process}-{number}.draft")));
        let create = |draft: PathBuf| {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o400)
                .open(&draft);
            match file {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                file => Some(file.map(|file| (file, draft))),
            }
        };
        let created = drafts.into_iter().find_map(create);
        let (file, draft) = created.ok_or(io::ErrorKind::AlreadyExists)??;
        Ok(Self {
            path: path.to_owned(),
            draft,
            file: Some(file),
            settings,
            mac: Mac::new(key, artefact, &settings),
            bytes: 0,
        })
    }

    /// Seals what was written, and puts it in its place, atomically and durably, readable by the owner alone.
    pub fn finish(mut self) -> io::Result<()> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        let mut put = || {
            file.write_all(&self.settings.0)?;
            file.write_all(self.mac.finish(self.bytes).as_bytes())?;
            file.sync_all()?;
            fs::rename(&self.draft, &self.path)?;
            let folder = self.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
            File::open(folder)?.sync_all()
        };
        put().inspect_err(|_| {
            let _ = fs::remove_file(&self.draft);
        })
    }
}

/// Writes compiled code and its seal to `path`, as [`Sealing`] does.
pub fn write_sealed(path: &Path, key: &CompileKey, artefact: &Artefact, code: &[u8]) -> io::Result<()> {
    let engine = engines::compiler(artefact.engine, Tier::Optimised, 0).map_err(io::Error::other)?;
    let mut sealing = Sealing::with_settings(SettingsHash::of(&engine), artefact, key, path)?;
    sealing.write_all(code)?;
    sealing.finish()
}

impl Write for Sealing {
    fn write(&mut self, code: &[u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let written = file.write(code)?;
        self.mac.update(&code[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Sealing {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.draft);
        }
    }
}

/// The name of the file that holds an artefact's compiled code.
pub(crate) fn file_name(artefact: &Artefact, settings: &SettingsHash) -> String {
    let hash = blake3::Hash::from_bytes(settings.0).to_hex();
    let tier = match artefact.tier {
        Tier::Optimised => "",
        Tier::Quick => ".quick",
    };
    format!("{}-{}{tier}.cwasm", artefact.digest.hex(), &hash[..16])
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

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mac(..)")
    }
}

impl Mac {
    pub(crate) fn new(key: &CompileKey, artefact: &Artefact, settings: &SettingsHash) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&key.0);
        hasher.update(MAC_CONTEXT);
        // Of one length for all.
        hasher.update(artefact.digest.to_string().as_bytes());
        hasher.update(&[u8::from(artefact.tier == Tier::Quick)]);
        hasher.update(&settings.0);
        Self(hasher)
    }

    pub(crate) fn update(&mut self, code: &[u8]) {
        self.0.update(code);
    }

    /// Compared in constant time by its `PartialEq`.
    pub(crate) fn finish(&mut self, code_bytes: u64) -> blake3::Hash {
        self.0.update(&code_bytes.to_le_bytes());
        self.0.finalize()
    }
}
