//! A real PostgreSQL for tests: on a free port of the loopback, in a temporary folder, ended with the test
//! however it ends. Tests of one process share it and have a database each.

#![allow(dead_code, reason = "each test target uses a part of it")]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// A deadline for the server's start: far beyond what it takes.
const START_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Times that other ports are tried: another process may take one between the look for it and the start.
const PORTS_TRIES: usize = 5;
/// Where Debian has what is not on PATH, by version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The user of the database, who may do anything, and their password.
const USER: &str = "ada";
const PASSWORD: &str = "s3cret";

/// A server.
#[derive(Debug)]
pub(crate) struct Postgres {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
    process: Mutex<Option<Child>>,
    databases: AtomicUsize,
}

/// A database of its own on a server.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) server: Arc<Postgres>,
    pub(crate) name: String,
}

impl Postgres {
    /// Starts one with these settings besides those that make it quick to start.
    pub(crate) fn start(settings: &str) -> Arc<Self> {
        for _ in 0..PORTS_TRIES {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
            let postgres = Self {
                bin: bin(),
                folder: tempfile::tempdir().expect("folder"),
                port: port.expect("a free port").port(),
                process: Mutex::default(),
                databases: AtomicUsize::new(0),
            };
            postgres.make(settings);
            postgres.run();
            if postgres.is_ready() {
                return Arc::new(postgres);
            }
        }
        panic!("PostgreSQL does not start");
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A command of PostgreSQL, by a user that it takes: it refuses to run as root.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        if geteuid().is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        command.args(["--pdeathsig", "KILL"]).arg(self.bin.join(name));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8");
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn make(&self, settings: &str) {
        let password = self.folder.path().join("password");
        fs::write(&password, PASSWORD).expect("password");
        if geteuid().is_root() {
            let user = Command::new("id").args(["-u", "postgres"]).output().expect("id");
            let user = String::from_utf8_lossy(&user.stdout).trim().parse().ok();
            assert!(user.is_some(), "there is no user postgres: run scripts/setup");
            chown(self.folder.path(), user, None).expect("chown");
            chown(&password, user, None).expect("chown");
        }
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        let mut initdb = self.command("initdb");
        initdb.args([
            "--no-sync",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "-U",
            USER,
        ]);
        initdb.arg("--pwfile").arg(password).arg("-D").arg(self.data());
        ok(&initdb.output().expect("initdb of PostgreSQL: run scripts/setup"));
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\n{settings}\n",
            self.port
        );
        let file = self.data().join("postgresql.auto.conf");
        fs::write(file, settings).expect("settings");
    }

    /// Starts the server again, and waits until it takes statements: while processes of the one before are
    /// there it ends at once.
    pub(crate) fn run_again(&self) {
        let end = Instant::now() + START_MAX;
        loop {
            self.run();
            if self.is_ready() {
                return;
            }
            assert!(Instant::now() < end, "PostgreSQL does not start again");
        }
    }

    fn run(&self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("log");
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .stdout(Stdio::null())
            .stderr(log);
        *self.process() = Some(spawn(command));
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it takes statements; false when it ended, which it does when its port was taken.
    fn is_ready(&self) -> bool {
        let end = Instant::now() + START_MAX;
        loop {
            if self.sql("postgres", "SELECT 1").status.success() {
                return true;
            }
            let ended = self
                .process()
                .as_mut()
                .is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            if ended {
                return false;
            }
            let log = || fs::read_to_string(self.log()).unwrap_or_default();
            assert!(Instant::now() < end, "PostgreSQL did not start: {}", log());
            thread::sleep(LOOK);
        }
    }

    /// Ends it at once (SIGKILL to the first process: the others follow); what was committed is on the disk.
    pub(crate) fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Ends it as an operator does who is in a hurry.
    pub(crate) fn stop(&self) {
        if let Some(mut process) = self.process().take() {
            let _ = kill_process(Pid::from_child(&process), Signal::INT);
            let _ = process.wait();
        }
    }

    /// Stops all its processes, which then take connections and never answer, or lets them go on.
    pub(crate) fn pause(&self, paused: bool) {
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        if let Some(process) = &*self.process() {
            let first = Pid::from_child(process);
            let children = Command::new("pgrep")
                .arg("-P")
                .arg(first.as_raw_nonzero().to_string())
                .output();
            let children = String::from_utf8_lossy(&children.expect("pgrep").stdout).into_owned();
            let children = children
                .lines()
                .filter_map(|line| Pid::from_raw(line.parse().ok()?));
            for process in children.chain([first]) {
                let _ = kill_process(process, signal);
            }
        }
    }

    /// Has it speak TLS with this certificate, and only that, from its next start on, which is now.
    pub(crate) fn speak_tls(&self, certificate: &str, key: &str) {
        self.stop();
        let file = |name: &str, text: &str| {
            let path = self.data().join(name);
            fs::write(&path, text).expect("file");
            if geteuid().is_root() {
                chown(&path, owner(&self.data()), None).expect("chown");
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
        };
        file("server.crt", certificate);
        file("server.key", key);
        file("pg_hba.conf", "hostssl all all all scram-sha-256\n");
        let settings = self.data().join("postgresql.auto.conf");
        let known = fs::read_to_string(&settings).expect("settings");
        fs::write(settings, format!("{known}ssl = on\n")).expect("settings");
        self.run_again();
    }

    /// Does a statement in a database.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Output {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(self.url(database))
            .args(["-c", sql]);
        psql.output().expect("psql")
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// A new database on it.
    pub(crate) fn database(self: &Arc<Self>) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        ok(&self.sql("postgres", &format!("CREATE DATABASE {name}")));
        Database {
            server: Arc::clone(self),
            name,
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Database {
    /// Where it is, with the user and the password.
    pub(crate) fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// What a statement answers: columns with | between them.
    pub(crate) fn sql(&self, sql: &str) -> String {
        ok(&self.server.sql(&self.name, sql))
    }
}

/// A database on a server that the tests of a process share.
pub(crate) fn database() -> Database {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let server = shared.upgrade();
    let server = server.unwrap_or_else(|| Postgres::start("max_connections = 500"));
    *shared = Arc::downgrade(&server);
    drop(shared);
    server.database()
}

/// The user who has a folder.
fn owner(folder: &Path) -> Option<u32> {
    fs::metadata(folder).ok().map(|folder| folder.uid())
}

fn ok(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// The folder of `initdb` and `postgres`: that of the newest version which Debian has, or on PATH.
fn bin() -> PathBuf {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let bins = versions.map(|entry| entry.path().join("bin"));
    let newest = bins.filter(|bin| bin.join("initdb").exists()).max_by_key(|bin| {
        bin.parent()
            .and_then(Path::file_name)
            .map(|name| (name.len(), name.to_owned()))
    });
    let on_path = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find(|bin| bin.join("initdb").exists())
    };
    newest
        .or_else(on_path)
        .expect("PostgreSQL is not here: run scripts/setup (Debian: apt-get install postgresql)")
}

/// Runs `command` from a thread that lives as long as this process: who asks for a signal at the end of its
/// parent gets it at the end of the thread that started it.
fn spawn(command: Command) -> Child {
    type Request = (Command, mpsc::SyncSender<Child>);
    static SPAWNER: OnceLock<Mutex<mpsc::SyncSender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, incoming) = mpsc::sync_channel::<Request>(1);
        thread::spawn(move || {
            for (mut command, answer) in incoming {
                let child = command
                    .spawn()
                    .expect("setpriv of util-linux and PostgreSQL: run scripts/setup");
                let _ = answer.send(child);
            }
        });
        Mutex::new(requests)
    });
    let (answer, answered) = mpsc::sync_channel(1);
    let spawner = spawner.lock().unwrap_or_else(PoisonError::into_inner);
    spawner.send((command, answer)).expect("the thread lives");
    answered.recv().expect("it answers")
}
