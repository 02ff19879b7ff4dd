//! Several control planes on one store, and users that change the same things at once.

mod harness;

use std::{collections::BTreeSet, path::Path, time::Duration};

use gilliam_model::{api::AppInfo, cron::CronInfo, run::Run};
use gilliam_store::{Store, keys, records};
use harness::{Plane, Start, node::Node};
use reqwest::Method;
use serde_json::json;

async fn plane(data: &Path, store: &Store) -> Plane {
    let lost_after = Duration::from_secs(10);
    harness::start(Start {
        data,
        store: store.clone(),
        lost_after,
    })
    .await
}

/// Every placed slot, asserting that none is placed twice.
async fn slots(store: &Store) -> BTreeSet<String> {
    let (_, placements) = records::list_placements(store).await.expect("read");
    let mut slots = BTreeSet::new();
    for placement in &placements {
        for id in placement.value.instances() {
            let slot = format!("{} {} {}", id.app, id.release, id.label());
            assert!(
                slots.insert(slot.clone()),
                "{slot} is placed twice: {placements:#?}"
            );
        }
    }
    slots
}

/// What both control planes must have heard of before they agree on what runs.
async fn attach(one: &Plane, two: &Plane) -> Vec<harness::node::Following> {
    let names = ["a", "b", "c"];
    names
        .iter()
        .flat_map(|name| [Node::new(one, name).follow(), Node::new(two, name).follow()])
        .collect()
}

#[tokio::test]
async fn no_slot_is_placed_twice_when_two_plan_at_once() {
    let (data, store) = (tempfile::tempdir().expect("folder"), Store::memory());
    let (one, two) = (plane(data.path(), &store).await, plane(data.path(), &store).await);
    let _nodes = attach(&one, &two).await;
    let apps = ["red", "green", "blue"];
    for app in apps {
        one.create(app).await;
        two.deploy(app, "image web worker").await;
    }
    for round in 0..12_u32 {
        let changes = apps.iter().enumerate().map(|(i, app)| {
            let plane = if (round + u32::try_from(i).expect("few")) % 2 == 0 {
                &one
            } else {
                &two
            };
            let counts = json!({ "web": (round * 7) % 11, "worker": (round * 5) % 7 });
            async move { plane.scale(app, counts).await }
        });
        futures::future::join_all(changes).await;
        slots(&store).await;
    }
    for app in apps {
        one.settled(app).await;
        two.settled(app).await;
    }
    // Round 11: 77 % 11 web, 55 % 7 worker.
    assert_eq!(slots(&store).await.len(), 3 * 6);
}

#[tokio::test]
async fn a_cron_fires_once_for_a_due_time_when_several_fire_at_once() {
    let (data, store) = (tempfile::tempdir().expect("folder"), Store::memory());
    let mut planes = Vec::new();
    for _ in 0..3 {
        let start = Start {
            data: data.path(),
            store: store.clone(),
            lost_after: Duration::from_secs(10),
        };
        planes.push(harness::start_as(start, |config| config.cron_interval_s_min = 1).await);
    }
    planes[0].create("hello").await;
    planes[1].deploy("hello", "ticking task").await;
    let runs = loop {
        let revision = store.get("/").await.expect("read").0;
        let (_, runs) = records::list::<Run>(&store, keys::RUNS).await.expect("read");
        if runs.len() >= 6 {
            break runs;
        }
        store.changed(keys::RUNS, revision).await;
    };
    let due: BTreeSet<_> = runs
        .iter()
        .map(|run| run.value.cron.clone().and_then(|of| of.due))
        .collect();
    assert_eq!(due.len(), runs.len(), "each of another due time: {runs:#?}");
    let crons: Vec<CronInfo> = planes[2].get("/v1/apps/hello/crons").await.ok().json();
    assert_eq!(crons[0].name.as_str(), "tick");
    assert!(crons[0].last_run.is_some() && crons[0].next_at.is_some());
    assert_eq!(planes[0].delete("/v1/apps/hello").await.status, 204);
    let (_, left) = store.range(keys::CRONS).await.expect("read");
    assert_eq!(left.len(), 0, "its record goes with the app");
}

#[tokio::test]
async fn destroying_and_creating_in_a_row_leaves_nothing_behind() {
    let (data, store) = (tempfile::tempdir().expect("folder"), Store::memory());
    let (one, two) = (plane(data.path(), &store).await, plane(data.path(), &store).await);
    let _nodes = attach(&one, &two).await;
    for round in 0..8 {
        let (this, other) = if round % 2 == 0 {
            (&one, &two)
        } else {
            (&two, &one)
        };
        this.create("hello").await;
        assert_eq!(other.deploy("hello", "image web").await.id.to_string(), "v1");
        this.scale("hello", json!({ "web": 5 })).await;
        if round % 4 == 3 {
            this.settled("hello").await;
        }
        let body = json!({}).to_string();
        let restart = other.send(Method::POST, "/v1/apps/hello/restart", &other.admin, Some(&body));
        let destroy = this.delete("/v1/apps/hello");
        let (_, destroyed) = tokio::join!(restart, destroy);
        assert_eq!(destroyed.status, 204, "{}", destroyed.text);
        other.get("/v1/apps/hello").await.refused(404, "A404", "");
    }
    let deadline = tokio::time::Instant::now() + harness::DEADLINE;
    loop {
        let (_, left) = store
            .ranges(&[keys::APPS, keys::PLACEMENTS, keys::RELEASES])
            .await
            .expect("read");
        if left.iter().all(Vec::is_empty) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{left:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn of_many_creates_at_once_one_succeeds() {
    let (data, store) = (tempfile::tempdir().expect("folder"), Store::memory());
    let (one, two) = (plane(data.path(), &store).await, plane(data.path(), &store).await);
    let body = json!({ "name": "hello" });
    let creates = (0..20).map(|i| if i % 2 == 0 { &one } else { &two }.post("/v1/apps", body.clone()));
    let answers = futures::future::join_all(creates).await;
    assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 1);
    for answer in answers.iter().filter(|a| a.status != 201) {
        answer.refused(409, "A409", "exists already");
    }
    assert_eq!(one.get("/v1/apps").await.ok().json::<Vec<AppInfo>>().len(), 1);
}

#[tokio::test]
async fn each_control_plane_shows_what_all_of_them_told() {
    let (data, store) = (tempfile::tempdir().expect("folder"), Store::memory());
    let (one, two) = (plane(data.path(), &store).await, plane(data.path(), &store).await);
    let _nodes = attach(&one, &two).await;
    one.create("hello").await;
    two.deploy("hello", "image web").await;
    let follow = "/v1/apps/hello/logs?follow=true&source=control";
    let mut followed = two.send(Method::GET, follow, &two.admin, None).await;
    one.scale("hello", json!({ "web": 1 })).await;
    two.set("hello", "A", "1").await;
    one.settled("hello").await;
    let told = [
        "created",
        "v1 released by admin",
        "scaled v1 web=1 by admin",
        "v2 released by admin",
        "migration to v2 done",
    ];
    for plane in [&one, &two] {
        let deadline = tokio::time::Instant::now() + harness::DEADLINE;
        while plane.announcements("hello").await != told {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut seen = String::new();
    while told.iter().any(|text| seen.matches(text).count() != 1) {
        let more = tokio::time::timeout(harness::DEADLINE, followed.chunk()).await;
        let more = more.expect("in time").expect("a chunk").expect("it goes on");
        seen.push_str(std::str::from_utf8(&more).expect("text"));
    }
    one.delete("/v1/apps/hello").await.ok();
    one.create("hello").await;
    assert_eq!(
        two.announcements("hello").await,
        ["created"],
        "those of the other are gone"
    );
}
