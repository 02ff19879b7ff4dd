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
    cluster.join("n1", "a");
    cluster.deploy(2);
    // There is nowhere else to go: what runs there runs on, and whoever waits is told.
    let refused = cluster
        .run(&["nodes", "drain", "n1", "--deadline", "1s"])
        .refused();
    assert!(
        refused.contains("2 instances on n1 after 1.0 s: hello v1 web (2)"),
        "{refused}"
    );
    assert_eq!(on(&cluster.ps(), "n1"), 2);
    cluster.run(&["nodes", "undrain", "n1"]).ok();

    cluster.join("n2", "b");
    cluster.join("n3", "c");
    cluster.run(&["scale", "--app", "hello", "v1", "web=6"]).ok();
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
    // Nothing runs on n3 yet: what its clients ask goes to n1 and to n2.
    let (load, forwarded) = (
        Load::start(vec![cluster.http("n2")]),
        Load::start(vec![cluster.http("n3")]),
    );
    forwarded.wait_more(50);
    let began = Instant::now();
    cluster.signal("n1", Signal::KILL);
    cluster.wait_all_run(6, &["n2", "n3"]);
    println!(
        "a node killed: its instances run elsewhere after {:.1?} (dead after 2 s)",
        began.elapsed()
    );
    load.wait_more(50);
    forwarded.wait_more(50);
    load.finish().all_answered();
    // Two clients: each may have had one request at n1 when it died.
    let outcome = forwarded.finish().failed_at_most(2);
    println!("{} requests through n3, {:?}", outcome.sent, outcome.failures);
    cluster.run(&["nodes", "forget", "n1"]).ok();
    let names = cluster.run(&["nodes"]).ok();
    assert!(!names.contains("n1 "), "{names}");
}
