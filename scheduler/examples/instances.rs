//! What the control plane itself costs with very many instances of one process type.
//!
//! A fake node reports through the real API, so the figures are the control plane's own.
//!
//! `cargo run --release -p gilliam-scheduler --example instances`
#![allow(clippy::print_stdout, clippy::large_futures, reason = "a measurement")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gilliam_model::{instance::InstanceState, placement::SlotRange, report::ProcessReport};
use harness::{
    Plane,
    node::{Crowd, Node, all_of_a_crowd},
};
use serde_json::json;

const COUNTS: [u32; 3] = [1_000, 100_000, 500_000];
/// Times each figure is taken; the median is printed.
const TIMES: usize = 7;

/// The median of some times.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn timed(plane: &Plane, path: &str) -> (Duration, usize) {
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..TIMES {
        let start = Instant::now();
        bytes = plane.get(path).await.ok().text.len();
        times.push(start.elapsed());
    }
    (median(times), bytes)
}

/// Every other worker is starting: as many ranges as instances.
fn mixed() -> Crowd {
    let calm = all_of_a_crowd();
    Arc::new(move |assigned, wanted| {
        let slots = || {
            assigned
                .ranges
                .iter()
                .flat_map(|range| range.slots().map(|slot| (slot, range.epoch)))
        };
        let one = |(slot, epoch)| SlotRange {
            first: slot,
            last: slot,
            epoch,
        };
        let odd = slots().filter(|(slot, _)| slot % 2 == 1).map(one).collect();
        let even = slots().filter(|(slot, _)| slot % 2 == 0).map(one).collect();
        ProcessReport {
            states: [(InstanceState::Running, odd), (InstanceState::Starting, even)].into(),
            ..calm(assigned, wanted)
        }
    })
}

async fn one(count: u32) {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    plane.deploy("hello", "image worker\n").await;
    let mut node = Node::new(&plane, "a");
    node.facts.memory_bytes = 1 << 60;
    node.crowd = Some(all_of_a_crowd());
    node.sync(Duration::ZERO).await;
    let show = |what: &str, took: Duration, bytes: usize| {
        println!(
            "{count:>7}  {what:<46} {:>9.2} ms  {bytes:>9} bytes",
            took.as_secs_f64() * 1e3
        );
    };
    let start = Instant::now();
    plane.scale("hello", json!({ "worker": count })).await;
    while node.assignment.as_ref().is_none_or(|a| a.processes.is_empty()) {
        node.sync(Duration::from_secs(5)).await;
    }
    let assigned = serde_json::to_string(&node.assignment).expect("json").len();
    show("scale asked to assignment at the node", start.elapsed(), assigned);
    for (name, crowd) in [("all run", all_of_a_crowd()), ("every other one starts", mixed())] {
        node.crowd = Some(crowd);
        let report = serde_json::to_string(&node.request(Duration::ZERO))
            .expect("json")
            .len();
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let start = Instant::now();
            node.sync(Duration::ZERO).await;
            times.push(start.elapsed());
        }
        show(
            &format!("{name}: report taken and answered"),
            median(times),
            report,
        );
        let (took, bytes) = timed(&plane, "/v1/apps/hello/instances").await;
        show(&format!("{name}: summary"), took, bytes);
        let (took, bytes) = timed(&plane, "/v1/status").await;
        show(&format!("{name}: status"), took, bytes);
    }
    node.crowd = Some(all_of_a_crowd());
    node.sync(Duration::ZERO).await;
    let following = node.follow();
    let (took, bytes) = timed(
        &plane,
        "/v1/apps/hello/instances?process=worker&from=400&limit=100",
    )
    .await;
    show("a page of 100 with details from the node", took, bytes);
    let (took, bytes) = timed(&plane, "/v1/apps/hello/instances?process=worker&limit=1000").await;
    show("a page of 1,000 with details from the node", took, bytes);
    let start = Instant::now();
    plane.scale("hello", json!({ "worker": 0 })).await;
    plane.settled("hello").await;
    show("scale to 0 until settled", start.elapsed(), 0);
    drop(following.stop().await);
}

#[tokio::main]
async fn main() {
    for count in COUNTS {
        one(count).await;
    }
}
