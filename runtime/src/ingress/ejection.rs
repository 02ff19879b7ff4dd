//! When a node that cannot be reached is left alone, and when it is tried again. Pure.
//!
//! In: what came of attempts to connect. Out: whether requests may go there now.
//!
//! Invariant: of a node that failed before, one attempt at a time says whether it is back: what else comes
//! meanwhile goes elsewhere.

use std::time::{Duration, Instant};

/// Left alone after the first failure: what a node needs to be started again by its supervisor.
const OUT_MIN: Duration = Duration::from_millis(250);
/// And at most, after failures in a row: a node that is back is used within this time.
const OUT_MAX: Duration = Duration::from_secs(15);

/// What is known of the way to one node.
#[derive(Debug, Default)]
pub(super) struct Ejection {
    /// Attempts to connect that failed in a row.
    failures: u32,
    until: Option<Instant>,
}

impl Ejection {
    /// Whether requests go elsewhere at `now`.
    pub(super) fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// An attempt begins, which is over at `end` at the latest.
    pub(super) fn attempt(&mut self, end: Instant) {
        if self.failures > 0 {
            self.until = Some(end);
        }
    }

    pub(super) fn failed(&mut self, now: Instant) {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + OUT_MIN.saturating_mul(1 << doublings).min(OUT_MAX));
    }

    pub(super) fn connected(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_keep_a_node_out_for_a_growing_while() {
        let start = Instant::now();
        let mut ejection = Ejection::default();
        assert!(!ejection.is_out(start));
        let outs: Vec<u128> = (0..10)
            .map(|_| {
                ejection.failed(start);
                ejection.until.expect("out").duration_since(start).as_millis()
            })
            .collect();
        assert_eq!(
            outs,
            [
                250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000, 15_000
            ]
        );
        assert!(ejection.is_out(start + OUT_MAX / 2));
        assert!(!ejection.is_out(start + OUT_MAX), "it is tried again");
        ejection.connected();
        assert!(!ejection.is_out(start));
        ejection.failed(start);
        assert!(!ejection.is_out(start + OUT_MIN), "a new series begins");
    }

    #[test]
    fn one_attempt_at_a_time_finds_out_whether_a_node_is_back() {
        let start = Instant::now();
        let mut ejection = Ejection::default();
        ejection.attempt(start + OUT_MAX);
        assert!(!ejection.is_out(start), "nothing is known against it");
        ejection.failed(start);
        let again = start + OUT_MIN;
        ejection.attempt(again + Duration::from_secs(1));
        assert!(ejection.is_out(again), "others go elsewhere meanwhile");
        ejection.connected();
        assert!(!ejection.is_out(again));
    }
}
