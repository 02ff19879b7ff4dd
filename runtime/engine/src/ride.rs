//! The first short slices of a request, run where it arrived.
//!
//! In flows a request's task, polled by whoever waits for its head or its body's frames; out goes the task
//! to the guest threads, once it has had its share of the caller's thread. Short requests pay no hand-over
//! between threads this way.
//!
//! Invariant: a task gets at most [`RIDE_CPU_MAX`] and one slice more of the caller's thread, all polls
//! together.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{engines::Engines, exchange::Exchange, throttle::CpuBucket};

/// CPU time a request may have on the caller's thread; a slice of fuel is 40 to 100 µs.
const RIDE_CPU_MAX: Duration = Duration::from_micros(150);
/// Polls on the caller's thread: a small response takes three to five. A consumer that stalls stops
/// polling; it must not do so with the guest still on board, out of reach of deadlines, and servers buffer
/// more than this many frames.
const RIDE_POLLS_MAX: u32 = 6;

/// A request's task while the caller polls it. Dropping it with the task ends the guest.
pub(crate) struct Ride {
    /// None once it has ended or moved to the guest threads.
    task: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    engines: Engines,
    cpu: Arc<CpuBucket>,
    exchange: Arc<Exchange>,
    polls_left: u32,
    longest: Duration,
}

impl fmt::Debug for Ride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ride")
            .field("on_board", &self.task.is_some())
            .finish_non_exhaustive()
    }
}

impl Ride {
    pub(crate) fn new(
        task: Pin<Box<dyn Future<Output = ()> + Send>>,
        engines: Engines,
        cpu: Arc<CpuBucket>,
        exchange: Arc<Exchange>,
    ) -> Self {
        Self {
            task: Some(task),
            engines,
            cpu,
            exchange,
            polls_left: RIDE_POLLS_MAX,
            longest: Duration::ZERO,
        }
    }

    /// Polls the task, if it is still here; hands it over when it has had its share.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(task) = &mut self.task else { return };
        let before = self.exchange.figures().cpu;
        let poll = task.as_mut().poll(cx);
        let after = self.exchange.figures().cpu;
        self.longest = self.longest.max(after.saturating_sub(before));
        self.polls_left = self.polls_left.saturating_sub(1);
        match poll {
            Poll::Ready(()) => self.task = None,
            // The guest threads wait for debts; the caller's thread has better to do.
            Poll::Pending if self.polls_left == 0 || after > RIDE_CPU_MAX || self.cpu.in_debt() => {
                self.hand_over();
            }
            Poll::Pending => {}
        }
    }

    /// Moves the task to the guest threads.
    pub(crate) fn hand_over(&mut self) {
        if let Some(task) = self.task.take() {
            self.engines.threads().adopt(&self.cpu, task).detach();
        }
    }

    /// Ends the guest, if it is still here.
    pub(crate) fn cancel(&mut self) {
        self.task = None;
    }

    /// The longest a single poll took.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }
}
