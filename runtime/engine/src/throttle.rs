//! The cpu share: a token bucket of CPU time around each poll of a guest.
//!
//! In flows a future that runs a guest; out flows the same future, polled only while guests may run and its instance
//! has CPU time left, with panics caught. Fuel yields bound one poll, so a debt stays small. Nothing fails for lack
//! of CPU time: the guest waits.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;

use crate::{
    cpu_clock::Stretch,
    exchange::Exchange,
    run_queue::InstanceId,
    turns::{InstanceTurns, OpenDebt},
};

/// How much unused share an instance may save up: this much wall time of it. More would let it have more
/// than a tenth over its share in a second.
const BURST_WALL_NS: u64 = 80_000_000;
/// What a guest that was in debt has on its account when it goes on: a few slices, so that it does not come
/// and go with each.
const RESUME_NS: i64 = 200_000;
/// A guest that may not run just now is looked at again after this time: it is to go on soon after it may.
const HELD_LOOK: Duration = Duration::from_millis(20);

/// CPU time of one instance, shared by its lanes, and its place among those that wait for CPU time.
#[derive(Debug)]
pub(crate) struct CpuBucket {
    rate: Rate,
    total_ns: AtomicU64,
    level: Mutex<Level>,
    turns: InstanceTurns,
}

impl CpuBucket {
    pub(crate) fn new(cpu_millis: u32, now: Instant, turns: InstanceTurns) -> Self {
        let rate = Rate::new(cpu_millis);
        Self {
            total_ns: AtomicU64::new(0),
            level: Mutex::new(Level::full(rate, now)),
            rate,
            turns,
        }
    }

    /// CPU time charged so far.
    pub(crate) fn total_ns(&self) -> u64 {
        self.total_ns.load(Relaxed)
    }

    /// Its place in the guest threads' queue.
    pub(crate) fn id(&self) -> InstanceId {
        self.turns.id()
    }

    /// Whether a poll may go ahead; else how long until the debt is paid.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.wait(self.rate, now)
    }

    /// Whether the last poll was put off.
    pub(crate) fn in_debt(&self) -> bool {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).in_debt
    }

    pub(crate) fn charge(&self, cpu_ns: u64) {
        self.total_ns.fetch_add(cpu_ns, Relaxed);
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.charge(cpu_ns);
    }
}

/// How fast a bucket fills, and how far.
#[derive(Debug, Clone, Copy)]
struct Rate {
    cpu_millis: u32,
    burst_ns: i64,
}

impl Rate {
    fn new(cpu_millis: u32) -> Self {
        let cpu_millis = cpu_millis.max(1);
        let burst = BURST_WALL_NS * u64::from(cpu_millis) / 1_000;
        Self {
            cpu_millis,
            burst_ns: i64::try_from(burst).unwrap_or(i64::MAX).max(2 * RESUME_NS),
        }
    }
}

/// How full a bucket is. Pure.
#[derive(Debug)]
struct Level {
    tokens_ns: i64,
    at: Instant,
    in_debt: bool,
}

impl Level {
    fn full(rate: Rate, now: Instant) -> Self {
        Self {
            tokens_ns: rate.burst_ns,
            at: now,
            in_debt: false,
        }
    }

    fn wait(&mut self, rate: Rate, now: Instant) -> Option<Duration> {
        let elapsed = u64::try_from(now.saturating_duration_since(self.at).as_nanos()).unwrap_or(u64::MAX);
        let refill = elapsed.saturating_mul(u64::from(rate.cpu_millis)) / 1_000;
        // Below one token the clock is not advanced, so that frequent calls do not round the share away.
        if refill > 0 {
            self.at = now;
            let refill = i64::try_from(refill).unwrap_or(i64::MAX);
            self.tokens_ns = self.tokens_ns.saturating_add(refill).min(rate.burst_ns);
        }
        self.in_debt = self.tokens_ns < if self.in_debt { RESUME_NS } else { 1 };
        self.in_debt.then(|| {
            let missing = RESUME_NS.saturating_sub(self.tokens_ns).unsigned_abs();
            Duration::from_nanos(missing.saturating_mul(1_000).div_ceil(u64::from(rate.cpu_millis)))
        })
    }

    fn charge(&mut self, cpu_ns: u64) {
        let cpu_ns = i64::try_from(cpu_ns).unwrap_or(i64::MAX);
        self.tokens_ns = self.tokens_ns.saturating_sub(cpu_ns);
    }
}

/// The guest's host side panicked; the payload's text.
#[derive(Debug)]
pub(crate) struct Panicked(pub(crate) String);

pin_project! {
    /// A guest future that is charged for its CPU time, waits when its share is used up, and whose panics
    /// end here.
    pub(crate) struct Metered<F> {
        #[pin]
        inner: Edge<F>,
        account: Account,
        debt: Option<OpenDebt>,
    }

    impl<F> PinnedDrop for Metered<F> {
        // A guest that is cut off is torn down here, and charged for it.
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if !this.inner.is_open() {
                return;
            }
            let stretch = Stretch::start(Instant::now());
            this.inner.end();
            this.account.charge(stretch);
        }
    }
}

impl<F: Future> Metered<F> {
    /// `exchange` is told the CPU time too.
    pub(crate) fn new(inner: F, bucket: Arc<CpuBucket>, exchange: Option<Arc<Exchange>>) -> Self {
        Self {
            inner: Edge::new(inner),
            account: Account { bucket, exchange },
            debt: None,
        }
    }
}

/// Where CPU time is charged.
struct Account {
    bucket: Arc<CpuBucket>,
    exchange: Option<Arc<Exchange>>,
}

impl Account {
    fn charge(&self, stretch: Stretch) {
        let cpu = stretch.end();
        self.bucket
            .charge(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX));
        if let Some(exchange) = &self.exchange {
            exchange.update(|figures| figures.cpu += cpu);
        }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let now = Instant::now();
        *this.debt = None;
        let turns = &this.account.bucket.turns;
        let held = (!turns.may_run()).then_some(HELD_LOOK);
        if let Some(wait) = held.or_else(|| this.account.bucket.wait(now)) {
            *this.debt = Some(turns.open_debt(now + wait, cx.waker().clone()));
            return Poll::Pending;
        }
        let stretch = Stretch::start(now);
        let poll = this.inner.poll(cx);
        this.account.charge(stretch);
        poll
    }
}

pin_project! {
    /// A future whose panics end here, when it is polled and when it is dropped.
    pub(crate) struct Edge<F> {
        // None once it ended.
        #[pin]
        inner: Option<F>,
    }

    impl<F> PinnedDrop for Edge<F> {
        fn drop(this: Pin<&mut Self>) {
            this.end();
        }
    }
}

impl<F> Edge<F> {
    pub(crate) fn new(inner: F) -> Self {
        Self { inner: Some(inner) }
    }

    /// Whether it has not ended yet.
    fn is_open(&self) -> bool {
        self.inner.is_some()
    }

    /// Drops the future.
    fn end(self: Pin<&mut Self>) {
        let mut inner = self.project().inner;
        // A second panic on the way out must not take the thread along.
        if inner.is_some() && catch_unwind(AssertUnwindSafe(|| inner.set(None))).is_err() {
            tracing::error!("a guest's store panicked while it was dropped");
        }
    }
}

impl<F: Future> Future for Edge<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(inner) = self.as_mut().project().inner.as_pin_mut() else {
            return Poll::Pending;
        };
        // Dropped at its end, so that tearing the store down is part of the guest's time.
        let output = match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(Panicked(panic_text(payload.as_ref()))),
        };
        self.end();
        Poll::Ready(output)
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A guest that always wants to run, in slices of any length, gets its share: at most the burst and
        /// a slice over it, at most two slices and a resumption under it.
        #[test]
        fn a_spinner_gets_its_share(
            cpu_millis in 10_u32..=1_000,
            slices in proptest::collection::vec(1_000_u64..200_000, 1..20),
            late_ns in 0_u64..2_000_000,
        ) {
            let rate = Rate::new(cpu_millis);
            let start = Instant::now();
            let mut level = Level::full(rate, start);
            let (mut now, mut had) = (start, 0);
            let end = start + Duration::from_secs(2);
            let mut slices = slices.into_iter().cycle();
            while now < end {
                match level.wait(rate, now) {
                    // Whoever wakes it is a little late.
                    Some(wait) => now += wait + Duration::from_nanos(late_ns),
                    None => {
                        let slice = slices.next().expect("without end");
                        level.charge(slice);
                        had += slice;
                        now += Duration::from_nanos(slice);
                    }
                }
            }
            let asked = 2_000_000 * u64::from(cpu_millis);
            let burst = u64::try_from(rate.burst_ns).expect("positive");
            prop_assert!(had <= asked + burst + 400_000, "{had} of {asked}");
            prop_assert!(had + 600_000 >= asked, "{had} of {asked}");
        }
    }

    #[test]
    fn savings_stop_at_the_burst() {
        let rate = Rate::new(1_000);
        let start = Instant::now();
        let mut level = Level::full(rate, start);
        let later = start + Duration::from_secs(60);
        assert_eq!(level.wait(rate, later), None);
        level.charge(80_000_000);
        assert!(level.wait(rate, later).is_some());
    }
}
