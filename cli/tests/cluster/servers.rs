//! Two servers on one store: one control plane to everybody, whichever of them is asked and whichever of them dies.

use std::{collections::BTreeSet, time::Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    harness::Cluster,
    load::Load,
    platform::wait,
    views::{all_run, on},
};

/// Changes that each of two users makes through each of two servers.
const CHANGES_EACH: usize = 5;

/// The releases of `hello` as a server lists them, oldest first.
fn releases(cluster: &Cluster, server: &str) -> Vec<String> {
    let listed = cluster
        .run_at(server, &["releases", "--app", "hello", "--json"])
        .ok();
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("json");
    let mut ids: Vec<String> = listed
        .iter()
        .map(|release| release["id"].as_str().expect("an id").to_string())
        .collect();
    ids.sort_by_key(|id| id[1..].parse::<u32>().expect("a number"));
    ids
}

#[test]
fn releases_made_through_two_servers_at_once_are_numbered_without_gaps() {
    let cluster = Cluster::start_on_etcd(1, 2, "2s");
    cluster.join("n1", "a");
    cluster.deploy(2);
    let project = cluster.path("project").display().to_string();
    let change = |server: &str, user: usize| -> Vec<String> {
        let made = (0..CHANGES_EACH).map(|n| {
            let pair = format!("{server}_{user}=\"{n}\"").to_uppercase().replace('"', "");
            let made = cluster.run_at(server, &["config", "--app", "hello", "--no-migrate", &pair]);
            let scale = [
                "scale",
                "--app",
                "hello",
                "v1",
                "--no-wait",
                &format!("web={}", n % 3 + 1),
            ];
            cluster.run_at(server, &scale).ok();
            made.ok().trim().trim_end_matches(" released").to_string()
        });
        // And an archive is built, and kept where both servers find it.
        let deploy = ["deploy", "--app", "hello", "--no-migrate", "-m", server, &project];
        let deployed = cluster.run_at(server, &deploy).ok();
        let deployed = deployed.trim().trim_end_matches(" released").to_string();
        made.chain([deployed]).collect()
    };
    let made: Vec<String> = std::thread::scope(|scope| {
        let users = [("s1", 1), ("s2", 1), ("s1", 2), ("s2", 2)];
        let users = users.map(|(server, user)| scope.spawn(move || change(server, user)));
        users
            .into_iter()
            .flat_map(|user| user.join().expect("a user"))
            .collect()
    });
    let distinct: BTreeSet<&String> = made.iter().collect();
    assert_eq!(
        distinct.len(),
        4 * (CHANGES_EACH + 1),
        "each has a number of its own: {made:?}"
    );
    let want: Vec<String> = (1..=4 * (CHANGES_EACH + 1) + 1)
        .map(|n| format!("v{n}"))
        .collect();
    assert_eq!(releases(&cluster, "s1"), want);
    assert_eq!(releases(&cluster, "s2"), want);
    // All of them are in the newest, whoever made them through whichever server.
    let config = cluster.run_at("s2", &["config", "--app", "hello"]).ok();
    for key in ["S1_1", "S1_2", "S2_1", "S2_2"] {
        assert!(
            config.contains(&format!("{key}={}\n", CHANGES_EACH - 1)),
            "{config}"
        );
    }
    // What is changed through one is done, and seen, through the other.
    cluster.scale_at("s1", 3);
    let shown = cluster.run_at("s2", &["scale", "--app", "hello"]).ok();
    assert_eq!(shown, "v1 web=3\n");
    cluster.scale_at("s2", 1);
    cluster.wait_all_run(1, &["n1"]);
}

/// The server that plans and a node die at the same moment: the other server plans, and what was answered holds.
#[test]
fn when_the_server_that_plans_dies_with_a_node_the_other_one_replaces_what_ran_there() {
    let cluster = Cluster::start_on_etcd(1, 2, "2s");
    for (name, zone) in [("n1", "a"), ("n2", "b"), ("n3", "c")] {
        cluster.join(name, zone);
    }
    // What its clients ask goes to the others.
    cluster.run(&["nodes", "drain", "n1"]).ok();
    cluster.deploy(6);
    cluster.scale_at("s2", 7);
    let load = Load::start(vec![cluster.http("n1")]);
    load.wait_more(50);
    cluster
        .run_at("s2", &["config", "--app", "hello", "--no-migrate", "A=1"])
        .ok();
    // The first of them to start has planned ever since.
    cluster.kill_server_named("s1");
    cluster.signal("n3", Signal::KILL);
    let began = Instant::now();
    cluster.ended("n3");
    cluster.wait_all_run(7, &["n2"]);
    println!(
        "the planning server and a node killed at once: all runs elsewhere after {:.1?} (dead after 2 s)",
        began.elapsed()
    );
    assert_eq!(releases(&cluster, "s2"), ["v1", "v2"]);

    // The other way round: the first comes back, the second dies.
    cluster.start_server_named("s1");
    cluster.wait_ready_at("s1", 2);
    cluster.kill_server_named("s2");
    cluster.start_node("n3", &["--label", "zone=c"]);
    cluster.wait_ready_at("s1", 3);
    cluster.scale_at("s1", 9);
    cluster.wait_ps("n3 to run its part", |rows| on(rows, "n3") >= 2);
    load.wait_more(50);
    // The two clients may each have had one request at n3 when it died.
    let outcome = load.finish().failed_at_most(2);
    println!("{} requests, {:?}", outcome.sent, outcome.failures);
}

/// A server that stands still while it plans finds, when it goes on, that another has planned: what it had in mind is
/// not committed, for the plan's epoch is another.
#[test]
fn a_server_that_stood_still_commits_nothing_that_is_out_of_date() {
    let cluster = Cluster::start_on_etcd(1, 2, "2s");
    cluster.join("n1", "a");
    cluster.join("n2", "b");
    cluster.deploy(4);
    let load = Load::start(vec![cluster.http("n1"), cluster.http("n2")]);
    for round in 0..3 {
        // In the middle of its work: a change has just been asked for.
        let count = 8 - 2 * (round % 2);
        let patch = [
            "scale",
            "--app",
            "hello",
            "v1",
            "--no-wait",
            &format!("web={count}"),
        ];
        cluster.run_at("s1", &patch).ok();
        cluster.signal_server("s1", Signal::STOP);
        cluster.scale_at("s2", 3 + round);
        let seen = || -> Vec<Value> {
            let rows = cluster.run_at("s2", &["ps", "--app", "hello", "--json"]).ok();
            let rows: Value = serde_json::from_str(&rows).expect("json");
            rows["instances"].as_array().expect("rows").clone()
        };
        wait("the other server to plan", || {
            all_run(&seen(), 3 + round, &["n1", "n2"]).then_some(())
        });
        let before = ids(&seen());
        cluster.signal_server("s1", Signal::CONT);
        cluster.wait_ready_at("s1", 2);
        // What runs is as it was: nothing was placed anew, stopped, or placed twice.
        load.wait_more(100);
        assert_eq!(ids(&seen()), before, "round {round}");
        assert!(all_run(&cluster.ps(), 3 + round, &["n1", "n2"]), "round {round}");
    }
    load.finish().all_answered();
}

/// The ids of instances; each names the epoch of the plan that placed it.
fn ids(rows: &[Value]) -> BTreeSet<String> {
    rows.iter().map(|row| row["report"]["id"].to_string()).collect()
}

/// Without any server nodes go on by themselves: they serve, and one that dies and starts again takes up what it ran,
/// and is found by the others. When servers are back nothing has to be started anew.
#[test]
fn while_every_server_is_gone_nodes_serve_on_and_one_that_starts_again_takes_up_what_it_ran() {
    let cluster = Cluster::start_on_etcd(1, 2, "2s");
    cluster.join("n1", "a");
    cluster.join("n2", "b");
    cluster.deploy(4);
    let before = ids(&cluster.ps());
    for node in ["n1", "n2"] {
        cluster.wait_answer(node);
    }
    let load = Load::start(vec![cluster.http("n1")]);
    load.wait_more(20);
    cluster.kill_server_named("s1");
    cluster.kill_server_named("s2");
    cluster.signal("n2", Signal::KILL);
    cluster.ended("n2");
    cluster.start_node("n2", &["--label", "zone=b"]);
    cluster.wait_answer("n2");
    load.wait_more(100);
    for server in ["s1", "s2"] {
        cluster.start_server_named(server);
        cluster.wait_ready_at(server, 2);
    }
    cluster.wait_all_run(4, &["n1", "n2"]);
    assert_eq!(ids(&cluster.ps()), before, "the same placements");
    load.wait_more(20);
    load.finish().all_answered();
}
