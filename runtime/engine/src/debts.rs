//! Guests in debt: who has used up its share, and when it may go on.
//!
//! In flow moments with whoever is to be woken then, out flow those whose moment has come, the earliest
//! first. Pure; nanoseconds count from a start that the caller chose.
//!
//! Invariant: memory is bounded by the debts that are open; one that is cancelled leaves nothing behind.

use std::collections::BTreeMap;

/// An open debt: when it is paid, and which of those of that moment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Debt {
    due_ns: u64,
    number: u64,
}

/// Open debts, in the order of their moments.
#[derive(Debug)]
pub(crate) struct Debts<W> {
    open: BTreeMap<Debt, W>,
    opened: u64,
}

impl<W> Default for Debts<W> {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            opened: 0,
        }
    }
}

impl<W> Debts<W> {
    pub(crate) fn open(&mut self, due_ns: u64, who: W) -> Debt {
        self.opened += 1;
        let debt = Debt {
            due_ns,
            number: self.opened,
        };
        self.open.insert(debt, who);
        debt
    }

    /// Who was to be woken, unless that has happened.
    pub(crate) fn cancel(&mut self, debt: Debt) -> Option<W> {
        self.open.remove(&debt)
    }

    /// When the earliest is paid.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.open.keys().next().map(|debt| debt.due_ns)
    }

    /// One whose debt is paid by now.
    pub(crate) fn paid(&mut self, now_ns: u64) -> Option<W> {
        let first = self.open.first_entry()?;
        (first.key().due_ns <= now_ns).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn debts_are_paid_in_order_and_never_early(
            dues in proptest::collection::vec(0_u64..1_000, 1..50),
            cancelled in proptest::collection::vec(any::<bool>(), 50),
            now in 0_u64..1_200,
        ) {
            let mut debts = Debts::default();
            let opened: Vec<_> = dues.iter().map(|due| debts.open(*due, *due)).collect();
            let mut left = Vec::new();
            for (debt, is_cancelled) in opened.iter().zip(&cancelled) {
                if *is_cancelled {
                    prop_assert_eq!(debts.cancel(*debt), Some(debt.due_ns));
                } else {
                    left.push(debt.due_ns);
                }
            }
            left.sort_unstable();
            let paid: Vec<_> = std::iter::from_fn(|| debts.paid(now)).collect();
            let due: Vec<_> = left.iter().copied().filter(|due| *due <= now).collect();
            prop_assert_eq!(&paid, &due);
            prop_assert_eq!(debts.next_due_ns(), left.get(due.len()).copied());
        }
    }
}
