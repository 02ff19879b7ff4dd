//! What an operator lives through with a cluster: nodes come, are emptied, die; the server starts again.

use std::time::Instant;

use rustix::process::Signal;

use crate::{
    harness::Cluster,
    load::Load,
    views::{get, on},
};

#[test]
fn nodes_come_are_emptied_and_die_and_no_request_elsewhere_fails() {
    let cluster = Cluster::start("2s");
    for (name, zone) in [("n1", "a"), ("n2", "b"), ("n3", "c")] {
        cluster.join(name, zone);
    }
    cluster.deploy(6);
    let rows = cluster.ps();
    for node in ["n1", "n2", "n3"] {
        assert_eq!(on(&rows, node), 2, "spread over zones: {rows:#?}");
        assert_eq!(get(&cluster.http(node)), Ok(200));
    }

    // Through the ingress of the node that is emptied as well: it goes on to take requests.
    let load = Load::start(["n1", "n2", "n3"].map(|node| cluster.http(node)).into());
    load.wait_more(50);
    let drained = cluster.run(&["nodes", "drain", "n3", "--deadline", "50s"]);
    assert!(drained.stderr.contains("2 instances moved"), "{}", drained.stderr);
    drained.ok();
    let rows = cluster.ps();
    assert_eq!((on(&rows, "n3"), rows.len()), (0, 6), "{rows:#?}");
    // It has no instance any more: another node's answers.
    cluster.wait_answer("n3");
    let shown = cluster.run(&["nodes"]).ok();
    assert!(
        shown.contains("ready, drained") && shown.contains("zone=c"),
        "{shown}"
    );
    load.wait_more(50);
    load.finish().all_answered();

    cluster.run(&["nodes", "undrain", "n3"]).ok();
    cluster.run(&["nodes", "forget", "n1"]).refused();
    let load = Load::start(vec![cluster.http("n2")]);
    let began = Instant::now();
    cluster.signal("n1", Signal::KILL);
    cluster.wait_ps("what ran on n1 to run elsewhere", |rows| {
        on(rows, "n1") == 0 && on(rows, "n2") + on(rows, "n3") == 6
    });
    println!(
        "a node killed: its instances run elsewhere after {:?}",
        began.elapsed()
    );
    load.wait_more(20);
    load.finish().all_answered();
    cluster.run(&["nodes", "forget", "n1"]).ok();
    let names = cluster.run(&["nodes"]).ok();
    assert!(!names.contains("n1 "), "{names}");
}
