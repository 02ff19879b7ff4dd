//! Bodies on their way between the caller and a guest, with back-pressure both ways.
//!
//! In flow frames of any length, out flow the same frames; nothing is collected. Trailers pass.
//!
//! Invariant: a response whose guest failed never looks complete: its body ends with H18.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gilliam_model::code::Code;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::WasiBody;

use crate::{
    exchange::{CallerSide, Exchange},
    failure::Failure,
    ride::Ride,
    usage::RequestUsage,
};

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

fn broken_off(failure: Option<Failure>) -> BodyError {
    let message = match failure {
        Some(failure) => format!("{}: {}", failure.code, failure.message),
        None => "the instance was stopped".to_owned(),
    };
    BodyError {
        code: Code::H18,
        message,
    }
}

/// The body of a guest's response. Dropping it before its end ends the guest.
pub struct ResponseBody {
    inner: WasiBody,
    exchange: Arc<Exchange>,
    caller: CallerSide,
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
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

impl ResponseBody {
    /// `bodyless` says that no body follows the head, whatever the guest writes: an answer to HEAD, 204, 304.
    pub(crate) fn new(
        inner: WasiBody,
        exchange: Arc<Exchange>,
        caller: CallerSide,
        ride: Ride,
        content_length: Option<u64>,
        bodyless: bool,
    ) -> Self {
        let left = if bodyless { Some(0) } else { content_length };
        Self {
            inner,
            exchange,
            caller,
            ride,
            left,
            idle: None,
            is_over: false,
        }
    }

    /// What the request used.
    pub fn usage(&self) -> RequestUsage {
        RequestUsage::new(self.exchange.clone())
    }

    /// Has the guest run on its own threads from now on, whoever reads: for a reader that is a guest itself.
    pub fn hand_over(&mut self) {
        self.ride.hand_over();
    }

    /// Lets the guest end what it does besides.
    fn finish(&mut self, cx: Option<&mut Context<'_>>) {
        if self.caller.has_all() {
            if let Some(cx) = cx {
                self.ride.poll(cx);
            }
            self.ride.hand_over();
        }
    }

    /// Nothing may follow an error, and the guest has nobody left to write for.
    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.caller.gives_up();
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
                    if *left == 0 && this.exchange.break_off().is_none() {
                        this.finish(Some(cx));
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let broken_off = this.exchange.break_off().map(broken_off);
                let error = broken_off.unwrap_or_else(|| BodyError {
                    code: Code::H18,
                    message: error.to_string(),
                });
                this.fail(error)
            }
            Poll::Ready(None) => match this.exchange.break_off() {
                // What happens after the last byte announced is no matter of this body.
                Some(failure) if this.caller.waits() => this.fail(broken_off(failure)),
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
        self.is_over || (self.inner.is_end_stream() && self.exchange.break_off().is_none())
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
    if body.is_end_stream() {
        // Most requests have none, and nothing is a box that takes no memory.
        return Empty::new().map_err(|never| match never {}).boxed_unsync();
    }
    body.map_err(|error| {
        tracing::debug!(%error, "request body broke off");
        wasmtime_wasi_http::Error::ConnectionTerminated
    })
    .boxed_unsync()
}
