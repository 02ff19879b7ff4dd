//! A node that stood still and goes on.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use gilliam_model::{Timestamp, log::LogLine};
use rustix::process::Signal;

use crate::{
    harness::Cluster,
    platform::wait,
    views::{get, on},
};

/// A node that is stopped for longer than a node may be silent loses its instances to others. When it goes on, requests
/// that waited at the doors of its old instances, and those that come then, must find none of them.
#[test]
fn a_node_that_stood_still_serves_nothing_that_is_not_its_own_any_more() {
    let cluster = Cluster::start("2s");
    cluster.join("n1", "a");
    cluster.join("n2", "b");
    cluster.deploy(4);
    let doors = cluster.doors("n1");
    assert!(!doors.is_empty());
    for door in &doors {
        assert_eq!(get(door), Ok(200));
    }
    cluster.signal("n1", Signal::STOP);
    cluster.wait_ps("all to run on n2", |rows| on(rows, "n2") == 4);
    // The kernel takes these while the node cannot.
    let waiting: Vec<_> = doors
        .iter()
        .cloned()
        .map(|door| std::thread::spawn(move || get(&door)))
        .collect();
    cluster.signal("n1", Signal::CONT);
    for answer in doors.iter().map(|door| get(door)) {
        assert_ne!(answer, Ok(200), "an old instance answered");
    }
    for answer in waiting {
        assert_ne!(
            answer.join().expect("a client"),
            Ok(200),
            "an old instance answered"
        );
    }
    wait("n1 to be ready again", || {
        let nodes = cluster.json(&["nodes"]);
        (nodes[0]["state"] == "ready").then_some(())
    });
    let rows = cluster.ps();
    assert_eq!(on(&rows, "n2") + on(&rows, "n1"), 4, "each slot once: {rows:#?}");
}

/// The same for a worker, which takes no request that could wait: it is held back itself until its node has asked. It
/// prints a number every 50 ms; of the one that was stopped none follows.
#[test]
fn a_worker_of_a_node_that_stood_still_does_not_run_on_before_the_node_has_asked() {
    let cluster = Cluster::start("2s");
    cluster.join("n1", "a");
    let samples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../samples/guestbook");
    let project = cluster.path("project");
    std::fs::create_dir_all(&project).expect("project");
    std::fs::copy(samples.join("worker.wasm"), project.join("worker.wasm")).expect("run make samples");
    std::fs::write(project.join("Procfile"), "worker: worker.wasm --interval 0.05\n").expect("Procfile");
    let project = project.display().to_string();
    cluster.run(&["apps:create", "hello"]).ok();
    cluster.run(&["deploy", "--app", "hello", &project]).ok();
    cluster.run(&["scale", "--app", "hello", "v1", "worker=1"]).ok();
    cluster.join("n2", "b");
    // Each round with the moment of its line.
    let rounds = || -> Vec<(Timestamp, u32)> {
        let log = cluster
            .run(&["logs", "--app", "hello", "-n", "1000", "--json"])
            .ok();
        let round = |line: &str| {
            let line: LogLine = serde_json::from_str(line).expect("a line");
            let number = line
                .text
                .split_once("round ")?
                .1
                .split(',')
                .next()?
                .parse()
                .ok()?;
            Some((line.at, number))
        };
        log.lines().filter_map(round).collect()
    };
    let far = |(_, round): &(Timestamp, u32)| *round >= 150;
    wait("the worker to have come far", || {
        rounds().iter().any(far).then_some(())
    });
    cluster.signal("n1", Signal::STOP);
    cluster.wait_all_run(1, &["n2"]);
    // The node asks, and has its answer a while later.
    cluster.signal_server("s1", Signal::STOP);
    let (resumed, began) = (Timestamp::now(), Instant::now());
    cluster.signal("n1", Signal::CONT);
    wait("a while to pass", || {
        (began.elapsed() >= Duration::from_millis(800)).then_some(())
    });
    cluster.signal_server("s1", Signal::CONT);
    cluster.wait_ready_at("s1", 2);
    wait("n1 to have given it up", || {
        let shown = cluster.json(&["nodes", "show", "n1"]);
        (shown["node"]["running"] == 0).then_some(())
    });
    let ran_on: Vec<_> = rounds()
        .into_iter()
        .filter(|line| far(line) && line.0 > resumed)
        .collect();
    assert!(ran_on.is_empty(), "resumed at {resumed}: {ran_on:?}");
    cluster.wait_all_run(1, &["n2"]);
}
