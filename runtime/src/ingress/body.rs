//! Bodies on their way through the ingress: streamed, never gathered, and never silent for ever.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gilliam_engine::{InternalBody, ResponseBody};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep},
};

use super::access::Record;

/// Longest silence within a body, in either direction; streams that are held open send heartbeats.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(55);

/// A body that broke off. What is behind it stays here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodyError(pub(super) &'static str);

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BodyError {}

/// Ends a wait that takes longer than [`IDLE_MAX`].
#[derive(Debug, Default)]
struct Silence {
    /// Made when there is something to wait for: most bodies are there at once.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Silence {
    /// Whether the other side has been silent for too long, given that it is silent now.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(IDLE_MAX)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + IDLE_MAX);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    fn broken(&mut self) {
        self.waiting = false;
    }
}

/// Where a request's body comes from.
#[derive(Debug)]
enum Source {
    /// A connection.
    Wire(Incoming),
    /// An instance of this node.
    Guest(InternalBody),
}

impl Body for Source {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        const BROKEN: BodyError = BodyError("the body broke off");
        match self.get_mut() {
            Source::Wire(body) => Pin::new(body).poll_frame(cx).map_err(|_| BROKEN),
            Source::Guest(body) => Pin::new(body).poll_frame(cx).map_err(|_| BROKEN),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Source::Wire(body) => body.is_end_stream(),
            Source::Guest(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Source::Wire(body) => body.size_hint(),
            Source::Guest(body) => body.size_hint(),
        }
    }
}

/// A client's request body.
#[derive(Debug)]
pub(crate) struct ClientBody {
    inner: Option<Source>,
    /// What was read before, and is to be read again.
    again: VecDeque<Bytes>,
    silence: Silence,
    broken_off: Option<BrokenOff>,
}

/// Tells, after the body has gone its way, whether the client broke it off.
#[derive(Debug, Clone, Default)]
pub(super) struct BrokenOff(Arc<AtomicBool>);

impl BrokenOff {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl ClientBody {
    /// The body, and its witness when there is more of it to come.
    pub(super) fn new(inner: Incoming) -> (Self, Option<BrokenOff>) {
        Self::of(Source::Wire(inner))
    }

    /// The body of a request of an instance here.
    pub(super) fn of_guest(inner: InternalBody) -> (Self, Option<BrokenOff>) {
        Self::of(Source::Guest(inner))
    }

    fn of(inner: Source) -> (Self, Option<BrokenOff>) {
        let broken_off = (!inner.is_end_stream()).then(BrokenOff::default);
        let body = Self {
            inner: Some(inner),
            again: VecDeque::new(),
            silence: Silence::default(),
            broken_off: broken_off.clone(),
        };
        (body, broken_off)
    }

    pub(super) fn empty() -> Self {
        Self {
            inner: None,
            again: VecDeque::new(),
            silence: Silence::default(),
            broken_off: None,
        }
    }

    /// The same with what was read of it in front.
    pub(super) fn again(mut self, frames: Vec<Bytes>) -> Self {
        self.again = frames.into_iter().chain(self.again).collect();
        self
    }

    fn broke_off(&mut self, why: &'static str) -> BodyError {
        self.inner = None;
        if let Some(broken_off) = &self.broken_off {
            broken_off.0.store(true, Relaxed);
        }
        BodyError(why)
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(data) = this.again.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let frame = match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(frame) => frame.map(|frame| frame.map_err(|error| this.broke_off(error.0))),
            Poll::Pending if this.silence.is_over(cx) => {
                Some(Err(this.broke_off("the client sends no more of its body")))
            }
            Poll::Pending => return Poll::Pending,
        };
        this.silence.broken();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.again.is_empty() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.inner.as_ref();
        let rest = rest.map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let again: u64 = self.again.iter().map(|data| data.len() as u64).sum();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + again);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + again);
        }
        hint
    }
}

/// The body of an app's response.
#[derive(Debug)]
pub(crate) enum AppBody {
    Guest(ResponseBody),
    Tcp {
        body: Incoming,
        /// One of the instance's requests at once.
        _place: OwnedSemaphorePermit,
    },
    /// Of another node.
    Peer(Incoming),
    Platform(Full<Bytes>),
}

impl AppBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        const BROKEN: BodyError = BodyError("the app broke its response off");
        match self {
            AppBody::Guest(body) => Pin::new(body).poll_frame(cx).map_err(|_| BROKEN),
            AppBody::Tcp { body, .. } | AppBody::Peer(body) => {
                Pin::new(body).poll_frame(cx).map_err(|_| BROKEN)
            }
            AppBody::Platform(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }
}

/// The body of an answer, with the record of its request: the request is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Outgoing {
    inner: AppBody,
    record: Record,
    silence: Silence,
    /// Nothing more is given: the body has ended, or the answer has none.
    ended: bool,
    /// Why the body broke off, not told yet.
    broken: Option<BodyError>,
    /// Bytes still to come, where the head says how many there are: after the last of them hyper drops the
    /// body without asking for its end.
    rest: Option<u64>,
}

impl Outgoing {
    /// The body of an answer whose head declares `length`, if it does.
    pub(super) fn new(inner: AppBody, record: Record, length: Option<u64>) -> Self {
        let mut this = Self {
            inner,
            // hyper sends what it is given as HTTP/2's data even where no body may follow the head.
            ended: record.is_bodyless(),
            broken: None,
            record,
            silence: Silence::default(),
            rest: length,
        };
        if this.ended || this.is_whole() {
            this.record.complete();
        }
        this
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(error) = this.broken.take() {
            this.ended = true;
            this.record.aborted();
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match this.inner.poll(cx) {
            Poll::Pending if this.silence.is_over(cx) => Some(Err(BodyError("the app is silent"))),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        this.silence.broken();
        match &frame {
            Some(Ok(frame)) => this.sent(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => {
                // Told at once, hyper would throw away what it has not written yet, the head included.
                this.broken = Some(*error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => this.record.complete(),
        }
        this.ended = !matches!(frame, Some(Ok(_)));
        if this.inner_is_done() || this.is_whole() {
            this.record.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && (self.ended || self.inner_is_done())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            AppBody::Guest(body) => body.size_hint(),
            AppBody::Tcp { body, .. } | AppBody::Peer(body) => body.size_hint(),
            AppBody::Platform(body) => body.size_hint(),
        }
    }
}

impl Outgoing {
    /// A guest reads it: another one must not run meanwhile on its thread.
    pub(super) fn for_guest(mut self) -> InternalBody {
        if let AppBody::Guest(body) = &mut self.inner {
            body.hand_over();
        }
        self.map_err(Into::into).boxed_unsync()
    }

    fn sent(&mut self, bytes: usize) {
        self.record.sent(bytes);
        self.rest = self.rest.map(|rest| rest.saturating_sub(bytes as u64));
    }

    /// Whether all that the head declares was given.
    fn is_whole(&self) -> bool {
        self.rest == Some(0)
    }

    /// Whether the end is known without polling for it; hyper does not poll then.
    fn inner_is_done(&self) -> bool {
        match &self.inner {
            AppBody::Guest(body) => body.is_end_stream(),
            AppBody::Tcp { body, .. } | AppBody::Peer(body) => body.is_end_stream(),
            AppBody::Platform(body) => body.is_end_stream(),
        }
    }
}
