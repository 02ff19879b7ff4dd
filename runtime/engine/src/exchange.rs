//! What passes between a caller and the lane that serves its request: one allocation for all of it.
//!
//! From the lane come the head, how its work ended, and the figures; from the caller, whether it still waits.
//! Each side hears of the other's changes; neither ever waits for a lock that the other holds for long.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU8,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;
use wasmtime_wasi_http::WasiBody;

use crate::{failure::Failure, usage::RequestFigures};

pub(crate) type Head = Result<http::Response<WasiBody>, Failure>;

/// One request between its caller and its lane.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    head: Mutex<HeadSlot>,
    /// A [`Caller`].
    caller: AtomicU8,
    caller_changed: Notify,
    /// Written before the store is dropped, because dropping the store closes the body's channel and would
    /// look like its regular end.
    broke_off: AtomicBool,
    failure: Mutex<Option<Failure>>,
    figures: Mutex<RequestFigures>,
    is_done: AtomicBool,
    done: Notify,
}

#[derive(Debug, Default)]
enum HeadSlot {
    #[default]
    Empty,
    Awaited(Waker),
    Sent(Box<Head>),
    /// It was taken, or there will be none.
    Closed,
}

/// What the caller still wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The head or more of the body.
    Waits,
    /// Nothing: it has all.
    HasAll,
    /// Nothing: it gave up.
    Gone,
}

impl Exchange {
    /// Gives the head to the caller. Whether it is the first: it may come from the guest, or from whoever
    /// finds that there will be none.
    pub(crate) fn send_head(&self, head: Head) -> bool {
        self.close(|| HeadSlot::Sent(Box::new(head)))
    }

    /// No head comes any more.
    pub(crate) fn close_head(&self) {
        self.close(|| HeadSlot::Closed);
    }

    fn close(&self, with: impl FnOnce() -> HeadSlot) -> bool {
        let mut slot = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, HeadSlot::Sent(_) | HeadSlot::Closed) {
            return false;
        }
        let before = std::mem::replace(&mut *slot, with());
        drop(slot);
        if let HeadSlot::Awaited(waker) = before {
            waker.wake();
        }
        true
    }

    /// The head, or none when there will be none.
    pub(crate) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Option<Head>> {
        let mut slot = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            HeadSlot::Awaited(waker) if waker.will_wake(cx.waker()) => return Poll::Pending,
            HeadSlot::Empty | HeadSlot::Awaited(_) => {
                *slot = HeadSlot::Awaited(cx.waker().clone());
                return Poll::Pending;
            }
            HeadSlot::Sent(_) | HeadSlot::Closed => {}
        }
        match std::mem::replace(&mut *slot, HeadSlot::Closed) {
            HeadSlot::Sent(head) => Poll::Ready(Some(*head)),
            _ => Poll::Ready(None),
        }
    }

    /// What the caller wants now.
    pub(crate) fn caller(&self) -> Caller {
        match self.caller.load(Acquire) {
            0 => Caller::Waits,
            1 => Caller::HasAll,
            _ => Caller::Gone,
        }
    }

    /// Waits until the caller wants no more.
    pub(crate) async fn caller_done(&self) -> Caller {
        loop {
            let changed = self.caller_changed.notified();
            match self.caller() {
                Caller::Waits => changed.await,
                done => return done,
            }
        }
    }

    /// The lane's work broke off: the body is not whole.
    pub(crate) fn broke_off(&self, failure: Option<&Failure>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure.cloned();
        self.broke_off.store(true, Release);
    }

    /// Whether the lane's work broke off, and why: a failure, or it was stopped.
    pub(crate) fn break_off(&self) -> Option<Option<Failure>> {
        if !self.broke_off.load(Acquire) {
            return None;
        }
        Some(
            self.failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }

    pub(crate) fn figures(&self) -> RequestFigures {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut RequestFigures)) {
        change(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The lane is done with the request: nothing changes the figures any more.
    pub(crate) fn finish(&self) {
        self.is_done.store(true, Release);
        self.done.notify_waiters();
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.is_done.load(Acquire)
    }

    /// Waits until the lane is done with the request.
    pub(crate) async fn finished(&self) {
        loop {
            let done = self.done.notified();
            if self.is_finished() {
                return;
            }
            done.await;
        }
    }
}

/// The caller's side; dropped without [`has_all`](Self::has_all), it ends the guest.
#[derive(Debug)]
pub(crate) struct CallerSide(Arc<Exchange>);

impl CallerSide {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self(exchange)
    }

    /// The caller has all it wants; the guest may end what it does besides. Whether that is news.
    pub(crate) fn has_all(&self) -> bool {
        self.leave(Caller::HasAll)
    }

    pub(crate) fn gives_up(&self) {
        self.leave(Caller::Gone);
    }

    /// Whether it still wants something.
    pub(crate) fn waits(&self) -> bool {
        self.0.caller() == Caller::Waits
    }

    fn leave(&self, how: Caller) -> bool {
        let how = if how == Caller::HasAll { 1 } else { 2 };
        let left = self.0.caller.compare_exchange(0, how, AcqRel, Acquire).is_ok();
        if left {
            self.0.caller_changed.notify_waiters();
        }
        left
    }
}

impl Drop for CallerSide {
    fn drop(&mut self) {
        self.gives_up();
    }
}

/// Marks the lane's work as broken off unless told otherwise; to be dropped before the store.
pub(crate) struct EndMark {
    exchange: Arc<Exchange>,
    is_set: bool,
}

impl EndMark {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self {
            exchange,
            is_set: false,
        }
    }

    pub(crate) fn clean(mut self) {
        self.is_set = true;
    }

    pub(crate) fn failed(mut self, failure: &Failure) {
        self.exchange.broke_off(Some(failure));
        self.is_set = true;
    }
}

impl Drop for EndMark {
    fn drop(&mut self) {
        if !self.is_set {
            self.exchange.broke_off(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::code::Code;

    use super::*;

    #[tokio::test]
    async fn the_first_head_counts_and_nobody_waits_for_one_that_does_not_come() {
        let exchange = Exchange::default();
        assert!(exchange.send_head(Err(Failure::new(Code::H13, "first"))));
        assert!(!exchange.send_head(Err(Failure::new(Code::H12, "second"))));
        let head = std::future::poll_fn(|cx| exchange.poll_head(cx)).await;
        assert_eq!(
            head.and_then(Result::err).map(|failure| failure.code),
            Some(Code::H13)
        );

        let exchange = Arc::new(Exchange::default());
        let waiting = exchange.clone();
        let head =
            tokio::spawn(async move { std::future::poll_fn(|cx| waiting.poll_head(cx)).await.is_none() });
        tokio::task::yield_now().await;
        exchange.close_head();
        assert!(head.await.expect("no panic"));
    }

    #[tokio::test]
    async fn the_lane_hears_once_what_became_of_the_caller() {
        let exchange = Arc::new(Exchange::default());
        let side = CallerSide::new(exchange.clone());
        assert!(side.waits());
        assert!(side.has_all());
        drop(side);
        assert_eq!(exchange.caller_done().await, Caller::HasAll);

        let exchange = Arc::new(Exchange::default());
        let lane = exchange.clone();
        let heard = tokio::spawn(async move { lane.caller_done().await });
        tokio::task::yield_now().await;
        drop(CallerSide::new(exchange));
        assert_eq!(heard.await.expect("no panic"), Caller::Gone);
    }
}
