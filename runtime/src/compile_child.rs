//! The child process that compiles one component: a crafted one can cost any amount of time and memory, and
//! may bring the compiler down.
//!
//! In flow its arguments, `--shape S --engine E --component FILE --digest D --key FILE --out FILE`; out flows a
//! sealed file, or a message on standard error and an exit code that says whose fault it is.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use gilliam_engine::{Artefact, CompileError, CompileKey, EngineKind, SealError, compile, write_sealed};
use gilliam_model::{digest::Digest, image::Shape};
use rustix::process::{Resource, Rlimit, setrlimit};

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
    // A dump would hold the key.
    limit(Resource::Core, 0)?;
    let job = Job::parse(args)?;
    let key = read_key(&job.key).map_err(platform)?;
    let component = fs::read(&job.component).map_err(platform)?;
    let code = compile(job.artefact.shape, job.artefact.engine, &component).map_err(|error| match error {
        CompileError::Component(_) => Failure {
            exit: EXIT_COMPONENT,
            message: error.to_string(),
        },
        CompileError::Setup(_) => platform(error),
    })?;
    write_sealed(&job.out, &key, &job.artefact, &code).map_err(|error| match error {
        // This reaches the app's log: why, such as a full disk, and not where.
        SealError::Write { source, .. } => platform(format!("cannot keep the compiled code: {source}")),
        SealError::Settings(_) => platform(error),
    })
}

fn limit(resource: Resource, value: u64) -> Result<(), Failure> {
    let limit = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    setrlimit(resource, limit).map_err(|error| platform(format!("cannot limit this process: {error}")))
}

/// Reads the node's key.
pub(crate) fn read_key(path: &Path) -> std::io::Result<CompileKey> {
    let bytes: [u8; 32] = fs::read(path)?
        .try_into()
        .map_err(|_| std::io::Error::other(format!("{} is not a key of 32 bytes", path.display())))?;
    Ok(CompileKey::from_bytes(bytes))
}

struct Job {
    artefact: Artefact,
    component: PathBuf,
    key: PathBuf,
    out: PathBuf,
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
        let shape = take("--shape")?.to_string_lossy().into_owned();
        let engine = take("--engine")?.to_string_lossy().into_owned();
        let digest: Digest = take("--digest")?.to_string_lossy().parse().map_err(platform)?;
        let job = Job {
            artefact: Artefact {
                shape: parse_shape(&shape)?,
                engine: parse_engine(&engine)?,
                digest,
            },
            component: take("--component")?.into(),
            key: take("--key")?.into(),
            out: take("--out")?.into(),
        };
        match values.keys().next() {
            None => Ok(job),
            Some(name) => Err(platform(format!("{name} is unknown"))),
        }
    }
}

fn parse_shape(text: &str) -> Result<Shape, Failure> {
    Shape::ALL
        .into_iter()
        .find(|shape| shape.as_str() == text)
        .ok_or_else(|| platform(format!("{text:?} is not a shape")))
}

fn parse_engine(text: &str) -> Result<EngineKind, Failure> {
    EngineKind::ALL
        .into_iter()
        .find(|kind| kind.name() == text)
        .ok_or_else(|| platform(format!("{text:?} is not an engine")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_all_needed_and_no_others_taken() {
        let digest = Digest::from_sha256([1; 32]).to_string();
        let all = [
            "--shape",
            "http-p3",
            "--engine",
            "p3",
            "--component",
            "c",
            "--digest",
            &digest,
            "--key",
            "k",
            "--out",
            "o",
        ];
        let parse = |args: &[&str]| {
            Job::parse(args.iter().map(OsString::from).collect()).map_err(|failure| failure.message)
        };
        assert_eq!(parse(&all).map(|job| job.artefact.shape), Ok(Shape::HttpP3));
        assert_eq!(parse(&all[2..]).err().as_deref(), Some("--shape is missing"));
        assert_eq!(
            parse(&[&all[..], &["--x", "y"]].concat()).err().as_deref(),
            Some("--x is unknown")
        );
        assert_eq!(parse(&["--shape"]).err().as_deref(), Some("--shape has no value"));
    }
}
