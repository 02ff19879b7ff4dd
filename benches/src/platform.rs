//! A `gilliam up` to measure: pinned, on free ports, in a folder of its own.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;

use crate::{
    child::{self, Child, Cores},
    session::Session,
};

/// A verb that waits for instances waits this long at most.
const VERB_SECONDS_MAX: &str = "900";
/// Variables that would send a verb elsewhere.
const VARIABLES: [&str; 5] = [
    "GILLIAM_API",
    "GILLIAM_APP",
    "GILLIAM_CLUSTER",
    "GILLIAM_TOKEN",
    "GILLIAM_LOG",
];
/// A whole request that is not part of a load.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// A running platform; ended, with its node, when dropped.
pub(crate) struct Platform<'a> {
    session: &'a Session<'a>,
    folder: tempfile::TempDir,
    up: Option<Child>,
    /// Where the ingress listens.
    pub(crate) http: SocketAddr,
}

impl std::fmt::Debug for Platform<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platform")
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

/// An app to deploy: one process type of one component.
#[derive(Debug, Clone, Copy)]
pub(crate) struct App<'a> {
    pub(crate) name: &'a str,
    /// `web` or `worker`.
    pub(crate) process: &'a str,
    pub(crate) component: &'a [u8],
    /// Lines of its section in `gilliam.toml`.
    pub(crate) limits: &'a str,
}

impl<'a> Platform<'a> {
    pub(crate) fn start(session: &'a Session<'a>, cores: Cores) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("gilliam-bench-").tempdir()?;
        let gilliam = &session.options.gilliam;
        let mut command = child::command(gilliam, cores, gilliam);
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command
            .args(["up", "--api", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--port-base", "0", "--data"])
            .arg(folder.path().join("data"))
            .env("GILLIAM_HOME", folder.path().join("home"))
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("up.log"))?);
        let mut platform = Self {
            session,
            folder,
            up: Some(Child::start(&mut command, "gilliam up")?),
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let up = platform.up.as_mut().and_then(Child::stdout).context("piped")?;
        for line in BufReader::new(up).lines() {
            let line = line?;
            let Some(rest) = line.strip_prefix("http") else {
                continue;
            };
            let url = rest.split_whitespace().next().context("an address")?;
            platform.http = url.trim_start_matches("http://").parse()?;
            return Ok(platform);
        }
        let log = std::fs::read_to_string(platform.folder.path().join("up.log")).unwrap_or_default();
        bail!("gilliam up did not start: {}", log.trim_end())
    }

    /// A verb for a project's folder.
    fn verb(&self, project: &Path, args: &[&str]) -> Command {
        let mut command = child::command(
            &self.session.options.gilliam,
            Cores::All,
            &self.session.options.gilliam,
        );
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command
            .args(args)
            .current_dir(project)
            .env("GILLIAM_HOME", self.folder.path().join("home"));
        command
    }

    /// Runs a verb in a project's folder; returns what it printed.
    pub(crate) fn run(&self, project: &Path, args: &[&str]) -> anyhow::Result<String> {
        let mut command = self.verb(project, args);
        let mut out = tempfile::tempfile()?;
        let mut err = tempfile::tempfile()?;
        command.stdout(out.try_clone()?).stderr(err.try_clone()?);
        let mut child = command.spawn().context("cannot start gilliam")?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if let Err(interrupted) = self.session.check() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(interrupted);
            }
            std::thread::park_timeout(Duration::from_millis(1));
        };
        let read = |file: &mut File| -> anyhow::Result<String> {
            use std::io::Seek as _;
            file.rewind()?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(text)
        };
        let stderr = read(&mut err)?;
        ensure!(
            status.success(),
            "gilliam {}: {}",
            args.join(" "),
            stderr.trim_end()
        );
        read(&mut out)
    }

    /// Runs git in a project's folder; `gilliam` answers it for the platform's token.
    pub(crate) fn git(&self, project: &Path, args: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("git");
        command.args(args).current_dir(project);
        let done = command
            .env("GILLIAM_HOME", self.folder.path().join("home"))
            .output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(
            done.status.success(),
            "git {}: {}",
            args.join(" "),
            said.trim_end()
        );
        Ok(())
    }

    /// A folder for projects, which goes with the platform.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// The platform's data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Makes a project's folder and an app of the same name; nothing is deployed yet.
    pub(crate) fn project(&self, app: &App<'_>) -> anyhow::Result<PathBuf> {
        let project = self.folder.path().join("apps").join(app.name);
        std::fs::create_dir_all(&project)?;
        std::fs::write(project.join("app.wasm"), app.component)?;
        std::fs::write(project.join("Procfile"), format!("{}: app.wasm\n", app.process))?;
        std::fs::write(
            project.join("gilliam.toml"),
            format!("[process.{}]\n{}\n", app.process, app.limits),
        )?;
        self.run(&project, &["create", app.name])?;
        Ok(project)
    }

    /// Deploys an app, which runs nothing yet; returns its project's folder.
    pub(crate) fn deploy(&self, app: &App<'_>) -> anyhow::Result<PathBuf> {
        let project = self.project(app)?;
        self.run(&project, &["deploy", "-m", "bench"])?;
        Ok(project)
    }

    /// Scales and waits until what should run is running; returns how long that took.
    pub(crate) fn scale(&self, project: &Path, counts: &str) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let args: Vec<&str> = ["scale"]
            .into_iter()
            .chain(counts.split_whitespace())
            .chain(["--timeout", VERB_SECONDS_MAX])
            .collect();
        self.run(project, &args)?;
        Ok(start.elapsed())
    }

    /// The node's process id.
    pub(crate) fn node_pid(&self) -> anyhow::Result<i32> {
        let text = std::fs::read_to_string(self.folder.path().join("data/node/node.json"))?;
        let node: serde_json::Value = serde_json::from_str(&text)?;
        i32::try_from(node["pid"].as_i64().context("no pid")?).context("pid")
    }

    /// The control plane's process id.
    pub(crate) fn up_pid(&self) -> i32 {
        self.up.as_ref().map_or(0, Child::pid)
    }

    /// The body of the answer to `GET path` of an app, which must be 200.
    pub(crate) fn body(&self, app: &str, path: &str) -> anyhow::Result<Vec<u8>> {
        get(self.http, &format!("{app}.localhost"), path)
    }

    /// Waits until an app answers with 200.
    pub(crate) fn wait_until_it_answers(&self, app: &str) -> anyhow::Result<()> {
        self.session
            .wait(&format!("an answer of {app}"), || self.body(app, "/").ok())?;
        Ok(())
    }
}

impl Drop for Platform<'_> {
    fn drop(&mut self) {
        let node = self.node_pid().ok();
        // What thousands of instances were doing is of no interest any more.
        if let Some(mut up) = self.up.take() {
            up.kill();
        }
        let Some(node) = node else { return };
        // The node's id was read while its parent ran, and nobody has waited for it since.
        child::send(node, Signal::KILL);
        let _ = self
            .session
            .wait("the node to end", || (!child::is_there(node)).then_some(()));
    }
}

/// The body of the answer to one request on a connection of its own; any answer but 200 is an error.
pub(crate) fn get(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(REQUEST_TIME_MAX))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    stream.write_all(request.as_bytes())?;
    stream.read_to_end(&mut answer)?;
    let head = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .context("an answer without a head")?;
    let status = String::from_utf8_lossy(&answer[..head.min(15)]).into_owned();
    ensure!(status.starts_with("HTTP/1.1 200"), "{host}{path}: {status}");
    let is_chunked = String::from_utf8_lossy(&answer[..head])
        .to_ascii_lowercase()
        .contains("\r\ntransfer-encoding: chunked");
    let body = &answer[head + 4..];
    match is_chunked {
        true => whole(body).with_context(|| format!("{host}{path}: a body that broke off")),
        false => Ok(body.to_vec()),
    }
}

/// A body from its chunks; none when one is missing.
fn whole(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|w| w == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..line]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        let end = (line + 2).checked_add(length)?;
        body.extend_from_slice(chunks.get(line + 2..end)?);
        chunks = chunks.get(end + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_make_a_body() {
        assert_eq!(
            whole(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n").as_deref(),
            Some(&b"hello"[..])
        );
        assert_eq!(whole(b"2\r\nhe\r\n"), None);
        assert_eq!(whole(b""), None);
    }
}
