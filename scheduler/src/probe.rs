//! Probes: before a release lets lanes be reused, a child process tries it.
//!
//! In: what a release would run, and what its app's newest release runs. Out: nothing, or the refusal. Which
//! process types are to be probed is decided purely ([`wanted`]); the child gets the config on its standard
//! input, for it may hold secrets, and is killed at the limit.
//!
//! Invariant: a release whose probe was refused is not made.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use gilliam_model::{
    api::{ProbeOutcome, ProbeRequest},
    config::Config,
    image::{Image, Process, Shape},
    name::{AppName, ProcessName},
    release::ReleaseId,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use crate::{blobs::BlobsError, build::Group, refusal::Refusal, shared::Shared};

/// Longest probe: the largest components compile in a minute, and eight requests may take ten seconds each.
const PROBE_MAX: Duration = Duration::from_secs(150);
/// Longest outcome.
const OUTCOME_BYTES_MAX: u64 = 64 << 10;
const HINT: &str = "leave reuse = 1: a fresh wasm instance for each request";

/// What a release would run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) app: &'a AppName,
    pub(crate) release: ReleaseId,
    /// With the release's limits.
    pub(crate) image: &'a Image,
    pub(crate) config: &'a Config,
}

/// Refuses a release that lets lanes be reused of a component which does not bear it.
///
/// `before` is the image that the newest release runs: what it reuses already is not tried again.
pub(crate) async fn check(
    shared: &Shared,
    candidate: Candidate<'_>,
    before: Option<&Image>,
) -> Result<(), Refusal> {
    for (name, process) in wanted(candidate.image, before)? {
        // Like a build it uses a core for a while.
        let _turn = shared
            .builds
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let request = ProbeRequest {
            process: process.clone(),
            env: environment(&candidate, name),
            host: format!("{}.localhost", candidate.app),
        };
        let component = shared.blobs.file(&process.component).await;
        let component = component.map_err(BlobsError::into_refusal)?;
        let outcome = run(shared, &component.path(), &request).await;
        let refused = |reason: &str| {
            let message = format!("lanes of {name} cannot be reused: {reason}");
            Err(Refusal::invalid(message).hint(HINT))
        };
        match outcome {
            Ok(ProbeOutcome::Passed {}) => {}
            Ok(ProbeOutcome::Refused { reason }) => return refused(&reason),
            Err(ProbeError::TooLong) => {
                return refused(&format!("the probe took longer than {} s", PROBE_MAX.as_secs()));
            }
            Err(ProbeError::Killed(signal)) => {
                return refused(&format!(
                    "the probe was stopped by signal {signal}; it may have used too much memory or time"
                ));
            }
            Err(error) => return Err(Refusal::internal(&error)),
        }
    }
    Ok(())
}

/// The process types to probe: those whose lanes are reused, and were not with the same component before.
fn wanted<'a>(
    image: &'a Image,
    before: Option<&Image>,
) -> Result<Vec<(&'a ProcessName, &'a Process)>, Refusal> {
    let mut found = Vec::new();
    for (name, process) in image.processes.iter().filter(|(_, process)| reuses(process)) {
        if process.shape != Shape::HttpP2 {
            let message = format!(
                "reuse is for {} processes, and {name} is {}",
                Shape::HttpP2,
                process.shape
            );
            return Err(Refusal::invalid(message).hint("leave it at 1, which changes nothing for others"));
        }
        let known = before.and_then(|image| image.processes.get(name));
        let is_known = known.is_some_and(|known| reuses(known) && known.component == process.component);
        if !is_known {
            found.push((name, process));
        }
    }
    Ok(found)
}

fn reuses(process: &Process) -> bool {
    process.limits.reuse_max > 1
}

/// The environment that a node gives its instances, but for what differs from one to the next.
fn environment(candidate: &Candidate<'_>, process: &ProcessName) -> BTreeMap<String, String> {
    let config = candidate.config.0.iter();
    let mut env: BTreeMap<String, String> = config
        .map(|(key, value)| (key.to_string(), value.clone()))
        .collect();
    for (key, value) in [
        ("GILLIAM_APP", candidate.app.to_string()),
        ("GILLIAM_RELEASE", candidate.release.to_string()),
        ("GILLIAM_PROCESS", process.to_string()),
        ("GILLIAM_INSTANCE", format!("{process}.1")),
    ] {
        env.insert(key.to_string(), value);
    }
    env
}

#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("no probe command is configured")]
    NoCommand,
    #[error("the probe could not be run: {0}")]
    Run(#[from] io::Error),
    #[error("the probe took too long")]
    TooLong,
    #[error("the probe was stopped by signal {0}")]
    Killed(i32),
    #[error("the probe ended with no result: {0}")]
    NoOutcome(String),
}

async fn run(shared: &Shared, component: &Path, request: &ProbeRequest) -> Result<ProbeOutcome, ProbeError> {
    let scratch = Scratch::new(&shared.tmp());
    let command = &shared.config.probe_command;
    let probing = probe(command, component, &scratch.0, request);
    tokio::time::timeout(PROBE_MAX, probing)
        .await
        .unwrap_or(Err(ProbeError::TooLong))
}

async fn probe(
    command: &[OsString],
    component: &Path,
    scratch: &Path,
    request: &ProbeRequest,
) -> Result<ProbeOutcome, ProbeError> {
    use std::os::unix::process::ExitStatusExt as _;
    let (program, args) = command.split_first().ok_or(ProbeError::NoCommand)?;
    let mut child = Command::new(program);
    child.args(args).arg("--component").arg(component);
    child.arg("--scratch").arg(scratch).env_clear();
    child.stdin(Stdio::piped()).stdout(Stdio::piped());
    child.stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = child.spawn()?;
    let _group = Group::of(&child);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let text = serde_json::to_vec(request).expect("a request is plain data");
    let send = async {
        // A child that ends before it has read all says why in its result.
        let _ = stdin.write_all(&text).await;
        drop(stdin);
    };
    let (mut outcome, mut said) = (Vec::new(), Vec::new());
    let mut stdout = stdout.take(OUTCOME_BYTES_MAX);
    let mut stderr = stderr.take(OUTCOME_BYTES_MAX);
    let reading =
        async { tokio::try_join!(stdout.read_to_end(&mut outcome), stderr.read_to_end(&mut said)).map(drop) };
    let ((), read, status) = tokio::join!(send, reading, child.wait());
    read?;
    let status = status?;
    if let Some(signal) = status.signal() {
        return Err(ProbeError::Killed(signal));
    }
    serde_json::from_slice(&outcome).map_err(|error| {
        let said = String::from_utf8_lossy(&said);
        ProbeError::NoOutcome(format!("{error}, {status}, {}", said.trim()))
    })
}

/// A folder of one probe, which makes it; it goes with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new(tmp: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(tmp.join(format!("probe-{}", NEXT.fetch_add(1, Relaxed))))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a probe's folder");
        }
    }
}
