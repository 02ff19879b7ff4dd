//! Calls against a server that speaks raw HTTP over a real socket, so that odd and broken answers can be
//! given.

use std::{
    io,
    sync::{Arc, Mutex},
};

use gilliam_client::{Client, ClientError, DeployRequest, LogQuery};
use gilliam_model::{
    api::{DeployEvent, Rollback},
    code::Code,
    digest::Digest,
    name::AppName,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// A server that gives each connection the next canned answer, and keeps what it was asked.
struct Canned {
    client: Client,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<io::Result<()>>,
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Canned {
    async fn new(answers: Vec<String>) -> Self {
        Self::behind("", answers).await
    }

    /// The same, known as the last of several servers.
    async fn behind(others: &str, answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("{others}http://{}", listener.local_addr().expect("address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        let task = tokio::spawn(async move {
            for answer in answers {
                let (mut connection, _) = listener.accept().await?;
                let mut request = Vec::new();
                while !is_whole(&request) {
                    if connection.read_buf(&mut request).await? == 0 {
                        break;
                    }
                }
                kept.lock()
                    .expect("lock")
                    .push(String::from_utf8_lossy(&request).into_owned());
                connection.write_all(answer.as_bytes()).await?;
            }
            Ok(())
        });
        Self {
            client: Client::new(&url, "gil_id_secret").expect("client"),
            asked,
            task,
        }
    }

    fn asked(&self) -> String {
        self.asked.lock().expect("lock").join("\n---\n")
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|l| {
        l.to_ascii_lowercase()
            .strip_prefix("content-length: ")?
            .parse()
            .ok()
    });
    body.len() >= length.unwrap_or(0)
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn app() -> AppName {
    "hello".parse().expect("name")
}

#[tokio::test]
async fn a_call_shows_the_token_and_reads_the_answer() {
    let server = Canned::new(vec![answer(
        "200 OK",
        r#"{"scale":{"v2":{"web":2}},"release":"v2"}"#,
    )])
    .await;
    let scale = server.client.scale(&app()).await.expect("scale");
    assert_eq!(scale.release.expect("release").to_string(), "v2");
    let asked = server.asked();
    assert!(
        asked.starts_with("GET /v1/apps/hello/scale HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("authorization: Bearer gil_id_secret\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn an_error_answer_keeps_code_message_and_hint() {
    let body = r#"{"code":"A404","message":"no release v9","hint":"gilliam releases lists them"}"#;
    let server = Canned::new(vec![answer("404 Not Found", body)]).await;
    let error = server
        .client
        .rollback(&app(), &Rollback::default())
        .await
        .expect_err("refused");
    assert!(!error.is_transient());
    assert_eq!(error.to_string(), "no release v9");
    let api = error.api().expect("api error");
    assert_eq!(
        (api.code, api.hint.as_deref()),
        (Code::A404, Some("gilliam releases lists them"))
    );
}

#[tokio::test]
async fn another_program_on_the_port_is_recognised() {
    let server = Canned::new(vec![
        answer("200 OK", "<html>hello</html>"),
        answer("500 Internal Server Error", "<html>oops</html>"),
        answer("302 Found", ""),
    ])
    .await;
    for _ in 0..3 {
        let error = server.client.status().await.expect_err("not gilliam");
        assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn nobody_on_the_port_is_unreachable_and_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    drop(listener);
    let error = Client::new(&url, "")
        .expect("client")
        .health()
        .await
        .expect_err("nobody");
    assert!(
        matches!(error, ClientError::Unreachable { .. }) && error.is_transient(),
        "{error:?}"
    );
    assert_eq!(error.to_string(), format!("no gilliam answers at {url}"));
}

/// An address that nobody listens at.
async fn deserted() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    format!("http://{}", listener.local_addr().expect("address"))
}

#[tokio::test]
async fn of_several_servers_the_first_that_can_be_reached_gets_the_whole_call() {
    let others = format!("{},{},", deserted().await, deserted().await);
    let scale = answer("200 OK", r#"{"scale":{"v2":{"web":2}},"release":"v2"}"#);
    let health = answer("200 OK", "{}");
    let failed = r#"{"type":"failed","error":{"code":"B12","message":"web.wasm is cut"}}"#;
    let deployed = answer("200 OK", failed);
    let server = Canned::behind(&others, vec![scale, health, deployed]).await;
    server.client.scale(&app()).await.expect("scale");
    assert!(others.split(',').all(|other| other != server.client.base_url()));
    // An archive can be sent once: by then it is known where to.
    let client = Client::new(&server.client.addresses(), "gil_id_secret").expect("client");
    let request = DeployRequest {
        message: None,
        migrate: true,
        clean: false,
        release_timeout_ms: None,
    };
    let archive = &b"tar bytes"[..];
    client.deploy(&app(), &request, archive, 9).await.expect("head");
    let asked = server.asked();
    let asked: Vec<&str> = asked.split("\n---\n").collect();
    assert!(
        asked[0].starts_with("GET /v1/apps/hello/scale HTTP/1.1\r\n"),
        "{asked:?}"
    );
    assert!(asked[1].starts_with("GET /v1/health HTTP/1.1\r\n"), "{asked:?}");
    assert!(
        asked[2].contains("/deploy?migrate=true HTTP/1.1\r\n"),
        "{asked:?}"
    );
    assert!(asked[2].ends_with("tar bytes"), "{asked:?}");
}

#[tokio::test]
async fn when_none_of_several_servers_can_be_reached_the_last_one_is_named() {
    let (first, last) = (deserted().await, deserted().await);
    let client = Client::new(&format!("{first},{last}"), "").expect("client");
    let error = client.health().await.expect_err("nobody");
    assert_eq!(error.to_string(), format!("no gilliam answers at {last}"));
}

#[tokio::test]
async fn a_deploy_sends_the_archive_and_streams_its_events() {
    let body = concat!(
        r#"{"type":"output","line":"-----> building"}"#,
        "\n\n",
        r#"{"type":"failed","error":{"code":"B12","message":"web.wasm is cut"}}"#,
    );
    let server = Canned::new(vec![answer("200 OK", body)]).await;
    let request = DeployRequest {
        message: Some("first & only".to_string()),
        migrate: false,
        clean: false,
        release_timeout_ms: None,
    };
    let mut events = server
        .client
        .deploy(&app(), &request, &b"tar bytes"[..], 9)
        .await
        .expect("head");
    let first = events.next().await.expect("event");
    assert_eq!(
        first,
        Some(DeployEvent::Output {
            line: "-----> building".to_string()
        })
    );
    assert!(matches!(
        events.next().await.expect("event"),
        Some(DeployEvent::Failed { .. })
    ));
    assert_eq!(events.next().await.expect("end"), None);
    let asked = server.asked();
    assert!(
        asked.contains("deploy?migrate=false&message=first+%26+only HTTP/1.1"),
        "{asked}"
    );
    assert!(asked.ends_with("\r\n\r\ntar bytes"), "{asked}");
}

#[tokio::test]
async fn a_deploy_cut_before_its_last_event_is_an_error() {
    let server = Canned::new(vec![answer("200 OK", r#"{"type":"output","line":"x"}"#)]).await;
    let request = DeployRequest {
        message: None,
        migrate: true,
        clean: false,
        release_timeout_ms: None,
    };
    let mut events = server
        .client
        .deploy(&app(), &request, &b""[..], 0)
        .await
        .expect("head");
    events.next().await.expect("event");
    let error = events.next().await.expect_err("cut");
    assert!(
        matches!(error, ClientError::Interrupted { source: None, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_log_line_without_end_is_refused() {
    let line =
        r#"{"at":"2026-11-21T09:00:00Z","app":"hello","source":"web.1","stream":"stdout","text":"hi"}"#;
    let server = Canned::new(vec![answer(
        "200 OK",
        &format!("{line}\n{}", "x".repeat(200 << 10)),
    )])
    .await;
    let query = LogQuery {
        lines: Some(5),
        follow: true,
        source: Some("web".to_string()),
    };
    let mut lines = server.client.logs(&app(), &query).await.expect("head");
    assert_eq!(lines.next().await.expect("line").expect("line").text, "hi");
    assert!(matches!(lines.next().await, Err(ClientError::Protocol { .. })));
    assert!(
        server
            .asked()
            .starts_with("GET /v1/apps/hello/logs?follow=true&lines=5&source=web ")
    );
}

#[tokio::test]
async fn a_blob_longer_than_allowed_is_refused() {
    let digest = Digest::from_sha256([7; 32]);
    let server = Canned::new(vec![
        answer("200 OK", "0123456789"),
        answer("200 OK", "0123456789"),
    ])
    .await;
    let mut copy = Vec::new();
    assert_eq!(
        server
            .client
            .fetch_blob(&digest, 10, &mut copy)
            .await
            .expect("blob"),
        10
    );
    assert_eq!(copy, b"0123456789");
    let refused = server.client.fetch_blob(&digest, 9, &mut Vec::new()).await;
    assert!(
        matches!(refused, Err(ClientError::Protocol { .. })),
        "{refused:?}"
    );
}
