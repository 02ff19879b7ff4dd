//! Blobs from control planes that are busy, damaged, or do not know them: real servers that count what they are asked.

use std::{convert::Infallible, sync::atomic::AtomicBool};

use bytes::Bytes;
use gilliam_serve::{ServeConfig, drain};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use tempfile::TempDir;

use super::*;

const CONTENT: &str = "a component";

fn digest() -> Digest {
    Digest::from_sha256(Sha256::digest(CONTENT).into())
}

/// A control plane that gives one blob.
#[derive(Debug, Default)]
pub(crate) struct Server {
    content: Bytes,
    /// Whole blobs that it gave.
    given: AtomicUsize,
    /// Requests that it was asked.
    asked: AtomicUsize,
    /// How many of the next requests it answers that it is busy.
    busy: AtomicUsize,
    /// It does not know the blob.
    is_ignorant: AtomicBool,
    /// Its place of images is away.
    is_cut_off: AtomicBool,
    /// What it gives is something else.
    is_damaged: AtomicBool,
}

impl Server {
    fn answer(&self) -> Response<Full<Bytes>> {
        self.asked.fetch_add(1, Relaxed);
        let refused = |status: StatusCode, code: &str| {
            let body = format!(r#"{{"code":"{code}","message":"no"}}"#);
            let mut response = Response::new(Full::new(Bytes::from(body)));
            *response.status_mut() = status;
            response
        };
        let take = |left: usize| left.checked_sub(1);
        if self.busy.fetch_update(Relaxed, Relaxed, take).is_ok() {
            return refused(StatusCode::TOO_MANY_REQUESTS, "A429");
        }
        if self.is_ignorant.load(Relaxed) {
            return refused(StatusCode::NOT_FOUND, "A404");
        }
        if self.is_cut_off.load(Relaxed) {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "S13");
        }
        self.given.fetch_add(1, Relaxed);
        let content = match self.is_damaged.load(Relaxed) {
            true => Bytes::from_static(b"a compOnent"),
            false => self.content.clone(),
        };
        Response::new(Full::new(content))
    }

    /// The address of one that gives this.
    pub(crate) fn giving(content: Vec<u8>) -> String {
        Self::serve(content.into()).1
    }

    /// Serves, and gives the address.
    fn start() -> (Arc<Self>, String) {
        Self::serve(Bytes::from_static(CONTENT.as_bytes()))
    }

    fn serve(content: Bytes) -> (Arc<Self>, String) {
        let this = Arc::new(Self {
            content,
            ..Self::default()
        });
        let config = ServeConfig::new("127.0.0.1:0".parse().expect("address"));
        let (server, address) = gilliam_serve::bind(&config).expect("bind");
        let (trigger, signal) = drain::channel();
        let answering = this.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let answer = answering.answer();
            async { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(async move {
            let _trigger = trigger;
            server.run(service, signal).await
        });
        (this, format!("http://{address}"))
    }
}

fn blobs(urls: &[String]) -> (Blobs, TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    let control = Arc::new(Control::of_urls(urls));
    (Blobs::new(folder.path().to_path_buf(), control), folder)
}

async fn fetched(blobs: &Blobs) -> Result<String, BlobError> {
    let path = blobs.verified(&digest(), CONTENT.len() as u64).await?;
    Ok(fs::read_to_string(path).expect("a file"))
}

#[test]
fn a_node_alone_asks_at_once_and_a_thousand_spread() {
    assert_eq!(spread(0, 1.0), Duration::ZERO);
    assert!(spread(2, 1.0) <= Duration::from_millis(2));
    assert_eq!(spread(1_000, 0.5), Duration::from_millis(500));
    assert_eq!(spread(usize::MAX, 1.0), SPREAD_MAX);
}

#[tokio::test]
async fn however_many_want_a_blob_it_is_fetched_once() {
    let (server, url) = Server::start();
    let (blobs, _folder) = blobs(&[url]);
    let all = futures::future::join_all((0..50).map(|_| fetched(&blobs))).await;
    assert!(
        all.into_iter()
            .all(|content| content.expect("fetched") == CONTENT)
    );
    assert_eq!(server.asked.load(Relaxed), 1);
}

#[tokio::test]
async fn nodes_that_are_told_to_come_back_do_and_each_gets_it_once() {
    let (server, url) = Server::start();
    server.busy.store(60, Relaxed);
    let nodes: Vec<_> = (0..50).map(|_| blobs(std::slice::from_ref(&url))).collect();
    let all = futures::future::join_all(nodes.iter().map(|(blobs, _)| fetched(blobs))).await;
    assert!(
        all.into_iter()
            .all(|content| content.expect("fetched") == CONTENT)
    );
    assert_eq!(
        (server.given.load(Relaxed), server.asked.load(Relaxed)),
        (50, 110)
    );
}

#[tokio::test]
async fn what_one_control_plane_cannot_give_another_does() {
    let (one, first) = Server::start();
    let (_two, second) = Server::start();
    let urls = [first, second];
    for fault in [&one.is_ignorant, &one.is_cut_off, &one.is_damaged] {
        fault.store(true, Relaxed);
        // Whichever of them is drawn first.
        for _ in 0..8 {
            let (blobs, _folder) = blobs(&urls);
            assert_eq!(fetched(&blobs).await.expect("from the other"), CONTENT);
        }
        fault.store(false, Relaxed);
    }
}

#[tokio::test]
async fn what_none_can_give_has_its_code_and_leaves_nothing() {
    let (one, first) = Server::start();
    let (two, second) = Server::start();
    let (blobs, folder) = blobs(&[first, second]);
    for server in [&one, &two] {
        server.is_damaged.store(true, Relaxed);
    }
    let damaged = fetched(&blobs).await.expect_err("damaged");
    assert_eq!(damaged.code(), Code::R17);
    for server in [&one, &two] {
        server.is_ignorant.store(true, Relaxed);
    }
    let unknown = fetched(&blobs).await.expect_err("unknown");
    assert!(matches!(unknown, BlobError::Fetch { .. }), "{unknown}");
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
}
