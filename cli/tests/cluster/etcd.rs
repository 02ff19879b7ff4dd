//! What a cluster lives through when members of its etcd die.

use std::time::Instant;

use crate::{harness::Cluster, load::Load, platform::wait};

/// Makes a change until it is taken: one that is refused, or of which it is not known whether it was stored, is asked
/// for again.
#[track_caller]
fn set(cluster: &Cluster, pair: &str) {
    let begun = Instant::now();
    wait(&format!("{pair} to be taken"), || {
        let ran = cluster.run(&["config", "--app", "hello", "--no-migrate", pair]);
        let known = [
            "S13",
            "S10",
            "not known",
            "A429",
            "A503",
            "in time",
            "no gilliam",
            "broke",
        ];
        let is_excused = known.iter().any(|reason| ran.stderr.contains(reason));
        assert!(ran.status.success() || is_excused, "{pair}: {}", ran.stderr);
        ran.status.success().then_some(())
    });
    println!("{pair} was taken after {:.1?}", begun.elapsed());
}

/// A member, the leader, the quorum: the data path never stops, what was answered holds, and all goes on by itself.
#[test]
fn the_data_path_never_stops_while_members_of_etcd_die_and_what_was_answered_holds() {
    let cluster = Cluster::start_on_etcd(3, 2, "2s");
    cluster.join("n1", "a");
    cluster.join("n2", "b");
    cluster.deploy(4);
    let etcd = cluster.etcd();
    let load = Load::start(vec![cluster.http("n1"), cluster.http("n2")]);
    load.wait_more(50);

    let leader = etcd.leader();
    let follower = (leader + 1) % 3;
    etcd.kill(follower);
    set(&cluster, "A=1");
    etcd.run(follower);
    etcd.wait(follower);

    let leader = etcd.leader();
    etcd.kill(leader);
    set(&cluster, "B=1");
    cluster.run(&["scale", "--app", "hello", "v1", "web=6"]).ok();
    cluster.wait_all_run(6, &["n1", "n2"]);

    // A second one: no quorum is left. Nothing can be changed, everything is served.
    let last = (0..3)
        .filter(|n| *n != leader)
        .find(|n| etcd.is_healthy(*n))
        .expect("one lives");
    etcd.kill(last);
    for server in ["s1", "s2"] {
        let refused = cluster
            .run_at(server, &["config", "--app", "hello", "--no-migrate", "C=1"])
            .refused();
        assert!(refused.contains("S13"), "{refused}");
    }
    load.go_on_for(std::time::Duration::from_secs(3));

    etcd.run(leader);
    etcd.run(last);
    etcd.wait(leader);
    set(&cluster, "D=1");
    let config = cluster.run(&["config", "--app", "hello"]).ok();
    for pair in ["A=1", "B=1", "D=1"] {
        assert!(config.contains(pair), "{pair} was answered: {config}");
    }
    // Nobody was held dead meanwhile: what ran then runs now.
    cluster.wait_all_run(6, &["n1", "n2"]);
    let outcome = load.finish().all_answered();
    println!(
        "{} requests, the slowest took {:?}",
        outcome.sent, outcome.slowest
    );
}
