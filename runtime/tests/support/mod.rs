//! A real node against a control plane that speaks the node protocol, with the samples as its apps.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(unreachable_pub, reason = "a module of test binaries has no outside")]

pub mod cluster;
pub mod http;
pub mod plane;
pub mod slots;

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use gilliam_engine::EnginesConfig;
use gilliam_runtime::{ControlAddress, NodeConfig, NodeError, bind};
use gilliam_serve::{DrainOutcome, DrainTrigger, drain};
use tokio::task::JoinHandle;

pub use plane::Plane;
pub use slots::Slots;

/// How long a test waits for what must happen. Compiling a sample takes seconds on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Not a test of its own: nodes under test start this binary again, as the child that compiles components.
#[test]
#[expect(
    clippy::exit,
    reason = "the harness would print its own verdict and end with its own code"
)]
fn compile_child_entry() {
    let args: Vec<OsString> = std::env::args_os()
        .skip_while(|arg| arg != "--")
        .skip(1)
        .collect();
    if !args.is_empty() {
        let code = gilliam_runtime::compile_child::main(args);
        let is_success = format!("{code:?}") == format!("{:?}", std::process::ExitCode::SUCCESS);
        std::process::exit(if is_success { 0 } else { 3 });
    }
}

/// Arguments that make this binary run nothing but [`compile_child_entry`]; what follows `--` is taken for
/// names of tests.
fn compile_command() -> Vec<OsString> {
    let this = std::env::current_exe().expect("this binary");
    let args = [
        "support::compile_child_entry",
        "--exact",
        "--nocapture",
        "--test-threads=1",
        "--",
    ];
    std::iter::once(this.into())
        .chain(args.map(OsString::from))
        .collect()
}

/// The component of a sample: `guestbook/web.wasm`.
pub fn sample(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../samples")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run make samples", path.display()))
}

/// A node, running until it is dropped.
#[derive(Debug)]
pub struct Node {
    pub http: SocketAddr,
    pub peer: Option<SocketAddr>,
    trigger: DrainTrigger,
    task: JoinHandle<DrainOutcome>,
}

impl Node {
    /// Starts a node on a data folder, following the control file in it.
    pub fn start(data: &Path) -> Node {
        Self::try_start(data).expect("the node starts")
    }

    pub fn try_start(data: &Path) -> Result<Node, NodeError> {
        Self::start_as("n1", data, ControlAddress::File(control_file(data)))
    }

    /// Starts a node of this name; one with an identity takes requests of other nodes.
    pub fn start_as(name: &str, data: &Path, control: ControlAddress) -> Result<Node, NodeError> {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let config = NodeConfig {
            host: "testhost".to_owned(),
            port_base: 0,
            peer: Some("127.0.0.1:0".parse().expect("address")),
            engines: EnginesConfig {
                http_p2_slots: 200,
                p3_slots: 100,
                command_slots: 1_000,
                ..EnginesConfig::default()
            },
            ..NodeConfig::new(
                name.parse().expect("name"),
                data.to_owned(),
                "127.0.0.1:0".parse().expect("address"),
                control,
                compile_command(),
            )
        };
        let (node, addresses) = bind(config)?;
        let (trigger, signal) = drain::channel();
        Ok(Node {
            http: addresses.http,
            peer: addresses.peer,
            trigger,
            task: tokio::spawn(node.run(signal)),
        })
    }

    /// Drains the node, and says how that ended.
    pub async fn stop(self) -> DrainOutcome {
        self.trigger.drain(Duration::from_secs(20));
        self.task.await.expect("the node's task")
    }

    /// Ends the node as a kill would: nothing is finished.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub fn control_file(data: &Path) -> PathBuf {
    data.join("control.json")
}

/// Waits until `found` gives something.
pub async fn wait<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let poll = async {
        loop {
            if let Some(value) = found() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(DEADLINE, poll).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
