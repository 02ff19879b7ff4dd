//! What apps get wrong in their responses, and what a client is told of it.

#[path = "../engine/tests/support/guests.rs"]
#[allow(dead_code, unreachable_pub, reason = "the engine's tests use the rest")]
mod guests;
mod support;

use std::net::SocketAddr;

use bytes::Bytes;
use gilliam_model::{image::Shape, instance::InstanceState, limits::Limits};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use support::{
    Node, Plane, Slots,
    http::{collect, get, raw, send, statuses},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A web process that does not listen itself, so that the test can in its place, and answer as it likes.
async fn instead_of_app(plane: &Plane, app: &'static str, answer: fn(&str) -> &'static str) {
    let deaf = Slots {
        process: "web",
        ..Slots::worker(app, &["w", "--interval", "60"])
    };
    plane.assign(&[deaf]);
    let id = format!("{app}/v1/web.1@1");
    let report = plane.report("a port", &id, |report| report.port.is_some()).await;
    let port = report.port.expect("a port");
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("listen");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_one(stream, answer));
        }
    });
    plane
        .report("it runs", &id, |report| report.state == InstanceState::Running)
        .await;
}

/// Reads one head, writes the answer to its path, closes.
async fn answer_one(mut stream: TcpStream, answer: fn(&str) -> &'static str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    let head = String::from_utf8(head).expect("text");
    let path = head.split(' ').nth(1).expect("a path");
    let _ = stream.write_all(answer(path).as_bytes()).await;
}

async fn h2(node: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(node).await.expect("connect");
    let (io, executor) = (
        hyper_util::rt::TokioIo::new(stream),
        hyper_util::rt::TokioExecutor::new(),
    );
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .expect("h2c");
    tokio::spawn(connection);
    sender
}

fn request(method: &str, uri: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(uri);
    request.body(Full::default()).expect("request")
}

fn get_raw(app: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {app}.localhost\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_responses_of_a_server_are_answered_with_h17_or_h13() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    instead_of_app(&plane, "bad", |path| match path {
        "/" => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "/hints" => {
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        }
        "/ssh" => "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "/status" => "HTTP/1.1 99999 Odd\r\n\r\n",
        "/switch" => "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        "/name" => "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        "/lengths" => "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok",
        "/nan" => "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
        "/half-head" => "HTTP/1.1 200 OK\r\ncontent-le",
        _ => "",
    })
    .await;
    for path in ["/", "/hints"] {
        let answer = get(node.http, "bad", path).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "ok"),
            "{path}: {answer:?}"
        );
    }
    for path in ["/ssh", "/status", "/switch", "/name", "/lengths", "/nan"] {
        let answer = get(node.http, "bad", path).await;
        assert_eq!(
            (answer.status, answer.code()),
            (502, Some("H17")),
            "{path}: {answer:?}"
        );
        let line = plane.router_line(&format!("path={path} ")).await;
        assert!(line.contains("status=502") && line.contains("code=H17"), "{line}");
    }
    for path in ["/half-head", "/nothing"] {
        let answer = get(node.http, "bad", path).await;
        assert_eq!(
            (answer.status, answer.code()),
            (502, Some("H13")),
            "{path}: {answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_no_answer_is_h17_from_a_guest_too() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    let handler = "(call $answer (local.get $out) (i32.const 101))";
    let guest = guests::http_guest(guests::ANSWER, handler);
    plane.assign(&[Slots::new("switch", "web", guest, Shape::HttpP2)]);
    plane.running(&["switch/v1/web.1@1"]).await;
    let answer = get(node.http, "switch", "/").await;
    assert_eq!((answer.status, answer.code()), (502, Some("H17")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_never_looks_whole() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    // Sends a hundred pieces of a body without a length, and traps.
    let flush = r#"(import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
        (func $flush (param i32 i32 i32 i32)))"#;
    let handler = "(local $stream i32) (local $left i32)
        (local.set $stream (call $open (local.get $out)))
        (i32.store (i32.const 40) (i32.const 0x666c6168))
        (local.set $left (i32.const 100))
        (loop
            (call $flush (local.get $stream) (i32.const 40) (i32.const 4) (i32.const 16))
            (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        unreachable";
    let guest = guests::http_guest(&format!("{flush}{}", guests::ANSWER), handler);
    let trap = Slots::new("trap", "web", guest, Shape::HttpP2);
    // Sends one piece, and traps before anything can be written to the client.
    let handler = "(local $stream i32)
        (local.set $stream (call $open (local.get $out)))
        (call $check-write (local.get $stream) (i32.const 16))
        (i32.store (i32.const 40) (i32.const 0x666c6168))
        (call $write-bytes (local.get $stream) (i32.const 40) (i32.const 4) (i32.const 16))
        unreachable";
    let guest = guests::http_guest(guests::ANSWER, handler);
    let abrupt = Slots::new("abrupt", "web", guest, Shape::HttpP2);
    let mut short = Slots::guestbook("short", 1);
    short.limits = Limits {
        fuel_per_request_max: 100_000,
        ..short.limits
    };
    plane.assign(&[abrupt, trap, short]);
    plane
        .running(&["abrupt/v1/web.1@1", "short/v1/web.1@1", "trap/v1/web.1@1"])
        .await;

    for app in ["abrupt", "trap"] {
        let answer = raw(node.http, get_raw(app, "/").repeat(2).as_bytes()).await;
        assert_eq!(
            statuses(&answer),
            [200],
            "{app}: the connection is closed: {answer}"
        );
        for part in ["transfer-encoding: chunked", "\r\n4\r\nhalf\r\n"] {
            assert!(answer.contains(part), "{app}: {part:?} in {answer}");
        }
        assert!(
            !answer.contains("\r\n0\r\n"),
            "{app}: the last chunk is missing: {answer}"
        );
    }

    let big = "/big?bytes=100000000";
    let answer = raw(node.http, get_raw("short", big).repeat(2).as_bytes()).await;
    assert_eq!(statuses(&answer), [200], "{} bytes", answer.len());
    assert!(answer.contains("content-length: 100000000\r\n") && answer.len() < 100_000_000);

    let mut sender = h2(node.http).await;
    for uri in [
        format!("http://short.localhost{big}"),
        "http://trap.localhost/".to_owned(),
    ] {
        let answer = sender.send_request(request("GET", &uri)).await.expect("a head");
        assert_eq!(answer.status(), 200);
        answer
            .into_body()
            .collect()
            .await
            .expect_err("the stream is reset");
    }
    let answer = sender
        .send_request(request("GET", "http://short.localhost/ok"))
        .await;
    let answer = collect(answer.expect("the connection goes on")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));

    for (path, cause) in [("path=/big", "R20"), ("path=/ host=trap", "R23")] {
        let line = plane.router_line(path).await;
        for field in ["status=200", "code=H18", &format!("cause={cause}")] {
            assert!(line.contains(field), "{field} in {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_closes_in_the_middle_of_a_body_is_h18() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    instead_of_app(&plane, "half", |path| match path {
        "/chunks" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        _ => "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf",
    })
    .await;
    for path in ["/chunks", "/length"] {
        let answer = raw(node.http, get_raw("half", path).repeat(2).as_bytes()).await;
        assert_eq!(statuses(&answer), [200], "{path}: {answer}");
        assert!(
            answer.contains("half") && !answer.contains("\r\n0\r\n"),
            "{path}: {answer}"
        );
        let line = plane.router_line(&format!("path={path} ")).await;
        assert!(line.contains("status=200") && line.contains("code=H18"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_have_no_body_get_none() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    // Writes a body whatever the status.
    let guest = |status: u16| {
        let handler = format!(
            "(local $made i32)
            (local.set $made (call $response (call $fields)))
            (drop (call $status (local.get $made) (i32.const {status})))
            (call $body (local.get $made) (i32.const 0))
            (call $write (i32.load (i32.const 4)) (i32.const 8))
            (call $set (local.get $out) (i32.const 0) (local.get $made)
                (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
            (call $check-write (i32.load (i32.const 12)) (i32.const 16))
            (call $write-bytes (i32.load (i32.const 12)) (i32.const 40) (i32.const 4) (i32.const 16))"
        );
        guests::http_guest(guests::ANSWER, &handler)
    };
    let web = |app, status| Slots::new(app, "web", guest(status), Shape::HttpP2);
    plane.assign(&[Slots::guestbook("book", 1), web("empty", 204), web("same", 304)]);
    plane
        .running(&["book/v1/web.1@1", "empty/v1/web.1@1", "same/v1/web.1@1"])
        .await;

    let cases = [
        ("HEAD", "book", "/big?bytes=1000000", 200, None),
        ("HEAD", "book", "/echo", 200, None),
        ("HEAD", "nobody", "/", 404, Some("H81")),
        ("HEAD", "book", "/trap", 503, Some("H10")),
        ("GET", "empty", "/", 204, None),
        ("GET", "same", "/", 304, None),
    ];
    let mut sender = h2(node.http).await;
    for (method, app, path, status, code) in cases {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {app}.localhost\r\n\r\n");
        let next = "GET /ok HTTP/1.1\r\nHost: book.localhost\r\nConnection: close\r\n\r\n";
        let answer = raw(node.http, format!("{head}{next}").as_bytes()).await;
        assert_eq!(statuses(&answer), [status, 200], "{method} {app}{path}: {answer}");
        let (_, rest) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(
            rest.starts_with("HTTP/1.1 200 OK"),
            "{method} {app}{path}: {rest}"
        );

        let uri = format!("http://{app}.localhost{path}");
        let answer = sender
            .send_request(request(method, &uri))
            .await
            .expect("an answer");
        let answer = collect(answer).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, ""),
            "{method} {uri}"
        );
        assert_eq!(answer.code(), code, "{method} {uri}");
    }
    let answer = send(
        node.http,
        Request::head("/big?bytes=7").header("host", "book.localhost"),
    )
    .await;
    assert_eq!(answer.header("content-length"), Some("7"));
    for app in ["empty", "same"] {
        let line = plane.router_line(&format!("host={app}.localhost")).await;
        assert!(line.contains("bytes=0") && !line.contains("code="), "{line}");
    }
}
