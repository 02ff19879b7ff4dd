//! How much one plan may change.

use crate::{place::ROUNDS_MAX, snapshot::Policy};

/// Most records that one plan changes: a plan is one commit, and the store takes 120 operations in one, of
/// which the check and the write of the epoch are two; the rest is room for what else a control plane commits
/// with a plan.
pub const STEPS_MAX: usize = 100;
/// Most ranges in the records that one plan changes: at some 45 bytes of JSON each they and 100 keys stay
/// below the store's 1 MiB per commit.
pub const RANGES_MAX: usize = 15_000;
/// Ranges that a change may add to a record: dealt out in rounds, and split at its edges.
const RANGES_ADDED_MAX: usize = 2 * ROUNDS_MAX as usize;

/// Records that change together, when slots move from one to another.
const RECORDS_PER_CHANGE_MAX: usize = 2;

/// What is left of a plan's allowance.
#[derive(Debug)]
pub(crate) struct Budget {
    steps_left: usize,
    ranges_left: usize,
    untouched: bool,
    deferred: bool,
}

impl Budget {
    pub(crate) fn of(policy: Policy) -> Self {
        let steps_left = policy.steps_max.clamp(RECORDS_PER_CHANGE_MAX, STEPS_MAX);
        Self {
            steps_left,
            ranges_left: RANGES_MAX,
            untouched: true,
            deferred: false,
        }
    }

    /// Whether records that so far are unchanged, with the given numbers of ranges, may change together.
    ///
    /// The first change is always admitted, so that every plan comes further.
    pub(crate) fn admit(&mut self, ranges_of_records: &[usize]) -> bool {
        let steps = ranges_of_records.len();
        let ranges: usize = ranges_of_records.iter().map(|n| n + RANGES_ADDED_MAX).sum();
        if !self.untouched && (steps > self.steps_left || ranges > self.ranges_left) {
            self.deferred = true;
            return false;
        }
        self.untouched = self.untouched && steps == 0;
        self.steps_left = self.steps_left.saturating_sub(steps);
        self.ranges_left = self.ranges_left.saturating_sub(ranges);
        true
    }

    pub(crate) fn deferred(&self) -> bool {
        self.deferred
    }
}
