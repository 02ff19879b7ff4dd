//! `gilliam internal git`: git as a child of the control plane, on repositories whose objects strangers wrote.
//!
//! | role | in | out |
//! |---|---|---|
//! | `receive` | a pack on its input | the pack in the push's folder, the archive of the commit, one JSON line |
//! | `serve` | a request of a fetch as CGI | becomes `git http-backend` |
//! | `repack` | a repository | one pack in it |
//!
//! The first thing it does is to limit itself; the parent bounds the wall time and kills the process group.
//!
//! Invariant: git reads no configuration but what is written here and what the control plane wrote into the
//! repository; it runs no hook, filter or monitor, and checks nothing out.
//! Invariant: it speaks to nobody, except to fetch submodules by HTTPS from whom the operator lets it (`submodules`).

mod submodules;

use std::{
    ffi::OsString,
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use gilliam_model::{api::ApiError, code::Code, push::ReceiveOutcome};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    archive::{self, ArchiveError},
    failure::CommandError,
};
pub(crate) use submodules::{SubmoduleError, Submodules};

/// Processor time of one process: the largest pack takes a minute or two.
const CPU_SECONDS_MAX: u64 = 300;
/// Address space: the packs that are read, a few large files, what an allocator reserves ahead.
const ADDRESS_SPACE_BYTES_MAX: u64 = 2 << 30;
/// Files open at once.
const OPEN_FILES_MAX: u64 = 256;
/// One file: a repository as one pack.
const FILE_BYTES_MAX: u64 = 2 << 30;
/// Bytes of one pack; the control plane counts too.
const PACK_BYTES_MAX: &str = "--max-input-size=536870912";
/// What git says when it fails; more is dropped.
const COMPLAINT_BYTES_MAX: u64 = 16 << 10;
/// Lines of that which are passed on.
const COMPLAINT_LINES_MAX: usize = 4;
/// What a child reports when its arguments are wrong.
const EXIT_USAGE: u8 = 2;

/// All of git's configuration.
const SETTINGS: [&str; 16] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.fsync=all",
    // Larger files are read in pieces.
    "core.bigFileThreshold=16m",
    "core.packedGitLimit=256m",
    "core.packedGitWindowSize=16m",
    "core.deltaBaseCacheLimit=32m",
    "gc.auto=0",
    "maintenance.auto=false",
    "pack.threads=1",
    "pack.windowMemory=64m",
    "protocol.allow=never",
    // The data folder is the control plane's, whoever owns the folders above it.
    "safe.directory=*",
    "uploadpack.allowFilter=false",
    "http.receivepack=false",
    "http.uploadpack=true",
];
const VARIABLES: [(&str, &str); 9] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ALLOW_PROTOCOL", "none"),
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
];
/// What old histories of honest projects have, and does no harm; all else that git knows to be wrong is refused.
const STRICT: &str = "--strict=missingSpaceBeforeDate=ignore,badTimezone=ignore,badDate=ignore,\
                      zeroPaddedFilemode=ignore,missingEmail=ignore,missingNameBeforeEmail=ignore,\
                      badEmail=ignore,gitmodulesMissing=ignore";

/// Objects that were pushed: in a folder of their own, beside what the repository has.
#[derive(Debug)]
pub(crate) struct Received {
    repository: PathBuf,
    objects: PathBuf,
    /// Where submodules are fetched to: a repository that goes with the push.
    modules: PathBuf,
    submodules: Submodules,
}

impl Received {
    /// git, seeing all of them.
    pub(crate) fn command(&self) -> Command {
        let mut others = self.repository.join("objects").into_os_string();
        let modules = self.modules.join("objects");
        if modules.is_dir() {
            others.push(":");
            others.push(modules);
        }
        let mut command = git(&self.repository);
        command.env("GIT_OBJECT_DIRECTORY", &self.objects);
        command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", others);
        command
    }
}

/// Runs a role to its end.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    if let Err(error) = limit_self() {
        eprintln!("error: the git child cannot limit itself: {error}");
        return ExitCode::FAILURE;
    }
    let mut args = args.into_iter().peekable();
    let mut submodules = Submodules::NONE;
    if args.next_if(|word| word == "--submodules").is_some() {
        let list = args.next().and_then(|list| list.to_str()?.parse().ok());
        submodules = list.unwrap_or(submodules);
    }
    let role = args.next();
    let arguments = Arguments::parse(args);
    match (role.as_ref().and_then(|role| role.to_str()), arguments) {
        (Some("receive"), Some(arguments)) => receive_role(&arguments, submodules),
        (Some("serve"), Some(_)) => become_git(settled(Command::new("git")).arg("http-backend")),
        (Some("repack"), Some(Arguments { repository, .. })) => {
            become_git(git(&repository).args(["repack", "-a", "-d", "-q"]))
        }
        _ => {
            eprintln!(
                "usage: [--submodules LIST] receive --repository DIR --objects DIR --archive FILE --commit ID \
                 --modules DIR | serve | repack --repository DIR"
            );
            ExitCode::from(EXIT_USAGE)
        }
    }
}

#[derive(Default)]
struct Arguments {
    repository: PathBuf,
    objects: PathBuf,
    archive: PathBuf,
    commit: PathBuf,
    modules: PathBuf,
}

impl Arguments {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut arguments = Self::default();
        while let Some(name) = args.next() {
            let slot = match name.to_str()? {
                "--repository" => &mut arguments.repository,
                "--objects" => &mut arguments.objects,
                "--archive" => &mut arguments.archive,
                "--commit" => &mut arguments.commit,
                "--modules" => &mut arguments.modules,
                _ => return None,
            };
            *slot = args.next()?.into();
        }
        Some(arguments)
    }
}

fn limit_self() -> io::Result<()> {
    let limits = [
        (Resource::Cpu, CPU_SECONDS_MAX),
        (Resource::As, ADDRESS_SPACE_BYTES_MAX),
        (Resource::Nofile, OPEN_FILES_MAX),
        (Resource::Fsize, FILE_BYTES_MAX),
        (Resource::Core, 0),
    ];
    for (resource, max) in limits {
        let max = getrlimit(resource).maximum.map_or(max, |most| most.min(max));
        let limit = Rlimit {
            current: Some(max),
            maximum: Some(max),
        };
        setrlimit(resource, limit)?;
    }
    Ok(())
}

fn git(repository: &Path) -> Command {
    let mut command = settled(Command::new("git"));
    command.arg("--git-dir").arg(repository);
    command.stdin(Stdio::null());
    command
}

fn settled(mut command: Command) -> Command {
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command.envs(VARIABLES);
    command
}

fn become_git(command: &mut Command) -> ExitCode {
    let error = command.stdin(Stdio::inherit()).exec();
    eprintln!("error: cannot run git: {error}");
    ExitCode::FAILURE
}

fn receive_role(arguments: &Arguments, submodules: Submodules) -> ExitCode {
    let outcome = match receive(arguments, submodules) {
        Ok((message, hints)) => ReceiveOutcome::Archived { message, hints },
        Err(error) => ReceiveOutcome::Refused { error },
    };
    let mut text = serde_json::to_vec(&outcome).expect("an outcome is plain data");
    text.push(b'\n');
    match io::stdout().lock().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The objects in, the archive out; what is said of it.
fn receive(arguments: &Arguments, submodules: Submodules) -> Result<(Option<String>, Vec<String>), ApiError> {
    let received = Received {
        repository: arguments.repository.clone(),
        objects: arguments.objects.clone(),
        modules: arguments.modules.clone(),
        submodules,
    };
    let commit = arguments.commit.to_string_lossy();
    let mut unpack = received.command();
    unpack.args([
        "index-pack",
        "--stdin",
        "--fix-thin",
        "--threads=1",
        STRICT,
        PACK_BYTES_MAX,
    ]);
    run(unpack.stdin(Stdio::inherit()), "the objects that were pushed")?;
    let mut kind = received.command();
    let kind = run(
        kind.args(["cat-file", "-t", &commit]),
        "the commit that was pushed",
    )?;
    if kind.trim_ascii() != b"commit" {
        return Err(refused(
            Code::B14,
            "what was pushed to the branch is not a commit".to_string(),
        ));
    }
    let mut whole = received.command();
    whole.args(["rev-list", "--objects", "--quiet", &commit, "--not", "--all"]);
    run(&mut whole, "the history that was pushed")?;
    let mut archive = archive::pack_received(&received, &commit).map_err(unpacked)?;
    let written = fs::File::create(&arguments.archive).and_then(|mut file| {
        archive.file.rewind()?;
        io::copy(&mut archive.file, &mut file)
    });
    written.map_err(|error| refused(Code::A503, format!("the archive cannot be written: {error}")))?;
    Ok((archive.message, archive.hints))
}

/// Runs git; gives what it prints.
fn run(command: &mut Command, what: &str) -> Result<Vec<u8>, ApiError> {
    let failed = |error: io::Error| refused(Code::A503, format!("git cannot read {what}: {error}"));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut complaint = Vec::new();
    if let Some(stderr) = &mut child.stderr {
        stderr
            .take(COMPLAINT_BYTES_MAX)
            .read_to_end(&mut complaint)
            .and_then(|_| io::copy(stderr, &mut io::sink()))
            .map_err(failed)?;
    }
    let ended = child.wait_with_output().map_err(failed)?;
    if ended.status.success() {
        return Ok(ended.stdout);
    }
    let complaint = complaint_of(&complaint);
    let message = match ended.status.signal() {
        Some(_) => format!("git was stopped while it read {what}: they need too much processor time"),
        None => format!("git refuses {what}: {complaint}"),
    };
    let is_limit = ended.status.signal().is_some()
        || ["emory", "maximum allowed size", "too large"]
            .iter()
            .any(|word| complaint.contains(word));
    let code = if is_limit { Code::B10 } else { Code::B14 };
    Err(refused(code, message))
}

/// The lines in which git says what is wrong.
fn complaint_of(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let prefixes = ["error: ", "fatal: ", "warning: "];
    let lines = text
        .lines()
        .filter_map(|line| prefixes.iter().find_map(|prefix| line.strip_prefix(prefix)));
    let lines: Vec<&str> = lines.take(COMPLAINT_LINES_MAX).collect();
    match lines.is_empty() {
        true => "it does not say why".to_string(),
        false => lines.join("; "),
    }
}

fn refused(code: Code, message: String) -> ApiError {
    ApiError {
        code,
        message,
        hint: None,
    }
}

fn unpacked(error: ArchiveError) -> ApiError {
    let code = match &error {
        ArchiveError::TooLarge { .. } | ArchiveError::TooMany => Code::B10,
        ArchiveError::Write(_) => Code::A503,
        _ => Code::B14,
    };
    let CommandError { message, hint, .. } = error.into();
    ApiError { code, message, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_passed_on_in_short() {
        let stderr =
            b"error: object 12: hasDotgit: contains '.git'\nnoise\nfatal: fsck error in packed object\n";
        assert_eq!(
            complaint_of(stderr),
            "object 12: hasDotgit: contains '.git'; fsck error in packed object"
        );
        assert_eq!(complaint_of(b""), "it does not say why");
    }
}
