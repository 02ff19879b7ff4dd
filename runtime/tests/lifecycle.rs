//! Instances come, crash, come back and go; requests do not notice where they need not.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use gilliam_model::{code::Code, image::Shape, instance::InstanceState, limits::Limits, log::LogLine};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use support::{
    Node, Plane, Slots,
    http::{client, get, send_with},
    wait,
};
use tokio::task::JoinHandle;

/// A command whose `run` has this body.
fn command(run: &str) -> Vec<u8> {
    command_with("", run)
}

/// A command with this import.
fn command_with(import: &str, run: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            {import}
            (core module $m (func (export "run") (result i32) {run}))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $e (export "run" (func $run)))
            (export "wasi:cli/run@0.2.6" (instance $e)))"#
    );
    wat::parse_str(text).expect("a component")
}

/// Clients that ask one app without pause, half of them on new connections.
struct Load {
    end: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(node: &Node, app: &str) -> Self {
        let (end, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..4).map(|index| {
            let (end, sent) = (end.clone(), sent.clone());
            let (uri, host) = (format!("http://{}/", node.http), format!("{app}.localhost"));
            tokio::spawn(async move {
                let client = client();
                let mut failures = Vec::new();
                while !end.load(Relaxed) {
                    let mut request = Request::get(&uri).header("host", &host);
                    if index % 2 == 0 {
                        request = request.header("connection", "close");
                    }
                    match client
                        .request(request.body(Full::<Bytes>::default()).expect("request"))
                        .await
                    {
                        Ok(answer) => {
                            let (status, code) =
                                (answer.status(), answer.headers().get("gilliam-error").cloned());
                            let body = answer.into_body().collect().await;
                            if status != 200 || body.is_err() {
                                failures.push(format!("{status} {code:?} {:?}", body.err()));
                            }
                        }
                        Err(error) => failures.push(format!("{error:?}")),
                    }
                    sent.fetch_add(1, Relaxed);
                }
                failures
            })
        });
        let clients = clients.collect();
        Self { end, sent, clients }
    }

    /// Waits until some more requests have been sent.
    async fn go_on(&self) {
        let before = self.sent.load(Relaxed);
        wait("requests", || {
            (self.sent.load(Relaxed) > before + 100).then_some(())
        })
        .await;
    }

    async fn finish(self) -> u64 {
        self.end.store(true, Relaxed);
        let mut failures = Vec::new();
        for client in self.clients {
            failures.extend(client.await.expect("client"));
        }
        let sent = self.sent.load(Relaxed);
        assert!(
            failures.is_empty(),
            "{} of {sent} failed: {:?}",
            failures.len(),
            &failures[..1]
        );
        sent
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_instances_are_replaced_added_and_removed() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    plane.assign(&[Slots::guestbook("a", 1)]);
    plane.running(&["a/v1/web.1@1"]).await;
    let load = Load::start(&node, "a");
    let base = Slots::guestbook("a", 1);
    for round in 1..=5 {
        let epoch = round * 10;
        // A restart: the same slot with a new epoch.
        plane.assign(&[Slots {
            epoch,
            ..base.clone()
        }]);
        plane.running(&[&format!("a/v1/web.1@{epoch}")]).await;
        load.go_on().await;
        // Up and down.
        plane.assign(&[Slots {
            epoch,
            count: 3,
            ..base.clone()
        }]);
        plane
            .running(
                &[1, 2, 3]
                    .map(|slot| format!("a/v1/web.{slot}@{epoch}"))
                    .each_ref()
                    .map(String::as_str),
            )
            .await;
        load.go_on().await;
        plane.assign(&[Slots {
            epoch,
            ..base.clone()
        }]);
        plane.running(&[&format!("a/v1/web.1@{epoch}")]).await;
        load.go_on().await;
        // Another release beside it, then alone, then back.
        let other = Slots {
            release: 2,
            epoch: epoch + 1,
            ..base.clone()
        };
        plane.assign(&[
            Slots {
                epoch,
                ..base.clone()
            },
            other.clone(),
        ]);
        plane
            .running(&[
                &format!("a/v1/web.1@{epoch}"),
                &format!("a/v2/web.1@{}", epoch + 1),
            ])
            .await;
        plane.assign(std::slice::from_ref(&other));
        plane.running(&[&format!("a/v2/web.1@{}", epoch + 1)]).await;
        load.go_on().await;
        plane.assign(&[
            other,
            Slots {
                epoch: epoch + 2,
                ..base.clone()
            },
        ]);
        plane
            .running(&[
                &format!("a/v1/web.1@{}", epoch + 2),
                &format!("a/v2/web.1@{}", epoch + 1),
            ])
            .await;
    }
    let sent = load.finish().await;
    println!("{sent} requests");
    assert_eq!(node.stop().await, gilliam_serve::DrainOutcome::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_to_a_command_fails_while_it_is_replaced() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    let echo = Slots::echo_tcp("echo");
    plane.assign(std::slice::from_ref(&echo));
    plane.running(&["echo/v1/web.1@1"]).await;
    let load = Load::start(&node, "echo");
    for epoch in 2..=5 {
        plane.assign(&[Slots {
            epoch,
            ..echo.clone()
        }]);
        plane.running(&[&format!("echo/v1/web.1@{epoch}")]).await;
        load.go_on().await;
    }
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_requests_in_flight_up_to_the_exit_time() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    let mut hasty = Slots::guestbook("hasty", 1);
    hasty.limits = Limits {
        exit_ms_max: 300,
        ..hasty.limits
    };
    plane.assign(&[Slots::guestbook("patient", 1), hasty]);
    plane.running(&["hasty/v1/web.1@1", "patient/v1/web.1@1"]).await;
    let in_flight = |app: &'static str, path: &'static str| {
        let address = node.http;
        tokio::spawn(async move { get(address, app, path).await })
    };
    let (long, late) = (
        in_flight("patient", "/sleep?ms=1500"),
        in_flight("hasty", "/sleep?ms=20000"),
    );
    for app in ["patient", "hasty"] {
        let begun = |line: &LogLine| line.app.as_str() == app && line.text.starts_with("sleeping");
        plane.line("a request in flight", begun).await;
    }
    plane.assign(&[]);
    plane.running(&[]).await;
    let long = long.await.expect("request");
    assert_eq!((long.status, long.body.contains("1500")), (200, true), "{long:?}");
    let late = late.await.expect("request");
    assert_eq!((late.status, late.code()), (502, Some("H13")), "{late:?}");
    plane
        .line("R12", |line| {
            line.app.as_str() == "hasty" && line.text.starts_with("R12 ")
        })
        .await;
    assert_eq!(get(node.http, "patient", "/").await.code(), Some("H14"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ends_is_started_again_at_once_and_then_ever_later() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let _node = Node::start(data.path());
    let ends_well = Slots::new("well", "worker", command("i32.const 0"), Shape::CommandP2);
    let ends_badly = Slots::new("badly", "worker", command("i32.const 1"), Shape::CommandP2);
    let traps = Slots::new("traps", "worker", command("unreachable"), Shape::CommandP2);
    let begun = Instant::now();
    plane.assign(&[ends_well, ends_badly, traps]);
    for (app, message, code) in [
        ("well", "exited with code 0", None),
        ("badly", "exited with code 1", None),
        ("traps", "unreachable", Some(Code::R23)),
    ] {
        let id = format!("{app}/v1/worker.1@1");
        let report = plane
            .report("a second start", &id, |report| report.restarts == 1)
            .await;
        let failure = report.last_failure.expect("a failure");
        assert!(failure.message.contains(message), "{}", failure.message);
        assert_eq!(failure.code, code);
        let report = plane
            .report("a wait", &id, |report| {
                report.restarts == 1 && report.state == InstanceState::Crashed
            })
            .await;
        let wait = report.retry_at.expect("a time").duration_since(report.since);
        assert!(
            (700..=1_300).contains(&wait.as_millis()),
            "the second wait is a second: {wait:?}"
        );
    }
    println!("after {:?}", begun.elapsed());
    plane
        .line("its end", |line| {
            line.source == "worker.1" && line.text.contains("v1 crashed: exited with code 1")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_web_command_is_back_within_a_second_and_requests_wait_for_it() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    let mut echo = Slots::echo_tcp("echo");
    echo.limits = Limits {
        memory_bytes_max: 2 << 20,
        ..echo.limits
    };
    plane.assign(&[echo]);
    let before = plane.running(&["echo/v1/web.1@1"]).await;
    // More than its memory has room for: the guest aborts.
    let body = Bytes::from(vec![b'x'; 1_000_000]);
    let crash = send_with(
        node.http,
        Request::post("/echo").header("host", "echo.localhost"),
        body,
    )
    .await;
    assert_eq!((crash.status, crash.code()), (502, Some("H13")), "{crash:?}");
    let begun = Instant::now();
    // It may be starting still; then the request waits.
    let answer = get(node.http, "echo", "/").await;
    assert_eq!((answer.status, answer.code()), (200, None), "{answer:?}");
    plane
        .report("it is back", "echo/v1/web.1@1", |r| {
            r.restarts == 1 && r.state == InstanceState::Running
        })
        .await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let after = plane.running(&["echo/v1/web.1@1"]).await;
    assert_eq!(before[0].port, after[0].port, "the port stays");
    assert_eq!(
        after[0].last_failure.as_ref().and_then(|failure| failure.code),
        Some(Code::R14)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_becomes_ready_says_why() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    let idle = Slots {
        args: vec!["worker.wasm", "--interval", "60"],
        limits: Limits {
            boot_ms_max: 300,
            ..Limits::default()
        },
        process: "web",
        ..Slots::worker("deaf", &[])
    };
    let truncated = {
        let mut component = support::sample("guestbook/web.wasm");
        component.truncate(component.len() / 2);
        Slots::new("cut", "web", component, Shape::HttpP2)
    };
    let altered = Slots::new("altered", "worker", command("i32.const 0"), Shape::CommandP2);
    let stranger = command_with(
        r#"(import "other:thing/x@1.0.0" (instance (export "f" (func))))"#,
        "i32.const 0",
    );
    let stranger = Slots::new("stranger", "worker", stranger, Shape::CommandP2);
    plane.assign(&[]);
    plane.assign(&[idle, truncated, altered.clone(), stranger]);
    plane.corrupt(&altered);
    for (id, code) in [
        ("deaf/v1/web.1@1", Code::R10),
        ("cut/v1/web.1@1", Code::B12),
        ("stranger/v1/worker.1@1", Code::B11),
        ("altered/v1/worker.1@1", Code::R17),
    ] {
        let wanted = |report: &gilliam_model::instance::InstanceReport| report.last_failure.is_some();
        let failure = plane
            .report(id, id, wanted)
            .await
            .last_failure
            .expect("a failure");
        assert_eq!(failure.code, Some(code), "{id}: {}", failure.message);
    }
    plane
        .report("a wait", "cut/v1/web.1@1", |r| {
            r.state == InstanceState::Crashed && r.restarts > 0
        })
        .await;
    let answer = get(node.http, "cut", "/").await;
    assert_eq!((answer.status, answer.code()), (503, Some("H10")), "{answer:?}");
}
