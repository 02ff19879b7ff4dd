//! Any `wasi:http` component streams both ways in flat memory, passes trailers, and calls out where it may.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;

use crate::{
    client::{get, runtime, try_get},
    platform::{Platform, wait},
};

const GIB: u64 = 1 << 30;
/// What the node's resident memory may grow by while a body passes: buffers, not the body.
const GROWTH_BYTES_MAX: u64 = 128 << 20;

fn resident_bytes(platform: &Platform) -> u64 {
    let pid = platform.node_pid().expect("a node").as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("KiB");
    kib << 10
}

#[test]
fn bodies_of_a_gibibyte_stream_both_ways_in_flat_memory() {
    let platform = Platform::start();
    platform.deploy("guestbook", "guestbook", &["web=1"]);
    get(&platform, "guestbook", "/");
    let before = resident_bytes(&platform);
    let client = crate::platform::client_builder()
        .no_proxy()
        .timeout(Duration::from_secs(300))
        .build()
        .expect("client");
    let url = |path: &str| format!("{}{path}", platform.http());
    let peak = runtime().block_on(async {
        let mut peak = 0;
        let request = client
            .get(url(&format!("/big?bytes={GIB}")))
            .header("host", "guestbook.localhost");
        let mut body = request.send().await.expect("head").bytes_stream();
        let mut read = 0u64;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.expect("chunk");
            if read >> 26 != (read + chunk.len() as u64) >> 26 {
                peak = peak.max(resident_bytes(&platform));
            }
            read += chunk.len() as u64;
        }
        assert_eq!(read, GIB, "every byte of the response arrived");

        let chunk = Bytes::from(vec![b'x'; 1 << 16]);
        let chunks =
            futures::stream::iter((0..GIB >> 16).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
        let request = client.post(url("/sink")).header("host", "guestbook.localhost");
        let answer = request
            .body(reqwest::Body::wrap_stream(chunks))
            .send()
            .await
            .expect("answer");
        peak = peak.max(resident_bytes(&platform));
        let text = answer.text().await.expect("text");
        assert!(
            text.contains(&GIB.to_string()),
            "every byte of the request arrived: {text}"
        );
        peak
    });
    assert!(
        peak < before + GROWTH_BYTES_MAX,
        "memory went from {before} to {peak} bytes"
    );
}

#[test]
fn request_bodies_are_echoed_while_they_arrive_and_trailers_pass() {
    let platform = Platform::start();
    platform.deploy("guestbook", "guestbook", &["web=1"]);
    runtime().block_on(async {
        let address = platform.http().replace("http://", "");
        let stream = tokio::net::TcpStream::connect(address).await.expect("connect");
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .expect("h2c");
        let driver = tokio::spawn(connection);
        let (tx, rx) = tokio::sync::mpsc::channel::<Result<hyper::body::Frame<Bytes>, std::io::Error>>(4);
        let body =
            http_body_util::StreamBody::new(Box::pin(futures::stream::unfold(rx, |mut rx| async move {
                rx.recv().await.map(|frame| (frame, rx))
            })));
        let request = hyper::Request::post("http://guestbook.localhost/trailers")
            .body(body)
            .expect("request");
        let answer = tokio::spawn(async move { sender.send_request(request).await });
        tx.send(Ok(hyper::body::Frame::data(Bytes::from_static(b"first "))))
            .await
            .expect("send");
        let mut body = answer.await.expect("task").expect("answer").into_body();
        let frame = body.frame().await.expect("a frame").expect("frame");
        assert_eq!(
            frame.into_data().expect("data"),
            "first ",
            "it is echoed before the request ends"
        );
        tx.send(Ok(hyper::body::Frame::data(Bytes::from_static(b"second"))))
            .await
            .expect("send");
        drop(tx);
        let rest = body.collect().await.expect("body");
        assert!(
            rest.trailers().is_some_and(|t| !t.is_empty()),
            "the guest's trailers arrive"
        );
        assert_eq!(rest.to_bytes(), "second");
        driver.abort();
    });
}

#[test]
fn only_granted_hosts_can_be_called() {
    let platform = Platform::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().expect("accept");
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).expect("read");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\ncalled";
        stream.write_all(answer).expect("write");
    });
    let project = platform.deploy("caller", "guestbook", &["web=1"]);
    let path = format!("/fetch?url=http://127.0.0.1:{port}/");
    let denied = try_get(&platform, "caller", &path).expect("an answer");
    assert!(!denied.body.contains("called"), "{denied:?}");
    wait("N01 in the log", || {
        platform
            .run(&["logs", "--app", "caller"])
            .stdout
            .contains("N01")
            .then_some(())
    });
    let toml = format!("allowed_outbound_hosts = [\"http://127.0.0.1:{port}\"]\n");
    std::fs::write(project.join("gilliam.toml"), toml).expect("gilliam.toml");
    platform.run_in(&project, &["deploy"]).ok();
    let granted = get(&platform, "caller", &path);
    assert!(granted.body.contains("called"), "{granted:?}");
    server.join().expect("server");
}
