//! The node protocol: reports up, assignments down, logs.

mod harness;

use std::time::Duration;

use futures::StreamExt as _;
use gilliam_model::{
    api::{AppInfo, Instances, Status},
    instance::InstanceId,
};
use gilliam_store::{Store, keys};
use harness::{
    Plane, Start, lines,
    node::{Node, post, summary},
    read,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

const LONG: Duration = Duration::from_secs(20);
const AT_ONCE: Duration = Duration::ZERO;

async fn released(plane: &Plane) {
    plane.create("hello").await;
    plane.deploy("hello", "image web worker").await;
}

/// Syncs until the assignment runs what is wanted.
async fn until(node: &mut Node, want: &[&str]) {
    let deadline = Instant::now() + harness::DEADLINE;
    while node.assignment.as_ref().map(summary).as_deref()
        != Some(&want.iter().map(ToString::to_string).collect::<Vec<_>>())
    {
        assert!(Instant::now() < deadline, "{:?}", node.assignment);
        node.sync(Duration::from_secs(1)).await;
    }
}

fn log_line(app: &str, source: &str, text: &str) -> Value {
    // Later than what the control plane itself says meanwhile.
    let at = "2036-11-21T09:00:00Z";
    json!({ "at": at, "app": app, "source": source, "stream": "stdout", "text": text })
}

fn ids(instances: &Instances) -> Vec<InstanceId> {
    instances
        .instances
        .iter()
        .map(|i| i.report.as_ref().expect("a report").id.clone())
        .collect()
}

#[tokio::test]
async fn a_scaled_app_is_assigned_run_and_reported() {
    let (plane, _data) = harness::fresh().await;
    released(&plane).await;
    let mut node = Node::new(&plane, "a");
    until(&mut node, &[]).await;
    plane.scale("hello", json!({ "web": 2, "worker": 1 })).await;
    assert!(!plane.instances("hello").await.settled);
    until(&mut node, &["hello v1 web=2", "hello v1 worker=1"]).await;
    let assigned = node.assignment.as_ref().expect("assigned");
    assert_eq!(assigned.routes.hosts["hello.localhost"].app.as_str(), "hello");
    assert_eq!(assigned.processes[0].process.command, "web.wasm");
    let before = plane.instances("hello").await;
    assert_eq!(
        lines(&before),
        ["web.1 v1 starting", "web.2 v1 starting", "worker.1 v1 starting"]
    );
    assert_eq!(
        (before.settled, before.instances[0].host.as_str()),
        (false, "a-host")
    );
    node.sync(AT_ONCE).await;
    let after = plane.settled("hello").await;
    assert_eq!(
        lines(&after),
        ["web.1 v1 running", "web.2 v1 running", "worker.1 v1 running"]
    );
    let app: AppInfo = plane.get("/v1/apps/hello").await.ok().json();
    assert_eq!(
        (app.running, app.urls),
        (3, vec!["http://hello.localhost:8080".to_string()])
    );
    let status: Status = plane.get("/v1/status").await.ok().json();
    assert_eq!(
        (
            status.instances_wanted,
            status.instances_running,
            status.nodes.len()
        ),
        (3, 3, 1)
    );
}

#[tokio::test]
async fn a_waiting_sync_is_answered_when_something_changes_for_its_node() {
    let (plane, _data) = harness::in_memory().await;
    released(&plane).await;
    let mut node = Node::new(&plane, "a");
    until(&mut node, &[]).await;
    let waiting = async {
        // Held open for a third of the time after which a node is lost, and then answered with nothing new.
        while node.sync(LONG).await.assignment.is_none() {}
        Instant::now()
    };
    let changing = async {
        plane.scale("hello", json!({ "web": 1 })).await;
        Instant::now()
    };
    let (answered, changed) = tokio::join!(waiting, changing);
    assert!(answered.saturating_duration_since(changed) < Duration::from_secs(2));
    assert_eq!(
        summary(node.assignment.as_ref().expect("assigned")),
        ["hello v1 web=1"]
    );
}

#[tokio::test]
async fn a_sync_with_nothing_new_ends_when_it_asked_to() {
    let (plane, _data) = harness::in_memory().await;
    let mut node = Node::new(&plane, "a");
    until(&mut node, &[]).await;
    let begun = Instant::now();
    assert!(node.sync(Duration::from_millis(150)).await.assignment.is_none());
    assert!((Duration::from_millis(150)..Duration::from_secs(3)).contains(&begun.elapsed()));
    let begun = Instant::now();
    node.control = "another life".to_string();
    node.sync(LONG).await;
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "another life of the control plane is told at once"
    );
}

#[tokio::test]
async fn a_drain_ends_waiting_syncs_and_followed_logs() {
    let (plane, _data) = harness::in_memory().await;
    plane.create("hello").await;
    let mut node = Node::new(&plane, "a");
    until(&mut node, &[]).await;
    let followed = plane
        .send(Method::GET, "/v1/apps/hello/logs?follow=true", &plane.admin, None)
        .await;
    let syncing = tokio::spawn(async move { node.try_sync(LONG).await });
    let (outcome, log) = tokio::join!(plane.stop(), read(followed));
    assert_eq!(outcome, gilliam_serve::DrainOutcome::Finished);
    assert!(log.text.contains("created"));
    syncing.await.expect("no panic");
}

/// A report of running instances, as JSON.
fn process(ranges: &[(u32, u32)]) -> Value {
    let range = |(first, last): &(u32, u32)| json!({ "first": first, "last": last, "epoch": 1 });
    let running: Vec<Value> = ranges.iter().map(range).collect();
    json!({
        "app": "hello", "release": "v1", "process": "web", "states": { "running": running },
        "memory_bytes": 0, "fuel_per_s": 0, "restarts": 0, "details": [],
    })
}

#[tokio::test]
async fn bad_reports_are_refused_and_change_nothing() {
    let (plane, _data) = harness::in_memory().await;
    let good = serde_json::to_value(Node::new(&plane, "a").request(AT_ONCE)).expect("json");
    let with = |path: &[&str], value: Value| {
        let mut body = good.clone();
        let place = path.iter().fold(&mut body, |at, key| &mut at[*key]);
        *place = value;
        body
    };
    for (body, want) in [
        (
            with(&["protocol"], json!(1)),
            "with protocol 1; this control plane is",
        ),
        (with(&["node", "name"], json!("b")), "names node \"a\""),
        (with(&["node", "name"], json!("../a")), "\"../a\""),
        (with(&["node", "http"], json!("somewhere")), "somewhere"),
        (with(&["node", "host"], json!("")), "host"),
        (with(&["node", "host"], json!("a\u{1b}[2J")), "host"),
        (with(&["node", "cpus"], json!(0)), "CPU cores"),
        (with(&["node", "memory_bytes"], json!(0)), "memory"),
        (with(&["generation"], json!(-1)), "-1"),
        (
            with(&["processes"], json!([process(&[(5, 4)])])),
            "hello/v1/web is not one: slots 5 to 4",
        ),
        (
            with(&["processes"], json!([process(&[(1, 4), (3, 5)])])),
            "slot 3 is there twice",
        ),
    ] {
        post(&plane, "/v1/nodes/a/sync", &body)
            .await
            .refused(422, "A422", want);
    }
    let batch = json!({ "lines": vec![log_line("hello", "web.1", "x"); 1_001] });
    post(&plane, "/v1/nodes/a/logs", &batch)
        .await
        .refused(422, "A422", "1001 lines");
    assert!(plane.handle.nodes().is_empty());
}

#[tokio::test]
async fn a_lost_nodes_instances_move_and_a_lone_node_keeps_them() {
    let data = tempfile::tempdir().expect("folder");
    let lost_after = Duration::from_millis(600);
    let plane = harness::start(Start {
        data: data.path(),
        store: Store::memory(),
        lost_after,
    })
    .await;
    released(&plane).await;
    let gone = Node::new(&plane, "a").follow();
    plane.scale("hello", json!({ "web": 2 })).await;
    let before = plane.settled("hello").await;
    drop(gone);
    let silent = plane.until("hello", "unsettled", |i| !i.settled).await;
    assert_eq!(lines(&silent), ["web.1 v1 unknown", "web.2 v1 unknown"]);
    let back = Node::new(&plane, "a").follow();
    let after = plane.settled("hello").await;
    assert_eq!(ids(&after), ids(&before), "kept, not started anew");
    assert!(before.instances.iter().all(|i| i.node.as_str() == "a"));
    let _other = Node::new(&plane, "b").follow();
    plane
        .until("hello", "heard of", |_| plane.handle.nodes().len() == 2)
        .await;
    drop(back);
    let moved = plane
        .until("hello", "moved", |i| {
            i.settled && i.instances.iter().all(|i| i.node.as_str() == "b")
        })
        .await;
    assert_eq!(lines(&moved), ["web.1 v1 running", "web.2 v1 running"]);
}

#[tokio::test]
async fn a_restart_keeps_everything_and_does_not_move_nodes_back() {
    let (plane, data) = harness::fresh().await;
    released(&plane).await;
    plane.set("hello", "A", "1").await;
    let mut node = Node::new(&plane, "a");
    plane.scale("hello", json!({ "web": 2 })).await;
    until(&mut node, &["hello v2 web=2"]).await;
    node.sync(AT_ONCE).await;
    let before = plane.settled("hello").await;
    let assignment = node.assignment.clone().expect("assigned");
    plane.stop().await;

    let lost_after = Duration::from_secs(10);
    let store = Store::open(data.path()).expect("store");
    let plane = harness::start(Start {
        data: data.path(),
        store,
        lost_after,
    })
    .await;
    node.move_to(&plane);
    let life = node.control.clone();
    // The node is not heard of yet: what is placed on it stays.
    let instances = plane.instances("hello").await;
    assert_eq!(lines(&instances), ["web.1 v2 unknown", "web.2 v2 unknown"]);
    node.sync(LONG).await;
    assert_ne!(node.control, life);
    assert!(node.generation >= assignment.generation);
    assert_eq!(
        node.assignment.as_ref().expect("assigned").processes,
        assignment.processes
    );
    let after = plane.settled("hello").await;
    assert_eq!(ids(&after), ids(&before), "the same instances, not new ones");
    assert_eq!(plane.set("hello", "B", "1").await.id.to_string(), "v3");
}

#[tokio::test]
async fn a_node_ahead_of_a_restored_store_takes_what_the_store_says() {
    let (plane, _data) = harness::in_memory().await;
    released(&plane).await;
    let mut node = Node::new(&plane, "a");
    node.generation = 1_000_000;
    plane.scale("hello", json!({ "web": 1 })).await;
    until(&mut node, &["hello v1 web=1"]).await;
    assert!(node.generation > 1_000_000);
    plane.scale("hello", json!({ "web": 2 })).await;
    until(&mut node, &["hello v1 web=2"]).await;
}

#[tokio::test]
async fn destroying_an_app_stops_its_instances() {
    let (plane, _data) = harness::fresh().await;
    released(&plane).await;
    let mut node = Node::new(&plane, "a");
    plane.scale("hello", json!({ "web": 3 })).await;
    until(&mut node, &["hello v1 web=3"]).await;
    assert_eq!(plane.delete("/v1/apps/hello").await.status, 204);
    until(&mut node, &[]).await;
    assert!(
        node.assignment
            .as_ref()
            .expect("assigned")
            .routes
            .hosts
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_left_of_destroyed_apps_is_removed() {
    let data = tempfile::tempdir().expect("folder");
    let store = Store::memory();
    // As a crash in the middle of a destroy would leave it.
    for i in 0..250 {
        let key = format!("{}ghost/{i:010}", keys::RELEASES);
        let write = gilliam_store::Write::Put {
            key,
            value: b"{}".to_vec(),
        };
        store.commit(&[], &[write]).await.expect("written");
    }
    let lost_after = Duration::from_secs(10);
    let plane = harness::start(Start {
        data: data.path(),
        store: store.clone(),
        lost_after,
    })
    .await;
    plane.create("ghost").await;
    assert!(store.range(keys::RELEASES).await.expect("read").1.is_empty());
    assert_eq!(plane.deploy("ghost", "image web").await.id.to_string(), "v1");
}

#[tokio::test]
async fn what_cannot_be_placed_says_why() {
    let (plane, _data) = harness::in_memory().await;
    released(&plane).await;
    plane.scale("hello", json!({ "web": 1 })).await;
    let blocked = plane.until("hello", "blocked", |i| !i.blocked.is_empty()).await;
    assert_eq!((blocked.blocked[0].count, blocked.settled), (1, false));
    let mut node = Node::new(&plane, "a");
    until(&mut node, &["hello v1 web=1"]).await;
    plane.until("hello", "placed", |i| i.blocked.is_empty()).await;
}

#[tokio::test]
async fn log_lines_reach_readers_and_followers() {
    let (plane, _data) = harness::in_memory().await;
    plane.create("hello").await;
    let send = async |lines: Vec<Value>| {
        assert_eq!(
            post(&plane, "/v1/nodes/a/logs", &json!({ "lines": lines }))
                .await
                .status,
            204
        );
    };
    let long = "x".repeat(10_000);
    send(vec![
        log_line("hello", "web.1", "one"),
        log_line("ghost", "web.1", "stray"),
        log_line("hello", "router", &long),
    ])
    .await;
    let texts = async |query: &str| -> Vec<String> {
        let answer = plane.get(&format!("/v1/apps/hello/logs?{query}")).await.ok();
        let lines = answer
            .text
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).expect("json"));
        lines
            .map(|l| l["text"].as_str().expect("text").chars().take(10).collect())
            .collect()
    };
    assert_eq!(texts("").await, ["created", "one", "xxxxxxxxxx"]);
    assert_eq!(texts("lines=1&source=web").await, ["one"]);
    assert_eq!(texts("source=web.2").await, Vec::<String>::new());
    let path = "/v1/apps/hello/logs?follow=true&lines=0&source=web";
    let mut followed = plane
        .send(Method::GET, path, &plane.admin, None)
        .await
        .bytes_stream();
    send(vec![
        log_line("hello", "router", "not this"),
        log_line("hello", "web.2", "two"),
    ])
    .await;
    let chunk = followed.next().await.expect("a line").expect("a chunk");
    assert!(String::from_utf8_lossy(&chunk).contains("\"text\":\"two\""));
    plane.delete("/v1/apps/hello").await.ok();
    assert!(followed.next().await.is_none(), "the log ends with its app");
}
