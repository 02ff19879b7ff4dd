//! The cpu share: a token bucket of CPU time around each poll of a guest.
//!
//! In flows a future that runs a guest; out flows the same future, polled only while its instance has CPU
//! time left, with panics caught. Fuel yields bound one poll, so a debt stays small. Nothing fails for lack
//! of CPU time: the guest waits.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::time::Sleep;

use crate::usage::RequestUsage;

/// How much unused share an instance may save up: this much wall time of it.
const BURST_WALL_NS: u64 = 200_000_000;
/// Least burst: the timer's grain is 1 ms, and a bucket smaller than a few grains loses share to rounding.
const BURST_CPU_NS_MIN: i64 = 10_000_000;
/// Most burst, so that a whole core saved up does not become a long stall of others.
const BURST_CPU_NS_MAX: i64 = 100_000_000;

/// CPU time of one instance, shared by its lanes.
#[derive(Debug)]
pub(crate) struct CpuBucket {
    cpu_millis: u32,
    burst_ns: i64,
    total_ns: AtomicU64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    tokens_ns: i64,
    at: Instant,
}

impl CpuBucket {
    pub(crate) fn new(cpu_millis: u32, now: Instant) -> Self {
        let burst = BURST_WALL_NS * u64::from(cpu_millis) / 1_000;
        let burst_ns = i64::try_from(burst)
            .unwrap_or(BURST_CPU_NS_MAX)
            .clamp(BURST_CPU_NS_MIN, BURST_CPU_NS_MAX);
        Self {
            cpu_millis,
            burst_ns,
            total_ns: AtomicU64::new(0),
            level: Mutex::new(Level {
                tokens_ns: burst_ns,
                at: now,
            }),
        }
    }

    /// CPU time charged so far.
    pub(crate) fn total_ns(&self) -> u64 {
        self.total_ns.load(Relaxed)
    }

    /// Whether a poll may go ahead; else how long until the debt is paid.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = u64::try_from(now.saturating_duration_since(level.at).as_nanos()).unwrap_or(u64::MAX);
        let refill = elapsed.saturating_mul(u64::from(self.cpu_millis)) / 1_000;
        // Below one token the clock is not advanced, so that frequent calls do not round the share away.
        if refill > 0 {
            level.at = now;
            let refill = i64::try_from(refill).unwrap_or(i64::MAX);
            level.tokens_ns = level.tokens_ns.saturating_add(refill).min(self.burst_ns);
        }
        if level.tokens_ns > 0 {
            return None;
        }
        let debt = level.tokens_ns.unsigned_abs() + 1;
        Some(Duration::from_nanos(
            debt.saturating_mul(1_000) / u64::from(self.cpu_millis.max(1)),
        ))
    }

    pub(crate) fn charge(&self, cpu_ns: u64) {
        self.total_ns.fetch_add(cpu_ns, Relaxed);
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.tokens_ns = level
            .tokens_ns
            .saturating_sub(i64::try_from(cpu_ns).unwrap_or(i64::MAX));
    }
}

/// The guest's host side panicked; the payload's text.
#[derive(Debug)]
pub(crate) struct Panicked(pub(crate) String);

impl<F> Drop for Metered<F> {
    /// A guest that is cut off is torn down here: charged, and a panic in it stays here.
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            let start = thread_cpu_ns();
            drop_quietly(inner);
            self.charge(start);
        }
    }
}

/// A guest future that is charged for its CPU time, waits when its share is used up, and whose panics end
/// here.
pub(crate) struct Metered<F> {
    /// None once it ended.
    inner: Option<Pin<Box<F>>>,
    bucket: Arc<CpuBucket>,
    debt: Option<Pin<Box<Sleep>>>,
    usage: Option<RequestUsage>,
}

impl<F: Future> Metered<F> {
    /// `usage` is told the CPU time too.
    pub(crate) fn new(inner: F, bucket: Arc<CpuBucket>, usage: Option<RequestUsage>) -> Self {
        Self {
            inner: Some(Box::pin(inner)),
            bucket,
            debt: None,
            usage,
        }
    }
}

impl<F> Metered<F> {
    fn charge(&self, start_ns: u64) {
        let cpu_ns = thread_cpu_ns().saturating_sub(start_ns);
        self.bucket.charge(cpu_ns);
        if let Some(usage) = &self.usage {
            usage.update(|figures| figures.cpu += Duration::from_nanos(cpu_ns));
        }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if let Some(sleep) = &mut this.debt {
                ready!(sleep.as_mut().poll(cx));
                this.debt = None;
            }
            match this.bucket.wait(Instant::now()) {
                None => break,
                Some(wait) => this.debt = Some(Box::pin(tokio::time::sleep(wait))),
            }
        }
        let Some(mut inner) = this.inner.take() else {
            return Poll::Pending;
        };
        let start = thread_cpu_ns();
        let poll = catch_unwind(AssertUnwindSafe(|| inner.as_mut().poll(cx)));
        // Dropped here, so that tearing the store down is charged too.
        match &poll {
            Ok(Poll::Pending) => this.inner = Some(inner),
            Ok(Poll::Ready(_)) | Err(_) => drop_quietly(inner),
        }
        this.charge(start);
        match poll {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(Panicked(panic_text(payload.as_ref())))),
        }
    }
}

/// Drops what panicked; a second panic on the way out must not take the thread along.
fn drop_quietly<T>(value: T) {
    if catch_unwind(AssertUnwindSafe(|| drop(value))).is_err() {
        tracing::error!("a guest's store panicked while it was dropped");
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}

/// CPU time of this thread: unlike the wall clock it does not run while another process has the core.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debt_is_paid_at_the_rate_of_the_share() {
        let start = Instant::now();
        let bucket = CpuBucket::new(100, start);
        assert_eq!(bucket.wait(start), None);
        bucket.charge(20_000_000 + 5_000_000);
        let wait = bucket.wait(start).expect("in debt");
        assert!((50..52).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(bucket.wait(start + wait + Duration::from_micros(10)), None);
    }

    #[test]
    fn savings_stop_at_the_burst() {
        let start = Instant::now();
        let bucket = CpuBucket::new(1_000, start);
        let later = start + Duration::from_secs(60);
        assert_eq!(bucket.wait(later), None);
        bucket.charge(100_000_000);
        assert!(bucket.wait(later).is_some());
    }

    async fn explode() {
        panic!("boom")
    }

    #[tokio::test]
    async fn a_panic_ends_at_the_edge() {
        let bucket = Arc::new(CpuBucket::new(1_000, Instant::now()));
        let Panicked(text) = Metered::new(explode(), bucket, None)
            .await
            .expect_err("it panics");
        assert_eq!(text, "boom");
    }
}
