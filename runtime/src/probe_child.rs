//! The probe child: a short-lived process of the control plane that finds out whether a component's lanes may
//! be reused.
//!
//! In flow a [`ProbeRequest`] on standard input and the component's file, out flows one JSON
//! [`ProbeOutcome`] on standard output. It limits itself first; the parent bounds the wall time. Its guest gets
//! no network.
//!
//! Invariant: what runs here is what a node would run: the same compiler, engine, caps and fuel.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read as _, Write as _},
    num::NonZeroUsize,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use gilliam_engine::{
    Artefact, CompileError, CompileKey, EngineKind, Engines, EnginesConfig, ProbeConfig, ProbeError, Tier,
    compile, load, probe, write_sealed,
};
use gilliam_model::api::{ProbeOutcome, ProbeRequest};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Memory that it may write to: what compiling takes, and two instances at their largest.
const DATA_BYTES_MAX: u64 = 12 << 30;
/// CPU time over all threads: to compile the largest components, and some requests.
const CPU_S_MAX: u64 = 180;
/// Largest request: config is at most 64 KiB.
const REQUEST_BYTES_MAX: u64 = 1 << 20;
/// Lanes at once: one of each instance, and one on its way out.
const SLOTS: u32 = 8;
const THREADS: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// Runs the child to its end: `--component FILE --scratch DIR`.
pub fn main(args: Vec<OsString>) -> ExitCode {
    match run(&args) {
        Ok(outcome) => {
            let text = serde_json::to_vec(&outcome).expect("an outcome is plain data");
            let mut stdout = io::stdout().lock();
            match stdout.write_all(&text).and_then(|()| stdout.flush()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString]) -> Result<ProbeOutcome, String> {
    limit(Resource::Data, DATA_BYTES_MAX)?;
    limit(Resource::Cpu, CPU_S_MAX)?;
    // A dump would hold the app's config.
    limit(Resource::Core, 0)?;
    let [component_flag, component, scratch_flag, scratch] = args else {
        return Err("usage: --component FILE --scratch DIR".to_owned());
    };
    if component_flag != "--component" || scratch_flag != "--scratch" {
        return Err("usage: --component FILE --scratch DIR".to_owned());
    }
    let mut text = Vec::new();
    let mut stdin = io::stdin().lock().take(REQUEST_BYTES_MAX);
    stdin.read_to_end(&mut text).map_err(text_of)?;
    let request: ProbeRequest = serde_json::from_slice(&text).map_err(text_of)?;
    // Nothing that hostile input makes panic is to fill the control plane's log.
    std::panic::set_hook(Box::new(|_| {}));
    answer(&request, &PathBuf::from(component), &PathBuf::from(scratch))
}

fn answer(request: &ProbeRequest, component: &Path, scratch: &Path) -> Result<ProbeOutcome, String> {
    let process = &request.process;
    let artefact = Artefact {
        shape: process.shape,
        engine: EngineKind::HttpP2,
        tier: Tier::Quick,
        digest: process.component,
    };
    let bytes = fs::read(component).map_err(text_of)?;
    let code = match compile(artefact.shape, artefact.engine, artefact.tier, &bytes) {
        Ok(code) => code,
        Err(error @ CompileError::Component(_)) => return Ok(refused(error)),
        Err(error) => return Err(error.to_string()),
    };
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(text_of)?;
    let key = CompileKey::from_bytes(key);
    fs::DirBuilder::new()
        .mode(0o700)
        .create(scratch)
        .map_err(text_of)?;
    let path = scratch.join("component.cwasm");
    write_sealed(&path, &key, &artefact, &code).map_err(text_of)?;
    drop(code);
    let engines = EnginesConfig {
        http_p2_slots: SLOTS,
        p3_slots: SLOTS,
        command_slots: 0,
        guest_threads: THREADS,
        ..EnginesConfig::default()
    };
    let engines = Engines::new(&engines).map_err(text_of)?;
    let loaded = match load(&engines, &artefact, &key, &path) {
        Ok(loaded) => loaded,
        Err(error) if !error.recompile() => return Ok(refused(error)),
        Err(error) => return Err(error.to_string()),
    };
    let config = ProbeConfig {
        args: process.args.clone(),
        env: request.env.clone().into_iter().collect(),
        limits: process.limits.clone(),
        host: request.host.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(text_of)?;
    Ok(match runtime.block_on(probe(&loaded, &config)) {
        Ok(()) => ProbeOutcome::Passed {},
        Err(error @ (ProbeError::Reuse { .. } | ProbeError::Start(_))) => refused(error),
    })
}

fn refused(reason: impl ToString) -> ProbeOutcome {
    ProbeOutcome::Refused {
        reason: reason.to_string(),
    }
}

fn text_of(error: impl ToString) -> String {
    error.to_string()
}

fn limit(resource: Resource, value: u64) -> Result<(), String> {
    let limit = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    setrlimit(resource, limit).map_err(|error| format!("cannot limit this process: {error}"))
}
