//! The engine as the tests see it: real engines, real components, and small guests written as WebAssembly
//! text.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(unreachable_pub, reason = "a module of test binaries has no outside")]

pub mod bound;
pub mod guests;

use std::{
    num::NonZeroUsize,
    path::Path,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gilliam_engine::{
    Artefact, CallError, CompileKey, Engines, EnginesConfig, EntryStream, HttpInstance, InstanceConfig,
    LoadError, Loaded, LogEntry, LogSink, ProcessConfig, RequestUsage, ResponseBody, Tier, compile, inspect,
    load, write_sealed,
};
use gilliam_model::{code::Code, digest::Digest, image::Shape, limits::Limits};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::mpsc;

#[allow(unused_imports, reason = "each test file uses its own part of this")]
pub use bound::{ledger, post, services, start_bound};
#[allow(unused_imports, reason = "each test file uses its own part of this")]
pub use guests::{ANSWER, OBEYS, command_guest, core, guest, http_guest, job_guest};

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// One set of engines per test binary: making them takes a tenth of a second.
pub fn engines() -> Engines {
    static ENGINES: OnceLock<Engines> = OnceLock::new();
    let make = || {
        let config = EnginesConfig {
            http_p2_slots: 200,
            p3_slots: 100,
            command_slots: 1_000,
            guest_threads: NonZeroUsize::new(2).expect("two"),
            ..EnginesConfig::default()
        };
        Engines::new(&config).expect("engines")
    };
    ENGINES.get_or_init(make).clone()
}

pub fn key() -> CompileKey {
    CompileKey::from_bytes([7; 32])
}

/// Compiles and loads a component as a node does; a digest of our own making will do for tests.
pub fn loaded(component: &[u8]) -> Loaded {
    loaded_on(&engines(), component)
}

/// Loads a component on engines with room for so many commands and two guest threads, which all calls share.
pub fn loaded_among(commands: u32, component: &[u8]) -> Loaded {
    static ENGINES: OnceLock<Engines> = OnceLock::new();
    let engines = ENGINES.get_or_init(|| {
        let config = EnginesConfig {
            http_p2_slots: 100,
            p3_slots: 10,
            command_slots: commands,
            guest_threads: NonZeroUsize::new(2).expect("two"),
            ..EnginesConfig::default()
        };
        Engines::new(&config).expect("engines")
    });
    loaded_on(engines, component)
}

pub fn loaded_on(engines: &Engines, component: &[u8]) -> Loaded {
    let shape = inspect(component).expect("a component");
    try_load(engines, shape, component).expect("loads")
}

/// Compiles, seals and loads a component as `shape`.
pub fn try_load(engines: &Engines, shape: Shape, component: &[u8]) -> Result<Loaded, LoadError> {
    try_load_guarded(engines, shape, component, false)
}

/// The same for a process that asks for guard pages, or does not.
pub fn try_load_guarded(
    engines: &Engines,
    shape: Shape,
    component: &[u8],
    guard_pages: bool,
) -> Result<Loaded, LoadError> {
    // What is no component of that shape is compiled as one all the same: that is for `compile` to refuse.
    let engine = match engines.choose(component, guard_pages) {
        Ok(choice) if engines.candidates(shape, guard_pages).contains(&choice.kind) => choice.kind,
        _ => engines.candidates(shape, guard_pages)[0],
    };
    let artefact = Artefact {
        shape,
        engine,
        digest: digest(component),
        tier: Tier::Optimised,
    };
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join(engines.code_file_name(&artefact));
    let code = compile(shape, engine, artefact.tier, component).expect("compiles");
    write_sealed(&path, &key(), &artefact, &code).expect("sealed");
    load(engines, &artefact, &key(), &path)
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(*blake3::hash(bytes).as_bytes())
}

/// A component of `make samples`.
pub fn sample(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../samples")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run make samples", path.display()))
}

pub fn guestbook() -> Loaded {
    static LOADED: OnceLock<Loaded> = OnceLock::new();
    LOADED
        .get_or_init(|| loaded(&sample("guestbook/web.wasm")))
        .clone()
}

pub fn hello_p3() -> Loaded {
    static LOADED: OnceLock<Loaded> = OnceLock::new();
    LOADED
        .get_or_init(|| loaded(&sample("hello-p3/web.wasm")))
        .clone()
}

/// An instance's configuration with these limits, and the other end of its log.
pub fn config(limits: Limits) -> (InstanceConfig, Log) {
    let (sender, receiver) = mpsc::channel(10_000);
    let process = ProcessConfig {
        app: "app".into(),
        args: vec!["web.wasm".to_owned()],
        env: vec![("POOL_SIZE".to_owned(), "64".to_owned())],
        limits,
        outbound: Vec::new(),
        internal: None,
        services: Default::default(),
        log: Arc::new(Lines(sender)),
    };
    let config = InstanceConfig {
        process: Arc::new(process),
        label: "web.1".to_owned(),
        own_env: Vec::new(),
        listen_port: None,
    };
    (config, Log { receiver })
}

/// What is common to all instances of a process type, to be changed before the first of them starts.
pub fn process(config: &mut InstanceConfig) -> &mut ProcessConfig {
    Arc::get_mut(&mut config.process).expect("no instance shares it yet")
}

pub async fn start(loaded: &Loaded, limits: Limits) -> (HttpInstance, Log) {
    let (config, log) = config(limits);
    (HttpInstance::start(loaded, config).await.expect("starts"), log)
}

#[derive(Debug)]
struct Lines(mpsc::Sender<LogEntry>);

impl LogSink for Lines {
    fn write(&self, _: &str, entry: LogEntry) {
        // A test that floods looks at the first lines; a sink never waits.
        let _ = self.0.try_send(entry);
    }
}

/// The log of one instance.
pub struct Log {
    receiver: mpsc::Receiver<LogEntry>,
}

impl Log {
    /// Waits for the next entry that `wanted` accepts.
    pub async fn find(&mut self, wanted: impl Fn(&LogEntry) -> bool) -> LogEntry {
        let found = async {
            loop {
                let entry = self.receiver.recv().await.expect("the log is open");
                if wanted(&entry) {
                    return entry;
                }
            }
        };
        tokio::time::timeout(DEADLINE, found)
            .await
            .expect("the log entry comes in time")
    }

    pub async fn platform(&mut self, code: Code) -> String {
        self.find(|entry| entry.stream == EntryStream::Platform(code))
            .await
            .text
    }

    /// Everything up to the end of the instance.
    pub async fn close(mut self) -> Vec<LogEntry> {
        let mut entries = Vec::new();
        let read = async {
            while let Some(entry) = self.receiver.recv().await {
                entries.push(entry);
            }
        };
        tokio::time::timeout(DEADLINE, read)
            .await
            .expect("the instance ends in time");
        entries
    }
}

pub fn get(path: &str) -> http::Request<Full<Bytes>> {
    let uri = format!("http://app.localhost{path}");
    http::Request::builder()
        .uri(uri)
        .body(Full::default())
        .expect("request")
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub usage: RequestUsage,
}

/// The usage that comes with a response.
pub fn usage(response: &http::Response<ResponseBody>) -> RequestUsage {
    response.body().usage()
}

pub async fn collect(response: http::Response<ResponseBody>) -> Answer {
    let usage = usage(&response);
    let status = response.status().as_u16();
    let body = response.into_body().collect().await;
    let body = body.expect("a whole body").to_bytes();
    Answer {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
        usage,
    }
}

pub async fn fetch(instance: &HttpInstance, path: &str) -> Result<Answer, CallError> {
    let response = tokio::time::timeout(DEADLINE, instance.call(get(path)))
        .await
        .expect("a call ends")?;
    Ok(collect(response).await)
}

/// Waits until `state` holds.
pub async fn until(what: &str, state: impl Fn() -> bool) {
    let wait = async {
        while !state() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait)
        .await
        .unwrap_or_else(|_| panic!("{what} in time"));
}

pub fn shape_of(loaded: &Loaded) -> Shape {
    loaded.artefact().shape
}

/// A body of `left` pieces of 64 KiB, and trailers.
pub struct Long {
    pub left: usize,
    pub trailers: bool,
}

impl http_body::Body for Long {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))));
        }
        if std::mem::take(&mut self.trailers) {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-checksum", "abc".parse().expect("value"));
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(None)
    }
}

/// Bytes of this process in memory.
pub fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("RSS");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("KiB");
    kib * 1024
}

/// Open files and sockets of this process.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("descriptors").count()
}
