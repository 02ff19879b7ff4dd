//! The child process that compiles one component: a crafted one can cost any amount of time and memory, and
//! may bring the compiler down.
//!
//! In flow its arguments, `--shape S --engine E --tier T --component FILE --nice N`; out flows compiled code
//! through the pipe that is its standard input (whatever prints to standard output cannot get in between), or a
//! message on standard error and an exit code that says whose fault it is.
//!
//! Invariant: the node's key is not here: whoever takes this process over can spoil one component's code, which
//! is that component's own.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use gilliam_engine::{CompileError, CompileKey, EngineKind, Tier, compile};
use gilliam_model::image::Shape;
use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};

/// Address space: twice what the largest language runtimes need to compile.
const ADDRESS_SPACE_BYTES_MAX: u64 = 4 << 30;
/// CPU time over all threads: four times what the largest language runtimes need, unoptimised.
const CPU_S_MAX: u64 = 150;

/// The component is at fault: to compile it again gives the same.
pub(crate) const EXIT_COMPONENT: u8 = 3;
/// The node is at fault.
const EXIT_PLATFORM: u8 = 1;

/// Runs the child to its end; `args` follow the command that the node was configured with.
pub fn main(args: Vec<OsString>) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.message);
            ExitCode::from(failure.exit)
        }
    }
}

struct Failure {
    exit: u8,
    message: String,
}

fn platform(message: impl ToString) -> Failure {
    Failure {
        exit: EXIT_PLATFORM,
        message: message.to_string(),
    }
}

fn run(args: Vec<OsString>) -> Result<(), Failure> {
    limit(Resource::As, ADDRESS_SPACE_BYTES_MAX)?;
    limit(Resource::Cpu, CPU_S_MAX)?;
    // A dump would hold the component.
    limit(Resource::Core, 0)?;
    let job = Job::parse(args)?;
    // Refusal leaves the priority as it is.
    let _ = setpriority_process(None, job.nice);
    let component = fs::read(&job.component).map_err(platform)?;
    let code = compile(job.shape, job.engine, job.tier, &component).map_err(|error| match error {
        CompileError::Component(_) => Failure {
            exit: EXIT_COMPONENT,
            message: error.to_string(),
        },
        CompileError::Setup(_) => platform(error),
    })?;
    let hand_back = io::stdin().as_fd().try_clone_to_owned().map_err(platform)?;
    File::from(hand_back).write_all(&code).map_err(platform)
}

fn limit(resource: Resource, value: u64) -> Result<(), Failure> {
    let limit = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    setrlimit(resource, limit).map_err(|error| platform(format!("cannot limit this process: {error}")))
}

/// Reads the node's key.
pub(crate) fn read_key(path: &Path) -> io::Result<CompileKey> {
    let bytes: [u8; 32] = fs::read(path)?
        .try_into()
        .map_err(|_| io::Error::other(format!("{} is not a key of 32 bytes", path.display())))?;
    Ok(CompileKey::from_bytes(bytes))
}

#[derive(Debug, PartialEq, Eq)]
struct Job {
    shape: Shape,
    engine: EngineKind,
    tier: Tier,
    component: PathBuf,
    nice: i32,
}

impl Job {
    fn parse(args: Vec<OsString>) -> Result<Self, Failure> {
        let mut values = std::collections::BTreeMap::new();
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            let value = args
                .next()
                .ok_or_else(|| platform(format!("{} has no value", name.display())))?;
            values.insert(name.to_string_lossy().into_owned(), value);
        }
        let mut take = |name: &str| {
            values
                .remove(name)
                .ok_or_else(|| platform(format!("{name} is missing")))
        };
        let component = take("--component")?.into();
        let mut text = |name: &str| take(name).map(|value| value.to_string_lossy().into_owned());
        let job = Job {
            shape: named(&text("--shape")?, &Shape::ALL, Shape::as_str)?,
            engine: named(&text("--engine")?, &EngineKind::ALL, EngineKind::name)?,
            tier: named(&text("--tier")?, &Tier::ALL, Tier::as_str)?,
            component,
            nice: text("--nice")?.parse().map_err(platform)?,
        };
        match values.keys().next() {
            None => Ok(job),
            Some(name) => Err(platform(format!("{name} is unknown"))),
        }
    }
}

/// Which of `all` has this name.
fn named<T: Copy>(text: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, Failure> {
    let found = all.iter().copied().find(|one| name(*one) == text);
    found.ok_or_else(|| platform(format!("{text:?} is unknown")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_all_needed_and_no_others_taken() {
        let all = [
            "--shape",
            "http-p3",
            "--engine",
            "p3",
            "--tier",
            "quick",
            "--component",
            "c",
            "--nice",
            "5",
        ];
        let parse = |args: &[&str]| {
            Job::parse(args.iter().map(OsString::from).collect()).map_err(|failure| failure.message)
        };
        let job = Job {
            shape: Shape::HttpP3,
            engine: EngineKind::P3,
            tier: Tier::Quick,
            component: "c".into(),
            nice: 5,
        };
        assert_eq!(parse(&all), Ok(job));
        assert_eq!(parse(&all[2..]).err().as_deref(), Some("--shape is missing"));
        assert_eq!(
            parse(&[&all[..], &["--x", "y"]].concat()).err().as_deref(),
            Some("--x is unknown")
        );
        assert_eq!(parse(&["--shape"]).err().as_deref(), Some("--shape has no value"));
    }
}
