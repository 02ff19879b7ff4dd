//! From a process of an assignment to its loaded component: fetched, compiled once, mapped once, shared by
//! all instances.
//!
//! A component that takes long to compile starts with a quick build; the optimised one is made when nobody
//! waits for the compiler, and takes its place for whatever starts from then on.
//!
//! Invariant: a component is compiled in a child process with limits, never here.
//! Invariant: callers that want the same component at once share one attempt, its failure included.

mod compile;
mod shelf;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gilliam_engine::{Artefact, CompileKey, EngineKind, Engines, LoadError, Loaded, Tier, code_bytes, load};
use gilliam_model::{assignment::Assignment, code::Code, image::Process, log::LogStream, name::AppName};
use tokio::sync::OnceCell;

use crate::{
    blobs::{BlobError, Blobs, remove_files},
    compile_child::read_key,
    control::Control,
    lock::{node_folder, write_private},
    logs::Logs,
    machine,
};
use compile::{Compiler, Job, Urgency};
use shelf::Shelf;

/// Code beyond which a component starts with a quick build: its optimised one takes seconds.
const QUICK_FIRST_CODE_BYTES_MIN: u64 = 2 << 20;
/// The source of lines about builds in an app's log.
const LOG_SOURCE: &str = "compiler";

/// Why a component cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArtefactError {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// Whether it is for want of room on the disk.
    is_full: bool,
}

impl ArtefactError {
    fn new(code: Code, message: impl ToString) -> Self {
        Self {
            code,
            message: message.to_string(),
            is_full: false,
        }
    }

    fn unfit(error: LoadError) -> Self {
        let code = match error {
            LoadError::Link(_) => Code::B11,
            LoadError::TooLarge(_) => Code::B10,
            _ => Code::R99,
        };
        Self::new(code, error)
    }
}

type Attempt = Arc<OnceCell<Result<Loaded, ArtefactError>>>;

/// The components of a node.
#[derive(Debug)]
pub(crate) struct Artefacts {
    engines: Engines,
    blobs: Blobs,
    compiler: Compiler,
    key: CompileKey,
    shelf: Shelf,
    logs: Arc<Logs>,
    attempts: Mutex<HashMap<String, Attempt>>,
    /// The components of the last assignment, by the hex digits of their digests.
    assigned: Mutex<HashSet<String>>,
}

impl Artefacts {
    /// Makes the folders and the key below the node's folder of `data`.
    pub(crate) fn open(
        data: &Path,
        engines: Engines,
        control: Arc<Control>,
        compile_command: Vec<std::ffi::OsString>,
        logs: Arc<Logs>,
        cache_bytes_max: Option<u64>,
    ) -> io::Result<Self> {
        let folder = node_folder(data);
        let (blobs, code, key_path) = (folder.join("blobs"), folder.join("code"), folder.join("key"));
        for folder in [&blobs, &code] {
            private_folder(folder)?;
            remove_files(folder, |name| name.ends_with(".draft"));
        }
        let key = own_key(&key_path)?;
        let compiler = Compiler::new(
            compile_command,
            engines.clone(),
            key.clone(),
            machine::memory_bytes(),
        );
        Ok(Self {
            engines,
            blobs: Blobs::new(blobs.clone(), control),
            compiler,
            key,
            shelf: Shelf::new(blobs, code, cache_bytes_max),
            logs,
            attempts: Mutex::default(),
            assigned: Mutex::default(),
        })
    }

    /// The loaded component of a process of `app`.
    pub(crate) async fn loaded(
        self: &Arc<Self>,
        app: &AppName,
        process: &Process,
    ) -> Result<Loaded, ArtefactError> {
        let name = wanted_name(process);
        let attempt = {
            let mut attempts = self.attempts();
            attempts.entry(name.clone()).or_default().clone()
        };
        let result = attempt.get_or_init(|| self.prepare(app, process)).await.clone();
        if result.is_ok() {
            self.shelf.used([process.component.hex().as_str()]);
        } else {
            // Whoever comes later tries again.
            let mut attempts = self.attempts();
            if attempts
                .get(&name)
                .is_some_and(|current| Arc::ptr_eq(current, &attempt))
            {
                attempts.remove(&name);
            }
        }
        result
    }

    /// Unmaps what `assignment` does not run, and removes files beyond those kept for rollbacks.
    pub(crate) fn keep_only(&self, assignment: &Assignment) {
        let processes = || {
            let runs = assignment.runs.iter().map(|run| &run.work.process);
            assignment
                .processes
                .iter()
                .map(|assigned| &assigned.process)
                .chain(runs)
        };
        // Thousands of apps have as many: looked up, never searched.
        let wanted: HashSet<String> = processes().map(wanted_name).collect();
        self.attempts().retain(|name, _| wanted.contains(name));
        let assigned: HashSet<String> = processes().map(|process| process.component.hex()).collect();
        let before = std::mem::replace(&mut *self.assigned(), assigned);
        let left: Vec<&str> = {
            let assigned = self.assigned();
            before
                .iter()
                .filter(|hex| !assigned.contains(*hex))
                .map(String::as_str)
                .collect()
        };
        // Until now they were in use.
        self.shelf.used(left);
        self.shelf.tidy(&self.in_use());
    }

    /// What must stay on disk: what is assigned, and what is loaded or on its way.
    fn in_use(&self) -> HashSet<String> {
        let mut in_use = self.assigned().clone();
        let attempts = self.attempts();
        in_use.extend(
            attempts
                .keys()
                .filter_map(|name| name.get(..64))
                .map(str::to_owned),
        );
        in_use
    }

    /// Makes room on a full disk; false when there is none to be made.
    async fn make_room(self: &Arc<Self>) -> bool {
        let this = self.clone();
        let clear = move || this.shelf.clear(&this.in_use());
        let freed = tokio::task::spawn_blocking(clear).await.unwrap_or(0);
        tracing::warn!(freed, "the disk is full; what nothing runs was removed");
        freed > 0
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<String, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assigned(&self) -> MutexGuard<'_, HashSet<String>> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of how many other nodes there are, which want the same at the same time.
    pub(crate) fn set_others(&self, count: usize) {
        self.blobs.set_others(count);
    }

    async fn prepare(self: &Arc<Self>, app: &AppName, process: &Process) -> Result<Loaded, ArtefactError> {
        for engine in self.engines.candidates(process.shape, process.guard_pages) {
            for tier in Tier::ALL {
                let artefact = artefact(process, engine, tier);
                let Some(loaded) = self.load_kept(artefact).await? else {
                    continue;
                };
                if tier == Tier::Quick {
                    self.optimise(app, process, &loaded);
                }
                return Ok(loaded);
            }
        }
        let blob = self.blob(process).await?;
        let (engine, code_bytes) = self.choose(process, &blob).await?;
        let tier = match code_bytes < QUICK_FIRST_CODE_BYTES_MIN {
            true => Tier::Optimised,
            false => Tier::Quick,
        };
        let artefact = artefact(process, engine, tier);
        let path = self.code_path(&artefact);
        let job = Job {
            app,
            artefact: &artefact,
            blob: &blob,
            code_bytes,
            out: &path,
        };
        self.compile(job, Urgency::Awaited).await?;
        let loaded = self.load(artefact, &path).await?.map_err(ArtefactError::unfit)?;
        if tier == Tier::Quick {
            self.optimise(app, process, &loaded);
        }
        Ok(loaded)
    }

    async fn blob(self: &Arc<Self>, process: &Process) -> Result<PathBuf, ArtefactError> {
        let fetch = || self.blobs.verified(&process.component, process.component_bytes);
        let mut blob = fetch().await;
        if blob.as_ref().is_err_and(BlobError::is_full) && self.make_room().await {
            blob = fetch().await;
        }
        blob.map_err(|error| ArtefactError {
            is_full: error.is_full(),
            ..ArtefactError::new(error.code(), with_source(&error))
        })
    }

    async fn compile(self: &Arc<Self>, job: Job<'_>, urgency: Urgency) -> Result<(), ArtefactError> {
        let compiled = self.compiler.compile(job, urgency).await;
        match &compiled {
            Err(error) if error.is_full && self.make_room().await => {
                self.compiler.compile(job, urgency).await
            }
            _ => compiled,
        }
    }

    /// What was compiled before; none when it was not, or has to be compiled again.
    async fn load_kept(self: &Arc<Self>, artefact: Artefact) -> Result<Option<Loaded>, ArtefactError> {
        let path = self.code_path(&artefact);
        if !path.exists() {
            return Ok(None);
        }
        match self.load(artefact, &path).await? {
            Ok(loaded) => Ok(Some(loaded)),
            Err(error) if error.recompile() => {
                tracing::warn!(%error, digest = %artefact.digest, "compiled again");
                let _ = fs::remove_file(&path);
                Ok(None)
            }
            Err(error) => Err(ArtefactError::unfit(error)),
        }
    }

    /// Makes the optimised build of a component that runs a quick one, behind everything that is waited for,
    /// and puts it in that one's place.
    fn optimise(self: &Arc<Self>, app: &AppName, process: &Process, quick: &Loaded) {
        let (this, app, process, quick) = (self.clone(), app.clone(), process.clone(), quick.clone());
        self.say(
            &app,
            "it runs a quick build of its code; the optimised one follows",
        );
        tokio::spawn(async move {
            match this.optimised(&app, &process, &quick).await {
                Ok(()) => this.say(&app, "the optimised build of its code serves from now on"),
                // The quick one serves as well; the next start of the node tries again.
                Err(error) => {
                    let ArtefactError { code, message, .. } = error;
                    this.say(
                        &app,
                        &format!("it stays with the quick build of its code: {code} {message}"),
                    );
                }
            }
        });
    }

    async fn optimised(
        self: &Arc<Self>,
        app: &AppName,
        process: &Process,
        quick: &Loaded,
    ) -> Result<(), ArtefactError> {
        let artefact = Artefact {
            tier: Tier::Optimised,
            ..quick.artefact()
        };
        let (path, quick_path) = (self.code_path(&artefact), self.code_path(&quick.artefact()));
        let blob = self.blob(process).await?;
        let job = Job {
            app,
            artefact: &artefact,
            blob: &blob,
            code_bytes: u64::MAX,
            out: &path,
        };
        self.compile(job, Urgency::Background).await?;
        let quick = quick.clone();
        let swap = tokio::task::spawn_blocking(move || quick.swap(Tier::Optimised, &path));
        let swapped = swap.await.map_err(|error| ArtefactError::new(Code::R99, error))?;
        swapped.map_err(ArtefactError::unfit)?;
        // What has it mapped keeps it.
        let _ = fs::remove_file(quick_path);
        Ok(())
    }

    fn say(&self, app: &AppName, text: &str) {
        self.logs
            .app(app)
            .write(LOG_SOURCE, LogStream::Platform, text.to_owned());
    }

    /// Decides which engine runs the component in `blob`, and says how much code it has.
    async fn choose(
        self: &Arc<Self>,
        process: &Process,
        blob: &Path,
    ) -> Result<(EngineKind, u64), ArtefactError> {
        let (this, blob, guard_pages) = (self.clone(), blob.to_owned(), process.guard_pages);
        let choose = move || -> Result<(EngineKind, u64), ArtefactError> {
            let component = fs::read(blob).map_err(|error| ArtefactError::new(Code::R99, error))?;
            let choice = this.engines.choose(&component, guard_pages);
            let choice = choice.map_err(|error| ArtefactError::new(Code::B12, error))?;
            tracing::debug!(kind = %choice.kind, reason = choice.reason, "engine chosen");
            Ok((choice.kind, code_bytes(&component)))
        };
        tokio::task::spawn_blocking(choose)
            .await
            .map_err(|error| ArtefactError::new(Code::R99, error))?
    }

    fn code_path(&self, artefact: &Artefact) -> PathBuf {
        self.shelf.code.join(self.engines.code_file_name(artefact))
    }

    /// Maps compiled code, away from the threads of the ingress: it is read and authenticated whole.
    async fn load(
        self: &Arc<Self>,
        artefact: Artefact,
        path: &Path,
    ) -> Result<Result<Loaded, LoadError>, ArtefactError> {
        let (this, path) = (self.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || load(&this.engines, &artefact, &this.key, &path))
            .await
            .map_err(|error| ArtefactError::new(Code::R99, error))
    }
}

/// What tells loaded components apart: the digest, and what the choice of an engine depends on besides.
fn wanted_name(process: &Process) -> String {
    let digest = process.component.hex();
    format!("{digest}-{}-{}", process.shape, process.guard_pages)
}

fn artefact(process: &Process, engine: EngineKind, tier: Tier) -> Artefact {
    Artefact {
        tier,
        shape: process.shape,
        engine,
        digest: process.component,
    }
}

/// The key that this node seals compiled code with. A missing or damaged one is made anew: what was sealed
/// with another is compiled again.
fn own_key(path: &Path) -> io::Result<CompileKey> {
    match read_key(path) {
        Ok(key) => return Ok(key),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "made another key"),
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    write_private(path, &bytes)?;
    read_key(path)
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests;
