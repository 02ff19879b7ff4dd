//! A whole platform for one test: the built binary, its own data and home, every port chosen by the system.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Longest wait for a state; tests fail with what they waited for, they never sleep for a fixed time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a state.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `look` gives a value, or fails with `what`.
#[track_caller]
pub(crate) fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain for {what}"
        );
        std::thread::park_timeout(LOOK);
    }
}

/// A client to be: it speaks plain HTTP here, and is not made unless it knows a TLS too.
pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    // The first one that is installed stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

/// The languages' tools, which `scripts/setup` puts together once for all tests.
pub(crate) fn tools() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    cache
        .unwrap_or_else(|| home().join(".cache"))
        .join("gilliam/tools")
}

/// Copies a folder, without what a developer has built or installed in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folder");
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("entry");
        let to = to.join(entry.file_name());
        if ["target", "node_modules", ".gilliam.app"]
            .iter()
            .any(|name| entry.file_name() == *name)
        {
            continue;
        }
        match entry.file_type().expect("type").is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).expect("copy")),
        }
    }
}

/// A running `gilliam up`, ended with the test, its node with it.
pub(crate) struct Platform {
    folder: tempfile::TempDir,
    program: PathBuf,
    /// Given to every `up` after the usual arguments.
    arguments: Mutex<Vec<String>>,
    up: Mutex<Option<Child>>,
    addresses: Mutex<Addresses>,
}

#[derive(Clone, Default)]
struct Addresses {
    api: String,
    http: String,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: ExitStatus,
}

impl Ran {
    /// The command's data, after it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(
            self.status.success(),
            "{}\n{}\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self.stdout
    }

    /// The command's messages, after it was refused with exit code 1.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.status.code(), Some(1), "{}\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains("error: "), "{}", self.stderr);
        self.stderr
    }
}

impl Platform {
    /// Starts a platform on free ports in a new folder.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments for `gilliam up`.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_program(|_| PathBuf::from(env!("CARGO_BIN_EXE_gilliam")), arguments)
    }

    /// The same from a copy of the program in the test's folder, for tests that replace it.
    pub(crate) fn start_copy() -> Self {
        let copy = |root: &Path| {
            let copy = root.join("gilliam");
            std::fs::copy(env!("CARGO_BIN_EXE_gilliam"), &copy).expect("a copy of the program");
            copy
        };
        Self::start_program(copy, &[])
    }

    fn start_program(program: impl Fn(&Path) -> PathBuf, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let platform = Self {
            program: program(folder.path()),
            arguments: Mutex::new(arguments.iter().map(ToString::to_string).collect()),
            folder,
            up: Mutex::new(None),
            addresses: Mutex::default(),
        };
        platform.up();
        platform
    }

    /// Starts `gilliam up` again on the same folders, with other arguments.
    pub(crate) fn up_with(&self, arguments: &[&str]) {
        *self.arguments.lock().expect("lock") = arguments.iter().map(ToString::to_string).collect();
        self.up();
    }

    /// Starts `gilliam up` again on the same folders.
    pub(crate) fn up(&self) {
        let mut child = self.spawn_up();
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut address = |name: &str| {
            let line = lines.next().and_then(Result::ok).unwrap_or_default();
            let url = line.strip_prefix(name).unwrap_or_else(|| {
                panic!("expected {name:?}, got {line:?}; log:\n{}", self.up_log());
            });
            url.split_whitespace().next().expect("address").to_string()
        };
        let addresses = Addresses {
            api: address("api"),
            http: address("http"),
        };
        *self.addresses.lock().expect("lock") = addresses;
        *self.up.lock().expect("lock") = Some(child);
    }

    /// Starts `gilliam up` and does not wait until it answers; whoever calls ends it.
    pub(crate) fn spawn_up(&self) -> Child {
        let mut command = self.command(
            &self.root(),
            &["up", "--api", "127.0.0.1:0", "--http", "127.0.0.1:0"],
        );
        command.arg("--data").arg(self.data()).args(["--port-base", "0"]);
        command.args(&*self.arguments.lock().expect("lock"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.root().join("up.log"))
            .expect("log file");
        command
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("gilliam up")
    }

    /// The program it was started from.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root().join("data")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    pub(crate) fn api(&self) -> String {
        self.addresses.lock().expect("lock").api.clone()
    }

    /// `http://127.0.0.1:PORT` of the ingress.
    pub(crate) fn http(&self) -> String {
        self.addresses.lock().expect("lock").http.clone()
    }

    pub(crate) fn up_log(&self) -> String {
        let node = std::fs::read_to_string(self.data().join("node/node.log")).unwrap_or_default();
        std::fs::read_to_string(self.root().join("up.log")).unwrap_or_default() + &node
    }

    fn command(&self, cwd: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(cwd)
            .args(args)
            .stdin(Stdio::null())
            .env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.root()).env("GILLIAM_HOME", self.home());
        command.env("GILLIAM_LOG", "info").env("GILLIAM_TOOLS", tools());
        command
    }

    /// Runs a verb in `cwd`.
    #[track_caller]
    pub(crate) fn run_in(&self, cwd: &Path, args: &[&str]) -> Ran {
        let output = self.command(cwd, args).output().expect("gilliam");
        Ran {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status,
        }
    }

    /// Runs a verb in `cwd` with something on its input.
    #[track_caller]
    pub(crate) fn run_with_input(&self, cwd: &Path, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(cwd, args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("gilliam");
        // It may end before it reads all.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("gilliam");
        Ran {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status,
        }
    }

    /// Begins a verb in `cwd`, whose streams are the test's to hold.
    pub(crate) fn spawn_in(&self, cwd: &Path, args: &[&str]) -> Child {
        let mut command = self.command(cwd, args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("gilliam")
    }

    /// Runs a verb in the test's own folder.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_in(&self.root(), args)
    }

    /// Runs a verb and takes its data as JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let stdout = self.run(&[args, &["--json"]].concat()).ok();
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"))
    }

    /// A copy of a sample's files, as a user would have them.
    pub(crate) fn sample(&self, name: &str) -> PathBuf {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../samples")
            .join(name);
        let to = self.root().join("projects").join(name);
        std::fs::create_dir_all(&to).expect("project folder");
        let procfile = std::fs::read_to_string(from.join("Procfile")).expect("the sample's Procfile");
        std::fs::write(to.join("Procfile"), &procfile).expect("Procfile");
        if let Ok(manifest) = std::fs::read_to_string(from.join("gilliam.toml")) {
            std::fs::write(to.join("gilliam.toml"), manifest).expect("manifest");
        }
        for word in procfile.split_whitespace().filter(|w| w.ends_with(".wasm")) {
            let built = from.join(word);
            assert!(built.exists(), "{} is missing; run make samples", built.display());
            std::fs::copy(&built, to.join(word)).expect("component");
        }
        to
    }

    /// A copy of a sample's sources, as a user would have them.
    pub(crate) fn sources(&self, sample: &str) -> PathBuf {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples");
        let to = self.root().join("projects").join(sample);
        copy(&from.join(sample), &to);
        to
    }

    /// Creates an app from a sample, deploys it and scales it, waiting until it runs.
    #[track_caller]
    pub(crate) fn deploy(&self, app: &str, sample: &str, scale: &[&str]) -> PathBuf {
        let project = self.sample(sample);
        let project = if app == sample {
            project
        } else {
            let own = self.root().join("projects").join(app);
            std::fs::create_dir_all(&own).expect("project folder");
            for entry in std::fs::read_dir(&project).expect("project") {
                let entry = entry.expect("entry");
                if entry.file_name() != ".gilliam.app" {
                    std::fs::copy(entry.path(), own.join(entry.file_name())).expect("copy");
                }
            }
            own
        };
        self.run_in(&project, &["create", app]).ok();
        self.run_in(&project, &["deploy", "-m", "first"]).ok();
        if !scale.is_empty() {
            self.run_in(&project, &[&["scale", "v1"], scale].concat()).ok();
        }
        project
    }

    /// The process id of the node, from the file it writes.
    pub(crate) fn node_pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.data().join("node/node.json")).ok()?;
        let node: serde_json::Value = serde_json::from_str(&text).ok()?;
        Pid::from_raw(i32::try_from(node["pid"].as_i64()?).ok()?)
    }

    /// Kills the control plane alone, as a crash would: no notice, no clean-up.
    pub(crate) fn kill_up(&self) {
        let mut up = self.up.lock().expect("lock").take().expect("up runs");
        up.kill().expect("kill");
        up.wait().expect("wait");
    }

    /// Kills the node, as a crash would.
    pub(crate) fn kill_node(&self) {
        let pid = self.node_pid().expect("a node runs");
        kill_process(pid, Signal::KILL).expect("kill");
    }

    /// Ends the platform as Ctrl-C does, and says how it ended.
    pub(crate) fn stop(&self) -> Option<ExitStatus> {
        let mut up = self.up.lock().expect("lock").take()?;
        let _ = kill_process(Pid::from_child(&up), Signal::INT);
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if let Some(status) = up.try_wait().expect("wait") {
                return Some(status);
            }
            std::thread::park_timeout(LOOK);
        }
        up.kill().expect("kill");
        up.wait().ok()
    }

    /// The rows of `ps` of an app.
    #[track_caller]
    pub(crate) fn ps(&self, app: &str) -> Vec<serde_json::Value> {
        self.json(&["ps", "--app", app])["instances"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until `ps` of an app satisfies `check`.
    #[track_caller]
    pub(crate) fn wait_ps(&self, app: &str, what: &str, check: impl Fn(&[serde_json::Value]) -> bool) {
        wait(what, || {
            let ran = self.run(&["ps", "--app", app, "--json"]);
            let value: serde_json::Value = serde_json::from_str(&ran.stdout).ok()?;
            check(value["instances"].as_array()?).then_some(())
        });
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let node = self.node_pid();
        self.stop();
        if let Some(node) = node.filter(|n| test_kill_process(*n).is_ok()) {
            let _ = kill_process(node, Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!("log of gilliam up and its node:\n{}", self.up_log());
        }
    }
}

/// Reads a whole stream as text.
pub(crate) fn text(mut from: impl std::io::Read) -> String {
    let mut text = String::new();
    let _ = from.read_to_string(&mut text);
    text
}
