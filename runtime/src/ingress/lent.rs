//! A request's body on its way out of this process, which comes back when nothing was sent, or when the other
//! side says that nothing came of what was.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::{BodyError, ClientBody};

/// Of what was read so much is kept until the head of the answer is there: a form or a call of an API.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// A body that can be taken back as long as nobody has read from it, and a small one as long as it is kept.
pub(super) struct Lent(Loan);

#[derive(Clone)]
pub(super) struct Loan(Arc<Mutex<Lending>>);

enum Lending {
    Untouched {
        body: ClientBody,
        /// What is there to keep of it, if it may be asked back later.
        kept: Option<Kept>,
    },
    Reading {
        body: ClientBody,
        /// All that was read, while it is little and may be asked back.
        kept: Option<Kept>,
    },
    Taken,
}

#[derive(Default)]
struct Kept {
    frames: Vec<Bytes>,
    bytes: usize,
}

impl Kept {
    /// Keeps one more; none when it is too much, or no data.
    fn with(mut self, frame: &Frame<Bytes>) -> Option<Self> {
        let data = frame.data_ref()?;
        self.bytes += data.len();
        self.frames.push(data.clone());
        (self.bytes <= KEPT_BYTES_MAX).then_some(self)
    }
}

impl Lent {
    /// One that comes back when nothing was read of it.
    pub(super) fn new(body: ClientBody) -> (Self, Loan) {
        Self::lend(body, None)
    }

    /// One that comes back after it was read as well, if it is small.
    pub(super) fn kept(body: ClientBody) -> (Self, Loan) {
        Self::lend(body, Some(Kept::default()))
    }

    fn lend(body: ClientBody, kept: Option<Kept>) -> (Self, Loan) {
        let loan = Loan(Arc::new(Mutex::new(Lending::Untouched { body, kept })));
        (Self(loan.clone()), loan)
    }
}

impl Loan {
    /// The body, unless something of it was read.
    pub(super) fn take(&self) -> Option<ClientBody> {
        let mut lending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *lending, Lending::Taken) {
            Lending::Untouched { body, .. } => Some(body),
            Lending::Reading { .. } | Lending::Taken => None,
        }
    }

    /// The body with what was read of it in front again; none when that was too much to keep.
    pub(super) fn take_back(&self) -> Option<ClientBody> {
        let mut lending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *lending, Lending::Taken) {
            Lending::Untouched { body, .. } => Some(body),
            Lending::Reading { body, kept } => kept.map(|kept| body.again(kept.frames)),
            Lending::Taken => None,
        }
    }

    /// The body is not asked back any more.
    pub(super) fn settle(&self) {
        self.with(|lending| {
            if let Lending::Reading { kept, .. } = lending {
                *kept = None;
            }
        });
    }

    fn with<T>(&self, read: impl FnOnce(&mut Lending) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.with(|lending| {
            if matches!(lending, Lending::Untouched { .. })
                && let Lending::Untouched { body, kept } = std::mem::replace(lending, Lending::Taken)
            {
                *lending = Lending::Reading { body, kept };
            }
            match lending {
                Lending::Reading { body, kept } => {
                    let frame = std::pin::Pin::new(body).poll_frame(cx);
                    if let std::task::Poll::Ready(Some(Ok(frame))) = &frame {
                        *kept = kept.take().and_then(|kept| kept.with(frame));
                    }
                    frame
                }
                Lending::Untouched { .. } | Lending::Taken => std::task::Poll::Ready(None),
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.with(|lending| match lending {
            Lending::Untouched { body, .. } | Lending::Reading { body, .. } => body.is_end_stream(),
            Lending::Taken => true,
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.0.with(|lending| match lending {
            Lending::Untouched { body, .. } | Lending::Reading { body, .. } => body.size_hint(),
            Lending::Taken => SizeHint::with_exact(0),
        })
    }
}
