//! What nodes are told of each other: who takes requests for which app.

mod harness;

use std::time::Duration;

use gilliam_model::peer::PeerTable;
use harness::{Plane, node::Node};
use serde_json::json;
use tokio::time::Instant;

/// `node address app/process=count …` of each node.
fn lines(table: &PeerTable) -> Vec<String> {
    let line = |node: &gilliam_model::peer::PeerNode| {
        let shares = node.running.iter();
        let shares = shares.map(|s| format!(" {}/{}={}", s.app, s.process, s.count));
        format!("{} {}{}", node.node, node.address, shares.collect::<String>())
    };
    table.nodes.iter().map(line).collect()
}

/// Syncs until the table reads like this.
async fn until(node: &mut Node, want: &[&str]) {
    let deadline = Instant::now() + harness::DEADLINE;
    while lines(&node.table) != want {
        assert!(Instant::now() < deadline, "{:?}", node.table);
        node.sync(Duration::from_secs(1)).await;
    }
}

async fn scaled(plane: &Plane, web: u32) {
    plane.scale("hello", json!({ "web": web, "worker": 1 })).await;
    plane.settled("hello").await;
}

#[tokio::test]
async fn nodes_hear_which_others_run_what_has_a_route() {
    let (plane, _data) = harness::in_memory().await;
    plane.create("hello").await;
    plane.deploy("hello", "image web worker").await;
    let mut a = Node::new(&plane, "a");
    a.facts.peer = Some("10.0.0.7:8443".to_owned());
    let a = a.follow();
    scaled(&plane, 3).await;

    let mut b = Node::new(&plane, "b");
    b.follows = Some(0);
    until(&mut b, &["a 10.0.0.7:8443 hello/web=2"]).await;
    assert_eq!(b.follows, Some(b.table.version));
    let version = b.table.version;
    assert_eq!(b.sync(Duration::ZERO).await.peers, None, "it has the newest");
    b.control = "another life".to_owned();
    let again = b
        .sync(Duration::ZERO)
        .await
        .peers
        .expect("versions are of one life");
    assert_eq!(again.version, version);

    let mut plain = Node::new(&plane, "c");
    assert_eq!(plain.sync(Duration::ZERO).await.peers, None, "it wants none");

    // What is to stop gets nothing more, before it has stopped.
    plane.scale("hello", json!({ "web": 0, "worker": 1 })).await;
    until(&mut b, &[]).await;
    drop(a);
}
