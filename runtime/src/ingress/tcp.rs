//! Calls of commands that listen on a port of the loopback address.
//!
//! The connection is ours at both ends of the frame: hyper writes the request anew, so what a client framed
//! oddly cannot reach the guest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use gilliam_model::{code::Code, limits::Limits};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    backend::Failure,
    body::{AppBody, ClientBody},
    lent::Lent,
};

/// Idle connections are let go before most servers would do it, for a request on one that is just being
/// closed is lost.
const POOL_IDLE_MAX: Duration = Duration::from_secs(4);
/// Idle connections kept for one instance.
const POOL_COUNT_MAX: usize = 64;
/// A guest on this machine accepts at once, or its backlog is full.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A command's port, with its limits of requests at once.
#[derive(Debug)]
pub(super) struct TcpTarget {
    authority: String,
    client: Client<HttpConnector, Lent>,
    places: Arc<Semaphore>,
    waiting: AtomicU32,
    backlog_max: u32,
}

impl TcpTarget {
    pub(super) fn new(port: u16, limits: &Limits) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_MAX));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_MAX)
            .pool_max_idle_per_host(POOL_COUNT_MAX)
            .build(connector);
        Self {
            authority: format!("127.0.0.1:{port}"),
            client,
            places: Arc::new(Semaphore::new(limits.concurrency_max as usize)),
            waiting: AtomicU32::new(0),
            backlog_max: limits.backlog_max,
        }
    }

    pub(super) async fn call(&self, request: Request<ClientBody>) -> Result<Response<AppBody>, Failure> {
        let place = self.place().await?;
        let (parts, body) = request.into_parts();
        let kept = parts.clone();
        let repeatable = parts.method.is_idempotent() && body.is_end_stream();
        let (body, loan) = Lent::new(body);
        let mut result = self.client.request(self.outgoing(parts, body)?).await;
        if repeatable && result.as_ref().is_err_and(was_closed_early) {
            // The guest closed a connection of the pool just when we used it. RFC 9110 section 9.2.2 allows
            // to repeat what is idempotent, and there is no body that would be missing.
            let (body, _) = Lent::new(loan.take().unwrap_or_else(ClientBody::empty));
            result = self.client.request(self.outgoing(kept.clone(), body)?).await;
        }
        match result {
            Ok(response) if is_final(response.status()) => {
                Ok(response.map(|body| AppBody::Tcp { body, _place: place }))
            }
            Ok(_) => Err(Failure::new(Code::H17)),
            Err(error) => {
                tracing::debug!(%error, "a command gave no response");
                let unsent = match error.is_connect() {
                    true => loan.take().map(|body| Box::new(Request::from_parts(kept, body))),
                    false => None,
                };
                Err(Failure {
                    unsent,
                    ..Failure::new(code_of(&error))
                })
            }
        }
    }

    /// A place among the requests in progress; the rest waits here, up to the backlog.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let _waiting = Waiting::enter(&self.waiting, self.backlog_max)?;
        self.places
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Failure::new(Code::H14))
    }

    fn outgoing(&self, mut parts: http::request::Parts, body: Lent) -> Result<Request<Lent>, Failure> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri = format!("http://{}{path}", self.authority);
        parts.uri = uri.parse::<Uri>().map_err(|_| Failure::new(Code::H26))?;
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        Ok(Request::from_parts(parts, body))
    }
}

struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicU32, max: u32) -> Result<Self, Failure> {
        let waiting = Waiting(count);
        match count.fetch_add(1, Relaxed) < max {
            true => Ok(waiting),
            false => Err(Failure::new(Code::H11)),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn is_final(status: StatusCode) -> bool {
    (200..600).contains(&status.as_u16())
}

fn hyper_error(error: &Error) -> Option<&hyper::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

fn was_closed_early(error: &Error) -> bool {
    !error.is_connect()
        && hyper_error(error).is_some_and(|error| error.is_incomplete_message() || error.is_canceled())
}

fn code_of(error: &Error) -> Code {
    match hyper_error(error) {
        _ if error.is_connect() => Code::H10,
        Some(error) if error.is_parse() => Code::H17,
        Some(error) if error.is_user() => Code::H27,
        _ => Code::H13,
    }
}
