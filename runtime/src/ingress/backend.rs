//! One running instance as the ingress sees it: a count of requests in flight, and a way to call it.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::Duration,
};

use gilliam_engine::{CallError, HttpInstance, RequestUsage};
use gilliam_model::{code::Code, instance::InstanceId, limits::Limits};
use http::{Request, Response};
use tokio::sync::Notify;

use super::{
    body::{AppBody, ClientBody},
    tcp::TcpTarget,
};

/// Set in the count of requests in flight once the instance takes no more.
const DRAINING: usize = 1 << (usize::BITS - 1);

/// How an instance is called.
#[derive(Debug)]
enum Target {
    Http(Arc<HttpInstance>),
    /// With the time for a response's head.
    Tcp(Box<TcpTarget>, Duration),
}

/// One life of one instance.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) id: InstanceId,
    pub(crate) label: String,
    target: Target,
    /// Requests in flight, and [`DRAINING`].
    places: AtomicUsize,
    idle: Notify,
}

/// Why an instance gave no response head.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code of the answer, of the H family.
    pub(crate) code: Code,
    /// What lies behind it, when the guest is at fault: R20, R23 …
    pub(crate) cause: Option<Code>,
    /// The request, when nothing of it was sent: another instance may take it.
    pub(crate) unsent: Option<Box<Request<ClientBody>>>,
    /// What the guest used for it, where the engine tells.
    pub(crate) usage: Option<RequestUsage>,
}

impl Failure {
    pub(crate) fn new(code: Code) -> Self {
        Self {
            code,
            cause: None,
            unsent: None,
            usage: None,
        }
    }
}

impl Backend {
    /// An instance of an http shape, called in this process.
    pub(crate) fn http(id: InstanceId, instance: Arc<HttpInstance>) -> Arc<Self> {
        Self::new(id, Target::Http(instance))
    }

    /// A command that listens on `port` of the loopback address.
    pub(crate) fn tcp(id: InstanceId, port: u16, limits: &Limits) -> Arc<Self> {
        let request_max = Duration::from_millis(limits.request_ms_max);
        Self::new(
            id,
            Target::Tcp(Box::new(TcpTarget::new(port, limits)), request_max),
        )
    }

    fn new(id: InstanceId, target: Target) -> Arc<Self> {
        let (label, places, idle) = (id.label(), AtomicUsize::new(0), Notify::new());
        Arc::new(Self {
            id,
            label,
            target,
            places,
            idle,
        })
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.places.load(Relaxed) & !DRAINING
    }

    /// A place for one request; none when the instance is draining.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<InFlight> {
        let place = InFlight {
            backend: self.clone(),
        };
        // Counted first and looked at afterwards: a drain that begins in between sees the count.
        match self.places.fetch_add(1, AcqRel) & DRAINING {
            0 => Some(place),
            _ => None,
        }
    }

    /// Gives no more places: neither in its group nor at its door.
    pub(crate) fn close(&self) {
        self.places.fetch_or(DRAINING, AcqRel);
    }

    /// Gives no more places, and waits until those given are free. Cancel-safe.
    pub(crate) async fn drain(&self) {
        self.close();
        loop {
            let idle = self.idle.notified();
            if self.places.load(Acquire) == DRAINING {
                return;
            }
            idle.await;
        }
    }

    /// Sends a request, and waits for the head of its response.
    pub(crate) async fn call(&self, request: Request<ClientBody>) -> Result<Response<AppBody>, Failure> {
        match &self.target {
            // The engine keeps to the deadline by itself, and knows more about who was late.
            Target::Http(instance) => http_call(instance, request).await,
            Target::Tcp(target, request_max) => {
                // In a box, so that requests of the other kind do not carry its future's size along.
                let answer = Box::pin(tokio::time::timeout(*request_max, target.call(request))).await;
                answer.unwrap_or_else(|_| Err(Failure::new(Code::H12)))
            }
        }
    }
}

async fn http_call(
    instance: &HttpInstance,
    request: Request<ClientBody>,
) -> Result<Response<AppBody>, Failure> {
    match instance.call(request).await {
        Ok(response) => Ok(response.map(AppBody::Guest)),
        Err(mut error) => Err(Failure {
            usage: error.usage.take(),
            ..failure_of(&error)
        }),
    }
}

fn failure_of(error: &CallError) -> Failure {
    tracing::debug!(%error, "a guest gave no response");
    match error.code {
        code if code.status() != 0 => Failure::new(code),
        Code::R99 => Failure {
            cause: Some(Code::R99),
            ..Failure::new(Code::H99)
        },
        // The guest failed in a way that has a code of its own.
        cause => Failure {
            cause: Some(cause),
            ..Failure::new(Code::H10)
        },
    }
}

/// A place at an instance: until it is dropped, the instance has a request in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    backend: Arc<Backend>,
}

impl InFlight {
    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.backend.places.fetch_sub(1, AcqRel) == DRAINING | 1 {
            self.backend.idle.notify_waiters();
        }
    }
}

/// What a guest used for a response, where the engine tells.
pub(crate) fn usage_of(response: &Response<AppBody>) -> Option<RequestUsage> {
    match response.body() {
        AppBody::Guest(body) => Some(body.usage()),
        AppBody::Tcp { .. } | AppBody::Peer(_) | AppBody::Platform(_) => None,
    }
}
