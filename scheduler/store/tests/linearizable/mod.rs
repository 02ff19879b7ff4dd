//! Whether a history is linearizable: the search of Wing and Gong, with Lowe's memory of what was tried.
//!
//! A history is linearizable when each operation can be given a moment between its begin and its end so that,
//! done one by one at those moments, they answer what they answered. One of unknown outcome may have any
//! moment after its begin, or none.

use std::{collections::HashSet, hash::Hash};

/// Most operations of a history: they are the bits of a number.
pub(crate) const OPERATIONS_MAX: usize = 64;

/// What was asked and answered, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation<W> {
    /// Moments are in nanoseconds since the begin of the history.
    pub(crate) begin: u64,
    /// None when it is not known whether it was done.
    pub(crate) end: Option<u64>,
    pub(crate) what: W,
}

/// What is operated upon, as it should be: one operation after the other.
pub(crate) trait Sequential: Clone + Eq + Hash {
    type What;

    /// The state after an operation, if that can be done and answered so in this one.
    fn after(&self, what: &Self::What) -> Option<Self>;
}

/// Whether the operations are linearizable, beginning with `start`.
pub(crate) fn is_linearizable<S: Sequential>(operations: &[Operation<S::What>], start: S) -> bool {
    assert!(
        operations.len() <= OPERATIONS_MAX,
        "{} operations",
        operations.len()
    );
    let bit = |n: usize| 1_u64 << n;
    let must = (0..operations.len())
        .filter(|n| operations[*n].end.is_some())
        .fold(0, |all, n| all | bit(n));
    let mut tried = HashSet::new();
    let mut open = vec![(0_u64, start)];
    while let Some((done, state)) = open.pop() {
        if done & must == must {
            return true;
        }
        let left = || (0..operations.len()).filter(|n| done & bit(*n) == 0);
        // The next one must have begun before the first of those that are left ended.
        let first_end = left().filter_map(|n| operations[n].end).min().unwrap_or(u64::MAX);
        for n in left().filter(|n| operations[*n].begin <= first_end) {
            if let Some(after) = state.after(&operations[n].what) {
                let next = (done | bit(n), after);
                if tried.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    false
}
