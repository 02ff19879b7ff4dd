//! Real etcds for tests: one member or several, on free ports of the loopback, in a temporary folder, ended
//! with the test however it ends.

#![allow(dead_code, reason = "each test target uses a part of it")]

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use gilliam_store::EtcdConfig;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A deadline for etcd's start: far beyond what it takes.
const START_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Times that other ports are tried: another process may take one between the look for it and etcd's start.
const PORTS_TRIES: usize = 5;

/// A cluster of etcd's.
pub(crate) struct Etcd {
    members: Vec<Mutex<Member>>,
    arguments: Vec<String>,
    tls: Option<Tls>,
    folder: TempDir,
}

/// The files that members speak TLS with: they want certificates of their clients too.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

struct Member {
    name: String,
    client: u16,
    peer: u16,
    /// Where it tells how it is, to anybody.
    health: u16,
    process: Option<Child>,
}

/// How a cluster of three falters for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Falter {
    KillLeader,
    PauseLeader,
    KillFollower,
    PauseFollower,
    LoseQuorum,
}

pub(crate) const FAULTS: [Falter; 5] = [
    Falter::KillLeader,
    Falter::PauseLeader,
    Falter::KillFollower,
    Falter::PauseFollower,
    Falter::LoseQuorum,
];

impl Etcd {
    /// Starts one member.
    pub(crate) fn alone() -> Self {
        Self::start(1, &[])
    }

    /// Starts `members` with `arguments` and waits until each answers and has a leader.
    pub(crate) fn start(members: usize, arguments: &[&str]) -> Self {
        Self::start_with(members, arguments, None)
    }

    /// Starts one member that speaks TLS with its clients.
    pub(crate) fn secured(tls: &Tls) -> Self {
        Self::start_with(1, &[], Some(tls))
    }

    fn start_with(members: usize, arguments: &[&str], tls: Option<&Tls>) -> Self {
        for _ in 0..PORTS_TRIES {
            let etcd = Self::spawn(members, arguments, tls);
            if (0..members).all(|n| etcd.is_ready(n)) {
                return etcd;
            }
        }
        panic!("etcd does not start");
    }

    fn spawn(members: usize, arguments: &[&str], tls: Option<&Tls>) -> Self {
        // All are held until all are found, so that none is found twice.
        let held: Vec<TcpListener> = (0..members * 3)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let ports: Vec<u16> = held
            .iter()
            .map(|port| port.local_addr().expect("bound").port())
            .collect();
        drop(held);
        let member = |n: usize| Member {
            name: format!("m{n}"),
            client: ports[n * 3],
            peer: ports[n * 3 + 1],
            health: ports[n * 3 + 2],
            process: None,
        };
        let etcd = Self {
            members: (0..members).map(|n| Mutex::new(member(n))).collect(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            tls: tls.cloned(),
            folder: TempDir::new().expect("folder"),
        };
        (0..members).for_each(|n| etcd.run(n));
        etcd
    }

    /// How a store in the cluster `cluster` is opened.
    pub(crate) fn config(&self, cluster: &str) -> EtcdConfig {
        self.url(cluster).parse().expect("a URL")
    }

    /// The URL of the cluster `cluster`.
    pub(crate) fn url(&self, cluster: &str) -> String {
        let members: Vec<String> = (0..self.members.len()).map(|n| self.address(n)).collect();
        format!("etcd://{}/{cluster}", members.join(","))
    }

    /// Where clients reach member `n`.
    pub(crate) fn address(&self, n: usize) -> String {
        format!("127.0.0.1:{}", self.member(n).client)
    }

    /// Starts member `n`, for the first time or again.
    pub(crate) fn run(&self, n: usize) {
        let cluster: Vec<String> = (0..self.members.len())
            .map(|n| self.member(n))
            .map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.peer))
            .collect();
        let mut member = self.member(n);
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", member.client);
        let [peer, health] = [member.peer, member.health].map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "etcd"])
            .args(["--name", &member.name, "--logger", "zap", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.folder.path().join(&member.name))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--listen-metrics-urls", &health])
            .args(&self.arguments)
            .args(self.tls.iter().flat_map(Tls::arguments))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(self.log(&member))
                    .expect("log"),
            );
        let process = spawn(command).expect("setpriv of util-linux and etcd: run scripts/setup");
        member.process = Some(process);
    }

    fn log(&self, member: &Member) -> PathBuf {
        self.folder.path().join(format!("{}.log", member.name))
    }

    /// Waits until member `n` answers and has a leader.
    pub(crate) fn wait(&self, n: usize) {
        assert!(self.is_ready(n), "etcd does not start again");
    }

    /// Whether member `n` comes up; false when it ended, which it does when its port was taken.
    fn is_ready(&self, n: usize) -> bool {
        let end = Instant::now() + START_MAX;
        loop {
            let mut member = self.member(n);
            let ended = member
                .process
                .as_mut()
                .is_none_or(|p| !matches!(p.try_wait(), Ok(None)));
            let (port, log) = (member.health, self.log(&member));
            drop(member);
            if ended {
                let log = fs::read_to_string(log).unwrap_or_default();
                assert!(
                    !log.contains("failed to execute etcd"),
                    "etcd is not on PATH; scripts/setup installs it (Debian: apt-get install etcd-server)"
                );
                return false;
            }
            if is_healthy(port) {
                return true;
            }
            assert!(
                Instant::now() < end,
                "etcd did not start: {}",
                fs::read_to_string(log).unwrap_or_default()
            );
            thread::sleep(LOOK);
        }
    }

    /// Whether member `n` answers and has a leader, now.
    pub(crate) fn is_healthy(&self, n: usize) -> bool {
        let port = self.member(n).health;
        is_healthy(port)
    }

    /// The member that leads, once there is one among those that answer.
    pub(crate) fn leader(&self) -> usize {
        let end = Instant::now() + START_MAX;
        loop {
            let leads = |n: &usize| {
                let running = self.member(*n).process.is_some();
                running && is_leader(self.member(*n).health)
            };
            if let Some(leader) = (0..self.members.len()).find(leads) {
                return leader;
            }
            assert!(Instant::now() < end, "etcd elects no leader");
            thread::sleep(LOOK);
        }
    }

    /// Kills member `n` (SIGKILL); it keeps its data.
    pub(crate) fn kill(&self, n: usize) {
        let process = self.member(n).process.take();
        if let Some(mut process) = process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Pauses member `n`: it takes connections and never answers.
    pub(crate) fn pause(&self, n: usize) {
        self.signal(n, Signal::STOP);
    }

    /// Lets member `n` go on.
    pub(crate) fn resume(&self, n: usize) {
        self.signal(n, Signal::CONT);
    }

    /// Begins to falter; gives the members that do.
    pub(crate) fn falter(&self, how: Falter) -> Vec<usize> {
        let leader = self.leader();
        let members = match how {
            Falter::KillLeader | Falter::PauseLeader => vec![leader],
            Falter::KillFollower | Falter::PauseFollower => vec![(leader + 1) % 3],
            Falter::LoseQuorum => vec![leader, (leader + 1) % 3],
        };
        for member in &members {
            match how {
                Falter::PauseLeader | Falter::PauseFollower => self.pause(*member),
                _ => self.kill(*member),
            }
        }
        members
    }

    /// Ends what these members began, and waits until they are well.
    pub(crate) fn recover(&self, how: Falter, members: &[usize]) {
        for member in members {
            match how {
                Falter::PauseLeader | Falter::PauseFollower => self.resume(*member),
                _ => self.run(*member),
            }
        }
        members.iter().for_each(|member| self.wait(*member));
    }

    fn signal(&self, n: usize, signal: Signal) {
        if let Some(process) = &self.member(n).process {
            kill_process(Pid::from_child(process), signal).expect("signal");
        }
    }

    fn member(&self, n: usize) -> std::sync::MutexGuard<'_, Member> {
        self.members[n].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tls {
    fn arguments(&self) -> Vec<OsString> {
        let file = |option: &str, path: &Path| [option.into(), path.as_os_str().to_owned()];
        let files = [
            file("--trusted-ca-file", &self.ca),
            file("--cert-file", &self.certificate),
            file("--key-file", &self.key),
        ];
        let files = files.into_iter().flatten();
        files.chain([OsString::from("--client-cert-auth")]).collect()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|n| self.kill(n));
    }
}

/// One member that the tests of a process share, with a name of a cluster that no other test uses.
pub(crate) fn shared() -> (Arc<Etcd>, String) {
    static SHARED: Mutex<Weak<Etcd>> = Mutex::new(Weak::new());
    static CLUSTERS: AtomicUsize = AtomicUsize::new(0);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let etcd = shared.upgrade().unwrap_or_else(|| Arc::new(Etcd::alone()));
    *shared = Arc::downgrade(&etcd);
    (etcd, format!("test-{}", CLUSTERS.fetch_add(1, Ordering::Relaxed)))
}

/// Runs `command` from a thread that lives as long as this process: who asks for a signal at the end of its
/// parent gets it at the end of the thread that started it.
fn spawn(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::SyncSender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, incoming) = mpsc::sync_channel::<Request>(1);
        thread::spawn(move || {
            for (mut command, answer) in incoming {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(requests)
    });
    let (answer, answered) = mpsc::sync_channel(1);
    let sent = spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer));
    sent.expect("the thread lives");
    answered.recv().expect("it answers")
}

fn is_healthy(port: u16) -> bool {
    ask(port, "/health").is_ok_and(|answer| answer.contains(r#""health":"true""#))
}

fn is_leader(port: u16) -> bool {
    ask(port, "/metrics").is_ok_and(|answer| answer.contains("\netcd_server_is_leader 1"))
}

/// What a member answers over HTTP.
pub(crate) fn ask(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
