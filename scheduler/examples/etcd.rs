//! What a large cluster costs its etcd, and the control plane that reads it: measured on a real etcd that this starts,
//! with the real control loop, plans, mirror and reports of nodes; nodes and their network are left out.
//!
//! `cargo run --release -p gilliam-scheduler --example etcd -- [nodes=10000] [apps=50] [instances=20000] [idle=60]`
#![allow(clippy::print_stdout, clippy::large_futures, reason = "a measurement")]

#[path = "etcd/cluster.rs"]
mod cluster;
#[path = "../store/tests/etcd_process/mod.rs"]
mod etcd_process;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cluster::{Cluster, Size};
use etcd_process::{Etcd, ask};
use gilliam_store::Store;
use serde_json::json;

/// What etcd counts that figures are made of.
const COUNTERS: [(&str, &str); 6] = [
    ("proposals", "etcd_server_proposals_committed_total"),
    ("puts", "etcd_debugging_mvcc_put_total"),
    ("fsyncs", "etcd_disk_wal_fsync_duration_seconds_count"),
    ("reads", "etcd_debugging_mvcc_range_total"),
    ("bytes to clients", "etcd_network_client_grpc_sent_bytes_total"),
    ("CPU seconds", "process_cpu_seconds_total"),
];

/// The cluster in etcd.
const CLUSTER: &str = "bench";
/// How a child is told what it is.
const ROLE: &str = "as-another";

type Metrics = BTreeMap<String, f64>;

/// A figure, as a line of JSON.
pub(crate) fn figure(name: &str, value: f64, unit: &str) {
    println!(
        "{}",
        json!({"bench": "etcd", "name": name, "value": (value * 1e3).round() / 1e3, "unit": unit})
    );
}

struct Etcds {
    etcd: Etcd,
}

impl Etcds {
    fn metrics(&self) -> Metrics {
        let port: u16 = self
            .etcd
            .address(0)
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .expect("a port");
        let text = ask(port, "/metrics").expect("etcd's metrics");
        let line = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    /// What etcd counted while `work` was done, and what this process spent on it.
    async fn during(&self, name: &str, per_second: bool, work: impl Future<Output = ()>) {
        let (before, cpu, start) = (self.metrics(), cpu_seconds(), Instant::now());
        work.await;
        let seconds = start.elapsed().as_secs_f64();
        let (after, cpu) = (self.metrics(), cpu_seconds() - cpu);
        let over = if per_second { seconds } else { 1.0 };
        let of = if per_second { "/s" } else { "" };
        for (what, counter) in COUNTERS {
            let value = |metrics: &Metrics| metrics.get(counter).copied().unwrap_or(0.0);
            figure(
                &format!("{name}: etcd's {what}"),
                (value(&after) - value(&before)) / over,
                of,
            );
        }
        figure(
            &format!("{name}: CPU of the control plane"),
            1e3 * cpu / over,
            &format!("ms{of}"),
        );
        if !per_second {
            figure(&format!("{name}: took"), seconds * 1e3, "ms");
        }
    }

    async fn open(&self) -> Store {
        Store::open_etcd(self.etcd.config(CLUSTER)).await.expect("etcd")
    }
}

/// Another control plane takes its first turn, in a process of its own, whose memory is its own.
async fn start_another(url: &str) {
    let own = std::env::current_exe().expect("this program");
    let started = tokio::process::Command::new(own).args([ROLE, url]).status().await;
    assert!(started.expect("this program").success());
}

async fn as_another(url: &str) {
    let store = Store::open_etcd(url.parse().expect("a URL")).await.expect("etcd");
    let (before, start) = (memory_bytes(), Instant::now());
    let control = cluster::first_turn(store).await;
    let mib = memory_bytes().saturating_sub(before) as f64 / f64::from(1 << 20);
    figure(
        "first turn of a control plane: took",
        start.elapsed().as_secs_f64() * 1e3,
        "ms",
    );
    figure("first turn of a control plane: memory", mib, "MiB");
    drop(control);
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, url] = &arguments[..]
        && role == ROLE
    {
        return as_another(url).await;
    }
    let options: BTreeMap<String, u32> = arguments
        .iter()
        .map(|option| {
            let (name, value) = option.split_once('=').expect("NAME=NUMBER");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect();
    let option = |name: &str, default: u32| options.get(name).copied().unwrap_or(default);
    let size = Size {
        nodes: option("nodes", 10_000),
        apps: option("apps", 50),
        instances: option("instances", 20_000),
    };
    let idle = Duration::from_secs(option("idle", 60).into());
    let etcds = Etcds {
        etcd: Etcd::start(
            1,
            &[
                "--quota-backend-bytes",
                "8589934592",
                "--auto-compaction-retention",
                "1h",
            ],
        ),
    };
    measure(&etcds, size, idle).await;
}

async fn measure(etcds: &Etcds, size: Size, idle: Duration) {
    let mut cluster = Cluster::new(etcds.open().await, size).await;
    etcds.during("placing all", false, cluster.settle()).await;
    figure("instances placed", cluster.placed().await, "");
    cluster.report_all().await;
    cluster.settle().await;
    size_of_state(etcds, &cluster).await;

    etcds
        .during("reading everything", false, cluster.read_whole())
        .await;
    etcds
        .during("start of another control plane", false, async {
            start_another(&etcds.etcd.url(CLUSTER)).await;
        })
        .await;

    cluster.report_all().await;
    cluster.settle().await;
    etcds.during("an idle turn", false, cluster.turn()).await;
    cluster.report_all().await;
    etcds
        .during("a scale change by 10", false, cluster.scale(10))
        .await;
    cluster.forget_a_node().await;
    etcds.during("a node lost", false, cluster.settle()).await;
    etcds.during("at rest", true, cluster.rest(idle)).await;
}

async fn size_of_state(etcds: &Etcds, cluster: &Cluster) {
    let metrics = etcds.metrics();
    let mib = |name: &str| metrics.get(name).copied().unwrap_or(0.0) / f64::from(1 << 20);
    let (records, bytes) = cluster.bytes().await;
    figure("records", records, "");
    figure("keys and values", bytes / f64::from(1 << 20), "MiB");
    figure(
        "etcd's database, in use",
        mib("etcd_mvcc_db_total_size_in_use_in_bytes"),
        "MiB",
    );
    figure(
        "etcd's database, file",
        mib("etcd_mvcc_db_total_size_in_bytes"),
        "MiB",
    );
    figure("etcd's memory", mib("process_resident_memory_bytes"), "MiB");
}

fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn memory_bytes() -> u64 {
    status_kib("VmRSS:") << 10
}

/// CPU time of this process.
fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
