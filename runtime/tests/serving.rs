//! Requests through a real node: routing, headers, bodies, codes, ports.

mod support;

use bytes::Bytes;
use gilliam_model::{image::Shape, limits::Limits};
use http::Request;
use support::{
    Node, Plane, Slots,
    http::{collect, get, h2c_client, send, send_with},
    sample,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn requests_reach_every_instance_of_the_app_their_host_names() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    let mut hello = Slots::new("hello", "web", sample("hello-p3/web.wasm"), Shape::HttpP3);
    hello.config = vec![("GREETING", "hej".to_owned())];
    plane.assign(&[Slots::guestbook("guestbook", 2), hello]);
    let reports = plane
        .running(&["guestbook/v1/web.1@1", "guestbook/v1/web.2@1", "hello/v1/web.1@1"])
        .await;

    let mut instances = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let answer = get(node.http, "guestbook", "/env").await;
        assert_eq!((answer.status, answer.code()), (200, None), "{answer:?}");
        let variable = |name: &str| {
            let line = answer
                .body
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name}=")));
            line.unwrap_or_else(|| panic!("{name} in {}", answer.body))
                .to_owned()
        };
        assert_eq!(variable("GILLIAM_APP"), "guestbook");
        assert_eq!(variable("GILLIAM_RELEASE"), "v1");
        assert_eq!(variable("GILLIAM_PROCESS"), "web");
        assert_eq!(variable("GILLIAM_NODE"), "n1");
        instances.insert(variable("GILLIAM_INSTANCE"));
    }
    assert_eq!(instances.into_iter().collect::<Vec<_>>(), ["web.1", "web.2"]);

    let answer = get(node.http, "hello", "/env").await;
    let port = reports[2].port.expect("a port");
    assert!(answer.body.contains("GREETING=hej"), "{}", answer.body);
    assert!(answer.body.contains(&format!("PORT={port}")), "{}", answer.body);

    let answer = send(
        node.http,
        Request::get("/").header("host", "GUESTBOOK.localhost.:1234"),
    )
    .await;
    assert_eq!(answer.status, 200);
    assert_eq!(node.stop().await, gilliam_serve::DrainOutcome::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_an_instance_serves_it_alone_whatever_host_is_named() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let _node = Node::start(data.path());
    plane.assign(&[Slots::guestbook("guestbook", 2)]);
    let reports = plane
        .running(&["guestbook/v1/web.1@1", "guestbook/v1/web.2@1"])
        .await;
    for report in &reports {
        let address = ([127, 0, 0, 1], report.port.expect("a port")).into();
        for _ in 0..3 {
            let answer = send(address, Request::get("/env").header("host", "anything.example")).await;
            assert!(
                answer
                    .body
                    .contains(&format!("GILLIAM_INSTANCE={}", report.id.label())),
                "{answer:?}"
            );
        }
    }
    plane.assign(&[]);
    plane.running(&[]).await;
    let port = reports[0].port.expect("a port");
    assert!(
        TcpStream::connect(("127.0.0.1", port)).await.is_err(),
        "the port is given back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_listens_on_its_port_is_served_behind_the_ingress() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    plane.assign(&[Slots::echo_tcp("echo")]);
    let reports = plane.running(&["echo/v1/web.1@1"]).await;
    let port = reports[0].port.expect("a port");
    for _ in 0..20 {
        let answer = get(node.http, "echo", "/").await;
        assert_eq!((answer.status, answer.code()), (200, None), "{answer:?}");
    }
    let direct = send(
        ([127, 0, 0, 1], port).into(),
        Request::get("/").header("host", "x"),
    )
    .await;
    assert_eq!(direct.status, 200, "the guest itself listens on its port");
    assert!(plane.router_line("instance=web.1").await.contains("status=200"));
    assert_eq!(node.stop().await, gilliam_serve::DrainOutcome::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ingress_says_where_a_request_comes_from_and_nobody_else_does() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    plane.assign(&[Slots::guestbook("guestbook", 1)]);
    plane.running(&["guestbook/v1/web.1@1"]).await;
    let request = Request::get("/headers")
        .header("host", "guestbook.localhost")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=6.6.6.6")
        .header("x-request-id", "forged")
        .header("connection", "keep-alive, x-secret")
        .header("x-secret", "1")
        .header("x-kept", "yes");
    let answer = send(node.http, request).await;
    let headers = answer.body.to_ascii_lowercase();
    let port = node.http.port();
    for line in [
        "x-forwarded-for: 127.0.0.1".to_owned(),
        "x-forwarded-proto: http".to_owned(),
        "x-forwarded-host: guestbook.localhost".to_owned(),
        format!("x-forwarded-port: {port}"),
        format!("x-request-id: {}", answer.header("x-request-id").expect("an id")),
        "x-kept: yes".to_owned(),
    ] {
        assert!(
            headers.lines().any(|found| found.trim() == line),
            "{line} in\n{headers}"
        );
    }
    for absent in ["6.6.6.6", "forged", "x-secret", "https"] {
        assert!(!headers.contains(absent), "{absent} in\n{headers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_bodies_and_trailers_pass_as_they_come() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    plane.assign(&[Slots::guestbook("guestbook", 1)]);
    plane.running(&["guestbook/v1/web.1@1"]).await;
    let body = Bytes::from(vec![b'x'; 3 << 20]);
    let echo = Request::post("/sink").header("host", "guestbook.localhost");
    let answer = send_with(node.http, echo, body).await;
    assert!(answer.body.contains(&(3 << 20).to_string()), "{answer:?}");
    let head = send(
        node.http,
        Request::head("/").header("host", "guestbook.localhost"),
    )
    .await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));

    let uri: http::Uri = format!("http://{}/big?bytes=1000000", node.http)
        .parse()
        .expect("uri");
    let mut request = Request::get(uri).body(Default::default()).expect("request");
    request
        .headers_mut()
        .insert("host", "guestbook.localhost".parse().expect("host"));
    // hyper takes :authority from the URI, which names the address: two hosts, so refused.
    let answer = collect(h2c_client().request(request).await.expect("answer")).await;
    assert_eq!((answer.status, answer.code()), (400, Some("H26")));

    let stream = TcpStream::connect(node.http).await.expect("connect");
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, http_body_util::Full<Bytes>>(executor, io)
            .await
            .expect("h2c");
    tokio::spawn(connection);
    let request = Request::get("http://guestbook.localhost/big?bytes=1000000");
    let answer = sender
        .send_request(request.body(Default::default()).expect("request"))
        .await;
    let answer = collect(answer.expect("answer")).await;
    assert_eq!((answer.status, answer.body.len()), (200, 1_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_answered_with_one_code() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    let mut small = Slots::guestbook("small", 1);
    small.limits = Limits {
        request_ms_max: 1_000,
        fuel_per_request_max: 200_000_000,
        ..small.limits
    };
    plane.assign(&[
        small,
        Slots {
            count: 1,
            ..Slots::worker("jobs", &["w", "--interval", "60"])
        },
    ]);
    plane.running(&["jobs/v1/worker.1@1", "small/v1/web.1@1"]).await;

    let answer = get(node.http, "nobody", "/").await;
    assert_eq!((answer.status, answer.code()), (404, Some("H81")), "{answer:?}");
    assert!(answer.body.starts_with("H81 no such app\n"), "{}", answer.body);
    let answer = get(node.http, "jobs", "/").await;
    assert_eq!((answer.status, answer.code()), (503, Some("H14")), "{answer:?}");
    let answer = get(node.http, "small", "/sleep?ms=60000").await;
    assert_eq!((answer.status, answer.code()), (504, Some("H12")), "{answer:?}");
    let late = plane.router_line("code=H12").await;
    assert!(figure(&late, "fuel") > 0 && figure(&late, "memory") > 0, "{late}");
    for (path, cause) in [("/trap", "R23"), ("/spin", "R20"), ("/recurse", "R21")] {
        let answer = get(node.http, "small", path).await;
        assert_eq!(
            (answer.status, answer.code()),
            (503, Some("H10")),
            "{path}: {answer:?}"
        );
        let line = plane.router_line(&format!("path={path} ")).await;
        assert!(
            line.contains("code=H10") && line.contains(&format!("cause={cause}")),
            "{line}"
        );
        // What a failed request used is told like that of any other.
        let (fuel, memory) = (figure(&line, "fuel"), figure(&line, "memory"));
        assert!(fuel > 0 && memory > 0, "{line}");
        let burnt_all = fuel >= 200_000_000;
        assert_eq!(burnt_all, cause == "R20", "{line}");
        let failed = |code: &str| {
            let code = format!("\"{code}\"");
            move |report: &gilliam_model::instance::InstanceReport| {
                let failure = report.last_failure.as_ref();
                failure.is_some_and(|f| serde_json::to_string(&f.code).expect("json") == code)
            }
        };
        plane.report(cause, "small/v1/web.1@1", failed(cause)).await;
    }
    let request = Request::get("/trap")
        .header("host", "small.localhost")
        .header("accept", "application/json");
    let answer = send(node.http, request).await;
    let json: serde_json::Value = serde_json::from_str(&answer.body).expect("json");
    assert_eq!(
        (json["code"].as_str(), json["app"].as_str()),
        (Some("H10"), Some("small"))
    );
    assert_eq!(json["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!(
        get(node.http, "small", "/").await.status,
        200,
        "each failed alone"
    );

    let line = plane.router_line("path=/ host=small").await;
    for field in [
        "method=GET",
        "host=small.localhost",
        "status=200",
        "instance=web.1",
        "release=v1",
        "fuel=",
        "ms=",
    ] {
        assert!(line.contains(field), "{field} in {line}");
    }
}

/// A number in a router line.
#[track_caller]
fn figure(line: &str, name: &str) -> u64 {
    let value = line
        .split(' ')
        .find_map(|field| field.strip_prefix(&format!("{name}=")));
    let value = value.unwrap_or_else(|| panic!("no {name} in {line}"));
    value.parse().unwrap_or_else(|_| panic!("{name} in {line}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn full_instances_slow_starts_and_clients_that_leave_have_codes_too() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    let mut narrow = Slots::guestbook("narrow", 1);
    narrow.limits = Limits {
        concurrency_max: 1,
        backlog_max: 0,
        ..narrow.limits
    };
    let mut narrow_tcp = Slots::echo_tcp("tcp");
    narrow_tcp.limits = Limits {
        concurrency_max: 1,
        backlog_max: 0,
        ..narrow_tcp.limits
    };
    let deaf = Slots {
        process: "web",
        ..Slots::worker("deaf", &["w", "--interval", "60"])
    };
    plane.assign(&[narrow, narrow_tcp, deaf]);
    let is_running = |report: &gilliam_model::instance::InstanceReport| {
        report.state == gilliam_model::instance::InstanceState::Running
    };
    plane.report("narrow", "narrow/v1/web.1@1", is_running).await;
    plane.report("tcp", "tcp/v1/web.1@1", is_running).await;

    // A client that holds the only place of an instance, and leaves.
    let hold = |path: &'static str, app: &'static str, body: &'static str| async move {
        let mut stream = TcpStream::connect(node.http).await.expect("connect");
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: {app}.localhost\r\nContent-Length: 10\r\n\r\n{body}");
        stream.write_all(head.as_bytes()).await.expect("send");
        stream
    };
    for (app, path) in [("narrow", "/sink"), ("tcp", "/echo")] {
        let holder = hold(path, app, "half").await;
        let full = async {
            loop {
                let answer = get(node.http, app, "/").await;
                if answer.status != 200 {
                    return answer;
                }
            }
        };
        let answer = tokio::time::timeout(support::DEADLINE, full)
            .await
            .expect("it is full");
        assert_eq!((answer.status, answer.code()), (503, Some("H11")), "{answer:?}");
        drop(holder);
        let line = plane.router_line(&format!("path={path} host={app}")).await;
        assert!(line.contains("status=499") && line.contains("code=H27"), "{line}");
        let free = async { while get(node.http, app, "/").await.status != 200 {} };
        tokio::time::timeout(support::DEADLINE, free)
            .await
            .expect("it is free again");
    }
    let answer = get(node.http, "deaf", "/").await;
    assert_eq!((answer.status, answer.code()), (503, Some("H20")), "{answer:?}");
}
