//! The build child: a short-lived process of the control plane that builds one archive.
//!
//! In flow `--blobs DIR --archive FILE`, and how sources are built; out flow lines for people on stderr and
//! one JSON [`BuildOutcome`] on stdout. The first thing it does is to limit itself. The parent bounds the wall
//! time and kills the process group; a child that ends without an outcome was stopped by one of the limits.

use std::{
    any::Any,
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Write as _},
    panic::{self, AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
};

use gilliam_model::{
    api::{ApiError, BuildOutcome},
    code::Code,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    BuildRequest, Sealed,
    archive::FILE_BYTES_MAX,
    build,
    cache::CacheRequest,
    import::import,
    network::Registries,
    packs::{self, Workshop},
    sandbox::{Limits, Mode},
};

/// Processor time of one build. A component of 18 MB takes a third of a second, so 64 of the largest take about
/// eighty.
const CPU_SECONDS_MAX: u64 = 120;
/// Address space: some copies of the largest component, what the validator holds of a crafted one, and what an
/// allocator reserves ahead.
const ADDRESS_SPACE_BYTES_MAX: u64 = 3 << 30;
/// Files open at once: three streams, the archive, and the folders on the way to one entry.
const OPEN_FILES_MAX: u64 = 256;

/// What a child takes.
const USAGE: &str = "usage: --blobs DIR --archive FILE [--import] [--packs DIR] [--tools DIR] [--cache DIR --app KEY] \
    [--cache-size BYTES] [--clean] [--registries LIST] [--unsandboxed-builds]";
/// Bytes of all build caches, where nothing else is said: four of the largest.
const CACHE_BYTES_MAX: u64 = 10 << 30;

/// What a child reports when its arguments are wrong.
const EXIT_USAGE: u8 = 2;

/// Runs a build child to its end: 0 when an outcome was written, whichever; 2 for wrong arguments; else 1.
///
/// `sandbox_role` are the arguments with which this same program is [`crate::sandbox::main`].
pub fn main(args: impl IntoIterator<Item = OsString>, sandbox_role: &[&str]) -> ExitCode {
    let sandbox = match limit_self().and_then(|()| packs::own_sandbox(sandbox_role)) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            return report(&refused(
                Code::A500,
                format!("the build child cannot limit itself: {error}"),
            ));
        }
    };
    let Some(arguments) = Arguments::parse(args) else {
        line(USAGE);
        return ExitCode::from(EXIT_USAGE);
    };
    let cache = arguments.cache.as_ref().map(|(folder, app)| CacheRequest {
        folder,
        app,
        bytes_max: arguments.cache_bytes_max,
        clean: arguments.clean,
    });
    let request = BuildRequest {
        archive: &arguments.archive,
        blobs: &arguments.blobs,
        workshop: Workshop {
            packs: arguments.packs.as_deref(),
            tools: arguments.tools.as_deref(),
            mode: match arguments.open {
                true => Mode::Open(&sandbox),
                false => Mode::Apart(&sandbox),
            },
            limits: Limits::default(),
            registries: &arguments.registries,
        },
        cache,
    };
    // What hostile input can make panic must still end in an outcome, which says it; stderr is for people.
    panic::set_hook(Box::new(|_| {}));
    let output = &mut |text: &str| line(text);
    let result = catch_unwind(AssertUnwindSafe(|| match arguments.import {
        true => import(request.archive, request.blobs, output),
        false => build(&request, output),
    }));
    report(&match result {
        Ok(Ok(Sealed { digest, image })) => BuildOutcome::Sealed { digest, image },
        Ok(Err(error)) => BuildOutcome::Refused {
            error: ApiError::from(&error),
        },
        Err(panic) => refused(
            Code::A500,
            format!("the builder failed: {}", panic_message(panic.as_ref())),
        ),
    })
}

struct Arguments {
    blobs: PathBuf,
    archive: PathBuf,
    packs: Option<PathBuf>,
    tools: Option<PathBuf>,
    /// The folder of all caches and the app's key.
    cache: Option<(PathBuf, String)>,
    cache_bytes_max: u64,
    registries: Registries,
    clean: bool,
    open: bool,
    import: bool,
}

impl Arguments {
    fn parse(args: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut all: BTreeMap<String, OsString> = BTreeMap::new();
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            let name = name.into_string().ok()?;
            let value = match name.as_str() {
                "--import" | "--clean" | "--unsandboxed-builds" => OsString::new(),
                "--blobs" | "--archive" | "--packs" | "--tools" | "--cache" | "--app" | "--cache-size"
                | "--registries" => args.next()?,
                _ => return None,
            };
            if all.insert(name, value).is_some() {
                return None;
            }
        }
        let mut path = |name: &str| all.remove(name).map(PathBuf::from);
        let (blobs, archive) = (path("--blobs")?, path("--archive")?);
        let (packs, tools, cache) = (path("--packs"), path("--tools"), path("--cache"));
        let mut text = |name: &str| all.remove(name).map(|value| value.into_string().ok());
        let cache_bytes_max = match text("--cache-size") {
            Some(bytes) => bytes?.parse().ok()?,
            None => CACHE_BYTES_MAX,
        };
        let registries = match text("--registries") {
            Some(list) => list?.parse().ok()?,
            None => Registries::default(),
        };
        let cache = match (cache, text("--app")) {
            (Some(folder), Some(app)) => Some((folder, app?)),
            (None, None) => None,
            _ => return None,
        };
        Some(Self {
            blobs,
            archive,
            packs,
            tools,
            cache,
            cache_bytes_max,
            registries,
            clean: all.contains_key("--clean"),
            import: all.contains_key("--import"),
            open: all.contains_key("--unsandboxed-builds"),
        })
    }
}

/// Lowers what this process may use; a sandbox that it starts has limits of its own, up to the old ones.
fn limit_self() -> io::Result<()> {
    let limits = [
        (Resource::Cpu, CPU_SECONDS_MAX),
        (Resource::As, ADDRESS_SPACE_BYTES_MAX),
        (Resource::Nofile, OPEN_FILES_MAX),
        (Resource::Fsize, FILE_BYTES_MAX),
        // A core dump would hold the project.
        (Resource::Core, 0),
    ];
    for (resource, max) in limits {
        let most = getrlimit(resource).maximum;
        let max = most.map_or(max, |most| most.min(max));
        setrlimit(
            resource,
            Rlimit {
                current: Some(max),
                maximum: most,
            },
        )?;
    }
    Ok(())
}

fn refused(code: Code, message: String) -> BuildOutcome {
    BuildOutcome::Refused {
        error: ApiError {
            code,
            message,
            hint: None,
        },
    }
}

fn report(outcome: &BuildOutcome) -> ExitCode {
    let mut text = serde_json::to_vec(outcome).expect("an outcome is plain data");
    text.push(b'\n');
    let mut stdout = io::stdout().lock();
    match stdout.write_all(&text).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A reader that went away is no reason to stop: the outcome counts.
fn line(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
