//! One request's state, shared by its caller, its response's body, its guest's task and the access log.
//!
//! In flow a head, figures, how the lane ended and whether anybody still listens; out flows each of them to
//! whoever waits for it. One allocation and one short lock stand in for a channel each: a request that ends
//! where it arrived wakes nobody.
//!
//! Invariant: nothing is called under the lock; whoever is to be woken is woken after it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU8,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use gilliam_model::code::Code;
use wasmtime_wasi_http::WasiBody;

use crate::{body::BodyError, failure::Failure, usage::RequestFigures};

pub(crate) type Head = Result<http::Response<WasiBody>, Failure>;

/// Whether somebody still wants what the guest makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Listener {
    /// The caller waits for the head, or reads the body.
    There,
    /// The body was read to its end; the guest may finish what it does besides.
    Done,
    /// The caller left before the end, or the instance is killed.
    Gone,
}

/// One request from the call to the end of its guest's work.
#[derive(Default)]
pub(crate) struct Exchange {
    /// A [`Listener`]; it only grows.
    listener: AtomicU8,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    head: HeadStage,
    /// Waits for the head.
    caller: Option<Waker>,
    /// The guest's task, which waits for its listener to leave.
    guest: Option<Waker>,
    /// Part of that task, which waits for the end of the body.
    body: Option<Waker>,
    end: End,
    figures: RequestFigures,
    is_finished: bool,
    /// Wait for the figures.
    readers: Vec<Waker>,
}

#[derive(Default)]
enum HeadStage {
    #[default]
    Awaited,
    Sent(Box<Head>),
    Taken,
}

/// How a lane ended, as far as the response's body must know.
#[derive(Default)]
enum End {
    #[default]
    Clean,
    Aborted,
    Failed(Failure),
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("listener", &self.listener())
            .field("figures", &self.figures())
            .finish_non_exhaustive()
    }
}

impl Exchange {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Gives the caller its head; whether it was the first one, which is the one that counts.
    pub(crate) fn send_head(&self, head: Head) -> bool {
        let mut state = self.state();
        if !matches!(state.head, HeadStage::Awaited) {
            return false;
        }
        state.head = HeadStage::Sent(Box::new(head));
        let caller = state.caller.take();
        drop(state);
        wake(caller);
        true
    }

    /// The head; None when the guest's task ended without one.
    pub(crate) fn poll_head(&self, cx: &Context<'_>) -> Poll<Option<Head>> {
        let mut state = self.state();
        match std::mem::replace(&mut state.head, HeadStage::Taken) {
            HeadStage::Sent(head) => return Poll::Ready(Some(*head)),
            HeadStage::Awaited if !state.is_finished => state.head = HeadStage::Awaited,
            HeadStage::Awaited | HeadStage::Taken => return Poll::Ready(None),
        }
        note(&mut state.caller, cx);
        Poll::Pending
    }

    /// Tells the guest's task that its listener left, or has all it wants.
    pub(crate) fn left(&self, listener: Listener) {
        // Under the lock, so that whoever looks and then notes its waker cannot miss it.
        let mut state = self.state();
        if listener <= self.listener() {
            return;
        }
        self.listener.store(listener as u8, Release);
        let wakers = [state.guest.take(), state.body.take()];
        drop(state);
        wakers.into_iter().for_each(wake);
    }

    pub(crate) fn listener(&self) -> Listener {
        match self.listener.load(Acquire) {
            0 => Listener::There,
            1 => Listener::Done,
            _ => Listener::Gone,
        }
    }

    /// What the listener does, for the guest's task, which is woken when that changes.
    pub(crate) fn watch_listener(&self, cx: &Context<'_>) -> Listener {
        let mut state = self.state();
        note(&mut state.guest, cx);
        self.listener()
    }

    /// Ready once the body is done with, however.
    pub(crate) fn poll_body_done(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if self.listener() != Listener::There {
            return Poll::Ready(());
        }
        note(&mut state.body, cx);
        Poll::Pending
    }

    /// The lane failed. To be said before its store is dropped, because that closes the body's channel and
    /// would look like its regular end.
    pub(crate) fn failed(&self, failure: &Failure) {
        self.state().end = End::Failed(failure.clone());
    }

    fn aborted(&self) {
        let mut state = self.state();
        if matches!(state.end, End::Clean) {
            state.end = End::Aborted;
        }
    }

    /// Why the body is not whole, if it is not.
    pub(crate) fn error(&self) -> Option<BodyError> {
        let message = match &self.state().end {
            End::Clean => return None,
            End::Aborted => "the instance was stopped".to_owned(),
            End::Failed(failure) => format!("{}: {}", failure.code, failure.message),
        };
        let code = Code::H18;
        Some(BodyError { code, message })
    }

    /// The CPU time so far, finished or not.
    pub(crate) fn cpu(&self) -> Duration {
        self.state().figures.cpu
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut RequestFigures)) {
        change(&mut self.state().figures);
    }

    /// The guest is done with the request.
    pub(crate) fn finish(&self, wall: Duration) {
        let mut state = self.state();
        state.figures.wall = wall;
        state.is_finished = true;
        let (caller, readers) = (state.caller.take(), std::mem::take(&mut state.readers));
        drop(state);
        wake(caller);
        readers.into_iter().for_each(Waker::wake);
    }

    /// The figures, once the guest is done with the request.
    pub(crate) fn figures(&self) -> Option<RequestFigures> {
        let state = self.state();
        state.is_finished.then_some(state.figures)
    }

    pub(crate) fn poll_figures(&self, cx: &Context<'_>) -> Poll<RequestFigures> {
        let mut state = self.state();
        if state.is_finished {
            return Poll::Ready(state.figures);
        }
        if !state.readers.iter().any(|reader| reader.will_wake(cx.waker())) {
            state.readers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The caller's side: dropped, it has left.
pub(crate) struct Caller(Option<Arc<Exchange>>);

impl Caller {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self(Some(exchange))
    }

    /// The body was read to its end.
    pub(crate) fn done(mut self) {
        if let Some(exchange) = self.0.take() {
            exchange.left(Listener::Done);
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take() {
            exchange.left(Listener::Gone);
        }
    }
}

/// Marks the lane's end as aborted unless told otherwise; to be dropped before the store.
pub(crate) struct EndMark {
    exchange: Arc<Exchange>,
    is_told: bool,
}

impl EndMark {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        let is_told = false;
        Self { exchange, is_told }
    }

    pub(crate) fn clean(mut self) {
        self.is_told = true;
    }

    pub(crate) fn failed(mut self, failure: &Failure) {
        self.exchange.failed(failure);
        self.is_told = true;
    }
}

impl Drop for EndMark {
    fn drop(&mut self) {
        if !self.is_told {
            self.exchange.aborted();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn each_side_is_woken_by_what_it_waits_for_and_by_nothing_else() {
        let exchange = Exchange::new();
        let counts: [Arc<Count>; 4] = Default::default();
        let wakers = counts.clone().map(Waker::from);
        let [caller, guest, body, reader] = wakers.each_ref().map(Context::from_waker);
        let woken = || counts.each_ref().map(|count| count.0.load(Relaxed));
        assert!(exchange.poll_head(&caller).is_pending());
        assert_eq!(exchange.watch_listener(&guest), Listener::There);
        assert!(exchange.poll_body_done(&body).is_pending());
        assert!(exchange.poll_figures(&reader).is_pending());
        let failure = || Failure::new(Code::R23, "a trap");
        assert!(exchange.send_head(Err(failure())));
        assert!(!exchange.send_head(Err(failure())), "only the first counts");
        assert_eq!(woken(), [1, 0, 0, 0]);
        assert!(exchange.poll_head(&caller).is_ready());
        Caller::new(exchange.clone()).done();
        assert_eq!(woken(), [1, 1, 1, 0]);
        assert_eq!(exchange.listener(), Listener::Done);
        assert!(exchange.poll_body_done(&body).is_ready());
        exchange.finish(Duration::ZERO);
        assert_eq!(woken(), [1, 1, 1, 1]);
        assert!(exchange.figures().is_some());
    }

    #[tokio::test]
    async fn a_task_that_ends_without_a_head_leaves_none() {
        let exchange = Exchange::new();
        exchange.finish(Duration::ZERO);
        assert!(poll_fn(|cx| exchange.poll_head(cx)).await.is_none());
    }

    #[test]
    fn a_lane_that_is_dropped_aborts_the_body_and_a_failure_is_told() {
        let exchange = Exchange::new();
        EndMark::new(exchange.clone()).clean();
        assert!(exchange.error().is_none());
        drop(EndMark::new(exchange.clone()));
        assert!(exchange.error().expect("aborted").message.contains("stopped"));
        EndMark::new(exchange.clone()).failed(&Failure::new(Code::R20, "fuel"));
        assert_eq!(exchange.error().expect("failed").message, "R20: fuel");
    }
}
