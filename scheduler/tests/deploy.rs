//! Deploys: the archive in, the build's output as it comes, and one release or none.

mod harness;

use std::{path::Path, time::Duration};

use futures::StreamExt as _;
use gilliam_model::{
    api::{DeployEvent, ReleaseInfo},
    code::Code,
};
use harness::{Plane, read};
use reqwest::{Body, Method};
use tokio::time::{Instant, sleep};

async fn releases(plane: &Plane) -> Vec<ReleaseInfo> {
    plane.get("/v1/apps/hello/releases").await.ok().json()
}

fn left_in_tmp(data: &Path) -> usize {
    std::fs::read_dir(data.join("tmp")).expect("tmp").count()
}

#[tokio::test]
async fn a_build_prints_and_ends_in_a_release() {
    let (plane, data) = harness::fresh().await;
    plane.create("hello").await;
    let events = plane
        .deploy_events("hello", "image web worker", "?message=first")
        .await;
    let [DeployEvent::Output { line }, DeployEvent::Released { release }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(line, "-----> Building: image web worker");
    assert_eq!(
        (release.id.to_string().as_str(), release.message.as_str()),
        ("v1", "first")
    );
    assert_eq!(release.author, "admin");
    let processes: Vec<&str> = release.processes.keys().map(|p| p.as_str()).collect();
    assert_eq!(processes, ["web", "worker"]);
    assert!(release.scale.is_empty(), "the first release starts nothing");
    assert_eq!(left_in_tmp(data.path()), 0);
    let path = format!("/v1/blobs/{}", release.image);
    let blob = read(plane.send(Method::GET, &path, &plane.node, None).await)
        .await
        .ok();
    assert!(blob.text.contains("\"schema_version\":1"), "{}", blob.text);
}

#[tokio::test]
async fn a_blob_is_named_by_its_digest_and_nothing_else() {
    let (plane, data) = harness::fresh().await;
    std::fs::write(data.path().join("secret"), "s").expect("file");
    let missing = format!("sha256:{}", "b".repeat(64));
    for name in [
        missing.as_str(),
        "sha256:..%2F..%2F..%2Fsecret",
        "..%2Fsecret",
        "secret",
        "sha512:00",
    ] {
        let answer = read(
            plane
                .send(Method::GET, &format!("/v1/blobs/{name}"), &plane.node, None)
                .await,
        )
        .await;
        answer.refused(404, "A404", "no blob");
    }
}

#[tokio::test]
async fn a_build_without_an_image_makes_no_release() {
    let (plane, data) = harness::fresh().await;
    plane.create("hello").await;
    for (archive, code) in [
        ("refuse", Code::B12),
        ("silent", Code::A500),
        ("torn", Code::A500),
        ("nonsense", Code::A500),
    ] {
        let events = plane.deploy_events("hello", archive, "").await;
        let Some(DeployEvent::Failed { error }) = events.last() else {
            panic!("{archive}: {events:?}")
        };
        assert_eq!(error.code, code, "{archive}: {error:?}");
        assert!(!error.message.contains('/'), "nothing of the inside: {error:?}");
    }
    assert!(releases(&plane).await.is_empty());
    assert_eq!(left_in_tmp(data.path()), 0);
}

#[tokio::test]
async fn a_refused_deploy_is_answered_before_anything_is_built() {
    let (plane, data) = harness::fresh().await;
    plane.create("hello").await;
    let send = async |path: &str, body: Option<&str>| {
        read(plane.send(Method::POST, path, &plane.admin, body).await).await
    };
    let large = "x".repeat(4 << 20);
    send("/v1/apps/ghost/deploy", Some(&large))
        .await
        .refused(404, "A404", r#"no app "ghost""#);
    send("/v1/apps/hello/deploy", None)
        .await
        .refused(400, "A400", "the archive is empty");
    let query = format!("/v1/apps/hello/deploy?message={}", "m".repeat(5_000));
    send(&query, Some("image web"))
        .await
        .refused(422, "A422", "5000 bytes");
    send("/v1/apps/hello/deploy?migrate=maybe", Some("image web"))
        .await
        .refused(400, "A400", "migrate");
    send("/v1/apps/hello/deploy?image=x", Some("image web"))
        .await
        .refused(400, "A400", "image");
    let declared = plane
        .http
        .post(format!("{}/v1/apps/hello/deploy", plane.base))
        .bearer_auth(&plane.admin)
        .header("content-length", (300u64 << 20).to_string())
        .body(Body::wrap_stream(futures::stream::pending::<
            Result<Vec<u8>, std::io::Error>,
        >()));
    read(declared.send().await.expect("an answer"))
        .await
        .refused(413, "A413", "268435456");
    assert!(releases(&plane).await.is_empty());
    assert_eq!(left_in_tmp(data.path()), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_stops_its_build() {
    let (plane, data) = harness::fresh().await;
    plane.create("hello").await;
    let response = plane
        .send(Method::POST, "/v1/apps/hello/deploy", &plane.admin, Some("hang"))
        .await;
    let mut body = response.bytes_stream();
    let mut text = String::new();
    let pid = loop {
        let chunk = body.next().await.expect("more").expect("a chunk");
        text.push_str(std::str::from_utf8(&chunk).expect("text"));
        if let Some((_, rest)) = text.split_once("\"pid ") {
            break rest.split('"').next().expect("a pid").to_string();
        }
    };
    assert!(Path::new("/proc").join(&pid).exists());
    drop(body);
    let deadline = Instant::now() + harness::DEADLINE;
    while Path::new("/proc").join(&pid).exists() || left_in_tmp(data.path()) > 0 {
        assert!(Instant::now() < deadline, "the build goes on");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(releases(&plane).await.is_empty());
}

#[tokio::test]
async fn a_drain_ends_a_build_and_says_so() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    let response = plane
        .send(Method::POST, "/v1/apps/hello/deploy", &plane.admin, Some("hang"))
        .await;
    let stopped = plane.stop();
    let (answer, outcome) = tokio::join!(read(response), stopped);
    let last: DeployEvent =
        serde_json::from_str(answer.text.lines().last().expect("a line")).expect("an event");
    let DeployEvent::Failed { error } = last else {
        panic!("{last:?}")
    };
    assert_eq!(error.code, Code::A503);
    assert_eq!(outcome, gilliam_serve::DrainOutcome::Finished);
}

#[tokio::test]
async fn deploys_at_once_are_built_in_turn_and_numbered_without_gaps() {
    let (plane, data) = harness::fresh().await;
    plane.create("hello").await;
    let deploys = (0..8).map(|_| plane.deploy("hello", "image web"));
    let mut ids: Vec<u32> = futures::future::join_all(deploys)
        .await
        .iter()
        .map(|r| r.id.number())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=8).collect::<Vec<u32>>());
    assert_eq!(left_in_tmp(data.path()), 0);
}
