//! Very many instances of one process type: one record, one range, answers that stay small, and pages.

mod harness;

use std::{sync::Arc, time::Duration};

use gilliam_model::{
    Timestamp,
    api::{AppInfo, Instances, Status},
    code::Code,
    instance::{Failure, InstanceState},
    placement::{Placement, SlotRange},
    report::{FAILURES_COUNT_MAX, ProcessReport},
    sync::{SyncRequest, SyncResponse},
};
use gilliam_store::{Store, keys, records};
use harness::{
    Plane, Start,
    node::{Crowd, Node, Rule, all_of_a_crowd, post, report},
};
use serde_json::json;

const COUNT: u32 = 500_000;
/// An answer about half a million instances is this small.
const ANSWER_BYTES_MAX: usize = 4 << 10;
const ARCHIVE: &str = "image web worker\n";

/// A control plane on a store that the test can look into, with an app whose `worker` is scaled, and the node
/// that runs it.
async fn scaled(count: u32) -> (Plane, Store, Node, tempfile::TempDir) {
    let data = tempfile::tempdir().expect("folder");
    let store = Store::memory();
    let plane = harness::start(Start {
        data: data.path(),
        store: store.clone(),
        lost_after: Duration::from_secs(60),
    })
    .await;
    plane.create("hello").await;
    plane.deploy("hello", ARCHIVE).await;
    let mut node = large(&plane, "a");
    node.sync(Duration::ZERO).await;
    plane.scale("hello", json!({ "web": 2, "worker": count })).await;
    while node.assignment.as_ref().is_none_or(|a| a.processes.len() < 2) {
        node.sync(Duration::from_secs(5)).await;
    }
    (plane, store, node, data)
}

/// A node with room for everything.
fn large(plane: &Plane, name: &str) -> Node {
    let mut node = Node::new(plane, name);
    node.facts.memory_bytes = 1 << 60;
    node.crowd = Some(all_of_a_crowd());
    node
}

async fn list(plane: &Plane, query: &str) -> Instances {
    plane
        .get(&format!("/v1/apps/hello/instances?{query}"))
        .await
        .ok()
        .json()
}

fn names(seen: &Instances) -> Vec<&str> {
    seen.instances
        .iter()
        .map(|instance| instance.name.as_str())
        .collect()
}

#[tokio::test]
async fn half_a_million_are_one_record_and_a_small_answer() {
    let (plane, store, mut node, _data) = scaled(COUNT).await;
    let (_, entries) = store.range(keys::PLACEMENTS).await.expect("placements");
    let placements = records::decode_all::<Placement>(entries).expect("placements");
    let counts: Vec<(u32, usize)> = placements
        .iter()
        .map(|p| (p.value.count(), p.value.ranges.len()))
        .collect();
    assert_eq!(counts, [(2, 1), (COUNT, 1)]);

    let starting = plane.instances("hello").await;
    assert!(!starting.settled);
    assert_eq!(starting.processes[1].in_state(InstanceState::Starting), COUNT);
    node.sync(Duration::ZERO).await;
    let answer = plane.get("/v1/apps/hello/instances").await.ok();
    assert!(
        answer.text.len() <= ANSWER_BYTES_MAX,
        "{} bytes",
        answer.text.len()
    );
    let seen: Instances = answer.json();
    assert!(seen.settled);
    assert_eq!(names(&seen), ["web.1", "web.2"]);
    let worker = &seen.processes[1];
    assert_eq!(
        (worker.process.as_str(), worker.wanted, worker.count()),
        ("worker", COUNT, COUNT)
    );
    assert_eq!(worker.in_state(InstanceState::Running), COUNT);
    assert_eq!(
        (worker.memory_bytes, worker.fuel_per_s),
        (u64::from(COUNT) << 16, u64::from(COUNT) * 10)
    );
    assert_eq!(worker.nodes.values().copied().collect::<Vec<_>>(), [COUNT]);
    let app: AppInfo = plane.get("/v1/apps/hello").await.ok().json();
    let status: Status = plane.get("/v1/status").await.ok().json();
    let all = u64::from(COUNT) + 2;
    assert_eq!(
        (app.running, status.instances_running, status.instances_wanted),
        (all, all, all)
    );
    assert!(list(&plane, "limit=0").await.instances.is_empty());
}

#[tokio::test]
async fn pages_have_the_details_that_the_node_is_asked_for() {
    let (plane, _store, mut node, _data) = scaled(COUNT).await;
    node.sync(Duration::ZERO).await;
    let following = node.follow();
    let page = list(&plane, "process=worker&from=4711&limit=3").await;
    assert_eq!(names(&page), ["worker.4711", "worker.4712", "worker.4713"]);
    assert_eq!((page.next, page.processes.len()), (Some(4714), 1));
    let bytes: Vec<u64> = page
        .instances
        .iter()
        .filter_map(|instance| instance.report.as_ref())
        .map(|report| report.memory_bytes)
        .collect();
    assert_eq!(bytes, [1 << 20; 3], "each has its details");
    assert_eq!(list(&plane, "process=worker").await.instances.len(), 100);
    let last = list(&plane, &format!("process=worker&from={}&limit=1000", COUNT - 1)).await;
    assert_eq!((last.instances.len(), last.next), (2, None));
    let two = list(&plane, "process=web").await;
    assert_eq!((names(&two), two.next), (vec!["web.1", "web.2"], None));
    assert!(list(&plane, "process=cron").await.instances.is_empty());
    assert!(list(&plane, "release=v7").await.processes.is_empty());
    // A node that does not answer in time is shown with what is known of it.
    let node = following.stop().await;
    let page = list(&plane, "process=worker&limit=2").await;
    assert_eq!(names(&page), ["worker.1", "worker.2"]);
    assert!(
        page.instances
            .iter()
            .all(|i| i.report.is_none() && i.state == InstanceState::Running)
    );
    assert_eq!(page.instances[0].node, node.facts.name);
}

#[tokio::test]
async fn bad_pages_are_refused() {
    let (plane, _store, _node, _data) = scaled(3).await;
    for (query, status, want) in [
        ("from=3", 422, "process type"),
        ("limit=3", 422, "process type"),
        ("process=worker&limit=1001", 422, "1001"),
        ("process=W", 422, "\"W\""),
        ("release=2", 422, "\"2\""),
        ("process=worker&from=x", 400, "query"),
        ("page=2", 400, "page"),
    ] {
        let code = if status == 422 { "A422" } else { "A400" };
        plane
            .get(&format!("/v1/apps/hello/instances?{query}"))
            .await
            .refused(status, code, want);
    }
}

/// Every tenth worker crashed.
fn ailing() -> Crowd {
    let calm = all_of_a_crowd();
    let crashes: Rule = Arc::new(|_| (InstanceState::Crashed, 1));
    Arc::new(move |assigned, wanted| {
        let all = calm(assigned, wanted);
        let epoch = assigned.ranges[0].epoch;
        let one = |slot: u32| SlotRange {
            first: slot,
            last: slot,
            epoch,
        };
        let count: u32 = assigned.ranges.iter().map(|range| range.count()).sum();
        let crashed: Vec<_> = (10..=count).step_by(10).map(one).collect();
        let runs = crashed.iter().map(|c| SlotRange {
            first: c.first - 9,
            last: c.first - 1,
            epoch,
        });
        let details = crashed.iter().take(FAILURES_COUNT_MAX).map(|range| {
            let mut failed = report(all.key().instance(range.first, epoch), &crashes);
            failed.last_failure = Some(Failure {
                code: Some(Code::R23),
                message: "unreachable".into(),
                at: Timestamp::UNIX_EPOCH,
            });
            failed
        });
        ProcessReport {
            details: details.collect(),
            states: [
                (InstanceState::Running, runs.collect()),
                (InstanceState::Crashed, crashed.clone()),
            ]
            .into(),
            restarts: 7,
            ..all
        }
    })
}

#[tokio::test]
async fn what_failed_of_many_is_told_without_asking() {
    let (plane, _store, mut node, _data) = scaled(COUNT / 10).await;
    let calm = node.crowd.replace(ailing());
    node.sync(Duration::ZERO).await;
    let seen = plane.instances("hello").await;
    let worker = &seen.processes[1];
    assert_eq!(worker.in_state(InstanceState::Crashed), COUNT / 100);
    assert_eq!(worker.in_state(InstanceState::Running), COUNT / 10 - COUNT / 100);
    assert_eq!(
        (worker.failures.len(), worker.restarts, seen.settled),
        (FAILURES_COUNT_MAX, 7, false)
    );
    assert_eq!(worker.failures[0].name, "worker.10");
    node.crowd = calm;
    node.sync(Duration::ZERO).await;
    assert!(plane.instances("hello").await.settled);
}

#[tokio::test]
async fn a_migration_moves_all_of_them_and_ranges_stay_few() {
    let (plane, store, mut node, _data) = scaled(COUNT).await;
    node.sync(Duration::ZERO).await;
    let (first, second) = (node.follow(), large(&plane, "b").follow());
    plane.settled("hello").await;
    plane.set("hello", "KEY", "value").await;
    let v2 = |i: &Instances| i.settled && i.processes.iter().all(|p| p.release.number() == 2);
    let seen = plane.until("hello", "on v2", v2).await;
    assert_eq!(seen.processes[1].count(), COUNT);
    let (_, entries) = store.range(keys::PLACEMENTS).await.expect("placements");
    let placements = records::decode_all::<Placement>(entries).expect("placements");
    assert!(
        placements.iter().all(|p| p.value.ranges.len() <= 200),
        "{}",
        placements.len()
    );
    drop((first.stop().await, second.stop().await));
}

#[tokio::test]
async fn what_changed_is_enough_and_without_its_base_all_is_asked_for() {
    let (plane, _store, mut node, _data) = scaled(COUNT).await;
    node.sync(Duration::ZERO).await;
    plane.settled("hello").await;
    let mut request = node.request(Duration::ZERO);
    let base = request.number;
    let send = async |request: &SyncRequest| {
        let body = serde_json::to_value(request).expect("json");
        let answer = post(&plane, "/v1/nodes/a/sync", &body).await.ok();
        answer.json::<SyncResponse>()
    };
    // Of two process types one is gone, and the other is not named.
    let web = request
        .processes
        .iter()
        .find(|p| p.process.as_str() == "web")
        .expect("web")
        .key();
    request.processes.clear();
    request.gone.push(web);
    (request.number, request.base) = (base + 1, Some(base));
    assert!(!send(&request).await.resync);
    let seen = plane.instances("hello").await;
    assert_eq!(seen.processes[0].in_state(InstanceState::Starting), 2);
    assert_eq!(seen.processes[1].in_state(InstanceState::Running), COUNT);
    (request.number, request.base) = (base + 9, Some(base + 8));
    let answer = send(&request).await;
    assert!(answer.resync && answer.assignment.is_none());
    node.number = base + 9;
    assert!(!node.sync(Duration::ZERO).await.resync);
    plane.settled("hello").await;
}
