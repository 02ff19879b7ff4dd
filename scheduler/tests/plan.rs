//! The plan's endpoints: what a change would do, and slots that move for a better spread.

mod harness;

use gilliam_model::{label::Labels, what_if::Difference};
use harness::{
    Plane,
    node::{Following, Node},
};
use serde_json::json;

/// Two nodes in zones of their own, and an app that runs on the first: the second came later.
async fn one_sided(plane: &Plane) -> [Following; 2] {
    plane.create("hello").await;
    plane.deploy("hello", "image web worker").await;
    let node = |name: &str, zone: &str| {
        let mut node = Node::new(plane, name);
        node.facts.labels = Labels::parse([zone]).expect("labels");
        node
    };
    let first = node("a", "zone=a").follow();
    plane.scale("hello", json!({ "web": 4 })).await;
    plane.settled("hello").await;
    let mut late = node("b", "zone=b");
    late.sync(std::time::Duration::ZERO).await;
    [first, late.follow()]
}

async fn ask(plane: &Plane, change: &str) -> Difference {
    let question = json!({ "change": change, "app": "hello" });
    plane.post("/v1/plan/what-if", question).await.ok().json()
}

#[tokio::test]
async fn a_question_is_answered_and_changes_nothing() {
    let (plane, _data) = harness::fresh().await;
    let _nodes = one_sided(&plane).await;
    let before = plane.get("/v1/apps/hello/scale").await.ok().text;
    let more = ask(&plane, "scale web=7").await;
    assert_eq!((more.placed, more.moved, more.stopped), (3, 0, 0));
    assert_eq!(more.processes[0].nodes[0].node.as_str(), "b");
    let killed = ask(&plane, "kill a").await;
    assert_eq!((killed.placed, killed.moved, killed.stopped), (0, 4, 0));
    let even = ask(&plane, "rebalance").await;
    assert_eq!((even.moved, even.blocked.len()), (2, 0));
    assert_eq!(plane.get("/v1/apps/hello/scale").await.ok().text, before);
    let instances = plane.settled("hello").await;
    assert!(
        instances
            .instances
            .iter()
            .all(|instance| instance.host == "a-host")
    );
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_the_way_out() {
    let (plane, _data) = harness::fresh().await;
    let _nodes = one_sided(&plane).await;
    let refused = async |question: serde_json::Value, status, code, message: &str| {
        let answer = plane.post("/v1/plan/what-if", question).await;
        answer.refused(status, code, message).hint.expect("a hint")
    };
    let hint = refused(json!({ "change": "burn a" }), 422, "A422", "is not a change").await;
    assert!(hint.contains("kill NODE"), "{hint}");
    refused(
        json!({ "change": "kill z" }),
        422,
        "A422",
        "there is no node z; there are a, b",
    )
    .await;
    refused(json!({ "change": "scale web=1" }), 422, "A422", "none is named").await;
    refused(
        json!({ "change": "scale web=1", "app": "nobody" }),
        404,
        "A404",
        "no app",
    )
    .await;
    refused(
        json!({ "change": "scale wbe=1", "app": "hello" }),
        422,
        "A422",
        "no process type wbe",
    )
    .await;
    refused(
        json!({ "change": "scale v7 web=1", "app": "hello" }),
        404,
        "A404",
        "no release v7",
    )
    .await;
}

#[tokio::test]
async fn asked_to_slots_move_to_where_there_are_fewer() {
    let (plane, _data) = harness::fresh().await;
    let _nodes = one_sided(&plane).await;
    assert_eq!(plane.post("/v1/plan/rebalance", json!({})).await.status, 202);
    let even = |host: &str, instances: &gilliam_model::api::Instances| {
        instances
            .instances
            .iter()
            .filter(|instance| instance.host == host)
            .count()
            == 2
    };
    plane
        .until("hello", "two instances on each node", |instances| {
            instances.settled && even("a-host", instances) && even("b-host", instances)
        })
        .await;
}
