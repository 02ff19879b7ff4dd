//! The CPU time of a stretch of work on this thread, read as cheaply as its length allows.
//!
//! In flows nothing but two moments, out flow nanoseconds. The thread's own CPU clock costs a system call;
//! the wall clock does not, but it goes on while another thread has the core. So a short stretch is taken at
//! its wall time, and at the end of a long one the CPU clock is read, once.
//!
//! Invariant: a stretch is never taken for longer than its wall time, nor, if it is long, for longer than the
//! CPU time this thread has had since it was last asked.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Below this a stretch is taken at its wall time: the kernel takes a core away for longer than this or not
/// at all, so the error is rare and small.
const SHORT_MAX: Duration = Duration::from_micros(20);

thread_local! {
    /// The thread's CPU clock as far as it is accounted for: when it was last read, and what has been taken
    /// at wall time since.
    static ACCOUNTED_NS: Cell<u64> = const { Cell::new(0) };
}

/// A stretch of work that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    start: Instant,
}

impl Stretch {
    pub(crate) fn start(now: Instant) -> Self {
        Self { start: now }
    }

    /// Its CPU time so far. It must be asked on the thread on which it began, once.
    pub(crate) fn end(self) -> Duration {
        let wall = self.start.elapsed();
        let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        let accounted = ACCOUNTED_NS.get();
        if wall < SHORT_MAX {
            ACCOUNTED_NS.set(accounted.saturating_add(wall_ns));
            return wall;
        }
        let cpu_ns = thread_cpu_ns();
        ACCOUNTED_NS.set(cpu_ns);
        // Short stretches may have been taken for a little more than they were.
        Duration::from_nanos(cpu_ns.saturating_sub(accounted).min(wall_ns))
    }
}

/// CPU time of this thread.
fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spins until this thread has had so much CPU time.
    fn spin(cpu: Duration) {
        let end = thread_cpu_ns() + u64::try_from(cpu.as_nanos()).expect("short");
        while thread_cpu_ns() < end {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn sleep_is_not_cpu_time_and_work_is() {
        std::thread::spawn(|| {
            let stretch = Stretch::start(Instant::now());
            let other = std::thread::spawn(|| spin(Duration::from_millis(30)));
            other.join().expect("no panic");
            spin(Duration::from_millis(10));
            let spent = stretch.end();
            assert!(
                spent >= Duration::from_millis(10) && spent < Duration::from_millis(30),
                "{spent:?}"
            );
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn many_short_stretches_add_up_to_the_threads_time() {
        std::thread::spawn(|| {
            let start = thread_cpu_ns();
            ACCOUNTED_NS.set(start);
            let mut sum = Duration::ZERO;
            for round in 0..2_000_u64 {
                let stretch = Stretch::start(Instant::now());
                spin(Duration::from_micros(round % 40));
                sum += stretch.end();
            }
            let real = Duration::from_nanos(thread_cpu_ns() - start);
            assert!(
                sum.as_secs_f64() > 0.7 * real.as_secs_f64(),
                "{sum:?} of {real:?}"
            );
            assert!(
                sum.as_secs_f64() < 1.3 * real.as_secs_f64(),
                "{sum:?} of {real:?}"
            );
        })
        .join()
        .expect("no panic");
    }
}
