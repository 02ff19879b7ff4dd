//! A plan in parts: each is one commit of the store, and all that it says holds after each of them.
//!
//! Changes are made in an order in which the state after each is sound (stops before starts, a move at once).
//! A part ends where the next change would not fit; a record that changes again later is in a later part
//! again, with what it is by then.

use crate::{place::ROUNDS_MAX, snapshot::Policy};

/// Most records in one part: the store takes 120 operations in one commit, of which the check and the write of
/// the epoch are two; the rest is room for what else a control plane commits with a plan.
pub const STEPS_MAX: usize = 100;
/// Most ranges in the records of one part: at some 45 bytes of JSON each they and 100 keys stay below the
/// store's 1 MiB per commit.
pub const RANGES_MAX: usize = 15_000;
/// Most parts of one plan: the records of two million instances that all are on nodes of their own.
pub const PARTS_MAX: usize = 20_000;
/// Ranges that a change may add to a record: dealt out in rounds, and split at its edges.
const RANGES_ADDED_MAX: usize = 2 * ROUNDS_MAX as usize;
/// Records that change together, when slots move from one to another.
const RECORDS_PER_CHANGE_MAX: usize = 2;

/// What is left of a plan's allowance.
#[derive(Debug)]
pub(crate) struct Allowance {
    steps_max: usize,
    steps_left: usize,
    ranges_left: usize,
    /// The part that is being made, from 1.
    part: u32,
    parts_left: usize,
    deferred: bool,
}

/// Where a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Into the part that is being made.
    Same,
    /// Into the next: this one is full.
    Next,
    /// Into the next plan.
    Deferred,
}

impl Allowance {
    pub(crate) fn of(policy: &Policy) -> Self {
        let steps_max = policy.steps_max.clamp(RECORDS_PER_CHANGE_MAX, STEPS_MAX);
        Self {
            steps_max,
            steps_left: steps_max,
            ranges_left: RANGES_MAX,
            part: 1,
            parts_left: policy.parts_max.clamp(1, PARTS_MAX) - 1,
            deferred: false,
        }
    }

    /// Where records that change together go.
    ///
    /// `new` holds the ranges of those that are not in the part yet, `all` those of all. The first change of a
    /// part is always admitted, so that every plan comes further.
    pub(crate) fn admit(&mut self, new: &[usize], all: &[usize]) -> Admission {
        if self.deferred {
            return Admission::Deferred;
        }
        if self.take(new, self.steps_left == self.steps_max) {
            return Admission::Same;
        }
        if self.parts_left == 0 {
            self.deferred = true;
            return Admission::Deferred;
        }
        self.parts_left -= 1;
        self.part += 1;
        (self.steps_left, self.ranges_left) = (self.steps_max, RANGES_MAX);
        self.take(all, true);
        Admission::Next
    }

    fn take(&mut self, records: &[usize], is_first: bool) -> bool {
        let ranges: usize = records.iter().map(|n| n + RANGES_ADDED_MAX).sum();
        if !is_first && (records.len() > self.steps_left || ranges > self.ranges_left) {
            return false;
        }
        self.steps_left = self.steps_left.saturating_sub(records.len());
        self.ranges_left = self.ranges_left.saturating_sub(ranges);
        true
    }

    /// The part that is being made.
    pub(crate) fn part(&self) -> u32 {
        self.part
    }

    pub(crate) fn deferred(&self) -> bool {
        self.deferred
    }
}
