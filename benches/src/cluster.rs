//! `bench cluster`: a server and many node processes on this machine, each as on a machine of its own.
//!
//! Measured from outside: how long from `scale` to the last instance that runs, what the server and a node take.
//! Once with the state in a file, and once in etcd where there is one.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use crate::{
    account::{self, Memory},
    child::{self, Child, Cores},
    figure::{Figure, Goal, Report},
    guests,
    load::as_f64,
    session::Session,
};

const BENCH: &str = "cluster";
const NODES: u32 = 20;
const NODES_QUICK: u32 = 3;
const INSTANCES: u32 = 20_000;
const INSTANCES_QUICK: u32 = 300;
const NAME: &str = "workers";
/// Each worker promises this much.
const WORKER: &str = "[process.worker]\nmemory = \"128KiB\"\nexit_timeout = \"0s\"\n";
/// A verb that waits for instances waits this long at most.
const VERB_SECONDS_MAX: &str = "900";
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn run(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    let etcd = session.etcd();
    if etcd.is_none() {
        report.note("cluster: there is no etcd on the path; the state is in a file only".to_owned());
    }
    one(session, report, "file", None)?;
    match etcd {
        Some(etcd) => one(session, report, "etcd", Some(&etcd)),
        None => Ok(()),
    }
}

/// Measures a cluster with its state in `store`.
fn one(session: &Session<'_>, report: &mut Report, store: &str, etcd: Option<&Path>) -> anyhow::Result<()> {
    let nodes = session.options.nodes.unwrap_or(session.pick(NODES_QUICK, NODES));
    let count = session
        .options
        .instances
        .unwrap_or(session.pick(INSTANCES_QUICK, INSTANCES));
    session.note(&format!("cluster: {nodes} nodes, state in {store}"));
    let mut fleet = Fleet::start(session, etcd)?;
    let start = Instant::now();
    fleet.join(nodes)?;
    let mut add = |name: &str, value: f64, unit: &'static str, goal: Option<Goal>| {
        let figure = Figure::new(BENCH, format!("{store}: {name}"), value, unit);
        report.add(match goal {
            Some(goal) => figure.goal(goal),
            None => figure,
        });
    };
    add("nodes joined and ready", as_f64(nodes.into()), "nodes", None);
    add("time to join them", start.elapsed().as_secs_f64(), "s", None);
    let project = fleet.deploy()?;
    // Every node has fetched and compiled the component, and made its threads, before the clock starts.
    fleet.scale(&project, nodes)?;
    let before = fleet.memory()?;
    let (server_cpu, nodes_cpu) = fleet.cpu_us()?;
    session.note(&format!("cluster: {count} workers"));
    let took = fleet.scale(&project, count)?;
    let (server_cpu_after, nodes_cpu_after) = fleet.cpu_us()?;
    let after = fleet.memory()?;
    add("instances", as_f64(count.into()), "", None);
    add("scale to the last running", took.as_secs_f64(), "s", None);
    add(
        "start rate",
        as_f64(count.into()) / took.as_secs_f64(),
        "1/s",
        None,
    );
    let each = |micros: u64| as_f64(micros) / as_f64(count.into());
    add(
        "CPU of the server, each",
        each(server_cpu_after - server_cpu),
        "us",
        None,
    );
    add(
        "CPU of the nodes, each",
        each(nodes_cpu_after - nodes_cpu),
        "us",
        None,
    );
    add("memory of the server", after.0 / MIB, "MiB", None);
    add(
        "memory of a node before",
        before.1 / as_f64(nodes.into()) / MIB,
        "MiB",
        None,
    );
    add(
        "memory of a node after",
        after.1 / as_f64(nodes.into()) / MIB,
        "MiB",
        None,
    );
    let took = fleet.scale(&project, 0)?;
    add("scale to none", took.as_secs_f64(), "s", None);
    Ok(())
}

/// A server with its nodes; all of it ends when this is dropped, nodes first.
struct Fleet<'a> {
    session: &'a Session<'a>,
    nodes: Vec<Child>,
    server: Child,
    _etcd: Option<Child>,
    api: String,
    folder: tempfile::TempDir,
}

impl<'a> Fleet<'a> {
    fn start(session: &'a Session<'a>, etcd: Option<&Path>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("gilliam-bench-").tempdir()?;
        let gilliam = &session.options.gilliam;
        let etcd = etcd
            .map(|etcd| start_etcd(session, etcd, folder.path()))
            .transpose()?;
        let mut command = child::command(gilliam, Cores::All, gilliam);
        command.args(["server", "--api", "127.0.0.1:0", "--data"]);
        command.arg(folder.path().join("server"));
        if let Some((_, address)) = &etcd {
            command.args(["--store", &format!("etcd://{address}")]);
        }
        command.env("GILLIAM_HOME", folder.path().join("home"));
        let mut server = start(&mut command, folder.path(), "server")?;
        let mut greeting = std::collections::BTreeMap::new();
        for line in lines_of(&mut server)? {
            let line = line?;
            let (what, text) = line.split_once(' ').unwrap_or((&line, ""));
            greeting.insert(what.to_owned(), text.trim().to_owned());
            if what == "nodes" {
                break;
            }
        }
        let said = |what: &str| {
            let log = || std::fs::read_to_string(folder.path().join("server.log")).unwrap_or_default();
            let said = greeting.get(what).cloned();
            said.with_context(|| format!("the server says no {what}: {}", log()))
        };
        let (api, ca, token) = (said("api")?, said("ca")?, said("token")?);
        let fleet = Self {
            session,
            nodes: Vec::new(),
            server,
            _etcd: etcd.map(|(etcd, _)| etcd),
            api,
            folder,
        };
        let home = fleet.folder.path().to_owned();
        fleet.verb(
            &home,
            &["clusters", "add", "bench", &fleet.api, "--ca", &ca],
            &token,
        )?;
        Ok(fleet)
    }

    /// Has nodes join, and waits until the server counts on them.
    fn join(&mut self, count: u32) -> anyhow::Result<()> {
        let home = self.folder.path().to_owned();
        for n in 1..=count {
            self.session.check()?;
            let token = self.verb(&home, &["nodes", "join-token"], "")?;
            let name = format!("n{n}");
            let zone = format!("zone={}", ["a", "b", "c"][n as usize % 3]);
            let gilliam = &self.session.options.gilliam;
            let mut command = child::command(gilliam, Cores::All, gilliam);
            command
                .args([
                    "node",
                    "--server",
                    &self.api,
                    "--join",
                    token.trim(),
                    "--name",
                    &name,
                ])
                .args([
                    "--http",
                    "127.0.0.1:0",
                    "--port-base",
                    "0",
                    "--capacity",
                    "memory=8GiB",
                ])
                .args(["--label", &zone, "--data"])
                .arg(self.folder.path().join(&name));
            let mut node = start(&mut command, self.folder.path(), &name)?;
            let mut lines = lines_of(&mut node)?;
            let listens = lines.any(|line| line.is_ok_and(|line| line.starts_with("http")));
            let log = self.folder.path().join(format!("{name}.log"));
            ensure!(
                listens,
                "{name} did not start: {}",
                std::fs::read_to_string(log).unwrap_or_default()
            );
            self.nodes.push(node);
        }
        self.session.wait("every node to be ready", || {
            let listed = self.verb(&home, &["--json", "nodes"], "").ok()?;
            let ready = listed.matches("\"state\":\"ready\"").count();
            (ready >= count as usize).then_some(())
        })
    }

    fn deploy(&self) -> anyhow::Result<PathBuf> {
        let project = self.folder.path().join("app");
        std::fs::create_dir_all(&project)?;
        std::fs::write(project.join("app.wasm"), guests::worker()?)?;
        std::fs::write(project.join("Procfile"), "worker: app.wasm\n")?;
        std::fs::write(project.join("gilliam.toml"), WORKER)?;
        self.verb(&project, &["create", NAME], "")?;
        self.verb(&project, &["deploy", "-m", "bench"], "")?;
        Ok(project)
    }

    /// Scales and waits until what should run is running; returns how long that took.
    fn scale(&self, project: &Path, count: u32) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let count = format!("worker={count}");
        self.verb(project, &["scale", &count, "--timeout", VERB_SECONDS_MAX], "")?;
        Ok(start.elapsed())
    }

    /// Bytes of the server, and of all nodes.
    fn memory(&self) -> anyhow::Result<(f64, f64)> {
        let server = as_f64(Memory::of(self.server.pid())?.resident);
        let mut nodes = 0.0;
        for node in &self.nodes {
            nodes += as_f64(Memory::of(node.pid())?.resident);
        }
        Ok((server, nodes))
    }

    /// CPU time of the server, and of all nodes.
    fn cpu_us(&self) -> anyhow::Result<(u64, u64)> {
        let nodes = self.nodes.iter().map(|node| account::cpu_us(node.pid()));
        Ok((
            account::cpu_us(self.server.pid())?,
            nodes.sum::<Result<u64, _>>()?,
        ))
    }

    /// Runs a verb in a folder with `input`; returns what it printed.
    fn verb(&self, folder: &Path, args: &[&str], input: &str) -> anyhow::Result<String> {
        let gilliam = &self.session.options.gilliam;
        let mut out = tempfile::tempfile()?;
        let mut err = tempfile::tempfile()?;
        let mut verb = Command::new(gilliam)
            .args(args)
            .current_dir(folder)
            .env_clear()
            .env("GILLIAM_HOME", self.folder.path().join("home"))
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(err.try_clone()?)
            .spawn()
            .context("cannot start gilliam")?;
        if let Some(mut stdin) = verb.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let status = loop {
            if let Some(status) = verb.try_wait()? {
                break status;
            }
            if let Err(interrupted) = self.session.check() {
                let _ = verb.kill();
                let _ = verb.wait();
                return Err(interrupted);
            }
            std::thread::park_timeout(Duration::from_millis(1));
        };
        let said = read(&mut err)?;
        ensure!(
            status.success(),
            "gilliam {}: {}",
            args.join(" "),
            said.trim_end()
        );
        read(&mut out)
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        // What they were doing is of no interest any more.
        self.nodes.iter_mut().for_each(Child::kill);
        self.server.kill();
    }
}

/// Starts a process whose standard output is read here; what it logs goes to a file of its name.
fn start(command: &mut Command, folder: &Path, name: &str) -> anyhow::Result<Child> {
    for variable in ["GILLIAM_LOG", "GILLIAM_STORE", "GILLIAM_JOIN", "GILLIAM_DATA"] {
        command.env_remove(variable);
    }
    command
        .stdout(Stdio::piped())
        .stderr(File::create(folder.join(format!("{name}.log")))?);
    Child::start(command, name)
}

fn lines_of(child: &mut Child) -> anyhow::Result<impl Iterator<Item = std::io::Result<String>> + use<>> {
    Ok(BufReader::new(child.stdout().context("piped")?).lines())
}

fn read(file: &mut File) -> anyhow::Result<String> {
    use std::io::Seek as _;
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Starts an etcd of one member; gives where it listens.
fn start_etcd(session: &Session<'_>, etcd: &Path, folder: &Path) -> anyhow::Result<(Child, String)> {
    let free = || -> anyhow::Result<String> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        Ok(listener.local_addr()?.to_string())
    };
    let (client, peer) = (free()?, free()?);
    let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
    let mut command = child::command(&session.options.gilliam, Cores::All, etcd);
    command
        .args(["--name", "m0", "--data-dir"])
        .arg(folder.join("etcd"))
        .args([
            "--listen-client-urls",
            &client_url,
            "--advertise-client-urls",
            &client_url,
        ])
        .args([
            "--listen-peer-urls",
            &peer_url,
            "--initial-advertise-peer-urls",
            &peer_url,
        ])
        .args(["--initial-cluster", &format!("m0={peer_url}")])
        .stdout(Stdio::null())
        .stderr(File::create(folder.join("etcd.log"))?);
    let child = Child::start(&mut command, "etcd")?;
    session.wait("etcd", || {
        let mut stream = std::net::TcpStream::connect(&client).ok()?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains("\"true\"").then_some(())
    })?;
    Ok((child, client))
}
