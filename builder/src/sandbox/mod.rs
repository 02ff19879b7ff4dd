//! The sandbox: runs one program of a stranger with nothing but what it is given.
//!
//! In flow a [`Cell`] and the command that starts this program again as [`main`]; out flow the program's lines
//! of output while it runs and its exit code, or the limit that stopped it. The pieces: `inside` becomes the
//! sandbox, `root` builds its file system, `deny` closes the kernel, `watch` measures what it uses.
//!
//! Own user, mount, process, network, IPC and host-name namespaces; a root of read-only views; an ordinary user
//! without capabilities, which where the platform runs as root is nobody's user outside either; no network but the
//! way to listed hosts that [`crate::network`] is.
//!
//! Invariant: when [`run`] answers, no process of the sandbox is left.

mod cell;
mod deny;
mod inside;
mod root;
mod watch;

use std::{
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader, Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getegid, geteuid, kill_process};

use crate::network::Proxy;

pub use cell::{Cell, Limits, Shown};
pub use inside::main;
pub(crate) use watch::held;

/// The user outside that a build is where the platform itself is root: one that owns nothing else.
pub const USER_OF_ROOTS_BUILDS: u32 = 1_610_612_736;

/// Between two looks at what a build uses. A program that takes a gigabyte a second is a quarter of one over its
/// limit when it is stopped.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Room that must stay on the disk of the writable folders, whoever fills it.
const ROOM_BYTES_MIN: u64 = 256 << 20;
/// Lines that wait for their reader.
const LINES_WAITING: usize = 256;
/// Longest line that is kept; the rest of it is dropped.
const LINE_BYTES_MAX: usize = 4 << 10;

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No namespaces, or too few rights in them.
    #[error("the build sandbox cannot be made: {0}")]
    Unavailable(String),
    /// A limit of the sandbox stopped it.
    #[error("the build was stopped: it {0}")]
    Stopped(Stop),
    /// The platform's own side failed.
    #[error("the build sandbox failed")]
    Io(#[from] io::Error),
}

/// The limit that a build reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Time.
    #[error("took longer than {} s", .0.as_secs())]
    Wall(Duration),
    /// Memory.
    #[error("used more than {} MiB of memory", .0 >> 20)]
    Memory(u64),
    /// Bytes on disk.
    #[error("wrote more than {} MiB", .0 >> 20)]
    Disk(u64),
    /// Files and folders.
    #[error("made more than {0} files, or nested folders too deeply")]
    Entries(u64),
    /// The disk itself.
    #[error("left less than {} MiB of the builder's disk free", ROOM_BYTES_MIN >> 20)]
    Room,
    /// Output.
    #[error("printed more than {} MiB", .0 >> 20)]
    Output(u64),
}

/// How a program is run.
#[derive(Debug, Clone, Copy)]
pub enum Mode<'a> {
    /// In a sandbox that this command starts.
    Apart(&'a [OsString]),
    /// Started by this command as any program of this user: nothing but the limits holds it.
    Open(&'a [OsString]),
}

impl Default for Mode<'_> {
    /// A sandbox that nothing can start: whoever builds sources says how.
    fn default() -> Self {
        Mode::Apart(&[])
    }
}

/// Runs the cell's program to its end; `output` gets each line.
///
/// Everything writable must belong to this process; as root it is given to the build's user first.
pub fn run(mode: Mode<'_>, cell: &Cell, output: &mut dyn FnMut(&str)) -> Result<i32, SandboxError> {
    let writable: Vec<PathBuf> = cell
        .shown
        .iter()
        .filter(|shown| shown.writable)
        .map(|shown| shown.from.clone())
        .collect();
    // Before the sandbox that shows its socket.
    let proxy = match (&cell.network, mode) {
        (Some(network), Mode::Apart(_)) => Some(Proxy::start(&network.socket, &network.hosts)?),
        _ => None,
    };
    let (mut running, stdout) = match mode {
        Mode::Apart(again) => {
            if geteuid().is_root() {
                writable.iter().try_for_each(|folder| give_new(folder))?;
            }
            start_apart(again, cell)?
        }
        Mode::Open(again) => start_open(again, cell)?,
    };
    let stderr = running.child.stderr.take().expect("stderr is piped");
    let budget = cell.limits.output_bytes;
    let (sender, lines) = sync_channel(LINES_WAITING);
    let second = sender.clone();
    // They end when their pipe has no writers any more, or their channel no reader.
    thread::spawn(move || split(stdout, budget, &sender));
    thread::spawn(move || split(BufReader::new(stderr), budget, &second));
    let say = |output: &mut dyn FnMut(&str)| {
        let said = proxy.as_ref().map(Proxy::said).unwrap_or_default();
        said.iter().for_each(|line| output(line));
    };
    let status = supervise(&mut running, cell, &writable, &lines, &mut |line| {
        say(output);
        output(line);
    });
    // What was refused explains the end, too.
    say(output);
    let status = status?;
    Ok(status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

/// A started program; dropped, it and all it started end.
struct Running {
    child: Child,
    apart: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let below = watch::below(self.child.id());
            // With process 1 of its namespaces a whole sandbox ends, and its first half has waited for that.
            // Without a sandbox these are all that can be found.
            below.iter().copied().for_each(kill);
            if !self.apart || below.is_empty() {
                kill(self.child.id());
            }
        }
        // An error says that somebody waited already.
        let _ = self.child.wait();
    }
}

fn kill(id: u32) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // An error says that it is gone.
        let _ = kill_process(id, Signal::KILL);
    }
}

type Started = (Running, BufReader<ChildStdout>);

fn start_apart(again: &[OsString], cell: &Cell) -> Result<Started, SandboxError> {
    let mut command = inside::command(again, cell)?;
    command.stdin(Stdio::piped());
    let (mut running, mut stdout) = spawn(&mut command, true)?;
    let mut stdin = running.child.stdin.take().expect("stdin is piped");
    expect(&mut stdout, inside::APART)?;
    let id = running.child.id();
    users(id).map_err(|error| SandboxError::Unavailable(format!("no users in the namespace: {error}")))?;
    stdin.write_all(b"\n")?;
    expect(&mut stdout, inside::STARTED)?;
    Ok((running, stdout))
}

fn start_open(again: &[OsString], cell: &Cell) -> Result<Started, SandboxError> {
    let mut command = inside::open_command(again, cell)?;
    let (running, mut stdout) = spawn(command.stdin(Stdio::null()), false)?;
    expect(&mut stdout, inside::STARTED)?;
    Ok((running, stdout))
}

fn spawn(command: &mut Command, apart: bool) -> io::Result<Started> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut running = Running { child, apart };
    let stdout = BufReader::new(running.child.stdout.take().expect("stdout is piped"));
    Ok((running, stdout))
}

/// Waits for the line that says a step is done.
fn expect(stdout: &mut BufReader<ChildStdout>, step: &str) -> Result<(), SandboxError> {
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    match line.trim_end() {
        said if said == step => Ok(()),
        said => Err(SandboxError::Unavailable(
            match said.strip_prefix(inside::FAILED) {
                Some(reason) => reason.to_string(),
                None => format!("it ended before it was {step}"),
            },
        )),
    }
}

/// Gives the namespace of a process its users: the build's, and for root itself while it is built.
fn users(id: u32) -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    let build = inside::BUILD_ID;
    let (users, groups) = if user.is_root() {
        let both = format!("0 0 1\n{build} {USER_OF_ROOTS_BUILDS} 1\n");
        (both.clone(), both)
    } else {
        // Who is not root may map only itself, and only when groups are fixed.
        fs::write(format!("/proc/{id}/setgroups"), "deny")?;
        (
            format!("{build} {} 1\n", user.as_raw()),
            format!("{build} {} 1\n", group.as_raw()),
        )
    };
    fs::write(format!("/proc/{id}/gid_map"), groups)?;
    fs::write(format!("/proc/{id}/uid_map"), users)
}

/// Gives a folder to the user of root's builds, unless it is theirs: what earlier builds left in it is as well.
fn give_new(folder: &Path) -> io::Result<()> {
    match std::os::unix::fs::MetadataExt::uid(&fs::symlink_metadata(folder)?) {
        USER_OF_ROOTS_BUILDS => Ok(()),
        _ => give(folder),
    }
}

/// Gives a folder and all in it to the user of root's builds, the folder last.
fn give(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    }
    std::os::unix::fs::lchown(path, Some(USER_OF_ROOTS_BUILDS), Some(USER_OF_ROOTS_BUILDS))
}

/// What a reader of output has.
enum Output {
    Line(String),
    TooMuch,
}

/// Cuts output into lines until its end or until it is too much.
fn split(mut pipe: impl BufRead, budget: u64, lines: &SyncSender<Output>) {
    let mut left = budget;
    loop {
        let mut line = Vec::new();
        let mut piece = pipe.by_ref().take(left.min(LINE_BYTES_MAX as u64));
        let n = piece.read_until(b'\n', &mut line).unwrap_or(0);
        if n == 0 {
            break;
        }
        left -= n as u64;
        let text = String::from_utf8_lossy(&line)
            .trim_end_matches(['\r', '\n'])
            .to_string();
        if lines.send(Output::Line(text)).is_err() {
            return;
        }
    }
    if left == 0 {
        // An error says that nobody reads any more.
        let _ = lines.send(Output::TooMuch);
    }
}

/// Passes output on and looks at what is used until the program has ended.
fn supervise(
    running: &mut Running,
    cell: &Cell,
    writable: &[PathBuf],
    lines: &Receiver<Output>,
    output: &mut dyn FnMut(&str),
) -> Result<ExitStatus, SandboxError> {
    let limits = &cell.limits;
    let started = Instant::now();
    let mut next_look = started;
    let mut open = true;
    loop {
        let wait = next_look.saturating_duration_since(Instant::now());
        if open {
            match lines.recv_timeout(wait) {
                Ok(Output::Line(line)) => output(&line),
                Ok(Output::TooMuch) => return Err(SandboxError::Stopped(Stop::Output(limits.output_bytes))),
                Err(RecvTimeoutError::Disconnected) => open = false,
                Err(RecvTimeoutError::Timeout) => {}
            }
        } else {
            // Nobody can print any more: the program ends now, or it closed its output and goes on.
            if let Some(status) = running.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(wait.min(LOOK_EVERY / 10));
        }
        if Instant::now() < next_look {
            continue;
        }
        let looked = Instant::now();
        if started.elapsed() > limits.wall {
            return Err(SandboxError::Stopped(Stop::Wall(limits.wall)));
        }
        if let Some(stop) = look(running, cell, writable) {
            return Err(SandboxError::Stopped(stop));
        }
        // A daemon without a sandbox may hold the output open for ever: the program's end is what counts.
        if let Some(status) = running.child.try_wait()? {
            while let Ok(Output::Line(line)) = lines.try_recv() {
                output(&line);
            }
            return Ok(status);
        }
        // Large folders take long to count and are counted less often.
        next_look = Instant::now() + LOOK_EVERY.max(looked.elapsed() * 4);
    }
}

/// The limit that is reached, if any.
fn look(running: &Running, cell: &Cell, writable: &[PathBuf]) -> Option<Stop> {
    let limits = &cell.limits;
    if watch::memory_of_tree(running.child.id()) > limits.memory_bytes {
        return Some(Stop::Memory(limits.memory_bytes));
    }
    let held = held(writable, limits.disk_entries);
    if held.entries > limits.disk_entries {
        return Some(Stop::Entries(limits.disk_entries));
    }
    if held.bytes > limits.disk_bytes {
        return Some(Stop::Disk(limits.disk_bytes));
    }
    let tight = |folder: &PathBuf| watch::room(folder).is_ok_and(|room| room < ROOM_BYTES_MIN);
    writable.iter().any(tight).then_some(Stop::Room)
}
