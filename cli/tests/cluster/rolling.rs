//! Each part is replaced in turn, as `docs/cluster.md` says, and no request fails.

use rustix::process::Signal;

use crate::{
    harness::Cluster,
    load::Load,
    views::{all_run, on},
};

/// The steps of "Versions" in `docs/cluster.md`, word for word: servers first, one after the other; then each node:
/// drained, out of the load balancer, ended, started, undrained, back in.
#[test]
fn servers_and_then_nodes_are_replaced_one_by_one_and_no_request_fails() {
    let cluster = Cluster::start_on_etcd(1, 2, "2s");
    let nodes = [("n1", "zone=a"), ("n2", "zone=b"), ("n3", "zone=c")];
    for (name, zone) in nodes {
        cluster.join(name, zone.trim_start_matches("zone="));
    }
    cluster.deploy(6);
    let urls = nodes.map(|(name, _)| cluster.http(name));
    let load = Load::balanced(&urls);
    load.wait_more(50);

    for server in ["s1", "s2"] {
        cluster.stop_server_named(server);
        load.wait_more(50);
        cluster.start_server_named(server);
        cluster.wait_ready_at(server, 3);
    }
    assert!(all_run(&cluster.ps(), 6, &["n1", "n2", "n3"]));

    for (name, zone) in nodes {
        let url = cluster.http(name);
        cluster.run(&["nodes", "drain", name]).ok();
        load.leave_out(&url);
        cluster.signal(name, Signal::TERM);
        assert_eq!(cluster.ended(name), Some(0), "{}", cluster.log(name));
        load.wait_more(50);
        cluster.start_node(name, &["--label", zone]);
        cluster.wait_nodes(&format!("{name} to be ready again"), |nodes| {
            nodes.iter().any(|node| {
                node["name"] == name && node["state"] == "ready" && node["silent_ms"].as_u64() < Some(1_000)
            })
        });
        cluster.run(&["nodes", "undrain", name]).ok();
        cluster.wait_answer(name);
        load.take_in(&url);
        load.wait_more(50);
    }
    cluster.run(&["scale", "--app", "hello", "v1", "web=9"]).ok();
    cluster.wait_ps("every node to run some", |rows| {
        rows.len() == 9 && nodes.iter().all(|(name, _)| on(rows, name) > 0)
    });
    load.wait_more(50);
    let outcome = load.finish().all_answered();
    println!(
        "{} requests, the slowest took {:?}",
        outcome.sent, outcome.slowest
    );
}

/// A server that is killed, started, ended and started again is not noticed by those who ask the apps, nor by the
/// instances.
#[test]
fn a_server_is_killed_and_restarted_under_load_and_nothing_is_started_anew() {
    let cluster = Cluster::start("2s");
    cluster.join("n1", "a");
    cluster.join("n2", "b");
    cluster.deploy(4);
    let ids = || -> Vec<serde_json::Value> {
        let of = |row: &serde_json::Value| {
            serde_json::json!([row["report"]["id"], row["report"]["restarts"], row["node"]])
        };
        cluster.ps().iter().map(of).collect()
    };
    let before = ids();
    let load = Load::start(vec![cluster.http("n1"), cluster.http("n2")]);
    load.wait_more(20);
    cluster.kill_server();
    // Long enough that nodes would be held dead, if there were anyone to do so.
    load.go_on_for(std::time::Duration::from_secs(4));
    let greeting = cluster.start_server();
    assert_eq!(greeting.get("token"), None, "a token is shown once");
    cluster.wait_ready_at("s1", 2);
    cluster.wait_all_run(4, &["n1", "n2"]);
    cluster.stop_server_named("s1");
    load.wait_more(50);
    cluster.start_server();
    cluster.wait_ready_at("s1", 2);
    cluster.wait_all_run(4, &["n1", "n2"]);
    load.wait_more(50);
    load.finish().all_answered();
    assert_eq!(ids(), before);
}
