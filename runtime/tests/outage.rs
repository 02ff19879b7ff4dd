//! The control plane goes and comes; the node goes on, and so does what it knows.

mod support;

use gilliam_model::log::LogStream;
use gilliam_runtime::{NodeError, is_running, read_record};
use support::{Node, Plane, Slots, cluster::Authority, http::get, wait};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_while_the_control_plane_is_gone_and_finds_it_elsewhere() {
    let data = tempfile::tempdir().expect("folder");
    let mut plane = Plane::start(data.path());
    let node = Node::start(data.path());
    plane.assign(&[Slots::guestbook("a", 2)]);
    let before = plane.running(&["a/v1/web.1@1", "a/v1/web.2@1"]).await;
    assert_eq!(get(node.http, "a", "/log?line=said-before").await.status, 200);
    plane.line("the line", |line| line.text == "said-before").await;

    plane.go_away().await;
    for _ in 0..50 {
        assert_eq!(get(node.http, "a", "/").await.status, 200);
    }
    assert_eq!(get(node.http, "a", "/log?line=said-meanwhile").await.status, 200);
    plane.listen(data.path());
    let after = plane.running(&["a/v1/web.1@1", "a/v1/web.2@1"]).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(
            (before.since, before.restarts),
            (after.since, after.restarts),
            "no instance was touched"
        );
    }
    let line = plane
        .line("the line again", |line| line.text == "said-before")
        .await;
    assert_eq!(
        (line.source.starts_with("web."), line.stream),
        (true, LogStream::Stdout)
    );
    plane
        .line("what was said meanwhile", |line| line.text == "said-meanwhile")
        .await;
    let count = plane
        .lines()
        .iter()
        .filter(|line| line.text == "said-meanwhile")
        .count();
    assert_eq!(count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_without_a_control_plane_serves_what_it_did() {
    let data = tempfile::tempdir().expect("folder");
    let mut plane = Plane::start(data.path());
    let node = Node::start(data.path());
    plane.assign(&[Slots::guestbook("a", 1)]);
    plane.running(&["a/v1/web.1@1"]).await;
    plane.go_away().await;
    plane.hold_back_blobs();
    node.kill().await;

    let file = data.path().join("node/assignment.json");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("file").permissions());
    assert_eq!(mode & 0o777, 0o600, "it holds configuration");
    let node = Node::start(data.path());
    let answer = get(node.http, "a", "/").await;
    assert_eq!((answer.status, answer.code()), (200, None), "{answer:?}");

    plane.listen(data.path());
    plane.running(&["a/v1/web.1@1"]).await;
    assert_eq!(plane.node_generation(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_control_plane_has_every_line_once_and_those_of_its_absence() {
    let (member, mut other) = Authority::new().member_of_two("n1");
    let slots = [Slots::guestbook("a", 1)];
    other.assign(&slots);
    member.plane.assign(&slots);
    member.plane.running(&["a/v1/web.1@1"]).await;
    let say = async |line: &str| {
        let answer = get(member.node.http, "a", &format!("/log?line={line}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    say("to-both").await;
    for plane in [&member.plane, &other] {
        plane.line("the line", |line| line.text == "to-both").await;
    }
    other.go_away().await;
    say("to-one").await;
    member.plane.line("the line", |line| line.text == "to-one").await;
    other.listen(member.data.path());
    for text in ["to-both", "to-one"] {
        other.line(text, |line| line.text == text).await;
        let lines = [&member.plane, &other].map(|plane| {
            let lines = plane.lines();
            lines.iter().filter(|line| line.text == text).count()
        });
        assert_eq!(lines, [1, 1], "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_was_started_again_is_asked_for_news_at_once() {
    let data = tempfile::tempdir().expect("folder");
    let mut plane = Plane::start(data.path());
    let _node = Node::start(data.path());
    plane.assign(&[]);
    wait("the assignment", || (plane.node_generation() == 1).then_some(())).await;
    plane.go_away().await;
    let before = plane.syncs();
    plane.listen(data.path());
    wait("a sync", || (plane.syncs() > before).then_some(())).await;
    let met = std::time::Instant::now();
    wait("the next sync", || (plane.syncs() > before + 1).then_some(())).await;
    let gap = met.elapsed();
    assert!(
        gap < std::time::Duration::from_millis(800),
        "nothing was asked for {gap:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_assignment_is_refused() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    plane.assign_as(7, &[Slots::guestbook("a", 1)]);
    plane.running(&["a/v1/web.1@1"]).await;
    let syncs = plane.syncs();
    plane.assign_as(6, &[]);
    wait("it to be offered", || (plane.syncs() > syncs + 1).then_some(())).await;
    assert_eq!(plane.node_generation(), 7);
    assert_eq!(get(node.http, "a", "/").await.status, 200);
    plane.assign_as(8, &[]);
    plane.running(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_at_a_time_uses_a_data_folder() {
    let data = tempfile::tempdir().expect("folder");
    let _plane = Plane::start(data.path());
    let node = Node::start(data.path());
    assert!(is_running(data.path()));
    let record = read_record(data.path()).expect("readable").expect("a record");
    assert_eq!((record.http, record.pid), (node.http, std::process::id()));
    let error = Node::try_start(data.path()).expect_err("locked");
    assert!(matches!(error, NodeError::Locked { .. }), "{error:?}");
    assert!(error.hint().is_some());
    assert_eq!(node.stop().await, gilliam_serve::DrainOutcome::Finished);
    assert!(!is_running(data.path()));
    assert_eq!(read_record(data.path()).expect("readable"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_of_what_runs_are_reported() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let _node = Node::start(data.path());
    plane.assign(&[Slots::worker("jobs", &["worker.wasm", "--interval", "0.1"])]);
    let report = plane
        .report("fuel and memory", "jobs/v1/worker.1@1", |report| {
            report.fuel_per_s > 0 && report.memory_bytes > 0
        })
        .await;
    assert_eq!(report.port, None);
    assert!(report.memory_bytes <= report.memory_bytes_max);
    plane
        .line("a line of the worker", |line| {
            line.source == "worker.1" && line.stream == LogStream::Stdout
        })
        .await;
}
