//! Limits: a release sets them over its image's, they stay over deploys, and bad ones change nothing.

mod harness;

use gilliam_model::api::{ImageInfo, LimitsInfo, ReleaseInfo};
use serde_json::{Value, json};

use harness::{Plane, node::Node};

async fn limits(plane: &Plane, change: Value) -> harness::Answer {
    let body = json!({ "change": change, "migrate": true });
    plane.patch("/v1/apps/hello/limits", body).await
}

async fn shown(plane: &Plane) -> LimitsInfo {
    plane.get("/v1/apps/hello/limits").await.ok().json()
}

#[tokio::test]
async fn limits_make_a_release_that_is_rolled_back_and_outlives_deploys() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    assert_eq!(shown(&plane).await.release, None);
    plane.deploy("hello", "image web worker").await;
    let change = json!({ "process": "web", "set": { "memory_bytes_max": 67_108_864, "cpu_millis": 250 } });
    let answer = limits(&plane, change).await.ok();
    assert_eq!(answer.status, 201);
    let release: ReleaseInfo = answer.json();
    assert_eq!(release.id.to_string(), "v2");
    assert_eq!(release.message, "web: memory=64MiB cpu=0.25");
    let info = shown(&plane).await;
    let web = &info.processes["web"];
    assert_eq!(
        (web.limits.memory_bytes_max, web.limits.cpu_millis),
        (64 << 20, 250)
    );
    assert_eq!(web.set.len(), 2);
    assert_eq!(web.image.memory_bytes_max, 128 << 20);
    assert_eq!(info.processes["worker"].set, []);

    plane.deploy("hello", "image web worker again").await;
    plane.set("hello", "A", "1").await;
    assert_eq!(shown(&plane).await.processes["web"].limits.cpu_millis, 250);
    let back: ReleaseInfo = plane
        .post("/v1/apps/hello/rollback", json!({ "to": "v1" }))
        .await
        .ok()
        .json();
    assert_eq!(back.id.to_string(), "v5");
    assert_eq!(shown(&plane).await.processes["web"].limits.cpu_millis, 1_000);

    plane
        .post("/v1/apps/hello/rollback", json!({ "to": "v2" }))
        .await
        .ok();
    let unset = json!({ "process": "web", "unset": ["cpu_millis"] });
    let release: ReleaseInfo = limits(&plane, unset).await.ok().json();
    assert_eq!(release.message, "web: unset cpu");
    let web = &shown(&plane).await.processes["web"];
    assert_eq!(
        (web.limits.memory_bytes_max, web.limits.cpu_millis),
        (64 << 20, 1_000)
    );
}

#[tokio::test]
async fn bad_limits_are_refused_and_change_nothing() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    let set = json!({ "process": "web", "set": { "cpu_millis": 250 } });
    limits(&plane, set).await.refused(409, "A409", "no release yet");
    plane.deploy("hello", "image web").await;
    for (change, message, hint) in [
        (
            json!({ "process": "web" }),
            "sets and unsets nothing",
            "name a limit, such as memory=64MiB",
        ),
        (
            json!({ "process": "wbe", "set": { "cpu_millis": 250 } }),
            "no process wbe",
            "it has web",
        ),
        (
            json!({ "process": "web", "set": { "cpu_millis": 250, "memory_bytes_max": 1 } }),
            "memory = 1B is outside 64KiB to 4GiB",
            "choose a value in that range; the default is 128MiB",
        ),
        (
            json!({ "process": "web", "unset": ["cpu_millis"] }),
            "cpu of web is not set",
            "gilliam limits lists what is set",
        ),
    ] {
        let error = limits(&plane, change).await.refused(422, "A422", message);
        assert_eq!(error.hint.as_deref(), Some(hint));
    }
    for change in [
        json!({ "process": "web", "set": { "cpu": 250 } }),
        json!({ "process": "web", "set": { "cpu_millis": -1 } }),
        json!({ "process": "web", "set": { "cpu_millis": 0.5 } }),
        json!({ "process": "WEB", "set": { "cpu_millis": 250 } }),
        json!({ "process": "web", "sets": {} }),
    ] {
        limits(&plane, change).await.refused(422, "A422", "");
    }
    assert_eq!(shown(&plane).await.release.expect("v1").to_string(), "v1");
    assert_eq!(shown(&plane).await.processes["web"].set, []);
}

#[tokio::test]
async fn nodes_get_the_limits_of_the_release_that_they_run() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    plane.deploy("hello", "image web worker").await;
    let node = Node::new(&plane, "a").follow();
    plane.scale("hello", json!({ "web": 2, "worker": 1 })).await;
    plane.settled("hello").await;
    let change = json!({ "process": "web", "set": { "memory_bytes_max": 1_073_741_824 } });
    let release: ReleaseInfo = limits(&plane, change).await.ok().json();
    assert!(release.migrating, "what ran moves to it, as with config");
    plane.settled("hello").await;
    let assigned = node.stop().await.assignment.expect("an assignment").processes;
    let assigned: Vec<_> = assigned
        .iter()
        .map(|process| {
            (
                process.name.as_str(),
                process.release.to_string(),
                process.process.limits.memory_bytes_max,
            )
        })
        .collect();
    assert_eq!(
        assigned,
        [
            ("web", "v2".to_string(), 1 << 30),
            ("worker", "v2".to_string(), 128 << 20)
        ]
    );
}

#[tokio::test]
async fn lanes_are_reused_only_after_a_probe_of_the_component() {
    let (plane, data) = harness::fresh().await;
    let probes = || {
        std::fs::read_to_string(data.path().join("probes"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    plane.create("hello").await;
    plane.deploy("hello", "image web worker").await;
    assert_eq!(probes(), 0);
    let reuse = |n: u64| json!({ "process": "web", "set": { "reuse_max": n } });
    limits(&plane, reuse(100)).await.ok();
    assert_eq!(probes(), 1);
    limits(&plane, reuse(200)).await.ok();
    plane.set("hello", "A", "1").await;
    plane.deploy("hello", "image web worker").await;
    assert_eq!(probes(), 1, "the same component was tried before");
    limits(&plane, reuse(1)).await.ok();
    limits(&plane, reuse(100)).await.ok();
    assert_eq!(probes(), 2);
}

#[tokio::test]
async fn a_refused_probe_changes_nothing() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    plane.deploy("hello", "image web").await;
    let reuse = json!({ "process": "web", "set": { "reuse_max": 4_294_967_295_u64 } });
    for (value, reason) in [
        (
            "refuse",
            "lanes of web cannot be reused: request 2 through one lane fails",
        ),
        ("die", "the probe was stopped by signal 9"),
    ] {
        let before = plane.set("hello", "PROBE", value).await;
        let error = limits(&plane, reuse.clone()).await.refused(422, "A422", reason);
        let hint = error.hint.expect("a hint");
        assert!(hint.starts_with("leave reuse = 1"), "{hint}");
        assert_eq!(shown(&plane).await.release, Some(before.id));
    }
}

#[tokio::test]
async fn users_read_what_a_release_runs_and_its_components() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    plane
        .get("/v1/apps/hello/image")
        .await
        .refused(409, "A409", "no release yet");
    plane.deploy("hello", "image web worker").await;
    let set = json!({ "process": "web", "set": { "cpu_millis": 250 } });
    limits(&plane, set).await.ok();
    let image: ImageInfo = plane.get("/v1/apps/hello/image").await.ok().json();
    assert_eq!(image.release.to_string(), "v2");
    assert_eq!(image.image.processes["web"].limits.cpu_millis, 250);
    let image: ImageInfo = plane.get("/v1/apps/hello/image?release=v1").await.ok().json();
    assert_eq!(image.image.processes["web"].limits.cpu_millis, 1_000);
    let component = plane.get("/v1/apps/hello/components/web?release=v1").await.ok();
    assert_eq!(component.text, "a component");
    for (path, status, code, message) in [
        ("image?release=v3", 404, "A404", "hello has no release v3"),
        ("image?release=2", 422, "A422", "is not a release"),
        ("image?of=v1", 400, "A400", "unknown field `of`"),
        ("components/wbe", 404, "A404", "v2 of hello has no process wbe"),
        ("components/..%2Fx", 404, "A404", "has no process"),
    ] {
        let path = format!("/v1/apps/hello/{path}");
        plane.get(&path).await.refused(status, code, message);
    }
    let path = "/v1/apps/hello/components/web";
    let answer = harness::read(plane.send(reqwest::Method::GET, path, &plane.node, None).await).await;
    answer.refused(401, "A401", "");
}
