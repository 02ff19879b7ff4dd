//! The server against real sockets: protocols, limits of clients, drain.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use gilliam_serve::{BindError, DrainOutcome, DrainTrigger, Peer, ServeConfig, bind, drain};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

const DEADLINE: Duration = Duration::from_secs(10);

struct Running {
    address: SocketAddr,
    trigger: DrainTrigger,
    outcome: JoinHandle<DrainOutcome>,
    arrived: Arc<Notify>,
    release: Arc<Notify>,
}

/// A server that answers `GET /` with the client's address, and holds `GET /hold` until released.
fn start(change: impl FnOnce(&mut ServeConfig)) -> Running {
    let mut config = ServeConfig::new("127.0.0.1:0".parse().expect("address"));
    change(&mut config);
    let (server, address) = bind(&config).expect("bind");
    let (trigger, signal) = drain::channel();
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (arrived2, release2) = (arrived.clone(), release.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (arrived, release) = (arrived2.clone(), release2.clone());
        async move {
            let peer = *request.extensions().get::<Peer>().expect("peer");
            if request.uri().path() == "/hold" {
                arrived.notify_one();
                release.notified().await;
            }
            let body = request
                .into_body()
                .collect()
                .await
                .map(|body| body.to_bytes().len());
            let text = format!("{} {}", peer.remote.ip(), body.unwrap_or_default());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    let outcome = tokio::spawn(server.run(service, signal));
    Running {
        address,
        trigger,
        outcome,
        arrived,
        release,
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("connect")
}

/// Sends bytes and reads until the server closes.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address).await;
    stream.write_all(bytes).await.expect("send");
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .expect("closed in time");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = timeout(DEADLINE, stream.read_buf(&mut answer))
            .await
            .expect("in time")
            .expect("read");
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn http1_and_h2c_are_served_on_one_port() {
    let server = start(|_| {});
    let answer = exchange(
        server.address,
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("127.0.0.1 0"),
        "{answer}"
    );
    let answer = exchange(
        server.address,
        b"PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
    )
    .await;
    assert!(answer.ends_with("127.0.0.1 3"), "{answer}");

    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let uri = format!("http://{}/", server.address).parse().expect("uri");
    let answer = client.get(uri).await.expect("h2c");
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(
        answer.into_body().collect().await.expect("body").to_bytes(),
        "127.0.0.1 0"
    );
}

#[tokio::test]
async fn an_address_in_use_is_named_with_a_way_out() {
    let server = start(|_| {});
    let error = bind(&ServeConfig::new(server.address)).expect_err("in use");
    assert!(matches!(error, BindError::InUse { .. }));
    assert_eq!(error.to_string(), format!("{} is already in use", server.address));
    assert!(error.hint().expect("hint").contains("port 0"));
}

#[tokio::test]
async fn heads_over_the_limits_are_answered_with_431() {
    let server = start(|_| {});
    let many = (0..101).map(|i| format!("x-{i}: 1\r\n")).collect::<String>();
    let long = format!("x-long: {}\r\n", "a".repeat(33 << 10));
    for headers in [many, long] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

/// A status in words that no other part writes.
fn refusal(status: http::StatusCode) -> Response<Bytes> {
    let response = Response::builder().status(status).header("x-code", "C1");
    response
        .body(Bytes::from(format!("refused: {}\n", status.as_u16())))
        .expect("response")
}

#[tokio::test]
async fn heads_that_cannot_be_read_are_answered_in_the_servers_words() {
    let server = start(|config| config.refusal = Some(refusal));
    let long = "x".repeat(70_000);
    let many = (0..101).map(|i| format!("x-{i}: 1\r\n")).collect::<String>();
    let good = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for (head, status) in [
        ("\0\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.2\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n".to_owned(), 400),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), 431),
    ] {
        let shown = &head[..head.len().min(40)];
        for before in ["", good, &good.repeat(20)] {
            let answer = exchange(server.address, format!("{before}{head}").as_bytes()).await;
            let (answers, refusal) = answer.split_at(answer.rfind("HTTP/1.1").expect("an answer"));
            assert_eq!(
                answers.matches("127.0.0.1 3").count(),
                before.len() / good.len(),
                "{shown:?}"
            );
            assert!(!answers.contains("x-code"), "{answers}");
            assert!(
                refusal.starts_with(&format!("HTTP/1.1 {status} ")),
                "{shown:?}: {refusal}"
            );
            for part in ["\r\nx-code: C1\r\n", "\r\nconnection: close\r\n", "\r\ndate: "] {
                assert!(refusal.contains(part), "{part:?} in {refusal}");
            }
            assert!(
                refusal.ends_with(&format!("\r\ncontent-length: 13\r\n\r\nrefused: {status}\n")),
                "{refusal}"
            );
        }
    }
    let answer = exchange(
        server.address,
        format!("HEAD / HTTP/1.1\r\n{many}\r\n").as_bytes(),
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 431 ") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_the_service_answers_is_never_taken_for_a_refusal() {
    const BARE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let mut config = ServeConfig::new("127.0.0.1:0".parse().expect("address"));
    config.refusal = Some(refusal);
    let (server, address) = bind(&config).expect("bind");
    let (_trigger, signal) = drain::channel();
    // Bodies that end in what hyper writes by itself, in pieces that come when all before is flushed.
    let service = service_fn(|_request: Request<Incoming>| async {
        let pieces = futures::stream::unfold(0, |n| async move {
            tokio::task::yield_now().await;
            let piece = (n < 3).then(|| http_body::Frame::data(Bytes::from_static(BARE.as_bytes())));
            piece.map(|piece| (Ok::<_, Infallible>(piece), n + 1))
        });
        let response = Response::builder().header("content-length", 3 * BARE.len());
        let body = http_body_util::StreamBody::new(pieces);
        Ok::<_, Infallible>(response.body(body).expect("response"))
    });
    tokio::spawn(server.run(service, signal));
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3);
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = exchange(address, format!("{request}{last}").as_bytes()).await;
    assert_eq!(answer.matches(BARE).count(), 12, "{answer}");
    assert!(!answer.contains("x-code"), "{answer}");
}

#[tokio::test]
async fn slow_heads_are_cut_and_idle_connections_closed() {
    let server = start(|config| {
        config.head_timeout = Duration::from_millis(200);
        config.idle_timeout = Duration::from_millis(600);
    });
    for head in ["", "P", "PRI * HT", "GET / HTTP/1.1\r\nHo"] {
        assert_eq!(exchange(server.address, head.as_bytes()).await, "", "{head:?}");
    }
    let mut stream = connect(server.address).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("send");
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    let begun = std::time::Instant::now();
    read_to_end(&mut stream).await;
    assert!(
        begun.elapsed() > Duration::from_millis(400),
        "idle time is not head time"
    );
}

#[tokio::test]
async fn a_request_in_progress_is_not_idle() {
    let server = start(|config| config.idle_timeout = Duration::from_millis(100));
    let mut stream = connect(server.address).await;
    stream
        .write_all(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("send");
    let wait = timeout(Duration::from_millis(500), read_to_end(&mut stream)).await;
    assert!(wait.is_err(), "the connection was closed during a request");
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let server = start(|config| config.connections_max = 1);
    let mut first = connect(server.address).await;
    first
        .write_all(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("send");
    server.arrived.notified().await;
    let mut second = connect(server.address).await;
    second
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .expect("send");
    let early = timeout(Duration::from_millis(200), second.read_u8()).await;
    assert!(early.is_err(), "answered while the only place was taken");
    server.release.notify_one();
    assert!(read_head(&mut first).await.starts_with("HTTP/1.1 200"));
    drop(first);
    assert!(read_to_end(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_drain_finishes_requests_in_flight_and_says_so() {
    let server = start(|_| {});
    let mut idle = connect(server.address).await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("send");
    read_head(&mut idle).await;
    let mut busy = connect(server.address).await;
    busy.write_all(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("send");
    server.arrived.notified().await;

    server.trigger.drain(DEADLINE);
    read_to_end(&mut idle).await;
    assert!(!server.outcome.is_finished(), "a request is in flight");
    server.release.notify_one();
    let answer = read_to_end(&mut busy).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"),
        "{answer}"
    );
    assert_eq!(server.outcome.await.expect("joined"), DrainOutcome::Finished);
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "still listening"
    );
}

#[tokio::test]
async fn a_drain_that_runs_out_of_grace_counts_what_it_cut() {
    let server = start(|_| {});
    let mut busy = connect(server.address).await;
    busy.write_all(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("send");
    server.arrived.notified().await;
    server.trigger.drain(Duration::from_millis(50));
    assert_eq!(
        server.outcome.await.expect("joined"),
        DrainOutcome::TimedOut { connections: 1 }
    );
    assert_eq!(read_to_end(&mut busy).await, "");
}
