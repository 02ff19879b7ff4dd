//! Bodies on their way between the caller and a guest, with back-pressure both ways.
//!
//! In flow frames of any length, out flow the same frames; nothing is collected. Trailers pass.
//!
//! Invariant: a response whose guest failed never looks complete: its body ends with H18.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gilliam_model::code::Code;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::{
    sync::watch,
    time::{Instant, Sleep},
};
use wasmtime_wasi_http::WasiBody;

use crate::{failure::Failure, ride::Ride};

/// Longest time a guest may leave its response's body without a byte; apps that hold streams open send
/// heartbeats.
const BODY_IDLE_MAX: Duration = Duration::from_secs(55);

/// A response's body broke off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {}: {message}", code.title())]
pub struct BodyError {
    /// Always H18.
    pub code: Code,
    /// What happened.
    pub message: String,
}

/// How a lane ended, as far as the response's body must know. Written before the store is dropped, because
/// dropping the store closes the body's channel and would look like its regular end.
#[derive(Debug, Default)]
pub(crate) struct LaneEnd {
    aborted: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

impl LaneEnd {
    pub(crate) fn failed(&self, failure: &Failure) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.clone());
        self.aborted.store(true, Ordering::Release);
    }

    fn aborted(&self) {
        self.aborted.store(true, Ordering::Release);
    }

    fn error(&self) -> Option<BodyError> {
        if !self.aborted.load(Ordering::Acquire) {
            return None;
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let message = match &*failure {
            Some(failure) => format!("{}: {}", failure.code, failure.message),
            None => "the instance was stopped".to_owned(),
        };
        Some(BodyError {
            code: Code::H18,
            message,
        })
    }
}

/// Marks the lane's end as aborted unless told otherwise; to be dropped before the store.
pub(crate) struct EndMark {
    end: Arc<LaneEnd>,
    clean: bool,
}

impl EndMark {
    pub(crate) fn new(end: Arc<LaneEnd>) -> Self {
        Self { end, clean: false }
    }

    pub(crate) fn clean(mut self) {
        self.clean = true;
    }

    pub(crate) fn failed(mut self, failure: &Failure) {
        self.end.failed(failure);
        self.clean = true;
    }
}

impl Drop for EndMark {
    fn drop(&mut self) {
        if !self.clean {
            self.end.aborted();
        }
    }
}

/// The body of a guest's response. Dropping it before its end ends the guest.
pub struct ResponseBody {
    inner: WasiBody,
    end: Arc<LaneEnd>,
    /// Tells the lane that the body is done; dropped without saying so, it cancels the lane.
    done: Option<watch::Sender<bool>>,
    /// The guest's task, while it runs with the polls of this body.
    ride: Ride,
    /// Bytes still to come, when the response says how many; then the end is known without polling for it.
    left: Option<u64>,
    idle: Option<Pin<Box<Sleep>>>,
    /// The end or an error was passed on.
    is_over: bool,
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("done", &self.done.is_none())
            .finish_non_exhaustive()
    }
}

impl ResponseBody {
    /// `bodyless` says that no body follows the head, whatever the guest writes: an answer to HEAD, 204, 304.
    pub(crate) fn new(
        inner: WasiBody,
        end: Arc<LaneEnd>,
        done: watch::Sender<bool>,
        ride: Ride,
        content_length: Option<u64>,
        bodyless: bool,
    ) -> Self {
        let left = if bodyless { Some(0) } else { content_length };
        Self {
            inner,
            end,
            done: Some(done),
            ride,
            left,
            idle: None,
            is_over: false,
        }
    }

    /// Lets the guest end what it does besides.
    fn finish(&mut self, cx: Option<&mut Context<'_>>) {
        if let Some(done) = self.done.take() {
            done.send_replace(true);
            if let Some(cx) = cx {
                self.ride.poll(cx);
            }
            self.ride.hand_over();
        }
    }

    /// Nothing may follow an error, and the guest has nobody left to write for.
    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.done = None;
        self.ride.cancel();
        self.is_over = true;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        this.ride.poll(cx);
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.idle = None;
                if let (Some(left), Some(data)) = (&mut this.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                    if *left == 0 && this.end.error().is_none() {
                        this.finish(Some(cx));
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = this.end.error().unwrap_or_else(|| BodyError {
                    code: Code::H18,
                    message: error.to_string(),
                });
                this.fail(error)
            }
            Poll::Ready(None) => match this.end.error() {
                // What happens after the last byte announced is no matter of this body.
                Some(error) if this.done.is_some() => this.fail(error),
                _ => {
                    this.is_over = true;
                    this.finish(Some(cx));
                    Poll::Ready(None)
                }
            },
            Poll::Pending => {
                let idle = this.idle.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(Instant::now() + BODY_IDLE_MAX))
                });
                if idle.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let message = format!("the app sent nothing for {} s", BODY_IDLE_MAX.as_secs());
                this.fail(BodyError {
                    code: Code::H18,
                    message,
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || (self.inner.is_end_stream() && self.end.error().is_none())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A server that has sent all it announced drops the body without polling for its end.
        if self.left == Some(0) || self.inner.is_end_stream() {
            self.finish(None);
        }
    }
}

/// A caller's request body as a guest reads it.
pub(crate) fn request_body<B>(body: B) -> WasiBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: fmt::Display,
{
    body.map_err(|error| {
        tracing::debug!(%error, "request body broke off");
        wasmtime_wasi_http::Error::ConnectionTerminated
    })
    .boxed_unsync()
}
