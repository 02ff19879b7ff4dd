//! Starts compile children, few at a time, and seals what they hand back.
//!
//! In flow components as files, out flow sealed files. A child gets a component and limits, and hands compiled
//! code back through a pipe: it has neither the key nor a name to write to.
//!
//! Children run in lanes, each with places of its own: what is short to compile never waits behind what is
//! long, and the second build of a component, which nobody waits for, never before the first of another.
//!
//! Invariant: each app waits in a lane with one component at a time.
//! Invariant: a component that takes longer than short ones may gives its place back and goes on as a long one.

use std::{
    collections::HashMap,
    ffi::OsString,
    io::{self, PipeReader, PipeWriter},
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gilliam_engine::{Artefact, CompileKey, Engines, Sealing};
use gilliam_model::{code::Code, name::AppName};
use tokio::{io::AsyncReadExt as _, process::Command, sync::Semaphore};

use super::ArtefactError;
use crate::{blobs::is_full, compile_child::EXIT_COMPONENT};

/// Wall time of a child; its CPU time has a limit of its own, and a busy machine takes longer.
const WALL_MAX: Duration = Duration::from_secs(300);
/// Wall time of a child in the lane for short ones, on a busy machine.
const SHORT_WALL_MAX: Duration = Duration::from_secs(20);
/// Code that is short to compile: a second of CPU for each megabyte, two where it is crafted.
const SHORT_CODE_BYTES_MAX: u64 = 2 << 20;
/// Memory of the machine for each child that compiles something long: it may take half of that.
const MEMORY_BYTES_PER_LONG: u64 = 8 << 30;
/// Children that compile something long, however large the machine: each uses all cores.
const LONG_MAX: u64 = 4;
/// Bytes of compiled code of one component: five times what the largest language runtimes have.
const CODE_BYTES_MAX: u64 = 512 << 20;
/// Bytes of a child's message that are kept.
const MESSAGE_BYTES_MAX: u64 = 4 << 10;

/// Who may wait for a place: one component of each app, so that nobody waits behind all that another app
/// brings.
type Turns = HashMap<AppName, Arc<tokio::sync::Mutex<()>>>;

/// Children that wait for each other.
#[derive(Debug)]
struct Lane {
    places: Semaphore,
    turns: Mutex<Turns>,
    wall_max: Duration,
    /// Below the node's own threads; of what nobody waits for, below all.
    nice: i32,
}

#[derive(Debug)]
pub(super) struct Compiler {
    command: Vec<OsString>,
    engines: Engines,
    key: CompileKey,
    short: Lane,
    long: Lane,
    background: Lane,
}

/// What is to be compiled, for whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    /// Who was the first to want it.
    pub(super) app: &'a AppName,
    pub(super) artefact: &'a Artefact,
    pub(super) blob: &'a Path,
    /// Bytes of code in it.
    pub(super) code_bytes: u64,
    pub(super) out: &'a Path,
}

/// Whether anybody waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    Awaited,
    Background,
}

enum Outcome {
    Sealed,
    Failed(ArtefactError),
    TooLate,
}

/// Long children at once on a machine with so much memory.
fn long_places(memory_bytes: u64) -> usize {
    let places = (memory_bytes / MEMORY_BYTES_PER_LONG).clamp(1, LONG_MAX);
    usize::try_from(places).unwrap_or(1)
}

impl Lane {
    fn new(places: usize, wall_max: Duration, nice: i32) -> Self {
        Self {
            places: Semaphore::new(places),
            turns: Mutex::default(),
            wall_max,
            nice,
        }
    }

    fn turn(&self, app: &AppName) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(app.clone()).or_default().clone()
    }
}

impl Compiler {
    pub(super) fn new(command: Vec<OsString>, engines: Engines, key: CompileKey, memory_bytes: u64) -> Self {
        Self {
            command,
            engines,
            key,
            short: Lane::new(1, SHORT_WALL_MAX, 5),
            long: Lane::new(long_places(memory_bytes), WALL_MAX, 5),
            background: Lane::new(1, WALL_MAX, 15),
        }
    }

    /// Compiles and seals.
    pub(super) async fn compile(&self, job: Job<'_>, urgency: Urgency) -> Result<(), ArtefactError> {
        let lanes: &[&Lane] = match urgency {
            Urgency::Background => &[&self.background],
            Urgency::Awaited if job.code_bytes > SHORT_CODE_BYTES_MAX => &[&self.long],
            Urgency::Awaited => &[&self.short, &self.long],
        };
        for lane in lanes {
            match self.compile_in(lane, job).await {
                Outcome::Sealed => return Ok(()),
                Outcome::Failed(error) => return Err(error),
                Outcome::TooLate => {}
            }
        }
        let message = format!("compiling took longer than {} s", WALL_MAX.as_secs());
        Err(ArtefactError::new(Code::B10, message))
    }

    async fn compile_in(&self, lane: &Lane, job: Job<'_>) -> Outcome {
        let turn = lane.turn(job.app);
        let _turn = turn.lock().await;
        let place = lane.places.acquire().await;
        let _place = place.expect("the semaphore is never closed");
        match tokio::time::timeout(lane.wall_max, self.run(job, lane.nice)).await {
            Ok(Ok(())) => Outcome::Sealed,
            Ok(Err(error)) => Outcome::Failed(error),
            // The child ended with the future that held it.
            Err(_) => Outcome::TooLate,
        }
    }

    async fn run(&self, job: Job<'_>, nice: i32) -> Result<(), ArtefactError> {
        let cannot =
            |error: io::Error| ArtefactError::new(Code::R99, format!("cannot run the compiler: {error}"));
        let (code, hand_back) = io::pipe().map_err(cannot)?;
        let mut child = self.child(job, nice, hand_back).spawn().map_err(cannot)?;
        let stderr = child.stderr.take();
        let sealing = Sealing::create(&self.engines, job.artefact, &self.key, job.out).map_err(not_kept)?;
        let read = tokio::task::spawn_blocking(move || take_in(code, sealing));
        let mut message = Vec::new();
        let run = async {
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr)
                    .take(MESSAGE_BYTES_MAX)
                    .read_to_end(&mut message)
                    .await;
                // The rest is read away, so that the child does not wait for a reader.
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            child.wait().await
        };
        let (status, read) = tokio::join!(run, read);
        let read = read.map_err(|error| ArtefactError::new(Code::R99, error))?;
        judge(status.map_err(cannot)?, String::from_utf8_lossy(&message).trim())?;
        let sealing = read?;
        tokio::task::spawn_blocking(move || sealing.finish())
            .await
            .map_err(|error| ArtefactError::new(Code::R99, error))?
            .map_err(not_kept)
    }

    fn child(&self, job: Job<'_>, nice: i32, hand_back: PipeWriter) -> Command {
        let (program, first) = self
            .command
            .split_first()
            .expect("the node was given a compile command");
        let mut child = Command::new(program);
        child.args(first);
        child.arg("--shape").arg(job.artefact.shape.as_str());
        child.arg("--engine").arg(job.artefact.engine.name());
        child.arg("--tier").arg(job.artefact.tier.as_str());
        child.arg("--component").arg(job.blob);
        child.arg("--nice").arg(nice.to_string());
        // Nothing of the node's environment is the compiler's business.
        child
            .env_clear()
            .stdin(hand_back)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        child.process_group(0).kill_on_drop(true);
        child
    }
}

/// Reads what a child hands back to its end.
fn take_in(code: PipeReader, mut sealing: Sealing) -> Result<Sealing, ArtefactError> {
    let mut code = io::Read::take(code, CODE_BYTES_MAX + 1);
    match io::copy(&mut code, &mut sealing) {
        Ok(bytes) if bytes > CODE_BYTES_MAX => {
            let message = format!("its compiled code has more than {} MiB", CODE_BYTES_MAX >> 20);
            Err(ArtefactError::new(Code::B10, message))
        }
        Ok(_) => Ok(sealing),
        Err(error) => Err(not_kept(error)),
    }
}

/// This reaches the app's log: why, such as a full disk, and not where.
fn not_kept(error: io::Error) -> ArtefactError {
    ArtefactError {
        is_full: is_full(&error),
        ..ArtefactError::new(Code::R99, format!("cannot keep the compiled code: {error}"))
    }
}

fn judge(status: ExitStatus, message: &str) -> Result<(), ArtefactError> {
    if status.success() {
        return Ok(());
    }
    let code = match status.code() {
        Some(code) if code == i32::from(EXIT_COMPONENT) => Code::B12,
        Some(_) => Code::R99,
        // A signal: out of CPU time or of address space.
        None => Code::B10,
    };
    let message = match message {
        "" => format!("the compiler ended with {status}"),
        message => message.to_owned(),
    };
    Err(ArtefactError::new(code, message))
}

#[cfg(test)]
mod tests {
    use gilliam_engine::{EngineKind, EnginesConfig, Tier};
    use gilliam_model::{digest::Digest, image::Shape};

    use super::*;

    /// A compiler whose children are shell scripts that get the arguments of one.
    fn compiler(script: &str) -> Compiler {
        let config = EnginesConfig {
            http_p2_slots: 1,
            p3_slots: 1,
            command_slots: 1_000,
            ..EnginesConfig::default()
        };
        let engines = Engines::new(&config).expect("engines");
        let command = ["/bin/sh", "-c", script, "sh"].map(OsString::from).to_vec();
        Compiler::new(command, engines, CompileKey::from_bytes([1; 32]), 0)
    }

    fn artefact(tier: Tier) -> Artefact {
        Artefact {
            shape: Shape::CommandP2,
            engine: EngineKind::CommandP2,
            digest: Digest::from_sha256([0; 32]),
            tier,
        }
    }

    async fn compile(
        compiler: &Compiler,
        app: &str,
        code_bytes: u64,
        out: &Path,
    ) -> Result<(), ArtefactError> {
        let job = Job {
            app: &app.parse().expect("name"),
            artefact: &artefact(Tier::Optimised),
            blob: Path::new("blob"),
            code_bytes,
            out,
        };
        compiler.compile(job, Urgency::Awaited).await
    }

    #[tokio::test]
    async fn an_app_with_many_components_lets_others_have_their_turn() {
        let folder = tempfile::tempdir().expect("folder");
        let list = folder.path().join("list");
        let compiler = compiler(&format!("echo compiled >> {}; sleep 0.05", list.display()));
        let compile = |app: &'static str, number: usize| {
            let out = folder.path().join(format!("{app}-{number}"));
            let compiler = &compiler;
            async move { compile(compiler, app, 0, &out).await.expect("compiled") }
        };
        let greedy = futures::future::join_all((0..6).map(|number| compile("greedy", number)));
        let quiet = async {
            let written = || std::fs::read_to_string(&list).unwrap_or_default();
            while written().is_empty() {
                tokio::task::yield_now().await;
            }
            compile("quiet", 0).await;
            written().lines().count()
        };
        let (_, before_quiet) = tokio::join!(greedy, quiet);
        assert!(before_quiet <= 3, "{before_quiet} of seven were compiled first");
    }

    #[tokio::test]
    async fn what_is_short_to_compile_does_not_wait_behind_what_is_long() {
        let folder = tempfile::tempdir().expect("folder");
        let go_on = folder.path().join("go-on");
        // Waits for the file where the component is called so.
        let script = format!(
            "case \"$*\" in *quick*) ;; *) while ! test -e {}; do sleep 0.01; done;; esac",
            go_on.display()
        );
        let compiler = compiler(&script);
        let out = folder.path().join("long");
        let long = compile(&compiler, "long", SHORT_CODE_BYTES_MAX + 1, &out);
        let short = async {
            let quick = artefact(Tier::Quick);
            let job = Job {
                app: &"long".parse().expect("name"),
                artefact: &quick,
                blob: Path::new("blob"),
                code_bytes: 1,
                out: &folder.path().join("short"),
            };
            compiler.compile(job, Urgency::Awaited).await.expect("compiled");
            std::fs::write(&go_on, "").expect("written");
        };
        let (long, ()) = tokio::join!(long, short);
        long.expect("compiled as well");
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_child_that_failed_after_it_handed_code_back() {
        let folder = tempfile::tempdir().expect("folder");
        let out = folder.path().join("out");
        let compiler = compiler("echo code >&0; echo no component >&2; exit 3");
        let error = compile(&compiler, "a", 0, &out).await.expect_err("failed");
        assert_eq!(error, ArtefactError::new(Code::B12, "no component"));
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
    }

    #[test]
    fn children_are_as_many_as_the_memory_bears() {
        assert_eq!(long_places(1 << 30), 1);
        assert_eq!(long_places(19 << 30), 2);
        assert_eq!(long_places(1 << 40), 4);
    }
}
