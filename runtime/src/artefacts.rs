//! From a process of an assignment to its loaded component: fetched, compiled once, mapped once, shared by
//! all instances.
//!
//! A component that takes long to compile starts with a quick build; the optimised one is made when nobody
//! waits for the compiler, and takes its place for whatever starts from then on.
//!
//! Invariant: a component is compiled in a child process with limits, never here.
//! Invariant: callers that want the same component at once share one attempt, its failure included.

mod compile;
mod unused;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use gilliam_engine::{Artefact, CompileKey, EngineKind, Engines, LoadError, Loaded, Tier, code_bytes, load};
use gilliam_model::{assignment::Assignment, code::Code, image::Process, log::LogStream, name::AppName};
use tokio::sync::OnceCell;

use crate::{
    blobs::{Blobs, remove_files},
    compile_child::read_key,
    control::Control,
    lock::{node_folder, write_private},
    logs::Logs,
    machine,
};
use compile::{Compiler, Job, Urgency};
use unused::{newest_files, unused_bytes_max};

/// Code beyond which a component starts with a quick build: its optimised one takes seconds.
const QUICK_FIRST_CODE_BYTES_MIN: u64 = 2 << 20;
/// The source of lines about builds in an app's log.
const LOG_SOURCE: &str = "compiler";

/// Why a component cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArtefactError {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl ArtefactError {
    fn new(code: Code, message: impl ToString) -> Self {
        Self {
            code,
            message: message.to_string(),
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
    code_folder: PathBuf,
    logs: Arc<Logs>,
    attempts: Mutex<HashMap<String, Attempt>>,
}

impl Artefacts {
    /// Makes the folders and the key below the node's folder of `data`.
    pub(crate) fn open(
        data: &Path,
        engines: Engines,
        control: Arc<Control>,
        compile_command: Vec<std::ffi::OsString>,
        logs: Arc<Logs>,
    ) -> io::Result<Self> {
        let folder = node_folder(data);
        let (blobs, code_folder, key_path) = (folder.join("blobs"), folder.join("code"), folder.join("key"));
        for folder in [&blobs, &code_folder] {
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
            blobs: Blobs::new(blobs, control),
            compiler,
            key,
            code_folder,
            logs,
            attempts: Mutex::default(),
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
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            attempts.entry(name.clone()).or_default().clone()
        };
        let result = attempt.get_or_init(|| self.prepare(app, process)).await.clone();
        if result.is_err() {
            // Whoever comes later tries again.
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
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
        let processes = || assignment.processes.iter().map(|assigned| &assigned.process);
        // Thousands of apps have as many: looked up, never searched.
        let wanted: HashSet<String> = processes().map(wanted_name).collect();
        self.attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|name, _| wanted.contains(name));
        let digests: HashSet<String> = processes()
            .map(|process| process.component.hex().to_string())
            .collect();
        let is_wanted = |name: &str| name.get(..64).is_some_and(|digest| digests.contains(digest));
        let kept = newest_files(&self.code_folder, unused_bytes_max(&self.code_folder), &is_wanted);
        remove_files(&self.code_folder, |name| {
            name.ends_with(".cwasm") && !is_wanted(name) && !kept.contains(name)
        });
        let kept: HashSet<&str> = kept.iter().filter_map(|name| name.get(..64)).collect();
        let is_kept = |name: &str| kept.contains(name);
        // A draft has its digest in front as well: one that is wanted may just be on its way.
        self.blobs.keep_only(|name| is_wanted(name) || is_kept(name));
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
        self.compiler.compile(job, Urgency::Awaited).await?;
        let loaded = self.load(artefact, &path).await?.map_err(ArtefactError::unfit)?;
        if tier == Tier::Quick {
            self.optimise(app, process, &loaded);
        }
        Ok(loaded)
    }

    async fn blob(&self, process: &Process) -> Result<PathBuf, ArtefactError> {
        let blob = self
            .blobs
            .verified(&process.component, process.component_bytes)
            .await;
        blob.map_err(|error| ArtefactError::new(error.code(), with_source(&error)))
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
                    let ArtefactError { code, message } = error;
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
        self.compiler.compile(job, Urgency::Background).await?;
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
        self.code_folder.join(self.engines.code_file_name(artefact))
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
mod tests {
    use std::{
        fs::File,
        time::{Duration, SystemTime},
    };

    use gilliam_engine::EnginesConfig;
    use gilliam_model::{
        assignment::AssignedProcess, config::Config, digest::Digest, image::Shape, limits::Limits,
        route::RouteTable,
    };

    use super::*;
    use crate::config::ControlAddress;

    fn digest(byte: u8) -> Digest {
        Digest::from_sha256([byte; 32])
    }

    /// An assignment of one process with this component.
    fn assignment(component: Digest) -> Assignment {
        let process = Process {
            component,
            component_bytes: 1,
            shape: Shape::HttpP2,
            command: "web.wasm".to_owned(),
            args: vec!["web.wasm".to_owned()],
            limits: Limits::default(),
            allowed_outbound_hosts: Vec::new(),
            guard_pages: false,
            placement: gilliam_model::rules::PlacementRules::default(),
        };
        let assigned = AssignedProcess {
            app: "a".parse().expect("app"),
            release: "v1".parse().expect("release"),
            name: "web".parse().expect("process"),
            ranges: Vec::new(),
            process,
            config: Config::default(),
        };
        Assignment {
            generation: 1,
            processes: vec![assigned],
            routes: RouteTable::default(),
        }
    }

    #[test]
    fn files_of_what_runs_stay_with_the_newest_of_the_rest() {
        let data = tempfile::tempdir().expect("folder");
        let config = EnginesConfig {
            http_p2_slots: 1,
            p3_slots: 1,
            command_slots: 1_000,
            ..EnginesConfig::default()
        };
        let engines = Engines::new(&config).expect("engines");
        let control = Arc::new(Control::new(ControlAddress::File(data.path().join("none"))));
        fs::create_dir(node_folder(data.path())).expect("folder");
        let logs = Arc::new(Logs::new(1));
        let artefacts = Artefacts::open(data.path(), engines.clone(), control, vec!["false".into()], logs);
        let artefacts = artefacts.expect("artefacts");
        let (blobs, code) = (
            node_folder(data.path()).join("blobs"),
            artefacts.code_folder.clone(),
        );
        let code_of = |byte| {
            code.join(engines.code_file_name(&Artefact {
                shape: Shape::HttpP2,
                engine: EngineKind::HttpP2,
                digest: digest(byte),
                tier: Tier::Optimised,
            }))
        };
        for byte in 0..30 {
            fs::write(blobs.join(digest(byte).hex()), "blob").expect("write");
            fs::write(blobs.join(format!("{}.draft", digest(byte).hex())), "draft").expect("write");
            let file = File::create(code_of(byte)).expect("create");
            // Twenty of them fill what is kept.
            file.set_len(unused_bytes_max(&code) / 20).expect("length");
            let age = Duration::from_secs(1_000 - u64::from(byte));
            file.set_modified(SystemTime::now() - age).expect("time");
        }
        artefacts.keep_only(&assignment(digest(0)));
        for byte in 0..30 {
            let is_kept = byte == 0 || byte >= 10;
            let blob = blobs.join(digest(byte).hex());
            assert_eq!(
                (blob.exists(), code_of(byte).exists()),
                (is_kept, is_kept),
                "{byte}"
            );
            let draft = blobs.join(format!("{}.draft", digest(byte).hex()));
            assert_eq!(draft.exists(), byte == 0, "{byte}");
        }
    }

    #[test]
    fn a_damaged_key_is_made_anew_and_a_good_one_kept() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("key");
        for damaged in [&b""[..], b"short"] {
            fs::write(&path, damaged).expect("write");
            own_key(&path).expect("another key");
            let made = fs::read(&path).expect("key");
            assert_eq!(made.len(), 32);
            own_key(&path).expect("the same key");
            assert_eq!(fs::read(&path).expect("key"), made);
        }
    }
}
