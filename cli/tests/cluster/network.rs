//! Where the parts of a cluster are: on loopback addresses, or each node on a network of its own.
//!
//! The latter needs Linux's namespaces, which are made for the test by `unshare` and are gone with its process, however
//! that ends: the test runs itself again in namespaces of its own, where it is root and alone. Each node has a network
//! namespace behind a pair of virtual devices; the test, its servers and etcd are at the hub, which routes between
//! them. A rule of that router swallows what goes from one address to another, silently, as a broken network does.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
};

use crate::turn::Turn;

/// Set where the test runs in namespaces of its own.
const INSIDE: &str = "GILLIAM_TEST_NAMESPACES";
/// Nodes that a network is laid for: `n1` and so on.
const NODES: u8 = 3;
/// Servers that there are addresses for.
const SERVERS: u8 = 2;
/// The rule of the kernel's that takes what is for this machine out of the router's hands; ours come before it.
const LOCAL_PREFERENCE: &str = "30000";

/// Where the parts of a cluster are.
#[derive(Debug)]
pub(crate) enum Network {
    /// All on the loopback; the first three numbers of the nodes' addresses.
    Loopback(String),
    /// Each node in a namespace of its own.
    Parted(Parted),
}

/// Networks that can be cut.
#[derive(Debug, Default)]
pub(crate) struct Parted {
    /// Preferences of the rules that swallow something now.
    cuts: Mutex<BTreeSet<u32>>,
}

impl Network {
    pub(crate) fn server(&self, number: usize) -> String {
        match self {
            Self::Loopback(_) => "127.0.0.1".to_string(),
            Self::Parted(_) => format!("10.77.0.{number}"),
        }
    }

    pub(crate) fn node(&self, name: &str) -> String {
        match self {
            Self::Loopback(network) => {
                let last = name.bytes().map(u32::from).sum::<u32>() % 250 + 2;
                format!("{network}.{last}")
            }
            Self::Parted(_) => address(name),
        }
    }

    /// What starts a program where a node is.
    pub(crate) fn program(&self, node: &str, program: &str) -> Command {
        match self {
            Self::Loopback(_) => Command::new(program),
            Self::Parted(_) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{node}")).arg(program);
                command
            }
        }
    }

    pub(crate) fn parted(&self) -> &Parted {
        match self {
            Self::Parted(parted) => parted,
            Self::Loopback(_) => panic!("a network that cannot be cut"),
        }
    }
}

impl Parted {
    /// Runs the test `name` in namespaces of its own. Outside of them it gives none: the test is over.
    pub(crate) fn new(name: &str) -> Option<Self> {
        if std::env::var_os(INSIDE).is_some() {
            lay();
            return Some(Self::default());
        }
        // A missing tool is no reason to leave the test out.
        ip("-V");
        let unshare = match permitted() {
            Ok(unshare) => unshare,
            Err(reason) => {
                eprintln!("NOT TESTED: {name}: this system permits no namespaces: {reason}");
                return None;
            }
        };
        let [program, arguments @ ..] = &unshare[..] else {
            unreachable!("a program");
        };
        let _turn = Turn::take();
        let output = Command::new(program)
            .args(arguments)
            .arg(std::env::current_exe().expect("this program"))
            .args([name, "--exact", "--nocapture"])
            .env(INSIDE, "1")
            .stdin(Stdio::null())
            .output()
            .expect("unshare");
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name} in namespaces: {}", output.status);
        assert!(text.contains("1 passed"), "{name} did not run in its namespaces");
        None
    }

    /// Swallows what goes from one part to another: `n1`, `s2`.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        let mut cuts = self.cuts.lock().expect("lock");
        let preference = cuts.last().map_or(10, |last| last + 1);
        cuts.insert(preference);
        let (from, to) = (address(from), address(to));
        ip(&format!(
            "rule add pref {preference} from {from} to {to} blackhole"
        ));
    }

    /// Swallows what goes between two parts.
    pub(crate) fn cut_both_ways(&self, one: &str, other: &str) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Lets everything pass again.
    pub(crate) fn heal(&self) {
        for preference in std::mem::take(&mut *self.cuts.lock().expect("lock")) {
            ip(&format!("rule del pref {preference}"));
        }
    }
}

/// The address of `n1` or `s1`.
fn address(name: &str) -> String {
    let (kind, number) = name.split_at(1);
    let number: u8 = number.parse().expect("a number");
    match kind {
        "s" => format!("10.77.0.{number}"),
        _ => format!("10.77.{number}.2"),
    }
}

/// How a program is run in namespaces of its own: as root, or as a user who is root in them; or why not.
fn permitted() -> Result<Vec<String>, String> {
    let common = [
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
    ];
    let ways = [vec!["unshare"], vec!["unshare", "--user", "--map-root-user"]];
    let mut reason = String::new();
    for way in ways {
        let way = [way, common.to_vec()].concat();
        let tried = Command::new(way[0])
            .args(&way[1..])
            .args([
                "ip", "link", "add", "name", "v0", "type", "veth", "peer", "name", "v1",
            ])
            .output()
            .expect("unshare of util-linux: run scripts/setup");
        if tried.status.success() {
            return Ok(way.into_iter().map(str::to_string).collect());
        }
        reason = String::from_utf8_lossy(&tried.stderr).trim().to_string();
    }
    Err(reason)
}

/// Lays the networks, in the namespaces of this process.
fn lay() {
    // Where the names of namespaces are kept: nobody else's.
    mount("/run").expect("a mount");
    ip("link set lo up");
    for number in 1..=SERVERS {
        ip(&format!("addr add 10.77.0.{number}/32 dev lo"));
    }
    for number in 1..=NODES {
        let node = format!("n{number}");
        ip(&format!("netns add {node}"));
        ip(&format!(
            "link add v{number} type veth peer name eth0 netns {node}"
        ));
        ip(&format!("addr add 10.77.{number}.1/24 dev v{number}"));
        ip(&format!("link set v{number} up"));
        ip(&format!("-n {node} addr add 10.77.{number}.2/24 dev eth0"));
        ip(&format!("-n {node} link set eth0 up"));
        ip(&format!("-n {node} link set lo up"));
        ip(&format!("-n {node} route add default via 10.77.{number}.1"));
    }
    fs::write(Path::new("/proc/sys/net/ipv4/ip_forward"), "1").expect("a router");
    // What is for this machine goes through our rules first as well.
    ip(&format!("rule add pref {LOCAL_PREFERENCE} lookup local"));
    ip("rule del pref 0");
}

fn mount(at: &str) -> io::Result<()> {
    let status = Command::new("mount").args(["-t", "tmpfs", "none", at]).status()?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| io::Error::other("mount"))
}

#[track_caller]
fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("ip of iproute2: run scripts/setup");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {stderr}");
}
