//! Who a node is to the servers, over real connections: its certificate, and the version it says it is of.

use std::time::Duration;

use gilliam_client::{Client, ClientError, Trust};
use gilliam_model::{
    Timestamp,
    join::{Join, JoinToken, Renew},
    name::NodeName,
    sync::{LogBatch, NodeFacts, PROTOCOL, SyncRequest, SyncResponse},
};
use gilliam_runtime::identity::Identity;
use rustix::process::Signal;

use crate::{harness::Cluster, platform::wait, views::get};

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(10);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(future)
}

/// The first report of a node that runs nothing.
fn report(name: &NodeName, version: &str) -> SyncRequest {
    SyncRequest {
        protocol: PROTOCOL,
        node: NodeFacts {
            name: name.clone(),
            host: "elsewhere".to_string(),
            version: version.to_string(),
            pid: 1,
            http: "127.0.0.1:1".to_string(),
            peer: None,
            cpus: 1,
            memory_bytes: 1 << 30,
            instances_max: None,
            cpu_millis: None,
            labels: gilliam_model::label::Labels::default(),
            started_at: Timestamp::now(),
        },
        generation: 0,
        control: String::new(),
        number: 1,
        base: None,
        processes: Vec::new(),
        gone: Vec::new(),
        runs: Vec::new(),
        wait_ms: 0,
        peers: None,
    }
}

/// A client with the identity in a node's folder.
fn client_as(cluster: &Cluster, node: &str) -> Client {
    let identity = Identity::load(&cluster.path(node))
        .expect("read")
        .expect("joined");
    Client::trusting(&cluster.api(), "", identity.control_client()).expect("client")
}

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>, message: &str) -> (u16, String) {
    match answer.expect_err("a refusal") {
        ClientError::Api { status, error } => {
            assert!(error.message.contains(message), "{error:?}");
            (status, error.hint.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_certificate_of_one_node_does_not_speak_for_another() {
    let cluster = Cluster::start("10s");
    cluster.join("n1", "a");
    cluster.join("n2", "b");
    cluster.deploy(2);
    cluster.signal("n1", Signal::KILL);
    cluster.ended("n1");
    let (n1, n2) = (name("n1"), name("n2"));
    let version = env!("CARGO_PKG_VERSION");
    let client = client_as(&cluster, "n1");
    block_on(async {
        let as_n2 = report(&n2, version);
        refused(client.sync(&n2, &as_n2, LIMIT).await, "the report comes from n1");
        refused(client.sync(&n1, &as_n2, LIMIT).await, "the report comes from n2");
        let lines = LogBatch { lines: Vec::new() };
        refused(client.post_logs(&n2, &lines).await, "comes from n1");
        let own = Identity::load(&cluster.path("n1"))
            .expect("read")
            .expect("joined");
        let request = own.request().expect("a request");
        refused(client.renew(&n2, &Renew { request }).await, "comes from n1");
        // With another key than the one it joined with it gets no certificate either.
        let other = Identity::load(&cluster.path("n2"))
            .expect("read")
            .expect("joined");
        let request = other.request().expect("a request");
        refused(
            client.renew(&n1, &Renew { request }).await,
            "not signed by the node's own key",
        );

        // Without a certificate, and with the token of a user, nobody is a node.
        let nobody = Client::trusting(&cluster.api(), "", Trust::Cluster(ca(&cluster))).expect("client");
        let (status, _) = refused(nobody.sync(&n1, &report(&n1, version), LIMIT).await, "");
        assert_eq!(status, 401);
        // As itself it is heard.
        let own: SyncResponse = client
            .sync(&n1, &report(&n1, version), LIMIT)
            .await
            .expect("an answer");
        assert!(own.assignment.is_some(), "{own:?}");
    });
    let nodes = cluster.json(&["nodes"]);
    assert_ne!(
        nodes[1]["facts"]["host"], "elsewhere",
        "n2 is who it was: {nodes:#}"
    );
}

/// The CA of the cluster, as users know it.
fn ca(cluster: &Cluster) -> gilliam_model::digest::Digest {
    let token: JoinToken = cluster.join_token().parse().expect("a token");
    token.ca
}

/// One minor version apart works, either way; farther ones are told which part to upgrade, before they are anything in
/// the cluster.
#[test]
fn versions_one_minor_apart_work_together_and_others_are_told_what_to_upgrade() {
    let cluster = Cluster::start("10s");
    cluster.join("n1", "a");
    cluster.signal("n1", Signal::KILL);
    cluster.ended("n1");
    let ours: Vec<u64> = env!("CARGO_PKG_VERSION")
        .split('.')
        .map(|part| part.parse().expect("a number"))
        .collect();
    let version = |minor: u64| format!("{}.{minor}.0", ours[0]);
    let (n1, minor) = (name("n1"), ours[1]);
    let client = client_as(&cluster, "n1");
    let token: JoinToken = cluster.join_token().parse().expect("a token");
    let door = Client::trusting(&cluster.api(), &token.text(), Trust::Cluster(token.ca)).expect("client");
    block_on(async {
        for near in [minor.saturating_sub(1), minor, minor + 1] {
            let synced = client.sync(&n1, &report(&n1, &version(near)), LIMIT).await;
            synced.unwrap_or_else(|e| panic!("{near}: {e}"));
        }
        for (far, hint) in [
            (minor + 2, "upgrade the servers first"),
            (minor + 100, "upgrade the servers first"),
        ] {
            let synced = client.sync(&n1, &report(&n1, &version(far)), LIMIT).await;
            let (_, hinted) = refused(synced, &format!("runs gilliam {}", version(far)));
            assert!(hinted.contains(hint), "{hinted}");
            let join = Join {
                protocol: PROTOCOL,
                version: version(far),
                name: "n2".to_string(),
                request: Identity::load(&cluster.path("n1"))
                    .expect("read")
                    .expect("joined")
                    .request()
                    .expect("a request"),
            };
            let (_, hinted) = refused(door.join(&join).await, "runs gilliam");
            assert!(hinted.contains(hint), "{hinted}");
        }
    });
    // The refusals used nothing up.
    cluster.start_node("n2", &["--join", &token.text()]);
}

/// Certificates that are good for four seconds: nodes go on through several of them, at servers and at each other.
#[test]
fn nodes_go_on_through_several_renewals_of_short_certificates() {
    let cluster = Cluster::start_with("2s", &["--certificate-life", "4s"]);
    cluster.join("n1", "a");
    cluster.join("n2", "b");
    cluster.deploy(1);
    let identity =
        |node: &str| std::fs::read(cluster.path(node).join("node/identity.json")).expect("identity");
    for round in 0..3 {
        let before = ["n1", "n2"].map(identity);
        wait("both to have renewed", || {
            let now = ["n1", "n2"].map(identity);
            (now[0] != before[0] && now[1] != before[1]).then_some(())
        });
        cluster.wait_ready_at("s1", 2);
        // One of them has no instance: it brings the request to the other, which knows it by its certificate.
        for node in ["n1", "n2"] {
            assert_eq!(get(&cluster.http(node)), Ok(200), "round {round}");
        }
    }
    // New connections, of a new life of the server: none of the first certificates is good any more.
    cluster.kill_server();
    cluster.start_server();
    cluster.wait_ready_at("s1", 2);
    assert_eq!(cluster.ps().len(), 1);
}

/// A node and a user of one cluster at the API of another: neither trusts it, and nothing is told to it.
#[test]
fn the_server_of_another_cluster_is_not_believed() {
    let cluster = Cluster::start("10s");
    let other = Cluster::start_beside(&cluster);
    cluster.join("n1", "a");
    let n1 = name("n1");
    let identity = Identity::load(&cluster.path("n1"))
        .expect("read")
        .expect("joined");
    let astray = Client::trusting(&other.api(), "", identity.control_client()).expect("client");
    block_on(async {
        let version = env!("CARGO_PKG_VERSION");
        let error = astray
            .sync(&n1, &report(&n1, version), LIMIT)
            .await
            .expect_err("another's");
        assert!(matches!(error, ClientError::Untrusted { .. }), "{error:?}");
    });
    let ca = ca(&cluster).to_string();
    let added = ["clusters", "add", "astray", &other.api(), "--ca", &ca];
    cluster.run_with_input(&added, "gil_a_token\n").ok();
    let refused = cluster.run_at("astray", &["apps"]).refused();
    assert!(refused.contains("is not to be trusted"), "{refused}");
    assert!(refused.contains("hint: "), "{refused}");
}
