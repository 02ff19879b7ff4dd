//! A request's body on its way out of this process, which comes back when nothing was sent.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::{BodyError, ClientBody};

/// A body that can be taken back as long as nobody has read from it.
pub(super) struct Lent(Loan);

#[derive(Clone)]
pub(super) struct Loan(Arc<Mutex<Lending>>);

enum Lending {
    Untouched(ClientBody),
    Reading(ClientBody),
    Taken,
}

impl Lent {
    pub(super) fn new(body: ClientBody) -> (Self, Loan) {
        let loan = Loan(Arc::new(Mutex::new(Lending::Untouched(body))));
        (Self(loan.clone()), loan)
    }
}

impl Loan {
    /// The body, unless something of it was read.
    pub(super) fn take(&self) -> Option<ClientBody> {
        let mut lending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *lending, Lending::Taken) {
            Lending::Untouched(body) => Some(body),
            Lending::Reading(_) | Lending::Taken => None,
        }
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
            if matches!(lending, Lending::Untouched(_))
                && let Lending::Untouched(body) = std::mem::replace(lending, Lending::Taken)
            {
                *lending = Lending::Reading(body);
            }
            match lending {
                Lending::Reading(body) => std::pin::Pin::new(body).poll_frame(cx),
                Lending::Untouched(_) | Lending::Taken => std::task::Poll::Ready(None),
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.with(|lending| match lending {
            Lending::Untouched(body) | Lending::Reading(body) => body.is_end_stream(),
            Lending::Taken => true,
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.0.with(|lending| match lending {
            Lending::Untouched(body) | Lending::Reading(body) => body.size_hint(),
            Lending::Taken => SizeHint::with_exact(0),
        })
    }
}
