//! Nodes that take each other's requests: two or three real nodes with certificates of one CA.

mod support;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use gilliam_model::{
    identity::{SERVER_DNS, node_dns},
    log::LogStream,
};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{
    Slots,
    cluster::{Authority, Member},
    http::{Answer, get, send, send_with},
    wait,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// Has `member` serve requests for the app, and run it or not.
async fn assign(member: &Member, count: u32) {
    member.plane.assign(&[Slots::guestbook("guestbook", count)]);
    let ids: &[&str] = if count == 0 {
        &[]
    } else {
        &["guestbook/v1/web.1@1"]
    };
    member.plane.running(ids).await;
    wait("the assignment", || {
        (member.plane.node_generation() > 0).then_some(())
    })
    .await;
}

/// The answer of the first request that another node served.
async fn served_from(member: &Member, build: impl Fn() -> http::request::Builder) -> Answer {
    let ask = async {
        loop {
            let answer = send(member.node.http, build().header("host", "guestbook.localhost")).await;
            if answer.status == 200 {
                return answer;
            }
            assert_eq!(answer.code(), Some("H14"), "{answer:?}");
            tokio::task::yield_now().await;
        }
    };
    timeout(support::DEADLINE, ask)
        .await
        .expect("an answer of another node")
}

fn node_of(answer: &Answer) -> String {
    let line = answer
        .body
        .lines()
        .find_map(|line| line.strip_prefix("GILLIAM_NODE="));
    line.unwrap_or_else(|| panic!("no node in {answer:?}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_a_node_without_instances_is_served_by_another() {
    let authority = Authority::new();
    let (n1, n2) = (authority.member("n1"), authority.member("n2"));
    assign(&n1, 0).await;
    assign(&n2, 1).await;
    n1.plane
        .set_peers("guestbook", &[("n1", n1.peer()), ("n2", n2.peer())]);
    let forged = || {
        Request::get("/env")
            .header("gilliam-app", "other")
            .header("x-forwarded-for", "6.6.6.6")
    };
    let answer = served_from(&n1, forged).await;
    assert_eq!(node_of(&answer), "n2");
    assert_eq!(
        answer.header("gilliam-load"),
        None,
        "what nodes tell each other stays between them"
    );

    // The node that ran the guest writes the line, under the id that the client got.
    let id = answer.header("x-request-id").expect("an id").to_owned();
    let line = n2.plane.router_line(&format!("request_id={id}")).await;
    assert!(
        line.contains("instance=web.1") && line.contains("fuel="),
        "{line}"
    );
    assert!(line.contains("host=guestbook.localhost"), "{line}");

    // A body goes there, and its answer comes back.
    let post = Request::post("/sink").header("host", "guestbook.localhost");
    let sent = send_with(n1.node.http, post, Bytes::from(vec![b'x'; 3 << 20])).await;
    assert!(sent.body.contains(&(3 << 20).to_string()), "{sent:?}");
    let answer = get(n1.node.http, "guestbook", "/big?bytes=1000000").await;
    assert_eq!((answer.status, answer.body.len()), (200, 1_000_000));
    let head = Request::head("/").header("host", "guestbook.localhost");
    let head = send(n1.node.http, head).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));

    // The line of a failure is the first that the node in front writes.
    n1.plane.set_peers("guestbook", &[]);
    wait_for_code(&n1, "H14").await;
    n1.plane.router_line("code=H14").await;
    let lines = n1.plane.lines();
    let routed = lines.iter().filter(|line| line.stream == LogStream::Router);
    assert!(
        routed.clone().all(|line| line.text.contains("code=H14")),
        "{lines:?}"
    );
}

async fn wait_for_code(member: &Member, code: &str) {
    let ask = async {
        while get(member.node.http, "guestbook", "/env").await.code() != Some(code) {
            tokio::task::yield_now().await;
        }
    };
    timeout(support::DEADLINE, ask).await.expect("the code in time");
}

/// Three nodes of a cluster: n1 without an instance, which is told of both others, n2 with so many, n3 with one.
async fn three(on_n2: u32) -> [Member; 3] {
    let authority = Authority::new();
    let nodes = ["n1", "n2", "n3"].map(|name| authority.member(name));
    let [n1, n2, n3] = &nodes;
    assign(n1, 0).await;
    assign(n2, on_n2).await;
    assign(n3, 1).await;
    n1.plane
        .set_peers("guestbook", &[("n2", n2.peer()), ("n3", n3.peer())]);
    served_from(n1, || Request::get("/env")).await;
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_elsewhere_when_a_node_dies() {
    let [n1, n2, _n3] = three(1).await;
    let mut nodes = BTreeSet::new();
    for _ in 0..4 {
        nodes.insert(node_of(&get(n1.node.http, "guestbook", "/env").await));
    }
    assert_eq!(
        nodes.into_iter().collect::<Vec<_>>(),
        ["n2", "n3"],
        "both take turns"
    );

    // Nobody has told n1 yet. No request is in flight, so none may fail.
    n2.kill().await;
    for _ in 0..20 {
        let answer = get(n1.node.http, "guestbook", "/env").await;
        assert_eq!(
            (answer.status, node_of(&answer).as_str()),
            (200, "n3"),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_body_goes_elsewhere_when_a_node_has_no_instance_any_more() {
    let [n1, n2, _n3] = three(0).await;
    for _ in 0..6 {
        let post = Request::post("/sink").header("host", "guestbook.localhost");
        let sent = send_with(n1.node.http, post, Bytes::from(vec![b'x'; 40_000])).await;
        assert!(sent.status == 200 && sent.body.contains("40000"), "{sent:?}");
    }
    n2.plane.router_line("status=421").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_an_instance_that_starts_on_another_node() {
    let authority = Authority::new();
    let (n1, n2) = (authority.member("n1"), authority.member("n2"));
    assign(&n1, 0).await;
    let starts = n1.plane.set_shares("guestbook", 0, &[("n2", n2.peer())]);
    n1.plane.follows_peers(starts).await;
    let http = n1.node.http;
    let early = tokio::spawn(async move { get(http, "guestbook", "/env").await });
    assign(&n2, 1).await;
    n1.plane.set_peers("guestbook", &[("n2", n2.peer())]);
    let answer = early.await.expect("an answer");
    assert_eq!(node_of(&answer), "n2", "{answer:?}");

    // Nobody tells that it runs by now: its node knows.
    let old = n1.plane.set_shares("guestbook", 0, &[("n2", n2.peer())]);
    n1.plane.follows_peers(old).await;
    for _ in 0..20 {
        assert_eq!(node_of(&get(http, "guestbook", "/env").await), "n2");
    }
    // What cannot start after all is not waited for.
    let none = n1.plane.set_shares("guestbook", 0, &[]);
    n1.plane.follows_peers(none).await;
    assert_eq!(get(http, "guestbook", "/env").await.code(), Some("H14"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_without_a_control_plane_knows_the_others() {
    let [n1, n2, n3] = three(1).await;
    wait("the table on disk", || {
        n1.data.path().join("node/peers.json").exists().then_some(())
    })
    .await;
    n2.kill().await;
    let n1 = n1.alone_again().await;
    for _ in 0..20 {
        let answer = get(n1.node.http, "guestbook", "/env").await;
        assert_eq!(node_of(&answer), "n3", "{answer:?}");
    }
    drop(n3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_sent_to_another_is_not_sent_on() {
    let authority = Authority::new();
    let (n1, n2, n3) = (
        authority.member("n1"),
        authority.member("n2"),
        authority.member("n3"),
    );
    assign(&n1, 0).await;
    assign(&n2, 0).await;
    assign(&n3, 1).await;
    n2.plane.set_peers("guestbook", &[("n3", n3.peer())]);
    assert_eq!(node_of(&served_from(&n2, || Request::get("/env")).await), "n3");
    // n2 knows the way to n3, and is asked by another node.
    n1.plane.set_peers("guestbook", &[("n2", n2.peer())]);
    let line = async {
        let ask = async {
            loop {
                let answer = get(n1.node.http, "guestbook", "/env").await;
                assert_eq!((answer.status, answer.code()), (503, Some("H14")), "{answer:?}");
            }
        };
        tokio::select! {
            line = n2.plane.router_line("status=421") => line,
            () = ask => unreachable!("it asks for ever"),
        }
    };
    assert!(line.await.contains("code=H14"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_nodes_gets_in_where_nodes_do() {
    let authority = Authority::new();
    let n1 = authority.member("n1");
    assign(&n1, 1).await;
    let n2 = node_dns(&"n2".parse().expect("name")).expect("a host name");
    let of_node = ask_as_node(&n1, &authority, Some(&n2)).await.expect("an answer");
    assert_eq!(of_node, (200, None));
    let of_server = ask_as_node(&n1, &authority, Some(SERVER_DNS))
        .await
        .expect("an answer");
    assert_eq!(of_server, (421, Some("H31".to_owned())));
    assert!(
        ask_as_node(&n1, &authority, None).await.is_err(),
        "no certificate"
    );
    let others = Authority::new();
    let foreign = others.caller(Some(&n2));
    assert!(
        ask(&n1, foreign).await.is_err(),
        "a certificate of another cluster"
    );
}

async fn ask_as_node(
    to: &Member,
    authority: &Authority,
    dns: Option<&str>,
) -> Result<(u16, Option<String>), String> {
    ask(to, authority.caller(dns)).await
}

/// Status and code of the answer to what a node would send.
async fn ask(to: &Member, mut settings: rustls::ClientConfig) -> Result<(u16, Option<String>), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    settings.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(to.peer()).await.map_err(|e| failed(&e))?;
    let dns = node_dns(&"n1".parse().expect("name")).expect("a host name");
    let connector = TlsConnector::from(Arc::new(settings));
    let stream = connector.connect(dns.try_into().expect("a name"), stream);
    let stream = TokioIo::new(stream.await.map_err(|e| failed(&e))?);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
    let (mut sender, connection) = handshake.map_err(|e| failed(&e))?;
    tokio::spawn(connection);
    let request = Request::get("https://guestbook.localhost/env")
        .header("host", "guestbook.localhost")
        .header("gilliam-app", "guestbook")
        .header("gilliam-process", "web")
        .header("x-request-id", "0123");
    let request = request.body(Full::new(Bytes::new())).expect("request");
    let response = timeout(support::DEADLINE, sender.send_request(request)).await;
    let response = response.expect("an end in time").map_err(|e| failed(&e))?;
    let code = response.headers().get("gilliam-error");
    let code = code.map(|code| code.to_str().expect("text").to_owned());
    let status = response.status().as_u16();
    response.into_body().collect().await.map_err(|e| failed(&e))?;
    Ok((status, code))
}
