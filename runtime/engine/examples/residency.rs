//! What many idle web instances cost, and what the first request of one costs whose code must be mapped first.
//!
//! `cargo run --release -p gilliam-engine --example residency -- samples/hello-p2/web.wasm [APPS]`
//!
//! Makes APPS different components (10,000) of one: the compiled code is sealed once for each, so each is a file,
//! a mapping and an instance of its own. Then asks each instance twice, in an order that no cache likes: the
//! first request finds neither lane nor mapped code, the second one finds the code mapped.
#![allow(clippy::print_stdout, reason = "a measurement")]

use std::{
    error::Error,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gilliam_engine::{
    Artefact, CompileKey, Engines, EnginesConfig, HttpInstance, InstanceConfig, Loaded, LogEntry, LogSink,
    ProcessConfig, Tier, compile, load, write_sealed,
};
use gilliam_model::{digest::Digest, limits::Limits};
use http_body_util::{BodyExt as _, Full};

/// Stamps of files count once the files are so old.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _: &str, _: LogEntry) {}
}

struct App {
    loaded: Loaded,
    instance: HttpInstance,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let component = fs::read(args.next().ok_or("which component?")?)?;
    let count: u32 = match args.next() {
        Some(count) => count.parse()?,
        None => 10_000,
    };
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(&component, count, folder.path()))
}

async fn measure(component: &[u8], count: u32, folder: &Path) -> Result<(), Box<dyn Error>> {
    let engines = Engines::new(&EnginesConfig::default())?;
    let key = CompileKey::from_bytes([7; 32]);
    let shape = gilliam_engine::inspect(component)?;
    let engine = engines.choose(component, false)?.kind;
    let code = compile(shape, engine, Tier::Optimised, component)?;
    let artefacts: Vec<Artefact> = (0..count)
        .map(|app| Artefact {
            shape,
            engine,
            digest: Digest::from_sha256(*blake3::hash(&app.to_le_bytes()).as_bytes()),
            tier: Tier::Optimised,
        })
        .collect();
    for artefact in &artefacts {
        write_sealed(
            &folder.join(engines.code_file_name(artefact)),
            &key,
            artefact,
            &code,
        )?;
    }
    println!("{count} apps of {} KiB of code", code.len() >> 10);
    tokio::time::sleep(SETTLE).await;

    let before = memory()?;
    let start = Instant::now();
    let mut apps = Vec::new();
    for artefact in &artefacts {
        let path = folder.join(engines.code_file_name(artefact));
        let loaded = load(&engines, artefact, &key, &path)?;
        let instance = HttpInstance::start(&loaded, config(apps.len())).await?;
        apps.push(App { loaded, instance });
    }
    let each = start.elapsed() / count;
    println!("loaded, started: {} µs each", each.as_micros());
    // Until every lane is dropped.
    while apps.iter().any(|app| app.instance.usage().memory_bytes > 0) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let idle = memory()?;
    let open = apps.iter().filter(|app| app.loaded.is_open()).count();
    println!(
        "idle: {} bytes of anonymous memory and {} of mapped files for each instance; {open} components are mapped",
        idle.0.saturating_sub(before.0) / u64::from(count),
        idle.1.saturating_sub(before.1) / u64::from(count),
    );

    let (mut first, mut second) = (Vec::new(), Vec::new());
    // Visits all, far from each other, for the step and any number of apps used here have no common divisor.
    for turn in 0..apps.len() {
        let app = &apps[turn * 7_919 % apps.len()];
        if !app.loaded.is_open() {
            first.push(ask(&app.instance).await?);
            second.push(ask(&app.instance).await?);
        }
    }
    report("code must be mapped first", &mut first);
    report("code is mapped", &mut second);
    Ok(())
}

fn config(app: usize) -> InstanceConfig {
    let limits = Limits {
        idle_ms_max: 1_000,
        ..Limits::default()
    };
    InstanceConfig {
        process: Arc::new(ProcessConfig {
            app: format!("app-{app}").into(),
            args: vec!["web.wasm".to_owned()],
            env: Vec::new(),
            limits,
            outbound: Vec::new(),
            internal: None,
            services: Default::default(),
            log: Arc::new(Nowhere),
        }),
        label: "web.1".to_owned(),
        own_env: Vec::new(),
        listen_port: None,
    }
}

async fn ask(instance: &HttpInstance) -> Result<Duration, Box<dyn Error>> {
    let request = http::Request::get("http://app.localhost/").body(Full::<Bytes>::default())?;
    let start = Instant::now();
    let response = instance.call(request).await?;
    let took = start.elapsed();
    response.into_body().collect().await?;
    Ok(took)
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .map_or(0, Duration::as_micros)
    };
    let (p50, p90, p99) = (at(50), at(90), at(99));
    println!(
        "{what}: {} requests, p50 {p50} µs, p90 {p90} µs, p99 {p99} µs",
        times.len()
    );
}

/// Anonymous and file-backed resident bytes of this process.
fn memory() -> Result<(u64, u64), Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or_default()
            * 1024
    };
    Ok((field("RssAnon:"), field("RssFile:")))
}
