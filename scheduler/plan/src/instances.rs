//! Sets of instances of one process type: slots as ranges, by the epoch of their placement.
//!
//! Invariant: the work of every operation is in proportion to ranges, never to instances.

use std::collections::BTreeMap;

use gilliam_model::{instance::Epoch, placement::SlotRange};

use crate::slots::SlotSet;

/// A set of instances of one process type; of one slot, those of several epochs may be in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceSet {
    /// Invariant: none of them is empty.
    epochs: BTreeMap<Epoch, SlotSet>,
}

impl InstanceSet {
    /// The instances of `ranges`, in any order; those that overlap count once.
    pub fn of<'a>(ranges: impl IntoIterator<Item = &'a SlotRange>) -> Self {
        let mut epochs: BTreeMap<Epoch, Vec<(u32, u32)>> = BTreeMap::new();
        for range in ranges {
            epochs
                .entry(range.epoch)
                .or_default()
                .push((range.first, range.last));
        }
        let sets = epochs
            .into_iter()
            .map(|(epoch, ranges)| (epoch, SlotSet::of(ranges)));
        Self {
            epochs: sets.collect(),
        }
    }

    /// Adds instances; cheapest in the order of slots.
    pub fn add(&mut self, range: SlotRange) {
        self.epochs
            .entry(range.epoch)
            .or_default()
            .add(range.first, range.last);
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.epochs.values().map(SlotSet::count).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }

    /// Whether the instance of this slot and epoch is there.
    pub fn contains(&self, slot: u32, epoch: Epoch) -> bool {
        self.epochs.get(&epoch).is_some_and(|slots| slots.contains(slot))
    }

    /// Those of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (epoch, slots) in &other.epochs {
            let mine = all.epochs.entry(*epoch).or_default();
            *mine = mine.union(slots);
        }
        all
    }

    /// Those of both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        self.each(|epoch, slots| {
            other
                .epochs
                .get(&epoch)
                .map(|others| slots.intersect(others))
                .unwrap_or_default()
        })
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.each(|epoch, slots| {
            other
                .epochs
                .get(&epoch)
                .map_or_else(|| slots.clone(), |others| slots.minus(others))
        })
    }

    /// The fewest ranges that hold them, by epoch, then slot.
    pub fn ranges(&self) -> impl Iterator<Item = SlotRange> + '_ {
        self.epochs.iter().flat_map(|(epoch, slots)| {
            slots.ranges().map(|(first, last)| SlotRange {
                first,
                last,
                epoch: *epoch,
            })
        })
    }

    /// The slots that have one.
    pub(crate) fn slots(&self) -> SlotSet {
        self.epochs
            .values()
            .fold(SlotSet::default(), |all, slots| all.union(slots))
    }

    fn each(&self, keep: impl Fn(Epoch, &SlotSet) -> SlotSet) -> Self {
        let kept = self
            .epochs
            .iter()
            .map(|(epoch, slots)| (*epoch, keep(*epoch, slots)));
        Self {
            epochs: kept.filter(|(_, slots)| !slots.is_empty()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    fn set(instances: &BTreeSet<(u64, u32)>) -> InstanceSet {
        let one = |(epoch, slot): &(u64, u32)| SlotRange {
            first: *slot,
            last: *slot,
            epoch: Epoch(*epoch),
        };
        InstanceSet::of(&instances.iter().map(one).collect::<Vec<_>>())
    }

    fn instances(set: &InstanceSet) -> BTreeSet<(u64, u32)> {
        set.ranges()
            .flat_map(|range| range.slots().map(move |slot| (range.epoch.0, slot)))
            .collect()
    }

    proptest! {
        #[test]
        fn sets_of_ranges_are_sets_of_instances(
            a in btree_set((1_u64..4, 1_u32..30), 0..40),
            b in btree_set((1_u64..4, 1_u32..30), 0..40),
        ) {
            let (left, right) = (set(&a), set(&b));
            prop_assert_eq!(instances(&left), a.clone());
            prop_assert_eq!(left.count() as usize, a.len());
            prop_assert_eq!(left.is_empty(), a.is_empty());
            prop_assert_eq!(instances(&left.union(&right)), &a | &b);
            prop_assert_eq!(instances(&left.intersect(&right)), &a & &b);
            prop_assert_eq!(instances(&left.minus(&right)), &a - &b);
            prop_assert_eq!(left.minus(&right).is_empty(), (&a - &b).is_empty());
            let mut added = left;
            for (epoch, slot) in b.iter().rev() {
                added.add(SlotRange { first: *slot, last: *slot, epoch: Epoch(*epoch) });
                prop_assert!(added.contains(*slot, Epoch(*epoch)));
            }
            prop_assert_eq!(&added, &set(&(&a | &b)));
            let slots: BTreeSet<u32> = (&a | &b).into_iter().map(|(_, slot)| slot).collect();
            prop_assert_eq!(added.slots().count() as usize, slots.len());
        }
    }
}
