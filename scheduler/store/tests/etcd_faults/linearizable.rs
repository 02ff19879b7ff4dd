//! Whether a history of one key is linearizable: the search of Wing and Gong, with Lowe's memory of what was
//! tried.
//!
//! A history is linearizable when each operation can be given a moment between its begin and its end so that,
//! done one by one at those moments, they answer what they answered. One of unknown outcome may have any
//! moment after its begin, or none.

use std::collections::HashSet;

/// Most operations of a history: they are the bits of a number.
pub(crate) const OPERATIONS_MAX: usize = 64;

/// An operation on a key whose values are all different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Moments are in nanoseconds since the begin of the history.
    pub(crate) begin: u64,
    /// None when it is not known whether it was done.
    pub(crate) end: Option<u64>,
    pub(crate) what: What,
}

/// What was asked and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Found this value.
    Read(Option<u64>),
    /// Set a value whatever was there.
    Put(u64),
    /// Set a value in place of another.
    Swap { from: Option<u64>, to: u64 },
    /// Did not, for something else was there.
    Conflict { from: Option<u64> },
}

impl What {
    /// The value after it, if it can be done at this value.
    fn after(self, value: Option<u64>) -> Option<Option<u64>> {
        match self {
            What::Read(found) => (found == value).then_some(value),
            What::Put(to) => Some(Some(to)),
            What::Swap { from, to } => (from == value).then_some(Some(to)),
            What::Conflict { from } => (from != value).then_some(value),
        }
    }
}

/// Whether the operations, on a key that did not exist before, are linearizable.
pub(crate) fn is_linearizable(operations: &[Operation]) -> bool {
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
    let mut open = vec![(0_u64, None)];
    while let Some((done, value)) = open.pop() {
        if done & must == must {
            return true;
        }
        let left = || (0..operations.len()).filter(|n| done & bit(*n) == 0);
        // The next one must have begun before the first of those that are left ended.
        let first_end = left().filter_map(|n| operations[n].end).min().unwrap_or(u64::MAX);
        for n in left().filter(|n| operations[*n].begin <= first_end) {
            if let Some(after) = operations[n].what.after(value) {
                let next = (done | bit(n), after);
                if tried.insert(next) {
                    open.push(next);
                }
            }
        }
    }
    false
}

#[test]
fn the_checker_tells_histories_apart() {
    let op = |begin, end, what| Operation { begin, end, what };
    let swap = |from, to| What::Swap { from, to };
    let fine = [
        op(0, Some(10), swap(None, 1)),
        op(5, Some(15), What::Conflict { from: None }),
        op(6, Some(20), What::Read(Some(1))),
        op(21, Some(22), What::Put(2)),
        op(23, Some(30), What::Read(Some(2))),
    ];
    assert!(is_linearizable(&fine));
    let lost = [op(0, Some(10), swap(None, 1)), op(11, Some(12), What::Read(None))];
    assert!(!is_linearizable(&lost), "an acknowledged write is lost");
    let stale = [
        op(0, Some(1), What::Put(1)),
        op(2, Some(3), What::Put(2)),
        op(4, Some(5), What::Read(Some(1))),
    ];
    assert!(!is_linearizable(&stale), "a reading that lags behind");
    let both = [op(0, Some(9), swap(None, 1)), op(0, Some(9), swap(None, 2))];
    assert!(!is_linearizable(&both), "two who saw the same both won");
    let late = [
        op(0, None, What::Put(1)),
        op(2, Some(3), What::Read(None)),
        op(4, Some(5), What::Read(Some(1))),
        op(6, Some(7), What::Read(Some(1))),
    ];
    assert!(is_linearizable(&late), "what was not answered may be done later");
    let undone = [
        op(0, None, What::Put(1)),
        op(4, Some(5), What::Read(Some(1))),
        op(6, Some(7), What::Read(None)),
    ];
    assert!(!is_linearizable(&undone), "but once");
    let invented = [op(0, Some(1), What::Read(Some(9)))];
    assert!(!is_linearizable(&invented), "what was refused is read");
    assert!(is_linearizable(&[
        op(0, None, What::Put(1)),
        op(4, Some(5), What::Read(None))
    ]));
}
