//! A whole cluster for one test: the built binary, folders of its own, ports that the system chose.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::platform::{Ran, wait};

/// The name of the cluster in the test's own home.
const NAME: &str = "test";
/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A server and its nodes; all end with the test.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    port: u16,
    dead_after: &'static str,
    server: Mutex<Option<Child>>,
    nodes: Mutex<BTreeMap<String, Node>>,
}

struct Node {
    child: Child,
    http: String,
}

/// What a server prints as it starts.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    lines: BTreeMap<String, String>,
}

impl Greeting {
    pub(crate) fn get(&self, what: &str) -> Option<&str> {
        self.lines.get(what).map(String::as_str)
    }
}

impl Cluster {
    /// Starts a server, and adds its cluster to the test's home.
    pub(crate) fn start(dead_after: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("address").port();
        drop(free);
        let cluster = Self {
            folder,
            port,
            dead_after,
            server: Mutex::new(None),
            nodes: Mutex::default(),
        };
        let greeting = cluster.start_server();
        let (ca, token) = (
            greeting.get("ca").expect("CA"),
            greeting.get("token").expect("token"),
        );
        let api = cluster.api();
        cluster
            .run_with_input(
                &["clusters", "add", NAME, &api, "--ca", ca],
                &format!("{token}\n"),
            )
            .ok();
        cluster
    }

    pub(crate) fn api(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Starts the server on the same folder and port, and waits until it says where it is.
    pub(crate) fn start_server(&self) -> Greeting {
        let api = format!("127.0.0.1:{}", self.port);
        let data = self.path("server");
        let mut command = self.command(&["server", "--api", &api, "--dead-after", self.dead_after]);
        command.arg("--data").arg(data);
        let mut child = self.spawn(command, "server");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut greeting = Greeting::default();
        for line in lines.map_while(Result::ok) {
            let (what, text) = line.split_once(' ').unwrap_or((&line, ""));
            greeting.lines.insert(what.to_string(), text.trim().to_string());
            if what == "nodes" {
                break;
            }
        }
        assert!(
            greeting.get("nodes").is_some(),
            "{greeting:?}\n{}",
            self.log("server")
        );
        *self.server.lock().expect("lock") = Some(child);
        greeting
    }

    /// Kills the server, as a crash would.
    pub(crate) fn kill_server(&self) {
        let mut server = self.server.lock().expect("lock").take().expect("a server runs");
        server.kill().expect("kill");
        server.wait().expect("wait");
    }

    /// A token for one node.
    #[track_caller]
    pub(crate) fn join_token(&self) -> String {
        self.run(&["nodes", "join-token"]).ok().trim().to_string()
    }

    /// Has a node join and waits until the server counts on it.
    #[track_caller]
    pub(crate) fn join(&self, name: &str, zone: &str) {
        let token = self.join_token();
        let zone = format!("zone={zone}");
        self.start_node(name, &["--join", &token, "--label", &zone]);
        self.wait_nodes(&format!("{name} to be ready"), |nodes| {
            nodes
                .iter()
                .any(|node| node["name"] == name && node["state"] == "ready")
        });
    }

    /// The command that runs a node on a folder, on a loopback address that hangs on its name.
    fn node_command(&self, folder: &str, name: &str, more: &[&str]) -> Command {
        let last: u32 = name.bytes().map(u32::from).sum::<u32>() % 250 + 2;
        let (api, http) = (self.api(), format!("127.0.1.{last}:0"));
        let mut command = self.command(&["node", "--server", &api, "--name", name]);
        command.args(["--http", &http, "--port-base", "0", "--capacity", "memory=4GiB"]);
        command.arg("--data").arg(self.path(folder)).args(more);
        command
    }

    /// Starts a node and waits until it says where it listens.
    #[track_caller]
    pub(crate) fn start_node(&self, name: &str, more: &[&str]) {
        let mut child = self.spawn(self.node_command(name, name, more), name);
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut lines = lines.map_while(Result::ok);
        let http = lines.find_map(|line| Some(line.strip_prefix("http")?.trim().to_string()));
        let http = http.unwrap_or_else(|| panic!("{name} does not start:\n{}", self.log(name)));
        let node = Node { child, http };
        self.nodes.lock().expect("lock").insert(name.to_string(), node);
    }

    /// Starts a node that is expected to end by itself, and gives how.
    pub(crate) fn run_node(&self, name: &str, more: &[&str]) -> Ran {
        self.run_node_in(name, name, more)
    }

    /// The same on the folder of another node.
    pub(crate) fn run_node_in(&self, folder: &str, name: &str, more: &[&str]) -> Ran {
        let mut child = self
            .node_command(folder, name, more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gilliam node");
        wait(&format!("node {name} to end"), || child.try_wait().expect("wait"));
        let output = child.wait_with_output().expect("output");
        Ran {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status,
        }
    }

    pub(crate) fn pid(&self, name: &str) -> Pid {
        Pid::from_child(&self.nodes.lock().expect("lock")[name].child)
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        kill_process(self.pid(name), signal).expect("a process");
    }

    /// Waits until a node that was told to end has ended, and gives its exit code.
    #[track_caller]
    pub(crate) fn ended(&self, name: &str) -> Option<i32> {
        let mut nodes = self.nodes.lock().expect("lock");
        let mut node = nodes.remove(name).expect("a node");
        let status = wait(&format!("{name} to end"), || node.child.try_wait().expect("wait"));
        status.code()
    }

    /// `http://127.0.1.N:PORT` of a node's ingress.
    pub(crate) fn http(&self, name: &str) -> String {
        self.nodes.lock().expect("lock")[name].http.clone()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a process of the cluster wrote to its log.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    fn spawn(&self, mut command: Command, name: &str) -> Child {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("{name}.log")))
            .expect("log file");
        command
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("gilliam")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gilliam"));
        command.current_dir(self.folder.path()).args(args).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("HOME", self.folder.path())
            .env("GILLIAM_HOME", self.path("home"));
        command.env("GILLIAM_LOG", "info").stdin(Stdio::null());
        command
    }

    /// Runs a verb.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with_input(args, "")
    }

    #[track_caller]
    fn run_with_input(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gilliam");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("input");
        drop(stdin);
        let output = child.wait_with_output().expect("gilliam");
        Ran {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status,
        }
    }

    /// Runs a verb and takes its data as JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let stdout = self.run(&[args, &["--json"]].concat()).ok();
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"))
    }

    /// Deploys the sample `hello-p3` as app `hello` and runs so many of it.
    #[track_caller]
    pub(crate) fn deploy(&self, count: u32) {
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../samples/hello-p3");
        let project = self.path("project");
        std::fs::create_dir_all(&project).expect("project");
        for file in ["Procfile", "web.wasm"] {
            let built = from.join(file);
            assert!(built.exists(), "{} is missing; run make samples", built.display());
            std::fs::copy(built, project.join(file)).expect("copy");
        }
        let project = project.display().to_string();
        self.run(&["apps:create", "hello"]).ok();
        self.run(&["deploy", "--app", "hello", "-m", "first", &project])
            .ok();
        self.run(&["scale", "--app", "hello", "v1", &format!("web={count}")])
            .ok();
    }

    /// The rows of `ps` of `hello`.
    #[track_caller]
    pub(crate) fn ps(&self) -> Vec<Value> {
        let rows = self.json(&["ps", "--app", "hello"]);
        rows["instances"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until `ps` satisfies `check`.
    #[track_caller]
    pub(crate) fn wait_ps(&self, what: &str, check: impl Fn(&[Value]) -> bool) {
        wait(what, || {
            let ran = self.run(&["ps", "--app", "hello", "--json"]);
            let value: Value = serde_json::from_str(&ran.stdout).ok()?;
            check(value["instances"].as_array()?).then_some(())
        });
    }

    /// Waits until the ingress of a node answers for the app.
    #[track_caller]
    pub(crate) fn wait_answer(&self, name: &str) {
        wait(name, || (get(&self.http(name)) == Ok(200)).then_some(()));
    }

    /// Waits until `nodes` satisfies `check`.
    #[track_caller]
    pub(crate) fn wait_nodes(&self, what: &str, check: impl Fn(&[Value]) -> bool) {
        wait(what, || {
            let ran = self.run(&["nodes", "--json"]);
            let value: Value = serde_json::from_str(&ran.stdout).ok()?;
            check(value.as_array()?).then_some(())
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let nodes = std::mem::take(&mut *self.nodes.lock().expect("lock"));
        let server = self.server.lock().expect("lock").take();
        let names: Vec<String> = nodes.keys().cloned().collect();
        for mut child in nodes.into_values().map(|node| node.child).chain(server) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for name in names.into_iter().chain(["server".to_string()]) {
                eprintln!("log of {name}:\n{}", self.log(&name));
            }
        }
    }
}

/// How many instances of `ps` run on a node.
pub(crate) fn on(rows: &[Value], node: &str) -> usize {
    let is_here = |row: &&Value| row["node"] == node && row["state"] == "running";
    rows.iter().filter(is_here).count()
}

/// `GET` of a URL for the app `hello`: the status, or why there was no answer.
pub(crate) fn get(url: &str) -> Result<u16, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let client = crate::platform::client_builder()
            .no_proxy()
            .timeout(ANSWER_MAX)
            .build();
        let request = client.expect("client").get(url).header("host", "hello.localhost");
        request
            .send()
            .await
            .map(|a| a.status().as_u16())
            .map_err(|e| format!("{e:?}"))
    })
}

/// Constant requests to the ingresses of some nodes, each on a connection of its own.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(urls: Vec<String>) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |url: String| {
            let (stop, sent) = (stop.clone(), sent.clone());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match get(&url) {
                        Ok(200) => {}
                        other => failures.push(format!("{url}: {other:?}")),
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                failures
            })
        };
        let clients = urls.into_iter().map(client).collect();
        Self { stop, sent, clients }
    }

    /// Waits until so many more requests have been answered.
    #[track_caller]
    pub(crate) fn wait_more(&self, count: u64) {
        let goal = self.sent.load(Ordering::Relaxed) + count;
        wait("requests to be answered", || {
            (self.sent.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    /// Ends it, and gives how many requests there were and which failed.
    pub(crate) fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self
            .clients
            .into_iter()
            .flat_map(|c| c.join().expect("a client"))
            .collect();
        (self.sent.load(Ordering::Relaxed), failures)
    }
}
