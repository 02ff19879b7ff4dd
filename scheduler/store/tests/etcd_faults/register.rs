//! A key of the store as it should be: what can be asked of it, and what that makes of it.

use crate::linearizable::{Operation, Sequential, is_linearizable};

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

/// The value of a key whose values are all different; none when there is no such key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Register(pub(crate) Option<u64>);

impl Sequential for Register {
    type What = What;

    fn after(&self, what: &What) -> Option<Self> {
        let Self(value) = *self;
        let (can_be, after) = match *what {
            What::Read(found) => (found == value, value),
            What::Put(to) => (true, Some(to)),
            What::Swap { from, to } => (from == value, Some(to)),
            What::Conflict { from } => (from != value, value),
        };
        can_be.then_some(Self(after))
    }
}

#[test]
fn the_checker_tells_histories_apart() {
    let holds = |operations: &[Operation<What>]| is_linearizable(operations, Register(None));
    let op = |begin, end, what| Operation { begin, end, what };
    let swap = |from, to| What::Swap { from, to };
    let fine = [
        op(0, Some(10), swap(None, 1)),
        op(5, Some(15), What::Conflict { from: None }),
        op(6, Some(20), What::Read(Some(1))),
        op(21, Some(22), What::Put(2)),
        op(23, Some(30), What::Read(Some(2))),
    ];
    assert!(holds(&fine));
    let lost = [op(0, Some(10), swap(None, 1)), op(11, Some(12), What::Read(None))];
    assert!(!holds(&lost), "an acknowledged write is lost");
    let stale = [
        op(0, Some(1), What::Put(1)),
        op(2, Some(3), What::Put(2)),
        op(4, Some(5), What::Read(Some(1))),
    ];
    assert!(!holds(&stale), "a reading that lags behind");
    let both = [op(0, Some(9), swap(None, 1)), op(0, Some(9), swap(None, 2))];
    assert!(!holds(&both), "two who saw the same both won");
    let late = [
        op(0, None, What::Put(1)),
        op(2, Some(3), What::Read(None)),
        op(4, Some(5), What::Read(Some(1))),
        op(6, Some(7), What::Read(Some(1))),
    ];
    assert!(holds(&late), "what was not answered may be done later");
    let undone = [
        op(0, None, What::Put(1)),
        op(4, Some(5), What::Read(Some(1))),
        op(6, Some(7), What::Read(None)),
    ];
    assert!(!holds(&undone), "but once");
    let invented = [op(0, Some(1), What::Read(Some(9)))];
    assert!(!holds(&invented), "what was refused is read");
    assert!(holds(&[
        op(0, None, What::Put(1)),
        op(4, Some(5), What::Read(None))
    ]));
}
