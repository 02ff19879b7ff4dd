//! How nodes come in, and who does not.

use rustix::process::Signal;

use crate::{harness::Cluster, platform::wait};

#[test]
fn a_token_lets_one_node_in_once_and_each_refusal_says_why() {
    let cluster = Cluster::start("2s");
    let used = cluster.join_token();
    cluster.start_node("n1", &["--join", &used]);
    let refused = cluster.run_node("n2", &["--join", &used]).refused();
    assert!(refused.contains("was used by node n1 at"), "{refused}");
    assert!(refused.contains("hint: gilliam nodes join-token"), "{refused}");

    let token = cluster.join_token();
    let wrong = format!("{}{}", &token[..20], &used[20..]);
    let refused = cluster.run_node("n2", &["--join", &wrong]).refused();
    assert!(refused.contains("is not known here"), "{refused}");
    let foreign = format!("{}{}", &token[..token.len() - 64], "0".repeat(64));
    let refused = cluster.run_node("n2", &["--join", &foreign]).refused();
    assert!(refused.contains("not to be trusted"), "{refused}");
    let refused = cluster.run_node("n2", &["--join", "gil_what"]).refused();
    assert!(refused.contains("is not one"), "{refused}");
    let refused = cluster.run_node("n2", &[]).refused();
    assert!(refused.contains("has not joined"), "{refused}");
    let refused = cluster.run_node("N_2", &["--join", &token]).refused();
    assert!(refused.contains("as host names do"), "{refused}");

    let short = cluster.run(&["nodes", "join-token", "--ttl", "1s"]).ok();
    wait("the short token to end", || {
        // Before that it is the name that is refused.
        let refused = cluster
            .run_node_in("n2", "n1", &["--join", short.trim()])
            .refused();
        refused.contains("the join token ended at").then_some(())
    });
    // None of that used it up.
    cluster.start_node("n2", &["--join", &token]);
}

#[test]
fn a_name_is_one_nodes_until_that_is_forgotten() {
    let cluster = Cluster::start("2s");
    cluster.join("n1", "a");
    let data = cluster.path("n1");
    // Started again it needs no token.
    cluster.signal("n1", Signal::TERM);
    assert_eq!(cluster.ended("n1"), Some(0));
    cluster.start_node("n1", &[]);
    cluster.wait_nodes("n1 to be there again", |nodes| nodes[0]["state"] == "ready");
    cluster.signal("n1", Signal::KILL);
    cluster.ended("n1");

    // Another machine under its name: refused while the name is taken.
    let kept = cluster.path("kept");
    std::fs::rename(&data, &kept).expect("another machine");
    let token = cluster.join_token();
    let refused = cluster.run_node("n1", &["--join", &token]).refused();
    assert!(
        refused.contains("a node named n1 is of this cluster already"),
        "{refused}"
    );
    assert!(refused.contains("gilliam nodes forget n1"), "{refused}");
    cluster.wait_nodes("n1 to be lost", |nodes| nodes[0]["state"] == "lost");
    cluster.run(&["nodes", "forget", "n1"]).ok();
    cluster.start_node("n1", &["--join", &token]);
    cluster.wait_nodes("the new n1 to be ready", |nodes| nodes[0]["state"] == "ready");
    cluster.signal("n1", Signal::KILL);
    cluster.ended("n1");

    // The old one comes back: it is told that it is nobody here any more, and ends.
    std::fs::rename(&data, cluster.path("new")).expect("another machine");
    std::fs::rename(&kept, &data).expect("the old machine");
    cluster.start_node("n1", &[]);
    assert_eq!(cluster.ended("n1"), Some(1));
    assert!(
        cluster.log("n1").contains("another has its name now"),
        "{}",
        cluster.log("n1")
    );
}

/// A folder that was copied to another machine, or a machine that was cloned: one identity, two processes. The one that
/// began later is the node; the other is told so and ends.
#[test]
fn of_two_processes_with_one_identity_the_older_one_ends() {
    let cluster = Cluster::start("2s");
    cluster.join("n1", "a");
    let (from, to) = (cluster.path("n1/node"), cluster.path("copy/node"));
    std::fs::create_dir_all(&to).expect("folder");
    std::fs::copy(from.join("identity.json"), to.join("identity.json")).expect("copy");
    cluster.start_node_in("copy", "n1", &["--label", "zone=b"]);
    assert_eq!(cluster.ended("n1"), Some(1));
    assert!(cluster.log("n1").contains("n1"), "{}", cluster.log("n1"));
    cluster.wait_nodes("the copy to be the node", |nodes| {
        nodes[0]["state"] == "ready" && nodes[0]["facts"]["labels"]["zone"] == "b"
    });
}
