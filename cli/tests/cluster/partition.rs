//! Networks that are cut: between a node and the servers, both ways and one way, and between two nodes.
//!
//! Node n1 is drained in all of them: what its clients ask goes to other nodes.
//!
//! What must hold: requests to nodes that can be reached are answered, but for those that were on their way over what
//! was cut; nothing is served twice once all is healed; and all heals by itself.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    harness::Cluster,
    load::Load,
    network::Parted,
    platform::wait,
    views::{all_run, get},
};

/// A connection to another node is asked every 2 s whether it lives, and given 2 s to answer; then 1 s for a new one.
const NOTICED_MAX: Duration = Duration::from_secs(6);

fn three_nodes(parted: Parted, servers: usize) -> Cluster {
    let cluster = Cluster::start_parted(parted, servers, "2s");
    for (name, zone) in [("n1", "a"), ("n2", "b"), ("n3", "c")] {
        cluster.join(name, zone);
    }
    cluster.run(&["nodes", "drain", "n1"]).ok();
    cluster.deploy(6);
    for node in ["n1", "n2", "n3"] {
        cluster.wait_answer(node);
    }
    cluster
}

/// After healing: every node is ready, each slot runs once, and what a node gave up answers no more.
#[track_caller]
fn wait_healed(cluster: &Cluster, count: usize, given_up: &[String]) {
    for server in ["s1", "s2"].iter().take(cluster.servers()) {
        cluster.wait_ready_at(server, 3);
    }
    cluster.wait_all_run(count, &["n2", "n3"]);
    let rows = cluster.ps();
    let now: Vec<String> = ["n1", "n2", "n3"]
        .iter()
        .flat_map(|node| cluster.doors(node))
        .collect();
    let old = given_up.iter().filter(|door| !now.contains(door));
    for door in old {
        wait(&format!("{door} of an older placement to be closed"), || {
            (get(door) != Ok(200)).then_some(())
        });
    }
    assert!(all_run(&rows, count, &["n2", "n3"]), "{rows:#?}");
}

/// Cut off from everything but its clients, a node serves them on; what it ran runs elsewhere too. It obeys as soon as
/// it hears of a server, and the requests that other nodes had under way to it are all that fails.
#[test]
fn a_node_that_is_cut_off_is_replaced_and_gives_up_what_it_ran_when_it_is_back() {
    let name = "partition::a_node_that_is_cut_off_is_replaced_and_gives_up_what_it_ran_when_it_is_back";
    let Some(parted) = Parted::new(name) else { return };
    let cluster = three_nodes(parted, 1);
    let given_up = cluster.doors("n3");
    let load = Load::start(vec![cluster.http("n1"), cluster.http("n2")]);
    load.wait_more(100);
    let cut_at = load.age();
    for other in ["s1", "n1", "n2"] {
        cluster.parted().cut_both_ways("n3", other);
    }
    let began = Instant::now();
    cluster.wait_all_run(6, &["n2"]);
    println!(
        "cut off: all runs elsewhere after {:.1?} (dead after 2 s)",
        began.elapsed()
    );
    assert_eq!(get(&cluster.http("n3")), Ok(200), "its own clients are served on");
    load.go_on_for(NOTICED_MAX.saturating_sub(began.elapsed()));
    cluster.parted().heal();
    wait_healed(&cluster, 6, &given_up);
    load.wait_more(100);
    let outcome = load.finish().failed_at_most(4);
    println!(
        "cut at {cut_at:.1?}: {} requests, {:#?}",
        outcome.sent, outcome.failures
    );
}

/// One way is enough to be held dead; the others still reach the node, and no request fails at all.
#[test]
fn a_node_that_is_not_heard_or_hears_nothing_is_replaced_without_a_failed_request() {
    let name = "partition::a_node_that_is_not_heard_or_hears_nothing_is_replaced_without_a_failed_request";
    let Some(parted) = Parted::new(name) else { return };
    let cluster = three_nodes(parted, 1);
    let load = Load::start(["n1", "n2", "n3"].map(|node| cluster.http(node)).into());
    load.wait_more(100);
    for (from, to) in [("n3", "s1"), ("s1", "n3")] {
        // It runs some, whatever was moved before.
        cluster.run(&["scale", "--app", "hello", "v1", "web=3"]).ok();
        cluster.run(&["scale", "--app", "hello", "v1", "web=9"]).ok();
        let given_up = cluster.doors("n3");
        assert!(!given_up.is_empty(), "nothing runs on n3: {:#?}", cluster.ps());
        cluster.parted().cut(from, to);
        let began = Instant::now();
        cluster.wait_all_run(9, &["n2"]);
        println!(
            "{from} to {to} cut: all runs elsewhere after {:.1?} (dead after 2 s)",
            began.elapsed()
        );
        load.wait_more(100);
        cluster.parted().heal();
        wait_healed(&cluster, 9, &given_up);
        load.wait_more(100);
    }
    load.finish().all_answered();
}

/// Two nodes that do not reach each other, while the server hears both: nothing moves, and each sends its requests past
/// the other.
#[test]
fn two_nodes_that_cannot_reach_each_other_go_past_each_other() {
    let name = "partition::two_nodes_that_cannot_reach_each_other_go_past_each_other";
    let Some(parted) = Parted::new(name) else { return };
    let cluster = three_nodes(parted, 1);
    let ids = || -> Vec<Value> {
        let rows = cluster.ps();
        rows.iter().map(|row| row["report"]["id"].clone()).collect()
    };
    let before = ids();
    let load = Load::start(vec![cluster.http("n1"), cluster.http("n2")]);
    load.wait_more(100);
    cluster.parted().cut_both_ways("n1", "n3");
    load.go_on_for(NOTICED_MAX);
    let outcome = load.finish().failed_at_most(2);
    println!("{} requests, {:#?}", outcome.sent, outcome.failures);
    assert!(
        outcome
            .failures
            .iter()
            .all(|failure| failure.contains(&cluster.http("n1")))
    );

    // By now it is known: none fails any more, and none waits for longer than one attempt to connect.
    let load = Load::start(["n1", "n2", "n3"].map(|node| cluster.http(node)).into());
    load.go_on_for(Duration::from_secs(4));
    let outcome = load.finish().all_answered();
    println!(
        "cut: {} requests, the slowest took {:?}",
        outcome.sent, outcome.slowest
    );
    cluster.parted().heal();
    assert_eq!(ids(), before, "nothing moved");
    wait_healed(&cluster, 6, &[]);
}

/// A node that one of two servers cannot hear: if it is the one that stands by, nothing happens; if it is the one that
/// plans, the node is emptied, learns so from the other one, and takes instances again when it is heard.
#[test]
fn a_node_that_one_of_two_servers_cannot_hear_obeys_the_one_that_plans() {
    let name = "partition::a_node_that_one_of_two_servers_cannot_hear_obeys_the_one_that_plans";
    let Some(parted) = Parted::new(name) else { return };
    let cluster = three_nodes(parted, 2);
    let ids = || -> Vec<Value> {
        let rows = cluster.ps();
        rows.iter().map(|row| row["report"]["id"].clone()).collect()
    };
    let before = ids();
    let load = Load::start(["n1", "n2", "n3"].map(|node| cluster.http(node)).into());
    load.wait_more(100);
    cluster.parted().cut_both_ways("n3", "s2");
    cluster.wait_ready_at("s2", 2);
    load.go_on_for(Duration::from_secs(2));
    assert_eq!(ids(), before, "the server that plans hears it");
    cluster.parted().heal();
    cluster.wait_ready_at("s2", 3);

    let given_up = cluster.doors("n3");
    cluster.parted().cut_both_ways("n3", "s1");
    cluster.wait_all_run(6, &["n2"]);
    // It hears so from the other server, and runs nothing twice.
    for door in &given_up {
        wait(&format!("{door} to be closed"), || {
            (get(door) != Ok(200)).then_some(())
        });
    }
    load.wait_more(100);
    cluster.parted().heal();
    wait_healed(&cluster, 6, &given_up);
    load.wait_more(100);
    load.finish().all_answered();
}
