//! Requests of guests to `NAME.internal`: answered inside the platform, before any grant, and within the limits of
//! any request.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use gilliam_engine::{
    Chain, CommandInstance, HttpInstance, Internal, InternalAnswer, InternalBody, InternalDoor, Leaving,
    Refusal,
};
use gilliam_model::{code::Code, limits::Limits};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use support::{Log, config, fetch, guestbook, loaded, process, until};

/// The other end: it says what it was asked.
#[derive(Debug, Default)]
struct Echo {
    /// Doors that are open.
    inside: Arc<AtomicUsize>,
    /// Requests under way.
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Door {
    label: String,
    inside: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
}

/// Counted while it exists.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Internal for Echo {
    fn chain(&self, served: &HeaderMap) -> Chain {
        Chain {
            request_id: served.get("x-request-id").cloned(),
            depth: 3,
        }
    }

    fn enter(&self, label: &str) -> Arc<dyn InternalDoor> {
        self.inside.fetch_add(1, SeqCst);
        Arc::new(Door {
            label: label.to_owned(),
            inside: self.inside.clone(),
            waiting: self.waiting.clone(),
        })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.inside.fetch_sub(1, SeqCst);
    }
}

fn body(bytes: impl Into<Bytes>) -> InternalBody {
    let body = Full::new(bytes.into());
    body.map_err(|never| match never {}).boxed_unsync()
}

impl InternalDoor for Door {
    fn leave(&self, end: Leaving) {
        assert_eq!(end, Leaving::Stopped, "it was killed");
    }

    fn call(&self, name: &str, request: Request<InternalBody>, chain: Chain) -> InternalAnswer {
        let (label, name, waiting) = (self.label.clone(), name.to_owned(), Counted::new(&self.waiting));
        Box::pin(async move {
            let _waiting = waiting;
            match name.as_str() {
                "never" => std::future::pending().await,
                "large" => Ok(Response::new(body(vec![b'x'; 1 << 20]))),
                "panics" => panic!("a defect of the other end"),
                "echo" => {
                    let id = chain.request_id.map(|id| id.to_str().expect("text").to_owned());
                    let text = format!(
                        "{label} {} {} id={id:?} depth={} host={:?}",
                        request.method(),
                        request.uri(),
                        chain.depth,
                        request.headers().get("host"),
                    );
                    Ok(Response::new(body(text)))
                }
                other => Err(Refusal::undeclared(other)),
            }
        })
    }
}

async fn start(limits: Limits) -> (HttpInstance, Log, Arc<Echo>) {
    let (mut config, log) = config(limits);
    let echo = Arc::new(Echo::default());
    process(&mut config).internal = Some(echo.clone());
    let instance = HttpInstance::start(&guestbook(), config).await.expect("starts");
    (instance, log, echo)
}

async fn fetched(instance: &HttpInstance, url: &str) -> String {
    let answer = fetch(instance, &format!("/fetch?url={url}")).await;
    answer.expect("an answer").body
}

#[tokio::test]
async fn a_request_is_answered_inside_with_what_its_cause_was() {
    let (instance, _log, echo) = start(Limits::default()).await;
    let request = Request::get("http://app.localhost/fetch?url=http://Echo.internal/path?x=1")
        .header("x-request-id", "r-1")
        .body(Full::<Bytes>::default())
        .expect("request");
    let answer = support::collect(instance.call(request).await.expect("answers")).await;
    assert_eq!(
        answer.body,
        "200\n\nweb.1 GET /path?x=1 id=Some(\"r-1\") depth=3 host=Some(\"Echo.internal\")"
    );
    // The next request has another cause.
    let answer = fetched(&instance, "http://echo.internal:80/").await;
    assert!(answer.contains("id=None"), "{answer}");
    assert_eq!(echo.inside.load(SeqCst), 1, "one door for all its requests");
    drop(instance);
    until("the door is closed", || echo.inside.load(SeqCst) == 0).await;
}

#[tokio::test]
async fn what_is_refused_is_an_answer_that_says_the_way_out() {
    let (instance, mut log, _echo) = start(Limits::default()).await;
    let answer = fetched(&instance, "http://cache.internal/key").await;
    assert!(
        answer.starts_with(
            "403\n\n{\"code\":\"N04\",\"message\":\"cache.internal is not declared by this app\""
        ),
        "{answer}"
    );
    assert!(answer.contains("[services] cache = { type = "), "{answer}");
    let line = log.platform(Code::N04).await;
    assert!(
        line.contains("cache.internal") && line.contains("hint: declare it"),
        "{line}"
    );
    for url in ["https://echo.internal/", "http://echo.internal:8080/"] {
        let answer = fetched(&instance, url).await;
        assert!(answer.starts_with("403\n\n"), "{answer}");
        assert!(
            answer.contains("\"hint\":\"call http://echo.internal/\""),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn without_another_end_no_name_is_declared_and_grants_do_not_matter() {
    let (mut config, mut log) = config(Limits::default());
    process(&mut config).outbound = vec!["*://*:*".parse().expect("grant")];
    let instance = HttpInstance::start(&guestbook(), config).await.expect("starts");
    let answer = fetched(&instance, "http://echo.internal/").await;
    assert!(answer.starts_with("403\n\n{\"code\":\"N04\""), "{answer}");
    log.platform(Code::N04).await;
    // A name of a cloud is a name of the outside.
    fetched(&instance, "http://metadata.google.internal/").await;
    log.platform(Code::N03).await;
}

#[tokio::test]
async fn large_answers_and_defects_of_the_other_end_leave_the_guest_whole() {
    let (instance, _log, _echo) = start(Limits::default()).await;
    let answer = fetched(&instance, "http://large.internal/").await;
    assert_eq!(answer.len(), "200\n\n".len() + (1 << 20));
    let answer = fetched(&instance, "http://panics.internal/").await;
    assert!(answer.contains("a defect of the other end"), "{answer}");
    assert!(
        fetched(&instance, "http://echo.internal/")
            .await
            .starts_with("200")
    );
}

#[tokio::test]
async fn requests_under_way_are_bounded_and_end_with_their_cause() {
    let limits = Limits {
        outbound_max: 0,
        ..Limits::default()
    };
    let (instance, mut log, _echo) = start(limits).await;
    fetched(&instance, "http://echo.internal/").await;
    log.platform(Code::N02).await;

    let limits = Limits {
        request_ms_max: 200,
        ..Limits::default()
    };
    let (instance, _log, echo) = start(limits).await;
    let given_up = fetch(&instance, "/fetch?url=http://never.internal/").await;
    assert_eq!(given_up.expect_err("too late").code, Code::H12);
    until("the request inside is given up", || {
        echo.waiting.load(SeqCst) == 0
    })
    .await;
}

/// Calls `http://never.internal/` and waits for the answer.
const WAITS: &str = r#"
    (call $call (call $request (call $fields)))
    (i32.const 0)"#;

const CALLS: &str = r#"
    (import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
    (import "wasi:http/types@0.2.12" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-authority"
        (func $set-authority (param i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-scheme"
        (func $set-scheme (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-path-with-query"
        (func $set-path (param i32 i32 i32 i32) (result i32)))
    (import "wasi:http/outgoing-handler@0.2.12" "handle" (func $send (param i32 i32 i32 i32)))
    (import "wasi:http/types@0.2.12" "[method]future-incoming-response.subscribe"
        (func $subscribe (param i32) (result i32)))
    (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
    (data (i32.const 512) "never.internal/")
    (func $call (param $made i32)
        (drop (call $set-scheme (local.get $made)
            (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
        (drop (call $set-authority (local.get $made) (i32.const 1) (i32.const 512) (i32.const 14)))
        (drop (call $set-path (local.get $made) (i32.const 1) (i32.const 526) (i32.const 1)))
        (call $send (local.get $made) (i32.const 0) (i32.const 0) (i32.const 64))
        (call $block (call $subscribe (i32.load (i32.const 72)))))"#;

#[tokio::test]
async fn a_command_that_ends_leaves_its_door_though_it_is_still_held() {
    let (mut config, _log) = config(Limits::default());
    let echo = Arc::new(Echo::default());
    process(&mut config).internal = Some(echo.clone());
    // The http imports are those of the proxy's world.
    let guest = loaded(&command_with_http());
    let command = CommandInstance::start(&guest, config).expect("starts");
    until("it waits for an answer", || echo.waiting.load(SeqCst) == 1).await;
    command.kill();
    let ended = tokio::time::timeout(Duration::from_secs(20), command.wait()).await;
    ended.expect("it ends");
    until("the door is closed", || echo.inside.load(SeqCst) == 0).await;
    assert_eq!(echo.waiting.load(SeqCst), 0, "and what it waited for is given up");
}

fn command_with_http() -> Vec<u8> {
    let run = format!(r#"(func (export "wasi:cli/run@0.2.12#run") (result i32) {WAITS})"#);
    support::guest("calls", &support::core(CALLS, &run))
}
