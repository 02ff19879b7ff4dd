//! Processes that are measured: pinned, in a group of their own, gone when they are dropped and when this
//! process dies.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// A process that was asked to end has this long; then it is killed.
const END_WAIT: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Where a process may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// The first core only.
    First,
    /// All of them.
    All,
}

/// A running process; ended when dropped.
#[derive(Debug)]
pub(crate) struct Child(std::process::Child);

/// A command that runs `program` where `cores` says and that ends when this process does.
///
/// `gilliam internal attached` does both and then becomes the program.
pub(crate) fn command(gilliam: &Path, cores: Cores, program: &Path) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(gilliam);
    command.args(["internal", "attached"]);
    command.arg(match cores {
        Cores::First => "first",
        Cores::All => "all",
    });
    command.arg(program).stdin(Stdio::null());
    // A terminal's Ctrl-C reaches this process alone: it ends its children in order.
    command.process_group(0);
    command
}

impl Child {
    pub(crate) fn start(command: &mut Command, what: &str) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {what}"))?;
        Ok(Self(child))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.0.stdout.take()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        send(self.pid(), Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < END_WAIT {
            if self.has_ended() {
                return;
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
        self.kill();
    }
}

/// Sends a signal to a process that may be gone.
pub(crate) fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process is there and runs; one that ended and waits for its parent is not.
pub(crate) fn is_there(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    !(state.is_empty() || state.starts_with(['Z', 'X']))
}
