//! A node that stood still and goes on.

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
