//! A `gilliam up` to measure: pinned to the first core, on free ports, in a folder of its own.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{figure::Figures, load::as_f64};

/// Longest wait for a state of the platform.
const DEADLINE: Duration = Duration::from_secs(120);

/// A running platform; ended when dropped.
#[derive(Debug)]
pub(crate) struct Platform<'a> {
    gilliam: &'a Path,
    folder: tempfile::TempDir,
    up: Child,
    pub(crate) http: SocketAddr,
}

/// A command that runs on the first core only.
pub(crate) fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

/// The value of `what` as soon as it has one.
pub(crate) fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        if let Some(value) = look() {
            return Ok(value);
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    bail!("waited {DEADLINE:?} in vain for {what}")
}

impl<'a> Platform<'a> {
    pub(crate) fn start(gilliam: &'a Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = pinned(gilliam);
        command.args([
            "up",
            "--api",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--port-base",
            "0",
            "--data",
        ]);
        command
            .arg(folder.path().join("data"))
            .env("GILLIAM_HOME", folder.path().join("home"));
        let mut up = command
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start gilliam up")?;
        let mut lines = BufReader::new(up.stdout.take().context("piped")?).lines();
        let mut http = None;
        while let Some(Ok(line)) = lines.next() {
            if let Some(rest) = line.strip_prefix("http") {
                let url = rest.split_whitespace().next().context("an address")?;
                http = Some(url.trim_start_matches("http://").parse()?);
                break;
            }
        }
        Ok(Self {
            gilliam,
            folder,
            up,
            http: http.context("gilliam up did not start")?,
        })
    }

    /// Runs a verb in a project folder.
    pub(crate) fn run(&self, project: &Path, args: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.gilliam);
        command
            .args(args)
            .current_dir(project)
            .env("GILLIAM_HOME", self.folder.path().join("home"));
        let output = command.output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "gilliam {}: {stderr}", args.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Deploys a sample as an app of the same name.
    pub(crate) fn deploy(&self, samples: &Path, name: &str) -> anyhow::Result<std::path::PathBuf> {
        let project = self.folder.path().join(name);
        std::fs::create_dir_all(&project)?;
        let from = samples.join(name);
        for entry in std::fs::read_dir(&from).with_context(|| format!("no sample at {}", from.display()))? {
            let path = entry?.path();
            let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if file == "Procfile" || file.ends_with(".wasm") {
                std::fs::copy(&path, project.join(file))?;
            }
        }
        // Limits that the load cannot reach: what is measured is the way, not the fence.
        std::fs::write(project.join("gilliam.toml"), "[process.web]\nconcurrency = 256\n")?;
        self.run(&project, &["create", name])?;
        self.run(&project, &["deploy", "-m", "bench"])?;
        Ok(project)
    }

    /// The node's process id.
    pub(crate) fn node_pid(&self) -> anyhow::Result<i32> {
        let text = std::fs::read_to_string(self.folder.path().join("data/node/node.json"))?;
        let node: serde_json::Value = serde_json::from_str(&text)?;
        i32::try_from(node["pid"].as_i64().context("no pid")?).context("pid")
    }

    /// The whole answer to `GET path` of an app, on a connection of its own.
    fn get(&self, app: &str, path: &str) -> std::io::Result<Vec<u8>> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.http)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {app}.localhost\r\nconnection: close\r\n\r\n");
        let mut answer = Vec::new();
        stream.write_all(request.as_bytes())?;
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    /// Whether one request is answered with 200.
    fn answers(&self, app: &str) -> bool {
        self.get(app, "/")
            .is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
    }

    /// The bytes after the head of an answer, for a peer to repeat.
    pub(crate) fn body(&self, app: &str, path: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.get(app, path)?;
        let head = answer
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .context("an answer without a head")?;
        Ok(answer[head + 4..].to_vec())
    }
}

impl Drop for Platform<'_> {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.up.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = self.up.wait();
    }
}

/// CPU time a process has used, in microseconds.
pub(crate) fn cpu_us(pid: i32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("stat")?.1;
    let mut numbers = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let user = numbers.next().context("utime")??;
    let system = numbers.next().context("stime")??;
    Ok((user + system) * 1_000_000 / rustix::param::clock_ticks_per_second())
}

/// Memory a process keeps that is its own, page tables included, in bytes.
fn memory_bytes(pid: i32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut kib = 0;
    for name in ["RssAnon:", "RssShmem:", "VmPTE:"] {
        let line = status
            .lines()
            .find(|l| l.starts_with(name))
            .with_context(|| format!("no {name}"))?;
        kib += line
            .split_whitespace()
            .nth(1)
            .context("a number")?
            .parse::<u64>()?;
    }
    Ok(kib << 10)
}

/// Time from asking for one instance of an app that runs none until it answers, with its code already compiled.
pub(crate) fn coldstart(gilliam: &Path, samples: &Path, figures: &mut Figures) -> anyhow::Result<()> {
    const ROUNDS: usize = 20;
    let platform = Platform::start(gilliam)?;
    for name in ["guestbook", "hello-p3"] {
        let project = platform.deploy(samples, name)?;
        let mut ms = Vec::new();
        for _ in 0..=ROUNDS {
            platform.run(&project, &["scale", "web=0"])?;
            let start = Instant::now();
            platform.run(&project, &["scale", "web=1", "--no-wait"])?;
            wait("the first answer", || platform.answers(name).then_some(()))?;
            ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        // The first round compiles.
        figures.add(
            "coldstart",
            format!("{name} scale to first answer, compiling"),
            ms.remove(0),
            "ms",
        );
        ms.sort_by(f64::total_cmp);
        figures.add(
            "coldstart",
            format!("{name} scale to first answer, p50"),
            ms[ms.len() / 2],
            "ms",
        );
    }
    Ok(())
}

/// Memory of the node per instance that has nothing to do.
pub(crate) fn density(gilliam: &Path, samples: &Path, figures: &mut Figures) -> anyhow::Result<()> {
    const INSTANCES: u64 = 200;
    let platform = Platform::start(gilliam)?;
    for (name, process) in [("guestbook", "web"), ("guestbook", "worker"), ("hello-p3", "web")] {
        let project = match platform.folder.path().join(name) {
            project if project.exists() => project,
            _ => platform.deploy(samples, name)?,
        };
        platform.run(&project, &["scale", &format!("{process}=1")])?;
        let before = memory_bytes(platform.node_pid()?)?;
        platform.run(&project, &["scale", &format!("{process}={}", INSTANCES + 1)])?;
        let after = memory_bytes(platform.node_pid()?)?;
        let kib = as_f64(after.saturating_sub(before)) / as_f64(INSTANCES) / 1024.0;
        figures.add("density", format!("{name} {process}, idle"), kib, "KiB/instance");
        platform.run(&project, &["scale", &format!("{process}=0")])?;
    }
    Ok(())
}
