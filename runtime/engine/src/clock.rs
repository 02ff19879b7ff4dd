//! The clocks that guests see: coarse, so that none can time its neighbours' use of shared caches.
//!
//! Residual risk: a guest with enough patience can average the grain away. Whoever must not share a machine's
//! caches with strangers needs a machine of its own.

use std::time::{Duration, Instant, SystemTime};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// The grain: what browsers give pages that are not isolated from others (W3C High Resolution Time).
const GRAIN_NS: u64 = 100_000;

/// Time since an instance's start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monotonic {
    pub(crate) start: Instant,
}

/// The time of day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wall;

/// Never ahead of the true time, so that a guest which sleeps for a duration sees at least that go by.
fn coarse(time: Duration) -> u64 {
    let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    ns - ns % GRAIN_NS
}

impl HostMonotonicClock for Monotonic {
    fn resolution(&self) -> u64 {
        GRAIN_NS
    }

    fn now(&self) -> u64 {
        coarse(self.start.elapsed())
    }
}

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(GRAIN_NS)
    }

    fn now(&self) -> Duration {
        // A machine set before 1970 gives 1970.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Duration::from_nanos(coarse(now.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_in_grains_and_never_ahead() {
        for (ns, seen) in [(0, 0), (99_999, 0), (100_000, 100_000), (1_234_567, 1_200_000)] {
            assert_eq!(coarse(Duration::from_nanos(ns)), seen);
        }
        assert_eq!(Wall.now().subsec_nanos() % 100_000, 0);
    }
}
