//! The instances of one process type on another node, as this ingress sees them: a weight, what it has sent
//! there, and what that node last said of its load.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use gilliam_model::{
    code::Code,
    name::{AppName, NodeName, ProcessName},
};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header, request::Parts};

use super::{
    access::second_now,
    backend::Failure,
    balance::PeerLoad,
    body::{AppBody, ClientBody},
    headers::{GILLIAM_APP, GILLIAM_ERROR, GILLIAM_LOAD, GILLIAM_PROCESS},
    lent::Lent,
    wire::{Stream, Wire},
};

/// What a node said of its load holds for this second and the next.
const TOLD_S_MAX: u64 = 1;

/// Some other node's part of a process type.
#[derive(Debug)]
pub(crate) struct Share {
    pub(super) wire: Arc<Wire>,
    app: HeaderValue,
    process: HeaderValue,
    /// Its running instances, roughly; 0 while they are starting.
    count: AtomicU32,
    /// Requests that this ingress has in flight there.
    in_flight: AtomicUsize,
    /// The second in which the node last told its load in the upper half, requests in flight at its least
    /// loaded instance in the lower.
    told: AtomicU64,
}

impl Share {
    pub(super) fn new(wire: Arc<Wire>, app: &AppName, process: &ProcessName, count: u32) -> Arc<Self> {
        let value = |text: &str| HeaderValue::from_str(text).expect("a name is visible ASCII");
        Arc::new(Self {
            wire,
            app: value(app.as_str()),
            process: value(process.as_str()),
            count: AtomicU32::new(count),
            in_flight: AtomicUsize::new(0),
            told: AtomicU64::new(0),
        })
    }

    pub(super) fn set_count(&self, count: u32) {
        self.count.store(count, Relaxed);
    }

    /// Whether instances run there, and are not just starting.
    pub(super) fn runs(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    pub(super) fn load(&self) -> PeerLoad {
        let told = self.told.load(Relaxed);
        let is_fresh = u64::from(second_now()).saturating_sub(told >> 32) <= TOLD_S_MAX;
        let load = usize::try_from(told & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        PeerLoad {
            in_flight: self.in_flight.load(Relaxed),
            told: if is_fresh { load } else { 0 },
            count: self.count.load(Relaxed).max(1),
        }
    }

    /// A place for one request; none when too many are there.
    pub(super) fn enter(self: &Arc<Self>) -> Option<PeerPlace> {
        let stream = self.wire.enter()?;
        self.in_flight.fetch_add(1, Relaxed);
        Some(PeerPlace {
            share: self.clone(),
            stream,
        })
    }

    fn is_told(&self, load: Option<HeaderValue>) {
        let load = load.and_then(|load| load.to_str().ok()?.parse::<u32>().ok());
        if let Some(load) = load {
            // An instance answered: whatever the table says, one runs.
            self.count.fetch_max(1, Relaxed);
            let told = u64::from(second_now()) << 32 | u64::from(load);
            self.told.store(told, Relaxed);
        }
    }
}

/// A request's place at another node.
#[derive(Debug)]
pub(crate) struct PeerPlace {
    share: Arc<Share>,
    stream: Stream,
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        self.share.in_flight.fetch_sub(1, Relaxed);
    }
}

impl PeerPlace {
    pub(super) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    pub(super) fn node(&self) -> &NodeName {
        &self.stream.wire().node
    }

    /// Sends a request, and waits for the head of its response. The node that runs the guest keeps to its
    /// deadline; one that is gone is noticed by its connections.
    pub(super) async fn call(&self, request: Request<ClientBody>) -> Result<Response<AppBody>, Failure> {
        let (parts, body) = request.into_parts();
        let kept = parts.clone();
        let head = self.outgoing(parts)?;
        let (body, loan) = Lent::kept(body);
        let unsent = |code, body: Option<ClientBody>| Failure {
            unsent: body.map(|body| Box::new(Request::from_parts(kept, body))),
            ..Failure::new(code)
        };
        let Ok(mut sender) = self.stream.sender().await else {
            return Err(unsent(Code::H14, loan.take()));
        };
        match sender.try_send_request(Request::from_parts(head, body)).await {
            Ok(mut response) => {
                self.share.is_told(response.headers_mut().remove(GILLIAM_LOAD));
                match declined(&response) {
                    Some(code) => Err(unsent(code, loan.take_back())),
                    None => {
                        loan.settle();
                        Ok(response.map(AppBody::Peer))
                    }
                }
            }
            Err(mut error) => {
                tracing::debug!(error = %error.error(), node = %self.node(), "another node gave no response");
                Err(match error.take_message() {
                    Some(_) => unsent(Code::H14, loan.take()),
                    None => Failure::new(Code::H13),
                })
            }
        }
    }

    fn outgoing(&self, mut parts: Parts) -> Result<Parts, Failure> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = parts
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let uri = format!("https://{}{path}", host.unwrap_or_default());
        parts.uri = uri.parse::<Uri>().map_err(|_| Failure::new(Code::H26))?;
        parts.version = http::Version::HTTP_2;
        parts.extensions.clear();
        parts.headers.insert(GILLIAM_APP, self.share.app.clone());
        parts.headers.insert(GILLIAM_PROCESS, self.share.process.clone());
        Ok(parts)
    }
}

/// The code of an answer that says that no instance of the node got the request.
fn declined<B>(response: &Response<B>) -> Option<Code> {
    let code = response.headers().get(GILLIAM_ERROR)?;
    let is_declined = response.status() == StatusCode::MISDIRECTED_REQUEST;
    let known = || Code::ALL.iter().find(|known| code == known.as_str()).copied();
    is_declined.then(|| known().unwrap_or(Code::H14))
}
