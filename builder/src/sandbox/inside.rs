//! The two processes that become a sandbox: this program, started again.
//!
//! The first makes the namespaces and waits while [`super::run`] gives it its users. The second is process 1 in
//! them: it builds the root, drops every right, and starts the build's program; when it ends, the kernel ends
//! whatever is left.
//!
//! Out flow, on stdout, one line per step that the starter waits for; the last is [`STARTED`], after which all
//! output is the build's.
//!
//! Invariant: nothing of the project runs before the last right is dropped.

use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use nix::sched::{CloneFlags, unshare};
use rustix::{
    process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set, set_capabilities,
        set_no_new_privs,
    },
};

use super::{
    cell::{Cell, Limits},
    deny, root,
};
use crate::network;

/// The namespaces are there and wait for their users.
pub(super) const APART: &str = "apart";
/// The build's program runs next.
pub(super) const STARTED: &str = "started";
/// Starts a line that says why there is no sandbox.
pub(super) const FAILED: &str = "failed: ";
/// The user and the group of a build, in its own namespace.
pub(super) const BUILD_ID: u32 = 1000;

/// Exit code of a process that could not become a sandbox.
const EXIT_NO_SANDBOX: u8 = 1;
/// Added to a signal's number, as shells do.
const EXIT_SIGNAL: i32 = 128;

/// No sandbox: the limits alone.
const OPEN: &str = "open";
const FIRST: &str = "first";
const SECOND: &str = "second";

/// Becomes part of a sandbox: `first|second|open CELL COMMAND…`, where COMMAND starts this role again.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let ended = match args.as_slice() {
        [half, cell, again @ ..] => parse(cell).and_then(|cell| match half.to_str() {
            Some(FIRST) => first(&args[1], again),
            Some(SECOND) => second(&cell),
            Some(OPEN) => open(&cell),
            _ => Err(io::Error::other("no part of a sandbox is asked for")),
        }),
        _ => Err(io::Error::other("usage: first|second|open CELL COMMAND...")),
    };
    match ended {
        Ok(status) => ExitCode::from(code(status)),
        Err(error) => {
            // Without a reader nobody waits for the reason.
            let _ = writeln!(io::stdout(), "{FAILED}{error}");
            ExitCode::from(EXIT_NO_SANDBOX)
        }
    }
}

/// The command of a sandbox's first half.
pub(super) fn command(again: &[OsString], cell: &Cell) -> io::Result<Command> {
    half(FIRST, again, &serde_json::to_string(cell)?.into())
}

/// The command that runs a cell without a sandbox.
pub(super) fn open_command(again: &[OsString], cell: &Cell) -> io::Result<Command> {
    half(OPEN, again, &serde_json::to_string(cell)?.into())
}

fn half(half: &str, again: &[OsString], cell: &OsString) -> io::Result<Command> {
    let (program, args) = again
        .split_first()
        .ok_or_else(|| io::Error::other("no command starts a sandbox"))?;
    let mut command = Command::new(program);
    command.args(args).arg(half).arg(cell).args(again).env_clear();
    Ok(command)
}

fn parse(cell: &OsString) -> io::Result<Cell> {
    let text = cell
        .to_str()
        .ok_or_else(|| io::Error::other("the cell is not text"))?;
    serde_json::from_str(text).map_err(io::Error::other)
}

fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| EXIT_SIGNAL + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn first(cell: &OsString, again: &[OsString]) -> io::Result<ExitStatus> {
    let all = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(all).map_err(|errno| io::Error::other(format!("the kernel gives no namespaces: {errno}")))?;
    writeln!(io::stdout(), "{APART}")?;
    // One byte says that the users are set; the end of the input, that nobody wants the sandbox any more.
    io::stdin().read_exact(&mut [0])?;
    if parse(cell)?.network.is_some() {
        network::raise()?;
    }
    if !nix::unistd::getuid().is_root() {
        keep_mounting()?;
    }
    let mut child = half(SECOND, again, cell)?.stdin(Stdio::null()).spawn()?;
    child.wait()
}

/// Hands the right to mount, within the namespaces, to the second half, which would lose it as it starts: to keep
/// rights over a start is root's alone.
fn keep_mounting() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable |= CapabilitySet::SYS_ADMIN;
    set_capabilities(None, sets)?;
    Ok(configure_capability_in_ambient_set(
        CapabilitySet::SYS_ADMIN,
        true,
    )?)
}

fn second(cell: &Cell) -> io::Result<ExitStatus> {
    root::enter(cell)?;
    nix::unistd::sethostname("build")?;
    drop_rights()?;
    limit(&cell.limits)?;
    lower(Resource::Nproc, cell.limits.processes)?;
    let writable = cell.shown.iter().filter(|shown| shown.writable);
    let mut writable: Vec<&Path> = writable.map(|shown| shown.to.as_path()).collect();
    writable.extend([Path::new("/tmp"), Path::new("/dev")]);
    deny::files(&writable)?;
    deny::system_calls()?;
    // Changing the user forgot it. The first half ends with its starter, and this with the first half.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if cell.network.is_some() {
        network::forward()?;
    }
    execute(cell)
}

fn open(cell: &Cell) -> io::Result<ExitStatus> {
    limit(&cell.limits)?;
    set_no_new_privs(true)?;
    execute(cell)
}

/// Runs the cell's program to its end.
fn execute(cell: &Cell) -> io::Result<ExitStatus> {
    let (program, args) = cell
        .program
        .split_first()
        .ok_or_else(|| io::Error::other("no program to run"))?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{STARTED}")?;
    stdout.flush()?;
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(cell.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&cell.folder)
        .stdin(Stdio::null())
        .spawn();
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot start {program}: {error}"));
    child.map_err(failed)?.wait()
}

/// From here on this process is an ordinary user, for good.
fn drop_rights() -> io::Result<()> {
    use nix::unistd::{Gid, Uid, getuid, setgroups, setresgid, setresuid};
    if getuid().is_root() {
        setgroups(&[])?;
        let group = Gid::from_raw(BUILD_ID);
        setresgid(group, group, group)?;
        let user = Uid::from_raw(BUILD_ID);
        setresuid(user, user, user)?;
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(set_no_new_privs(true)?)
}

fn limit(limits: &Limits) -> io::Result<()> {
    for (resource, max) in [
        (Resource::Core, 0),
        (Resource::Cpu, limits.cpu_seconds),
        (Resource::Data, limits.memory_bytes),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Nofile, limits.open_files),
    ] {
        lower(resource, max)?;
    }
    // The builder's own bound on address space is no bound for engines that reserve it by the gigabyte.
    let most = getrlimit(Resource::As).maximum;
    let both = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(Resource::As, both)?)
}

fn lower(resource: Resource, max: u64) -> io::Result<()> {
    // Nobody but root may raise a limit, so one that is lower already stays.
    let max = getrlimit(resource)
        .maximum
        .map_or(max, |already| already.min(max));
    let both = Rlimit {
        current: Some(max),
        maximum: Some(max),
    };
    Ok(setrlimit(resource, both)?)
}
