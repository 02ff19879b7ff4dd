//! How long an outgoing request may stand still: before the head of its answer, and within its body.
//!
//! In flow what a guest asked for and the frames that move, out flow the ends of waits.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, RequestOptions};

/// Longest time without progress until the response's head.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(30);
/// Longest time between two frames of the response's body.
const BETWEEN_BYTES_MAX: Duration = Duration::from_secs(30);

/// How long a request may stand still.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) first_byte: Duration,
    between_bytes: Duration,
}

impl Deadlines {
    /// What a guest asks for, within what it may have.
    pub(crate) fn of(options: RequestOptions) -> Self {
        let limit = |asked: Option<Duration>, max: Duration| asked.map_or(max, |asked| asked.min(max));
        Self {
            first_byte: limit(options.first_byte_timeout, FIRST_BYTE_MAX),
            between_bytes: limit(options.between_bytes_timeout, BETWEEN_BYTES_MAX),
        }
    }
}

/// When the request's body last moved: a long upload is not a slow answer.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<Instant>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Progress {
    pub(crate) fn mark(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Ends once nothing has moved for `limit`.
    pub(crate) async fn stalled(&self, limit: Duration) {
        loop {
            let deadline = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + limit;
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// A response's body that ends with an error when nothing comes for too long, and holds what it needs until it
/// ends.
pub(crate) struct TimedBody<B, H> {
    incoming: B,
    between_bytes: Duration,
    timer: Pin<Box<Sleep>>,
    _held: H,
}

impl<B, H> TimedBody<B, H> {
    pub(crate) fn new(incoming: B, Deadlines { between_bytes, .. }: Deadlines, held: H) -> Self {
        Self {
            incoming,
            between_bytes,
            timer: Box::pin(tokio::time::sleep(between_bytes)),
            _held: held,
        }
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin, H: Unpin> Body for TimedBody<B, H> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.timer.as_mut().reset(Instant::now() + this.between_bytes);
                Poll::Ready(frame)
            }
            Poll::Pending => {
                ready!(this.timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
