//! Clients that ask without a pause while something happens to the cluster.
//!
//! In: the ingresses of some nodes. Out: how many requests there were, which of them failed and how, and the longest
//! that one took. Each ingress has a client with a connection for each request and one that keeps its connection.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::platform::wait;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Between two requests of one client: several clusters share the cores of this machine.
const PAUSE: Duration = Duration::from_millis(2);

/// Constant requests to the ingresses of some nodes.
pub(crate) struct Load {
    shared: Arc<Shared>,
    began: Instant,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    failures: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
    /// Ingresses that a load balancer would leave out just now.
    out: Mutex<BTreeSet<String>>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(crate) failures: Vec<String>,
    pub(crate) slowest: Duration,
}

impl Outcome {
    /// Asserts that every request was answered 200.
    #[track_caller]
    pub(crate) fn all_answered(self) -> Self {
        self.failed_at_most(0)
    }

    #[track_caller]
    pub(crate) fn failed_at_most(self, most: usize) -> Self {
        let (sent, failures) = (self.sent, &self.failures);
        assert!(
            failures.len() <= most,
            "{} of {sent} failed: {failures:#?}",
            failures.len()
        );
        self
    }
}

impl Load {
    /// Two clients for each of these ingresses.
    pub(crate) fn start(urls: Vec<String>) -> Self {
        let kinds = |url: String| [Keeps::Nothing, Keeps::Connection].map(|keeps| (vec![url.clone()], keeps));
        Self::of(urls.into_iter().flat_map(kinds).collect())
    }

    /// Two clients that go round all of these ingresses, as a load balancer in front of them does.
    pub(crate) fn balanced(urls: &[String]) -> Self {
        Self::of(
            [Keeps::Nothing, Keeps::Connection]
                .map(|keeps| (urls.to_vec(), keeps))
                .into(),
        )
    }

    fn of(clients: Vec<(Vec<String>, Keeps)>) -> Self {
        let (shared, began) = (Arc::new(Shared::default()), Instant::now());
        let start = |(urls, keeps)| {
            let shared = shared.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("runtime");
                runtime.block_on(ask_on(&shared, urls, keeps, began));
            })
        };
        let clients = clients.into_iter().map(start).collect();
        Self {
            shared,
            began,
            clients,
        }
    }

    /// Has the clients go past an ingress until it is back.
    pub(crate) fn leave_out(&self, url: &str) {
        self.shared.out.lock().expect("lock").insert(url.to_string());
        // Whoever had picked it before has its answer, and more.
        self.wait_more(20);
    }

    pub(crate) fn take_in(&self, url: &str) {
        self.shared.out.lock().expect("lock").remove(url);
    }

    /// Waits until so many more requests have been answered.
    #[track_caller]
    pub(crate) fn wait_more(&self, count: u64) {
        let goal = self.shared.sent.load(Ordering::Relaxed) + count;
        wait("requests to be answered", || {
            (self.shared.sent.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    /// Goes on for so long.
    #[track_caller]
    pub(crate) fn go_on_for(&self, time: Duration) {
        let began = Instant::now();
        wait("time to pass", || (began.elapsed() >= time).then_some(()));
        self.wait_more(1);
    }

    /// How long it has gone on.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends it.
    pub(crate) fn finish(self) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client");
        }
        let failures = std::mem::take(&mut *self.shared.failures.lock().expect("lock"));
        let slowest = *self.shared.slowest.lock().expect("lock");
        Outcome {
            sent: self.shared.sent.load(Ordering::Relaxed),
            failures,
            slowest,
        }
    }
}

/// Whether a client keeps its connection for the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Nothing,
    Connection,
}

/// One client, until it is told to stop.
async fn ask_on(shared: &Shared, urls: Vec<String>, keeps: Keeps, began: Instant) {
    let mut kept: Vec<Option<SendRequest<Empty<Bytes>>>> = urls.iter().map(|_| None).collect();
    let mut turn = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        turn += 1;
        let at = turn % urls.len();
        if shared.out.lock().expect("lock").contains(&urls[at]) {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let asked = Instant::now();
        let answer = tokio::time::timeout(ANSWER_MAX, ask(&urls[at], &mut kept[at])).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_string()));
        shared.sent.fetch_add(1, Ordering::Relaxed);
        if let Err(reason) = answer {
            let (url, when) = (&urls[at], asked - began);
            let text = format!(
                "{url} ({keeps:?} kept) asked at {when:.2?}, after {:.2?}: {reason}",
                asked.elapsed()
            );
            shared.failures.lock().expect("lock").push(text);
            kept[at] = None;
        }
        if keeps == Keeps::Nothing {
            kept[at] = None;
        }
        {
            let mut slowest = shared.slowest.lock().expect("lock");
            *slowest = slowest.max(asked.elapsed());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One request, over the connection that is kept if there is one. One that was closed before anything was sent on it
/// is replaced, as every client does.
async fn ask(url: &str, kept: &mut Option<SendRequest<Empty<Bytes>>>) -> Result<(), String> {
    let authority = url.trim_start_matches("http://").trim_end_matches('/');
    let request = || {
        http::Request::get("/")
            .header("host", "hello.localhost")
            .body(Empty::new())
            .expect("a request")
    };
    if let Some(mut sender) = kept.take()
        && sender.ready().await.is_ok()
    {
        match sender.try_send_request(request()).await {
            Ok(response) => {
                let answered = read(response).await;
                *kept = Some(sender);
                return answered;
            }
            Err(mut error) => {
                if error.take_message().is_none() {
                    return Err(format!("on a kept connection: {:?}", error.error()));
                }
            }
        }
    }
    let stream = TcpStream::connect(authority).await;
    let stream = stream.map_err(|e| format!("connecting: {e}"))?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    // Ends with the connection.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let response = sender.send_request(request()).await;
    let answered = read(response.map_err(|e| format!("{e:?}"))?).await;
    *kept = Some(sender);
    answered
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Result<(), String> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|e| format!("in the body: {e:?}"))?;
    let code = head.headers.get("gilliam-error");
    match (head.status.as_u16(), code) {
        (200, None) => Ok(()),
        (status, code) => {
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            Err(format!("{status} {code:?} {}", body.trim()))
        }
    }
}
