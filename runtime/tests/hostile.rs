//! Requests that are malformed on purpose, as bytes: none is read in two ways, and none reaches an app it
//! should not.
//!
//! The ids are those of the threat model: I01 to I06.

mod support;

use std::net::SocketAddr;

use support::{
    Node, Plane, Slots,
    http::{get, raw, statuses},
};

async fn guestbook() -> (tempfile::TempDir, Plane, Node) {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    plane.assign(&[Slots::guestbook("a", 1)]);
    plane.running(&["a/v1/web.1@1"]).await;
    (data, plane, node)
}

/// What an attacker hopes the server takes for a second request.
const SMUGGLED: &str = "GET /log?line=SMUGGLED HTTP/1.1\r\nHost: a.localhost\r\n\r\n";

/// Every case is answered with an error and the connection is closed: the smuggled request gets no answer.
async fn refused(node: SocketAddr, cases: &[(&str, String)]) {
    for (name, head) in cases {
        let answer = raw(node, format!("{head}{SMUGGLED}").as_bytes()).await;
        let statuses = statuses(&answer);
        assert!(statuses.len() <= 1, "{name}: {answer}");
        assert!(
            statuses.iter().all(|status| (400..500).contains(status)),
            "{name}: {answer}"
        );
    }
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /sink HTTP/1.1\r\nHost: a.localhost\r\n{headers}\r\n\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn i01_ambiguous_frames_smuggle_nothing() {
    let (_data, plane, node) = guestbook().await;
    let chunked = "0\r\n\r\n";
    let cases = [
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked\r\n x",
        "X: y\rTransfer-Encoding: chunked",
    ];
    let cases: Vec<_> = cases.iter().map(|case| (*case, post(case, chunked))).collect();
    refused(node.http, &cases).await;

    // RFC 9112 section 6.1 lets a server take the chunks for the frame if it closes the connection
    // afterwards.
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ] {
        let answer = raw(
            node.http,
            format!("{}{SMUGGLED}", post(headers, chunked)).as_bytes(),
        )
        .await;
        assert_eq!(statuses(&answer), [400], "{headers}: {answer}");
        assert!(
            answer.to_ascii_lowercase().contains("connection: close"),
            "{headers}: {answer}"
        );
    }
    assert_eq!(get(node.http, "a", "/").await.status, 200);
    plane.router_line("path=/ ").await;
    let smuggled = plane
        .lines()
        .into_iter()
        .find(|line| line.text.contains("SMUGGLED"));
    assert!(smuggled.is_none(), "{smuggled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i02_lengths_that_are_not_one_number_are_refused() {
    let (_data, _plane, node) = guestbook().await;
    let cases = [
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 5 6",
        "Content-Length: ",
        "Content-Length: 18446744073709551616",
    ];
    let cases: Vec<_> = cases.iter().map(|case| (*case, post(case, ""))).collect();
    refused(node.http, &cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i03_malformed_chunks_end_the_connection() {
    let (_data, plane, node) = guestbook().await;
    for chunk in [
        "0x1\r\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "1\r\nxx0\r\n\r\n",
        "fffffffffffffffff\r\nx",
        "-1\r\n\r\n",
    ] {
        let bytes = format!("{}{SMUGGLED}", post("Transfer-Encoding: chunked", chunk));
        let answer = raw(node.http, bytes.as_bytes()).await;
        assert!(statuses(&answer).len() <= 1, "{chunk:?}: {answer}");
        assert!(!answer.contains("HTTP/1.1 200"), "{chunk:?}: {answer}");
    }
    assert_eq!(get(node.http, "a", "/").await.status, 200);
    plane.router_line("path=/ ").await;
    assert!(!plane.lines().iter().any(|line| line.text.contains("SMUGGLED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn i04_malformed_heads_are_refused() {
    let (_data, _plane, node) = guestbook().await;
    let cases = [
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("no host, 1.0", "GET / HTTP/1.0\r\n\r\n".to_owned()),
        (
            "two hosts",
            "GET / HTTP/1.1\r\nHost: a.localhost\r\nHost: b.localhost\r\n\r\n".to_owned(),
        ),
        (
            "a list of hosts",
            "GET / HTTP/1.1\r\nHost: a.localhost, b.localhost\r\n\r\n".to_owned(),
        ),
        (
            "user in host",
            "GET / HTTP/1.1\r\nHost: u@a.localhost\r\n\r\n".to_owned(),
        ),
        (
            "path in host",
            "GET / HTTP/1.1\r\nHost: a.localhost/x\r\n\r\n".to_owned(),
        ),
        (
            "space in host",
            "GET / HTTP/1.1\r\nHost: a .localhost\r\n\r\n".to_owned(),
        ),
        (
            "absolute form of another host",
            "GET http://b.localhost/ HTTP/1.1\r\nHost: a.localhost\r\n\r\n".to_owned(),
        ),
        (
            "space before the colon",
            "GET / HTTP/1.1\r\nHost : a.localhost\r\n\r\n".to_owned(),
        ),
        (
            "folded header",
            "GET / HTTP/1.1\r\nHost: a.localhost\r\nX: y\r\n z\r\n\r\n".to_owned(),
        ),
        (
            "NUL in a header",
            "GET / HTTP/1.1\r\nHost: a.localhost\r\nX: \0\r\n\r\n".to_owned(),
        ),
        (
            "a name that is no token",
            "GET / HTTP/1.1\r\nHost: a.localhost\r\nX(: y\r\n\r\n".to_owned(),
        ),
        (
            "two spaces",
            "GET  / HTTP/1.1\r\nHost: a.localhost\r\n\r\n".to_owned(),
        ),
        (
            "version 1.2",
            "GET / HTTP/1.2\r\nHost: a.localhost\r\n\r\n".to_owned(),
        ),
        ("version 0.9", "GET /\r\n\r\n".to_owned()),
        (
            "a long path",
            format!(
                "GET /{} HTTP/1.1\r\nHost: a.localhost\r\n\r\n",
                "x".repeat(70_000)
            ),
        ),
        (
            "1.0 with chunks",
            "POST / HTTP/1.0\r\nHost: a.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ),
    ];
    refused(node.http, &cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_cannot_be_read_get_the_code_of_bad_requests() {
    let (_data, plane, node) = guestbook().await;
    let port = plane.reports()[0].port.expect("a port");
    let many = (0..200).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    for (head, status) in [
        ("\x16\x03\x01\x02".to_owned(), 400),
        ("GET / HTTP/1.2\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost : a.localhost\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: a.localhost\r\n{many}\r\n"), 431),
    ] {
        for address in [node.http, ([127, 0, 0, 1], port).into()] {
            let answer = raw(address, head.as_bytes()).await;
            assert_eq!(statuses(&answer), [status], "{head:?}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            for line in [
                "gilliam-error: H26",
                "connection: close",
                "content-type: text/plain; charset=utf-8",
            ] {
                assert!(head.lines().any(|found| found == line), "{line} in {head}");
            }
            assert!(body.starts_with("H26 bad request\nreason: the request"), "{body}");
        }
    }
    assert_eq!(get(node.http, "a", "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn i05_tunnels_and_upgrades_are_not_made() {
    let (_data, _plane, node) = guestbook().await;
    let cases = [
        (
            "CONNECT",
            "CONNECT a.localhost:80 HTTP/1.1\r\nHost: a.localhost:80\r\n\r\n".to_owned(),
        ),
        (
            "TRACE",
            "TRACE / HTTP/1.1\r\nHost: a.localhost\r\n\r\n".to_owned(),
        ),
        (
            "OPTIONS *",
            "OPTIONS * HTTP/1.1\r\nHost: a.localhost\r\n\r\n".to_owned(),
        ),
    ];
    refused(node.http, &cases).await;
    for upgrade in ["websocket", "h2c"] {
        let headers = format!(
            "GET /headers HTTP/1.1\r\nHost: a.localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: {upgrade}\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        let answer = raw(node.http, headers.as_bytes()).await;
        assert_eq!(statuses(&answer), [200], "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(!body.to_ascii_lowercase().contains("upgrade"), "{body}");
        assert!(!body.to_ascii_lowercase().contains("http2-settings"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i06_and_i07_pipelined_requests_are_answered_in_order() {
    let (_data, _plane, node) = guestbook().await;
    let mut bytes = String::new();
    for n in 1..=50 {
        bytes += &format!(
            "POST /sink HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: {n}\r\n\r\n{}",
            "x".repeat(n)
        );
    }
    let answer = raw(node.http, bytes.as_bytes()).await;
    assert_eq!(statuses(&answer), [200; 50], "{answer}");
    let mut rest = answer.as_str();
    for n in 1..=50 {
        let at = rest.find("\r\n\r\n").expect("a head");
        rest = &rest[at + 4..];
        assert!(
            rest.trim_start_matches(|c: char| !c.is_ascii_digit())
                .starts_with(&n.to_string()),
            "{n}: {rest}"
        );
    }
    // A request that is refused while its body is on the way: what follows is not taken for a request.
    let refused =
        format!("POST / HTTP/1.1\r\nHost: nobody.localhost\r\nContent-Length: 100\r\n\r\n{SMUGGLED}");
    let answer = raw(node.http, refused.as_bytes()).await;
    assert_eq!(statuses(&answer), [404], "{answer}");
}
