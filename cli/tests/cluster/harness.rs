//! A whole cluster for one test: the built binary, folders of its own, addresses of the loopback that are its alone.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    etcd_process::Etcd,
    network::{Network, Parted},
    platform::{Ran, wait},
    s3,
    turn::Turn,
};
use rustix::process::{Pid, Signal, kill_process};

/// The name of the cluster in the test's own home.
const NAME: &str = "test";

/// Servers and nodes; all end with the test.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    dead_after: &'static str,
    /// Given to every server.
    arguments: Vec<String>,
    servers: BTreeMap<String, Server>,
    nodes: Mutex<BTreeMap<String, Child>>,
    /// Where the ingress of each node is, or was.
    ingresses: Mutex<BTreeMap<String, String>>,
    network: Network,
    etcd: Option<Etcd>,
    _turn: Option<Turn>,
}

struct Server {
    /// Of its API.
    address: String,
    child: Mutex<Option<Child>>,
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
    /// Starts one server on its own folder, and adds its cluster to the test's home.
    pub(crate) fn start(dead_after: &'static str) -> Self {
        Self::start_with(dead_after, &[])
    }

    /// The same with more arguments for the server.
    pub(crate) fn start_with(dead_after: &'static str, arguments: &[&str]) -> Self {
        Self::of(1, dead_after, None, arguments, loopback(), Some(Turn::take()))
    }

    /// One server more than may run at once, for a test that has a cluster already.
    pub(crate) fn start_beside(_other: &Self) -> Self {
        Self::of(1, "10s", None, &[], loopback(), None)
    }

    /// Starts servers, named `s1` and so on, on an etcd of so many members.
    pub(crate) fn start_on_etcd(members: usize, servers: usize, dead_after: &'static str) -> Self {
        Self::start_on(loopback(), members, servers, dead_after, &[])
    }

    /// The same with queues in the PostgreSQL at `url`.
    pub(crate) fn start_with_queues(servers: usize, dead_after: &'static str, url: &str) -> Self {
        Self::start_on(loopback(), 1, servers, dead_after, &["--queues", url])
    }

    /// The same where each node is on a network of its own.
    pub(crate) fn start_parted(parted: Parted, servers: usize, dead_after: &'static str) -> Self {
        Self::start_on(Network::Parted(parted), 1, servers, dead_after, &[])
    }

    fn start_on(
        network: Network,
        members: usize,
        servers: usize,
        dead_after: &'static str,
        more: &[&str],
    ) -> Self {
        let turn = Turn::take();
        let etcd = Etcd::start(members, &[]);
        let store = etcd.url("test") + "?timeout=2";
        let arguments = [&["--store", &store], more].concat();
        Self::of(servers, dead_after, Some(etcd), &arguments, network, Some(turn))
    }

    fn of(
        servers: usize,
        dead_after: &'static str,
        etcd: Option<Etcd>,
        arguments: &[&str],
        network: Network,
        turn: Option<Turn>,
    ) -> Self {
        // All are held until all are found, so that none is found twice.
        let held = (1..=servers).map(|number| {
            let ip = network.server(number);
            let free = TcpListener::bind(format!("{ip}:0")).expect("a free port");
            (format!("s{number}"), free)
        });
        let held: Vec<(String, TcpListener)> = held.collect();
        let server = |(name, free): &(String, TcpListener)| {
            let (address, child) = (free.local_addr().expect("address").to_string(), Mutex::new(None));
            (name.clone(), Server { address, child })
        };
        let servers = held.iter().map(server).collect();
        drop(held);
        let cluster = Self {
            folder: tempfile::tempdir().expect("temporary folder"),
            dead_after,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            servers,
            nodes: Mutex::default(),
            ingresses: Mutex::default(),
            network,
            etcd,
            _turn: turn,
        };
        cluster.begin();
        cluster
    }

    /// Starts all servers for the first time.
    fn begin(&self) {
        let greetings: Vec<Greeting> = self
            .servers
            .keys()
            .map(|name| self.start_server_named(name))
            .collect();
        let greeting = greetings.iter().find(|greeting| greeting.get("token").is_some());
        let greeting = greeting.expect("a new cluster");
        let (ca, token) = (
            greeting.get("ca").expect("CA"),
            greeting.get("token").expect("token"),
        );
        let each = self
            .servers
            .iter()
            .map(|(name, server)| (name.as_str(), server.api()));
        for (name, api) in each.chain([(NAME, self.api())]) {
            let add = ["clusters", "add", name, &api, "--ca", ca];
            self.run_with_input(&add, &format!("{token}\n")).ok();
        }
        self.run(&["clusters", "use", NAME]).ok();
    }

    /// How many servers it has.
    pub(crate) fn servers(&self) -> usize {
        self.servers.len()
    }

    /// The networks of its nodes, to be cut.
    pub(crate) fn parted(&self) -> &Parted {
        self.network.parted()
    }

    /// The addresses of all servers, with commas between them.
    pub(crate) fn api(&self) -> String {
        let apis: Vec<String> = self.servers.values().map(Server::api).collect();
        apis.join(",")
    }

    /// The etcd that the servers are on.
    pub(crate) fn etcd(&self) -> &Etcd {
        self.etcd.as_ref().expect("servers on etcd")
    }

    /// Starts the only server again.
    pub(crate) fn start_server(&self) -> Greeting {
        self.start_server_named("s1")
    }

    /// Kills the only server, as a crash would.
    pub(crate) fn kill_server(&self) {
        self.kill_server_named("s1");
    }

    /// Starts a server on its folder and port, and waits until it says where it is.
    pub(crate) fn start_server_named(&self, name: &str) -> Greeting {
        let server = &self.servers[name];
        let mut command = self.command(&[
            "server",
            "--api",
            &server.address,
            "--dead-after",
            self.dead_after,
        ]);
        command.arg("--data").arg(self.path(name)).args(&self.arguments);
        // For a test that fetches submodules from the cluster itself: read when they are, not before.
        command.env("SSL_CERT_FILE", self.path("authorities.pem"));
        // For a test that has a bucket.
        command
            .env("AWS_ACCESS_KEY_ID", s3::KEY)
            .env("AWS_SECRET_ACCESS_KEY", s3::SECRET);
        if self.etcd.is_some() {
            command.arg("--blobs").arg(self.path("blobs"));
        }
        let mut child = self.spawn(command, name);
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
            self.log(name)
        );
        *server.child.lock().expect("lock") = Some(child);
        greeting
    }

    /// The process of a server that runs: whoever takes it ends it.
    #[track_caller]
    fn take_server(&self, name: &str) -> Child {
        let mut child = self.servers[name].child.lock().expect("lock");
        child.take().expect("it runs")
    }

    /// Kills a server, as a crash would.
    pub(crate) fn kill_server_named(&self, name: &str) {
        let mut child = self.take_server(name);
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// Ends a server as an operator does, and waits until it has ended.
    #[track_caller]
    pub(crate) fn stop_server_named(&self, name: &str) {
        self.signal_server(name, Signal::TERM);
        let mut child = self.take_server(name);
        let status = wait(&format!("{name} to end"), || child.try_wait().expect("wait"));
        assert!(status.success(), "{name}: {status}\n{}", self.log(name));
    }

    pub(crate) fn signal_server(&self, name: &str, signal: Signal) {
        let child = self.servers[name].child.lock().expect("lock");
        kill_process(Pid::from_child(child.as_ref().expect("it runs")), signal).expect("a process");
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

    /// The command that runs a node on a folder, on a loopback address that hangs on its name; the port is that of
    /// its last life.
    fn node_command(&self, folder: &str, name: &str, more: &[&str]) -> Command {
        let known = self.ingresses.lock().expect("lock").get(name).cloned();
        let http = match known {
            Some(http) if folder == name => http.trim_start_matches("http://").to_string(),
            _ => format!("{}:0", self.network.node(name)),
        };
        let api = self.api();
        let program = self.network.program(name, env!("CARGO_BIN_EXE_gilliam"));
        let mut command = self.as_user(program);
        command.args(["node", "--server", &api, "--name", name]);
        command.args(["--http", &http, "--port-base", "0", "--capacity", "memory=4GiB"]);
        command.arg("--data").arg(self.path(folder)).args(more);
        command
    }

    /// Starts a node and waits until it says where it listens.
    #[track_caller]
    pub(crate) fn start_node(&self, name: &str, more: &[&str]) {
        self.start_node_in(name, name, more);
    }

    /// The same on a folder of another name, under which it is known here from then on.
    #[track_caller]
    pub(crate) fn start_node_in(&self, folder: &str, name: &str, more: &[&str]) {
        let mut child = self.spawn(self.node_command(folder, name, more), folder);
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut lines = lines.map_while(Result::ok);
        let http = lines.find_map(|line| Some(line.strip_prefix("http")?.trim().to_string()));
        let http = http.unwrap_or_else(|| panic!("{folder} does not start:\n{}", self.log(folder)));
        self.ingresses
            .lock()
            .expect("lock")
            .insert(folder.to_string(), http);
        self.nodes.lock().expect("lock").insert(folder.to_string(), child);
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
        Pid::from_child(&self.nodes.lock().expect("lock")[name])
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        kill_process(self.pid(name), signal).expect("a process");
    }

    /// Waits until a node that was told to end has ended, and gives its exit code.
    #[track_caller]
    pub(crate) fn ended(&self, name: &str) -> Option<i32> {
        let mut nodes = self.nodes.lock().expect("lock");
        let mut child = nodes.remove(name).expect("a node");
        drop(nodes);
        let status = wait(&format!("{name} to end"), || child.try_wait().expect("wait"));
        status.code()
    }

    /// `http://IP:PORT` of a node's ingress.
    pub(crate) fn http(&self, name: &str) -> String {
        self.ingresses.lock().expect("lock")[name].clone()
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

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.as_user(Command::new(env!("CARGO_BIN_EXE_gilliam")));
        command.args(args);
        command
    }

    /// A command in a home and an environment of the test's own.
    fn as_user(&self, mut command: Command) -> Command {
        command.current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("HOME", self.folder.path())
            .env("GILLIAM_HOME", self.path("home"));
        command.env("GILLIAM_LOG", "info").stdin(Stdio::null());
        command
    }
}

/// A part of the loopback: of this cluster, and of no other that runs beside it.
fn loopback() -> Network {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let number = CLUSTERS.fetch_add(1, Ordering::Relaxed) % 250 + 1;
    Network::Loopback(format!("127.{}.{number}", std::process::id() % 250 + 1))
}

impl Server {
    fn api(&self) -> String {
        format!("https://{}", self.address)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let nodes = std::mem::take(&mut *self.nodes.lock().expect("lock"));
        let servers = self.servers.values();
        let servers = servers.filter_map(|server| server.child.lock().expect("lock").take());
        for mut child in nodes.into_values().chain(servers) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let nodes = self.ingresses.lock().expect("lock").clone();
            for name in nodes.keys().chain(self.servers.keys()) {
                eprintln!("log of {name}:\n{}", self.log(name));
            }
        }
    }
}
