//! How long a crashed instance waits before it is started again. Pure.
//!
//! Invariant: no clock and no randomness: times and jitter are arguments.

use std::time::Duration;

/// Delays before the first, second, third … start after a crash double up to this.
pub(crate) const DELAY_S_MAX: u64 = 300;
/// An instance that ran this long before it crashed begins at the bottom of the ladder again.
pub(crate) const HEALTHY_S_MIN: u64 = 600;
/// Delays differ by up to this share, so that instances that crashed together do not start together.
pub(crate) const JITTER_PERCENT: u64 = 20;

/// The ladder of one instance: 0, 1, 2, 4 … 300 s.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// Crashes since the last healthy run.
    crashes: u32,
}

impl Backoff {
    /// Takes note of a crash after `ran` of being ready, and gives the wait before the next start.
    ///
    /// `jitter` in 0 ..= 1 places it within ±20 %.
    pub(crate) fn crashed(&mut self, ran: Duration, jitter: f64) -> Duration {
        if ran >= Duration::from_secs(HEALTHY_S_MIN) {
            self.crashes = 0;
        }
        let rung = self.crashes;
        self.crashes = self.crashes.saturating_add(1);
        let seconds = match rung {
            0 => 0,
            n => 1_u64.checked_shl(n - 1).unwrap_or(DELAY_S_MAX).min(DELAY_S_MAX),
        };
        spread(Duration::from_secs(seconds), jitter)
    }
}

/// `delay` moved within ±20 % by `jitter` in 0 ..= 1.
pub(crate) fn spread(delay: Duration, jitter: f64) -> Duration {
    let share = f64::from(u32::try_from(JITTER_PERCENT).expect("a percentage")) / 100.0;
    delay.mul_f64(1.0 - share + 2.0 * share * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ladder_doubles_up_to_five_minutes_and_starts_again_after_a_healthy_run() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(HEALTHY_S_MIN - 1);
        let waits: Vec<u64> = (0..12).map(|_| backoff.crashed(short, 0.5).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(
            backoff.crashed(Duration::from_secs(HEALTHY_S_MIN), 0.5),
            Duration::ZERO
        );
        assert_eq!(backoff.crashed(Duration::ZERO, 0.5), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn jitter_stays_within_a_fifth(crashes in 0..200_u32, jitter in 0.0..=1.0_f64) {
            let plain = Backoff { crashes }.crashed(Duration::ZERO, 0.5).as_secs_f64();
            let moved = Backoff { crashes }.crashed(Duration::ZERO, jitter).as_secs_f64();
            prop_assert!(moved >= plain * 0.799 && moved <= plain * 1.201, "{plain} {moved}");
            prop_assert!(moved <= 360.0);
        }
    }
}
