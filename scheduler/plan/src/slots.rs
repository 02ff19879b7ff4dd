//! Sets of slots as ranges.

use std::{cmp::Ordering, collections::VecDeque};

use gilliam_model::{instance::Epoch, placement::SlotRange};

/// From how many times as many ranges on the other side a few are searched there one by one.
const SEARCH_FACTOR: usize = 16;

/// A set of slots.
///
/// Invariant: ranges are sorted, and between two there is a gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SlotSet {
    ranges: VecDeque<(u32, u32)>,
}

impl SlotSet {
    /// The slots of `ranges`, in any order.
    pub(crate) fn of(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut sorted: Vec<(u32, u32)> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut set = Self::default();
        for (first, last) in sorted {
            match set.ranges.back_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => set.ranges.push_back((first, last)),
            }
        }
        set
    }

    /// The slots of placed ranges.
    pub(crate) fn of_placed(ranges: &[SlotRange]) -> Self {
        Self::of(ranges.iter().map(|range| (range.first, range.last)))
    }

    /// Adds slots; cheapest in their order.
    pub(crate) fn add(&mut self, first: u32, last: u32) {
        match self.ranges.back_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            Some((_, end)) if *end >= first => *self = Self::of(self.ranges().chain([(first, last)])),
            _ => self.ranges.push_back((first, last)),
        }
    }

    /// The fewest ranges that hold them, in order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.ranges.iter().copied()
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= slot);
        after > 0 && self.ranges[after - 1].1 >= slot
    }

    pub(crate) fn count(&self) -> u32 {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self::of(self.ranges.iter().chain(&other.ranges).copied())
    }

    pub(crate) fn intersect(&self, other: &Self) -> Self {
        let (few, many) = if self.ranges.len() <= other.ranges.len() {
            (self, other)
        } else {
            (other, self)
        };
        if few.ranges.len() * SEARCH_FACTOR < many.ranges.len() {
            return few.intersect_by_search(many);
        }
        let mut set = Self::default();
        let (mut left, mut right) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        while let (Some((a, b)), Some((c, d))) = (left.peek(), right.peek()) {
            let (first, last) = (a.max(c), b.min(d));
            if first <= last {
                set.ranges.push_back((*first, *last));
            }
            match b.cmp(d) {
                Ordering::Less => left.next(),
                _ => right.next(),
            };
        }
        set
    }

    fn intersect_by_search(&self, many: &Self) -> Self {
        let mut set = Self::default();
        for (first, last) in &self.ranges {
            let from = many.ranges.partition_point(|(_, end)| end < first);
            for (start, end) in many.ranges.range(from..).take_while(|(start, _)| start <= last) {
                set.ranges.push_back((*first.max(start), *last.min(end)));
            }
        }
        set
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        let placed: Vec<SlotRange> = self
            .ranges
            .iter()
            .map(|(first, last)| SlotRange {
                first: *first,
                last: *last,
                epoch: Epoch(0),
            })
            .collect();
        Self::of_placed(&without(&placed, other))
    }

    /// The slots from 1 that are not in the set, up to the `n` lowest.
    pub(crate) fn lowest_free(&self, n: u32) -> Self {
        let mut free = Self::default();
        let (mut next, mut left) = (1_u32, n);
        for (first, last) in &self.ranges {
            let gap = first.saturating_sub(next).min(left);
            if gap > 0 {
                free.ranges.push_back((next, next + gap - 1));
                left -= gap;
            }
            next = last.saturating_add(1);
        }
        // Slots are at most a few times the largest count, so numbers never run out.
        if left > 0 {
            free.ranges.push_back((next, next.saturating_add(left - 1)));
        }
        free
    }

    /// Takes the `n` lowest slots out.
    pub(crate) fn take_lowest(&mut self, n: u32) -> Self {
        let (mut taken, mut left) = (Self::default(), n);
        while left > 0
            && let Some((first, last)) = self.ranges.pop_front()
        {
            let count = (last - first + 1).min(left);
            taken.ranges.push_back((first, first + count - 1));
            if first + count <= last {
                self.ranges.push_front((first + count, last));
            }
            left -= count;
        }
        taken
    }

    /// Takes all but the `n` lowest slots out.
    pub(crate) fn take_all_but_lowest(&mut self, n: u32) -> Self {
        let kept = self.take_lowest(n);
        std::mem::replace(self, kept)
    }
}

/// `placed` without the slots of `gone`.
pub(crate) fn without(placed: &[SlotRange], gone: &SlotSet) -> Vec<SlotRange> {
    let mut kept = Vec::with_capacity(placed.len());
    let mut holes = gone.ranges.iter().peekable();
    for range in placed {
        let mut first = range.first;
        while let Some((from, to)) = holes.peek() {
            if *from > range.last {
                break;
            }
            if first < *from {
                kept.push(SlotRange {
                    first,
                    last: from - 1,
                    epoch: range.epoch,
                });
            }
            first = first.max(to.saturating_add(1));
            if *to > range.last {
                break;
            }
            holes.next();
        }
        if first <= range.last {
            kept.push(SlotRange { first, ..*range });
        }
    }
    kept
}

/// `placed` and the slots of `new`, which are not among them, with their epoch.
pub(crate) fn with(placed: &[SlotRange], new: &SlotSet, epoch: Epoch) -> Vec<SlotRange> {
    let added = new.ranges.iter().map(|(first, last)| SlotRange {
        first: *first,
        last: *last,
        epoch,
    });
    let mut sorted: Vec<SlotRange> = placed.iter().copied().chain(added).collect();
    sorted.sort_unstable();
    let mut ranges: Vec<SlotRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match ranges.last_mut() {
            Some(last) if last.epoch == range.epoch && last.last + 1 == range.first => last.last = range.last,
            _ => ranges.push(range),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use gilliam_model::placement::ranges_of;
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    fn set(slots: &BTreeSet<u32>) -> SlotSet {
        SlotSet::of(slots.iter().rev().map(|slot| (*slot, *slot)))
    }

    fn slots(set: &SlotSet) -> BTreeSet<u32> {
        let ranges: Vec<_> = set.ranges.iter().collect();
        assert!(ranges.iter().all(|(first, last)| first <= last));
        assert!(
            ranges.windows(2).all(|w| w[0].1 + 1 < w[1].0),
            "not the fewest ranges: {ranges:?}"
        );
        set.ranges
            .iter()
            .flat_map(|(first, last)| *first..=*last)
            .collect()
    }

    proptest! {
        #[test]
        fn ranges_behave_like_sets(
            a in btree_set(1_u32..40, 0..24),
            b in btree_set(1_u32..40, 0..24),
            n in 0_u32..30,
        ) {
            let (left, right) = (set(&a), set(&b));
            prop_assert_eq!(slots(&left), a.clone());
            prop_assert_eq!(left.count() as usize, a.len());
            prop_assert_eq!(left.is_empty(), a.is_empty());
            prop_assert_eq!(slots(&left.union(&right)), &a | &b);
            prop_assert_eq!(slots(&left.intersect(&right)), &a & &b);
            prop_assert_eq!(slots(&left.minus(&right)), &a - &b);
            let free: BTreeSet<u32> = (1..).filter(|slot| !a.contains(slot)).take(n as usize).collect();
            prop_assert_eq!(slots(&left.lowest_free(n)), free);
            let mut rest = left.clone();
            let lowest: BTreeSet<u32> = a.iter().copied().take(n as usize).collect();
            prop_assert_eq!(slots(&rest.take_lowest(n)), lowest.clone());
            prop_assert_eq!(slots(&rest), &a - &lowest);
            let mut low = left.clone();
            prop_assert_eq!(slots(&low.take_all_but_lowest(n)), &a - &lowest);
            prop_assert_eq!(slots(&low), lowest);
        }

        #[test]
        fn placed_ranges_lose_and_gain_slots(
            placed in proptest::collection::btree_map(1_u32..40, 1_u64..3, 0..24),
            other in btree_set(1_u32..40, 0..24),
        ) {
            let ranges = ranges_of(placed.iter().map(|(slot, epoch)| (*slot, Epoch(*epoch))));
            let kept = placed.iter().filter(|(slot, _)| !other.contains(slot));
            let kept: Vec<(u32, Epoch)> = kept.map(|(slot, epoch)| (*slot, Epoch(*epoch))).collect();
            let lost = without(&ranges, &set(&other));
            prop_assert_eq!(&lost, &ranges_of(kept.iter().copied()));
            let all = kept.into_iter().chain(other.iter().map(|slot| (*slot, Epoch(2))));
            prop_assert_eq!(with(&lost, &set(&other), Epoch(2)), ranges_of(all));
        }
    }
}
