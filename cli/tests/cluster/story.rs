//! What an operator lives through with a cluster: nodes come, are emptied, die; the server starts again.

use std::time::Instant;

use rustix::process::Signal;

use crate::harness::{Cluster, Load, get, on};

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

    let load = Load::start(vec![cluster.http("n1"), cluster.http("n2")]);
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
    let (sent, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {sent}: {failures:#?}", failures.len());

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
    let (sent, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {sent}: {failures:#?}", failures.len());
    cluster.run(&["nodes", "forget", "n1"]).ok();
    let names = cluster.run(&["nodes"]).ok();
    assert!(!names.contains("n1 "), "{names}");
}

#[test]
fn a_server_that_starts_again_finds_everything_running_as_it_was() {
    let cluster = Cluster::start("2s");
    cluster.join("n1", "a");
    cluster.join("n2", "b");
    cluster.deploy(4);
    let ids = |cluster: &Cluster| -> Vec<serde_json::Value> {
        let rows = cluster.ps();
        rows.iter()
            .map(|row| serde_json::json!([row["report"]["id"], row["report"]["restarts"], row["node"]]))
            .collect()
    };
    let before = ids(&cluster);
    let load = Load::start(vec![cluster.http("n1"), cluster.http("n2")]);
    load.wait_more(20);
    cluster.kill_server();
    // Long enough that nodes would be held dead, if there were anyone to do so.
    let began = Instant::now();
    while began.elapsed().as_secs() < 4 {
        load.wait_more(5);
    }
    let greeting = cluster.start_server();
    assert_eq!(greeting.get("token"), None, "a token is shown once");
    cluster.wait_nodes("both nodes to be there again", |nodes| {
        nodes.iter().filter(|node| node["state"] == "ready").count() == 2
    });
    cluster.wait_ps("all to be reported again", |rows| {
        rows.len() == 4 && rows.iter().all(|row| row["state"] == "running")
    });
    load.wait_more(20);
    let (sent, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {sent}: {failures:#?}", failures.len());
    assert_eq!(ids(&cluster), before);
}
