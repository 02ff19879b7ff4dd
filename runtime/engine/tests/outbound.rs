//! Outgoing requests: only to what is granted, only to vetted addresses, only so many.

mod support;

use std::net::SocketAddr;

use gilliam_engine::HttpInstance;
use gilliam_model::{code::Code, limits::Limits};
use support::{Log, config, fetch, guestbook, process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A server that answers every connection with its request's first line, and counts nothing.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let read = stream.read_buf(&mut request).await.expect("read");
                    // What does not begin like HTTP, such as TLS, is hung up on.
                    if read == 0 || !request[0].is_ascii_uppercase() {
                        return;
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let length = request.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{request}");
                stream.write_all(answer.as_bytes()).await.expect("write");
            });
        }
    });
    address
}

async fn start(outbound: &[&str], outbound_max: u32) -> (HttpInstance, Log) {
    let (mut config, log) = config(Limits {
        outbound_max,
        ..Limits::default()
    });
    process(&mut config).outbound = outbound.iter().map(|grant| grant.parse().expect(grant)).collect();
    (
        HttpInstance::start(&guestbook(), config).await.expect("starts"),
        log,
    )
}

/// What `/fetch` answers for `url`.
async fn fetched(instance: &HttpInstance, url: &str) -> String {
    fetch(instance, &format!("/fetch?url={url}"))
        .await
        .expect("an answer")
        .body
}

#[tokio::test]
async fn a_granted_private_address_is_reached() {
    let address = server().await;
    for grant in [format!("http://{address}"), "*://127.0.0.1:*".to_owned()] {
        let (instance, _log) = start(&[&grant], 64).await;
        let answer = fetched(&instance, &format!("http://{address}/path?x=1")).await;
        assert!(
            answer.starts_with("200\n\nGET /path?x=1 HTTP/1.1\r\n"),
            "{answer}"
        );
        assert!(answer.contains(&format!("host: {address}\r\n")), "{answer}");
    }
    let (instance, _log) = start(&["http://localhost:*"], 64).await;
    let answer = fetched(&instance, &format!("http://localhost:{}/", address.port())).await;
    assert!(answer.starts_with("200\n\nGET / HTTP/1.1\r\n"), "{answer}");
}

#[tokio::test]
async fn what_is_not_granted_is_denied_and_said_so() {
    let address = server().await;
    let (instance, mut log) = start(&[], 64).await;
    let answer = fetched(&instance, &format!("http://{address}/")).await;
    assert!(
        answer.contains("HttpRequestDenied") || answer.contains("http-request-denied"),
        "{answer}"
    );
    assert!(log.platform(Code::N01).await.contains(&address.to_string()));
    let other_port = format!("http://127.0.0.1:{}", address.port() ^ 1);
    let (instance, mut log) = start(&[&other_port, "https://127.0.0.1:*"], 64).await;
    fetched(&instance, &format!("http://{address}/")).await;
    log.platform(Code::N01).await;
}

#[tokio::test]
async fn a_wildcard_reaches_no_private_address_in_any_spelling() {
    let port = server().await.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "10.0.0.1",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
    ] {
        let (instance, mut log) = start(&["*://*:*"], 64).await;
        let answer = fetched(&instance, &format!("http://{host}:{port}/")).await;
        assert!(!answer.starts_with("200"), "{host}: {answer}");
        let entry = log
            .find(|entry| {
                let denied = [Code::N01, Code::N03].map(gilliam_engine::EntryStream::Platform);
                denied.contains(&entry.stream)
            })
            .await;
        assert!(
            entry.text.contains("denied") || entry.text.contains("resolve"),
            "{host}: {entry:?}"
        );
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_said_so() {
    let (instance, mut log) = start(&["*://*:*"], 64).await;
    fetched(&instance, "http://nowhere.invalid/").await;
    assert!(log.platform(Code::N03).await.contains("nowhere.invalid"));
}

#[tokio::test]
async fn connections_are_bounded() {
    let address = server().await;
    let (instance, mut log) = start(&[&format!("http://{address}")], 0).await;
    let answer = fetched(&instance, &format!("http://{address}/")).await;
    assert!(answer.contains("onnection"), "{answer}");
    log.platform(Code::N02).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_or_speaks_no_tls_is_an_error() {
    let address = server().await;
    let (instance, _log) = start(&["*://127.0.0.1:*"], 64).await;
    let answer = fetched(&instance, &format!("https://{address}/")).await;
    assert!(!answer.starts_with("200"), "{answer}");
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind")
        .local_addr()
        .expect("address");
    let answer = fetched(&instance, &format!("http://{gone}/")).await;
    assert!(!answer.starts_with("200"), "{answer}");
    // A permit is given back each time.
    for _ in 0..70 {
        fetched(&instance, &format!("http://{gone}/")).await;
    }
    let answer = fetched(&instance, &format!("http://{address}/")).await;
    assert!(answer.starts_with("200"), "{answer}");
}

#[tokio::test]
async fn user_info_does_not_hide_the_host() {
    let address = server().await;
    let (instance, _log) = start(&["*://*:*", &format!("http://{address}")], 64).await;
    let answer = fetched(&instance, &format!("http://example.com@{address}/")).await;
    assert!(!answer.starts_with("200"), "{answer}");
}
