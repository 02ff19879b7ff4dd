//! What many nodes cost a control plane that has nothing to do: they hold their requests open, over loopback, in a
//! process of their own; the figures are of the control plane's.
//!
//! `cargo run --release -p gilliam-scheduler --example nodes -- [nodes=2000] [seconds=30]`
#![allow(clippy::print_stdout, reason = "a measurement")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use gilliam_model::sync::{PROTOCOL, SyncRequest, SyncResponse, WAIT_MS_MAX};
use serde_json::json;

/// How the child is told what it is.
const ROLE: &str = "as-nodes";
/// Longest wait for all nodes to be known.
const JOIN_MAX: Duration = Duration::from_secs(120);

fn figure(name: &str, value: f64, unit: &str) {
    println!(
        "{}",
        json!({"bench": "nodes", "name": name, "value": (value * 1e3).round() / 1e3, "unit": unit})
    );
}

/// Ended when dropped.
struct Nodes(Child);

impl Drop for Nodes {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, base, token, count] = &arguments[..]
        && role == ROLE
    {
        return follow_all(base, token, count.parse().expect("a number")).await;
    }
    let options: BTreeMap<&str, u32> = arguments
        .iter()
        .map(|option| option.split_once('=').expect("NAME=NUMBER"))
        .map(|(name, value)| (name, value.parse().expect("a number")))
        .collect();
    let count = options.get("nodes").copied().unwrap_or(2_000);
    let seconds = options.get("seconds").copied().unwrap_or(30);
    measure(count, Duration::from_secs(seconds.into())).await;
}

async fn measure(count: u32, long: Duration) {
    let (plane, _data) = harness::in_memory().await;
    let before = memory_kib();
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let own = std::env::current_exe().expect("this program");
    let mut command = Command::new(own);
    command.args([ROLE, &plane.base, &plane.node, &count.to_string()]);
    let mut nodes = Nodes(command.stdout(Stdio::piped()).spawn().expect("this program"));
    while plane.handle.nodes().len() < count as usize {
        assert!(start.elapsed() < JOIN_MAX, "not all nodes are known");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let nodes_count = f64::from(count);
    figure("nodes", nodes_count, "");
    figure("time until all are known", start.elapsed().as_secs_f64(), "s");
    figure(
        "CPU for each to be known",
        1e6 * (cpu_seconds() - cpu) / nodes_count,
        "us",
    );
    let counts = BufReader::new(nodes.0.stdout.take().expect("piped"));
    let newest = Arc::new(AtomicU64::new(0));
    let told = newest.clone();
    std::thread::spawn(move || {
        for count in counts.lines().map_while(Result::ok) {
            told.fetch_add(count.parse().expect("a count"), Relaxed);
        }
    });
    // Whoever joined has to have come to rest.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (cpu, start, synced) = (cpu_seconds(), Instant::now(), newest.load(Relaxed));
    tokio::time::sleep(long).await;
    let (cpu, passed) = (cpu_seconds() - cpu, start.elapsed().as_secs_f64());
    let rate = (newest.load(Relaxed) - synced) as f64 / passed;
    figure("CPU at rest", 1e3 * cpu / passed, "ms/s");
    figure("syncs at rest", rate, "/s");
    figure("CPU of a sync", 1e6 * cpu / passed / rate.max(1.0), "us");
    figure("memory of a node", (memory_kib() - before) / nodes_count, "KiB");
    assert_eq!(plane.handle.nodes().len(), count as usize);
    drop(nodes);
}

/// The nodes: prints, each second, how many syncs were answered in it.
async fn follow_all(base: &str, token: &str, count: u32) {
    let http = harness::client_builder().no_proxy().build().expect("client");
    let answered = Arc::new(AtomicU64::new(0));
    for n in 0..count {
        let (http, answered) = (http.clone(), answered.clone());
        let (url, token) = (format!("{base}/v1/nodes/n{n:05}/sync"), token.to_owned());
        tokio::spawn(async move {
            let mut request = SyncRequest {
                protocol: PROTOCOL,
                node: harness::node::facts(&format!("n{n:05}")),
                generation: 0,
                control: String::new(),
                number: 0,
                base: None,
                processes: Vec::new(),
                gone: Vec::new(),
                runs: Vec::new(),
                wait_ms: WAIT_MS_MAX,
                peers: Some(0),
            };
            loop {
                request.number += 1;
                let sent = http.post(&url).bearer_auth(&token).json(&request).send().await;
                let answer = match sent {
                    Ok(answer) => answer.json::<SyncResponse>().await.ok(),
                    Err(_) => None,
                };
                let Some(answer) = answer else {
                    request.base = None;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                answered.fetch_add(1, Relaxed);
                request.base = (!answer.resync).then_some(request.number);
                request.control = answer.control;
                request.peers = answer.peers.map_or(request.peers, |table| Some(table.version));
                request.generation = answer.assignment.map_or(request.generation, |a| a.generation);
            }
        });
    }
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = answered.load(Relaxed);
        println!("{}", now - before);
        before = now;
    }
}

fn memory_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}

/// CPU time of this process.
fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
