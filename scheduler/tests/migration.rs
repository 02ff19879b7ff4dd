//! Migrations and restarts, with nodes that report what a test asks for.

mod harness;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gilliam_model::{api::Instances, instance::InstanceState};
use gilliam_store::Store;
use harness::{lines, node::Node};
use serde_json::json;

async fn running(web: u32) -> (harness::Plane, tempfile::TempDir, harness::node::Following) {
    let (plane, data) = harness::fresh().await;
    plane.create("hello").await;
    plane.deploy("hello", "image web worker").await;
    let node = Node::new(&plane, "a").follow();
    plane.scale("hello", json!({ "web": web })).await;
    plane.settled("hello").await;
    (plane, data, node)
}

fn of_release(instances: &Instances, release: &str) -> usize {
    let running = instances
        .instances
        .iter()
        .filter(|i| i.state == InstanceState::Running);
    running.filter(|i| i.release.to_string() == release).count()
}

#[tokio::test]
async fn a_change_of_config_moves_what_runs_without_a_gap() {
    let (plane, _data, node) = running(4).await;
    let release = plane.set("hello", "A", "1").await;
    assert!(release.migrating);
    assert_eq!(release.scale.to_string(), "web=4");
    let mut least = usize::MAX;
    let watched = Mutex::new(&mut least);
    let done = plane
        .until("hello", "migrated", |instances| {
            let mut least = watched.lock().expect("lock");
            **least = (**least).min(of_release(instances, "v1") + of_release(instances, "v2"));
            instances.settled
        })
        .await;
    assert_eq!(
        lines(&done),
        [
            "web.1 v2 running",
            "web.2 v2 running",
            "web.3 v2 running",
            "web.4 v2 running"
        ]
    );
    assert!(least >= 4, "only {least} of 4 ran at some moment");
    assert!(
        plane
            .announcements("hello")
            .await
            .contains(&"migration to v2 done".to_string())
    );
    drop(node);
}

#[tokio::test]
async fn a_release_that_crashes_is_given_up_and_the_old_one_stays() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    plane.deploy("hello", "image web").await;
    let mut node = Node::new(&plane, "a");
    node.rule = Arc::new(|id| match id.release.number() {
        2 => (InstanceState::Crashed, 3),
        _ => (InstanceState::Running, 0),
    });
    let _node = node.follow();
    plane.scale("hello", json!({ "web": 2 })).await;
    let before = plane.settled("hello").await;
    plane.set("hello", "A", "1").await;
    let after = plane
        .until("hello", "given up", |i| {
            i.settled && i.migration_failure.is_some()
        })
        .await;
    assert_eq!(lines(&after), ["web.1 v1 running", "web.2 v1 running"]);
    let epochs = |i: &Instances| {
        i.instances
            .iter()
            .map(|i| i.report.as_ref().expect("report").id.epoch)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        epochs(&after),
        epochs(&before),
        "the old instances never went away"
    );
    let failure = after.migration_failure.expect("a failure");
    assert_eq!(failure.to.to_string(), "v2");
    let told = plane.announcements("hello").await;
    assert!(
        told.iter().any(|t| t.starts_with("migration to v2 given up: ")),
        "{told:?}"
    );
    plane.scale("hello", json!({ "web": 1 })).await;
    let after = plane.settled("hello").await;
    assert_eq!(lines(&after), ["web.1 v1 running"]);
    assert!(after.migration_failure.is_none(), "cleared by the next change");
}

#[tokio::test]
async fn without_migration_the_new_release_runs_nothing() {
    let (plane, _data, _node) = running(1).await;
    let body = json!({ "change": { "set": { "A": "1" } }, "migrate": false });
    let release: gilliam_model::api::ReleaseInfo =
        plane.patch("/v1/apps/hello/config", body).await.ok().json();
    assert!(!release.migrating && release.scale.is_empty());
    assert_eq!(lines(&plane.settled("hello").await), ["web.1 v1 running"]);
}

#[tokio::test]
async fn while_a_migration_runs_only_its_release_is_scaled() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    plane.deploy("hello", "image web").await;
    let mut node = Node::new(&plane, "a");
    node.rule = Arc::new(|id| match id.release.number() {
        2 => (InstanceState::Starting, 0),
        _ => (InstanceState::Running, 0),
    });
    let _node = node.follow();
    plane.scale("hello", json!({ "web": 1 })).await;
    plane.settled("hello").await;
    plane.set("hello", "A", "1").await;
    let body = json!({ "release": "v1", "counts": { "web": 3 } });
    let error = plane.patch("/v1/apps/hello/scale", body).await;
    assert_eq!(error.status, 409, "{}", error.text);
    plane.scale("hello", json!({ "web": 2 })).await;
    let after = plane
        .until("hello", "begun", |i| {
            i.instances.iter().any(|i| i.release.number() == 2)
        })
        .await;
    assert_eq!(of_release(&after, "v1"), 1, "{:?}", lines(&after));
}

#[tokio::test]
async fn a_restart_makes_new_lives_of_what_it_names() {
    let (plane, _data, _node) = running(2).await;
    plane.scale("hello", json!({ "worker": 1 })).await;
    let epochs = async || -> Vec<(String, u64)> {
        let instances = plane.settled("hello").await.instances;
        instances
            .iter()
            .map(|i| (i.name.clone(), i.report.as_ref().expect("report").id.epoch.0))
            .collect()
    };
    let restart = async |target: Option<&str>| {
        plane
            .post("/v1/apps/hello/restart", json!({ "target": target }))
            .await
    };
    let changed = |a: &[(String, u64)], b: &[(String, u64)]| -> Vec<String> {
        let pairs = a.iter().zip(b);
        pairs
            .filter(|(a, b)| a.0 == b.0 && a.1 < b.1)
            .map(|(a, _)| a.0.clone())
            .collect()
    };
    let first = epochs().await;
    restart(Some("web.2")).await.ok();
    let second = epochs().await;
    assert_eq!(changed(&first, &second), ["web.2"]);
    restart(Some("web")).await.ok();
    let third = epochs().await;
    assert_eq!(changed(&second, &third), ["web.1", "web.2"]);
    restart(None).await.ok();
    let fourth = epochs().await;
    assert_eq!(changed(&third, &fourth), ["web.1", "web.2", "worker.1"]);
    for bad in ["cron", "web.3", "web.0", "web.x", "", ".", "../x"] {
        let answer = restart(Some(bad)).await;
        assert_eq!(answer.status, 422, "{bad}: {}", answer.text);
    }
    assert_eq!(epochs().await, fourth);
}

#[tokio::test]
async fn a_migration_goes_on_after_a_restart_of_the_control_plane() {
    let (plane, data) = harness::fresh().await;
    plane.create("hello").await;
    plane.deploy("hello", "image web").await;
    let is_ready = Arc::new(AtomicBool::new(false));
    let rule = is_ready.clone();
    let mut node = Node::new(&plane, "a");
    node.rule = Arc::new(move |id| match id.release.number() {
        2 if !rule.load(Ordering::Relaxed) => (InstanceState::Starting, 0),
        _ => (InstanceState::Running, 0),
    });
    let following = node.follow();
    plane.scale("hello", json!({ "web": 3 })).await;
    plane.settled("hello").await;
    plane.set("hello", "A", "1").await;
    plane
        .until("hello", "begun", |i| {
            i.instances.iter().any(|i| i.release.number() == 2)
        })
        .await;
    let mut node = following.stop().await;
    plane.stop().await;

    let store = Store::open(data.path()).expect("store");
    let lost_after = Duration::from_secs(10);
    let plane = harness::start(harness::Start {
        data: data.path(),
        store,
        lost_after,
    })
    .await;
    let before = plane.instances("hello").await;
    assert!(before.migration.is_some() && !before.settled);
    node.move_to(&plane);
    let _following = node.follow();
    plane
        .until("hello", "heard of", |i| of_release(i, "v1") == 3)
        .await;
    is_ready.store(true, Ordering::Relaxed);
    let after = plane.settled("hello").await;
    assert_eq!(
        lines(&after),
        ["web.1 v2 running", "web.2 v2 running", "web.3 v2 running"]
    );
    assert!(
        plane
            .announcements("hello")
            .await
            .contains(&"migration to v2 done".to_string())
    );
}
