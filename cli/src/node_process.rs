//! The node as a process beside the control plane: started, taken over, kept running, ended.
//!
//! In flows where its data and the control file are; out flows its ingress address, and the process is there
//! again within a second whenever it ends. A node outlives a control plane that was killed, so the next one
//! looks for it first.
//!
//! Invariant: at most one node runs on a data folder (the node holds a lock); this module never kills a
//! process that does not hold that lock.

use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use gilliam_runtime::NodeRecord;
use gilliam_scheduler::CREDENTIAL_VARIABLES;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::sync::watch;

use crate::{
    home::{QUEUES, STORE_PASSWORD},
    program,
};

/// Longest wait for a node to listen: a cold machine loads the binary first.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Longest wait for a node to end after it was told to: its grace for requests in flight, and a margin.
pub(crate) const END_DEADLINE: Duration = Duration::from_secs(40);
/// Between two looks at the node's record.
const LOOK: Duration = Duration::from_millis(10);
/// A node that ends sooner than this after its start is started again only after a delay.
const HEALTHY: Duration = Duration::from_secs(5);
/// Longest delay before a node is started again: P5 promises a crashed one back within a second.
const DELAY_MAX: Duration = Duration::from_millis(800);
/// The node's log is started anew above this size: clients and guests can make it grow.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// Between two looks at its size.
const LOG_LOOK: Duration = Duration::from_secs(30);

/// How the node is run.
#[derive(Debug, Clone)]
pub(crate) struct NodeCommand {
    /// The data folder of the platform.
    pub(crate) data: PathBuf,
    /// Where the ingress should listen.
    pub(crate) http: SocketAddr,
    /// First port of web instances.
    pub(crate) port_base: u16,
    /// Bytes that it keeps of what nothing runs, when that is not by the size of the disk.
    pub(crate) cache_bytes_max: Option<u64>,
    /// The node's name.
    pub(crate) name: String,
}

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeProcessError {
    #[error("cannot start the node")]
    Start(#[source] io::Error),
    #[error("the node ended before it listened:\n{log}")]
    Ended { log: String },
    #[error("the node did not listen within {} s", START_DEADLINE.as_secs())]
    Silent,
    #[error("an older node (process {pid}) does not end; end it and try again")]
    Stuck { pid: i32 },
    #[error("a node runs on {} but does not say where it listens", data.display())]
    Unknown { data: PathBuf },
}

/// A node process, whether it was started here or found.
#[derive(Debug)]
pub(crate) struct NodeProcess {
    pidfd: Arc<OwnedFd>,
    /// True once the process has ended.
    ended: watch::Receiver<bool>,
    /// Kept so that the child is reaped; none for a node that was found.
    child: Option<tokio::process::Child>,
    pid: Pid,
    started: Instant,
    /// Where its ingress listens.
    pub(crate) http: SocketAddr,
}

/// Ends a node at once.
#[derive(Debug)]
pub(crate) struct Killer(Arc<OwnedFd>);

impl Killer {
    /// Kills the process; nothing happens when it has ended.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&*self.0, Signal::KILL);
    }
}

impl NodeProcess {
    /// Takes over the node that an earlier control plane left, or starts one.
    pub(crate) async fn find_or_start(command: &NodeCommand) -> Result<Self, NodeProcessError> {
        loop {
            if let Some(found) = Self::find(command).await? {
                let same_address = command.http == found.http || (command.http.port() == 0);
                let same_version = record(&command.data).is_some_and(|r| r.version == crate::VERSION);
                if same_address && same_version {
                    tracing::info!(
                        pid = found.pid.as_raw_nonzero(),
                        "took over the node that was running"
                    );
                    return Ok(found);
                }
                tracing::warn!(
                    http = %found.http,
                    "ending the node that runs: its address or version is another; requests end first"
                );
                found.end().await?;
            }
            match Self::start(command).await {
                // A control plane that was killed had just started a node, which was first at the folder.
                Err(NodeProcessError::Ended { .. }) if gilliam_runtime::is_running(&command.data) => {}
                started => return started,
            }
        }
    }

    /// The node that runs on this data folder, if one does; waits for one that is about to say where it
    /// listens.
    async fn find(command: &NodeCommand) -> Result<Option<Self>, NodeProcessError> {
        let begun = Instant::now();
        while gilliam_runtime::is_running(&command.data) {
            if let Some(found) = Self::recorded(&command.data) {
                return Ok(Some(found));
            }
            if begun.elapsed() >= START_DEADLINE {
                let data = command.data.clone();
                return Err(NodeProcessError::Unknown { data });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(None)
    }

    /// The process that wrote the record, unless it has ended.
    fn recorded(data: &Path) -> Option<Self> {
        let record = record(data)?;
        let pid = Pid::from_raw(i32::try_from(record.pid).ok()?)?;
        Self::watched(pid, record.http, None)
            .ok()
            .filter(|found| !has_ended(&found.pidfd))
    }

    /// A process with a thread that waits for its end.
    fn watched(pid: Pid, http: SocketAddr, child: Option<tokio::process::Child>) -> io::Result<Self> {
        let pidfd = Arc::new(pidfd_open(pid, PidfdFlags::empty())?);
        let (sender, ended) = watch::channel(false);
        let polled = pidfd.clone();
        std::thread::Builder::new()
            .name("node-end".into())
            .spawn(move || {
                // A pidfd is readable once its process has ended; a signal may cut the wait short.
                let mut fds = [PollFd::new(&*polled, PollFlags::IN)];
                while poll(&mut fds, None) == Err(Errno::INTR) {}
                sender.send_replace(true);
            })?;
        Ok(Self {
            pidfd,
            ended,
            child,
            pid,
            started: Instant::now(),
            http,
        })
    }

    /// Starts a node and waits until it listens.
    async fn start(command: &NodeCommand) -> Result<Self, NodeProcessError> {
        let folder = command.data.join("node");
        let log = open_log(&folder).map_err(NodeProcessError::Start)?;
        let log_start = log.metadata().map(|m| m.len()).unwrap_or(0);
        let mut child = tokio::process::Command::new(program::path());
        child
            .arg0("gilliam")
            .args(arguments(command))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // A node runs guests, and needs nothing of the store and of the place of images.
        for secret in CREDENTIAL_VARIABLES.iter().chain([&STORE_PASSWORD, &QUEUES]) {
            child.env_remove(secret);
        }
        // Its own process group: Ctrl-C reaches `up` alone, which then ends the node in order.
        child.process_group(0).kill_on_drop(false);
        let mut child = child.spawn().map_err(NodeProcessError::Start)?;
        let started = Instant::now();
        let pid = child.id();
        while started.elapsed() < START_DEADLINE {
            if let Ok(Some(_)) = child.try_wait() {
                return Err(NodeProcessError::Ended {
                    log: log_from(&folder, log_start),
                });
            }
            let record = record(&command.data).filter(|r| Some(r.pid) == pid);
            if let (Some(record), Some(pid)) =
                (record, pid.and_then(|p| Pid::from_raw(i32::try_from(p).ok()?)))
            {
                return Self::watched(pid, record.http, Some(child)).map_err(NodeProcessError::Start);
            }
            tokio::time::sleep(LOOK).await;
        }
        let _ = child.start_kill();
        Err(NodeProcessError::Silent)
    }

    /// Returns when the process has ended. Cancel-safe.
    pub(crate) async fn ended(&mut self) {
        // The sender lives until it has sent.
        let _ = self.ended.wait_for(|ended| *ended).await;
        if let Some(child) = &mut self.child {
            let _ = child.wait().await;
        }
    }

    fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&*self.pidfd, signal);
    }

    /// Tells the process to finish what it has and end, and waits for it.
    pub(crate) async fn end(mut self) -> Result<(), NodeProcessError> {
        self.signal(Signal::TERM);
        match tokio::time::timeout(END_DEADLINE, self.ended()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(NodeProcessError::Stuck {
                pid: self.pid.as_raw_nonzero().get(),
            }),
        }
    }

    /// Ends the process unless it was found running: what served before goes on serving.
    pub(crate) async fn end_if_started_here(self) {
        if self.child.is_some()
            && let Err(error) = self.end().await
        {
            tracing::warn!(%error, "the node is left running");
        }
    }

    /// The process, for ending it at once while [`end`](Self::end) waits for it.
    pub(crate) fn killer(&self) -> Killer {
        Killer(self.pidfd.clone())
    }
}

/// Keeps a node running until the future is dropped; `node` always holds the present one.
///
/// After an end the next node gets the address the first one had, so that clients find it again.
pub(crate) async fn keep_running(command: &NodeCommand, node: &mut NodeProcess) {
    let mut command = command.clone();
    command.http = node.http;
    let mut delay = Duration::ZERO;
    loop {
        loop {
            tokio::select! {
                () = node.ended() => break,
                () = tokio::time::sleep(LOG_LOOK) => empty_long_log(&command.data.join("node")),
            }
        }
        delay = if node.started.elapsed() > HEALTHY {
            Duration::ZERO
        } else {
            next_delay(delay)
        };
        tracing::warn!(
            delay_ms = delay.as_millis(),
            "the node ended; starting another one"
        );
        loop {
            tokio::time::sleep(delay).await;
            match NodeProcess::find_or_start(&command).await {
                Ok(started) => {
                    *node = started;
                    break;
                }
                Err(error) => {
                    delay = next_delay(delay);
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "the node does not start");
                }
            }
        }
    }
}

/// Whether a process has ended, reaped or not.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

fn next_delay(delay: Duration) -> Duration {
    (delay * 2).clamp(Duration::from_millis(50), DELAY_MAX)
}

fn record(data: &Path) -> Option<NodeRecord> {
    gilliam_runtime::read_record(data).ok().flatten()
}

fn arguments(command: &NodeCommand) -> Vec<OsString> {
    let pairs: [(&str, OsString); 5] = [
        ("--data", command.data.clone().into()),
        ("--control", command.data.join(crate::control_file::NAME).into()),
        ("--http", command.http.to_string().into()),
        ("--port-base", command.port_base.to_string().into()),
        ("--name", command.name.clone().into()),
    ];
    let pairs = pairs.into_iter().flat_map(|(flag, value)| [flag.into(), value]);
    let cache = command
        .cache_bytes_max
        .map(|bytes| ["--cache-size".into(), format!("{bytes}B").into()]);
    std::iter::once("node".into())
        .chain(pairs)
        .chain(cache.into_iter().flatten())
        .collect()
}

/// Opens the log for appending: what is written after it was emptied begins at its start.
fn open_log(folder: &Path) -> io::Result<std::fs::File> {
    std::fs::create_dir_all(folder)?;
    empty_long_log(folder);
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join("node.log"))
}

/// Empties the log when it has become too long.
fn empty_long_log(folder: &Path) {
    let path = folder.join("node.log");
    if std::fs::metadata(&path).is_ok_and(|m| m.len() > LOG_BYTES_MAX) {
        // A log that cannot be emptied is looked at again later.
        let _ = std::fs::OpenOptions::new().write(true).truncate(true).open(path);
    }
}

/// What the node wrote since its start, for the error message.
fn log_from(folder: &Path, start: u64) -> String {
    let bytes = std::fs::read(folder.join("node.log")).unwrap_or_default();
    let start = usize::try_from(start).unwrap_or(0).min(bytes.len());
    String::from_utf8_lossy(&bytes[start..]).trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_became_long_goes_on_from_its_start() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().expect("folder");
        let mut log = open_log(folder.path()).expect("log");
        let size = || {
            std::fs::metadata(folder.path().join("node.log"))
                .expect("log")
                .len()
        };
        log.write_all(b"short").expect("write");
        empty_long_log(folder.path());
        assert_eq!(size(), 5);
        log.set_len(LOG_BYTES_MAX + 1).expect("a long log");
        empty_long_log(folder.path());
        log.write_all(b"again").expect("write");
        assert_eq!(size(), 5);
    }

    #[test]
    fn delays_grow_but_stay_below_a_second() {
        let mut delay = Duration::ZERO;
        let mut all = Vec::new();
        for _ in 0..7 {
            delay = next_delay(delay);
            all.push(delay.as_millis());
        }
        assert_eq!(all, [50, 100, 200, 400, 800, 800, 800]);
    }
}
