//! How long a node waits for the answer to a report before it takes the connection for dead and reports anew.
//!
//! In: after how much silence the control plane holds a node dead, and which reports were answered. Out: how long an
//! answer may be held back, when it is given up, and when a report has to go its whole way.
//!
//! Invariant: of a connection that swallows what is sent, so much of that silence is left that a report on another one
//! arrives in time.
//! Invariant: a control plane that is slow is waited for longer with every report that it did not answer in time.

use std::time::Duration;

/// How long an answer may wait for news: short enough that a node that cannot be reached any more is noticed.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// An answer waits for at most this part of the silence after which a node is held dead.
const WAIT_PART: u32 = 3;
/// Beyond that it may be late by this part of it, at first.
const SLACK_PART: u32 = 4;
/// What an answer may be late by, at least and at most: the network's and the control plane's work, also for a large
/// report of a node that it meets for the first time.
const SLACK_MIN: Duration = Duration::from_millis(500);
const SLACK_MAX: Duration = Duration::from_secs(10);

/// This long after the last answer, at most, a report is not cut off any more by what is new, and asks for its answer
/// at once: under constant change the control plane would hear of nothing, and hold the node dead.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// The same as a part of the silence after which a node is held dead.
const SILENCE_PART: u32 = 5;

/// The patience with one control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// None before it has said so.
    dead_after: Option<Duration>,
    /// Reports in a row that were not answered in time.
    unanswered: u32,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self {
            dead_after: None,
            unanswered: 0,
        }
    }

    /// How long an answer may wait for news.
    pub(crate) fn wait(self) -> Duration {
        self.dead_after
            .map_or(WAIT_MAX, |dead_after| WAIT_MAX.min(dead_after / WAIT_PART))
    }

    /// When an answer that may wait for `wait` is given up.
    pub(crate) fn limit(self, wait: Duration) -> Duration {
        let first = self
            .dead_after
            .map_or(SLACK_MAX, |dead_after| dead_after / SLACK_PART);
        let factor = 1_u32.checked_shl(self.unanswered).unwrap_or(u32::MAX);
        wait + first.max(SLACK_MIN).saturating_mul(factor).min(SLACK_MAX)
    }

    /// How long after the last answer a report has to go its whole way.
    pub(crate) fn overdue_after(self) -> Duration {
        self.dead_after.map_or(SILENCE_MAX, |dead_after| {
            SILENCE_MAX.min(dead_after / SILENCE_PART)
        })
    }

    /// Takes note of an answer, and of the silence that it names.
    pub(crate) fn answered(&mut self, dead_after_ms: Option<u64>) {
        *self = Self {
            dead_after: dead_after_ms.map(Duration::from_millis),
            unanswered: 0,
        };
    }

    /// Takes note that none came in time.
    pub(crate) fn gave_up(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(dead_after_ms: u64) -> Patience {
        let mut patience = Patience::new();
        patience.answered(Some(dead_after_ms));
        patience
    }

    #[test]
    fn a_report_that_is_swallowed_leaves_time_for_another_before_the_node_is_held_dead() {
        for dead_after_ms in [2_000, 10_000, 60_000] {
            let patience = with(dead_after_ms);
            let (wait, dead_after) = (patience.wait(), Duration::from_millis(dead_after_ms));
            assert!(wait <= dead_after / 3, "{dead_after_ms}");
            assert!(patience.limit(wait) <= dead_after * 3 / 5, "{dead_after_ms}");
            assert!(patience.overdue_after() <= dead_after / 5, "{dead_after_ms}");
        }
    }

    #[test]
    fn one_that_was_never_heard_of_gets_all_the_time_and_a_slow_one_more_and_more() {
        assert_eq!(Patience::new().wait(), WAIT_MAX);
        assert_eq!(Patience::new().limit(WAIT_MAX), WAIT_MAX + SLACK_MAX);
        let mut patience = with(2_000);
        let mut limits = Vec::new();
        for _ in 0..7 {
            limits.push(patience.limit(Duration::ZERO).as_millis());
            patience.gave_up();
        }
        assert_eq!(limits, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        patience.answered(Some(2_000));
        assert_eq!(patience.limit(Duration::ZERO), SLACK_MIN, "an answer restores it");
        patience.unanswered = u32::MAX;
        assert_eq!(patience.limit(Duration::ZERO), SLACK_MAX);
    }

    #[test]
    fn an_older_control_plane_that_names_no_silence_is_waited_for_as_before() {
        let mut patience = with(2_000);
        patience.answered(None);
        assert_eq!(patience, Patience::new());
    }
}
