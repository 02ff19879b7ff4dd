//! Sets of slots, kept as ranges: what a hundred thousand instances have in common costs one range. Pure.
//!
//! Invariant: the ranges of a set are disjoint and as few as can be, so that equal sets have equal ranges.

use std::collections::BTreeMap;

use gilliam_model::{instance::Epoch, placement::SlotRange};

/// A place an instance fills in its process type: two lives of one slot differ in their epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The slot, from 1.
    pub slot: u32,
    /// The epoch of its placement.
    pub epoch: Epoch,
}

/// A set of places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotSet {
    /// By epoch, the first slot of each range with its last.
    epochs: BTreeMap<Epoch, BTreeMap<u32, u32>>,
    count: u64,
}

/// Slots without their epochs: disjoint ranges, sorted, none next to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spans(Vec<(u32, u32)>);

impl SlotSet {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }

    /// How many places are in it.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether a place is in it.
    pub fn contains(&self, place: Place) -> bool {
        let ranges = self.epochs.get(&place.epoch);
        ranges
            .and_then(|ranges| ranges.range(..=place.slot).next_back())
            .is_some_and(|(_, last)| *last >= place.slot)
    }

    /// Adds the places of a range; those that are in it already change nothing.
    pub fn insert(&mut self, range: SlotRange) {
        let ranges = self.epochs.entry(range.epoch).or_default();
        let (mut first, mut last) = (range.first, range.last);
        // Every range that overlaps the new one or touches it becomes part of it.
        while let Some((other_first, other_last)) = ranges
            .range(..=last.saturating_add(1))
            .next_back()
            .map(|(first, last)| (*first, *last))
            .filter(|(_, other_last)| other_last.saturating_add(1) >= first)
        {
            ranges.remove(&other_first);
            self.count -= length(other_first, other_last);
            (first, last) = (first.min(other_first), last.max(other_last));
        }
        ranges.insert(first, last);
        self.count += length(first, last);
    }

    /// Takes the places of a range out; those that are not in it change nothing.
    pub fn remove(&mut self, range: SlotRange) {
        let Some(ranges) = self.epochs.get_mut(&range.epoch) else {
            return;
        };
        while let Some((first, last)) = ranges
            .range(..=range.last)
            .next_back()
            .map(|(first, last)| (*first, *last))
            .filter(|(_, last)| *last >= range.first)
        {
            ranges.remove(&first);
            self.count -= length(first, last);
            if first < range.first {
                ranges.insert(first, range.first - 1);
                self.count += length(first, range.first - 1);
            }
            if last > range.last {
                ranges.insert(range.last + 1, last);
                self.count += length(range.last + 1, last);
            }
        }
        if ranges.is_empty() {
            self.epochs.remove(&range.epoch);
        }
    }

    /// The ranges, by slot and epoch.
    pub fn ranges(&self) -> Vec<SlotRange> {
        let of_epoch = |(epoch, ranges): (&Epoch, &BTreeMap<u32, u32>)| {
            let epoch = *epoch;
            let range = move |(first, last): (&u32, &u32)| SlotRange {
                first: *first,
                last: *last,
                epoch,
            };
            ranges.iter().map(range).collect::<Vec<_>>()
        };
        let mut ranges: Vec<SlotRange> = self.epochs.iter().flat_map(of_epoch).collect();
        ranges.sort_unstable();
        ranges
    }

    /// The places, by epoch and slot.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.epochs.iter().flat_map(|(epoch, ranges)| {
            let place = |slot| Place { slot, epoch: *epoch };
            ranges
                .iter()
                .flat_map(move |(first, last)| (*first..=*last).map(place))
        })
    }

    /// Takes up to `count_max` places out, the lowest of the oldest epoch first.
    pub fn take(&mut self, count_max: usize) -> Vec<Place> {
        let taken: Vec<Place> = self.places().take(count_max).collect();
        for place in &taken {
            self.remove(place.range());
        }
        taken
    }

    pub(crate) fn epochs(&self) -> impl Iterator<Item = Epoch> + '_ {
        self.epochs.keys().copied()
    }

    /// The slots of one epoch.
    pub(crate) fn of_epoch(&self, epoch: Epoch) -> Spans {
        let ranges = self.epochs.get(&epoch);
        let spans = ranges.map(|ranges| ranges.iter().map(|(first, last)| (*first, *last)).collect());
        Spans(spans.unwrap_or_default())
    }

    /// The slots of all epochs.
    pub(crate) fn slots(&self) -> Spans {
        let mut slots = Spans::default();
        for epoch in self.epochs() {
            slots = slots.union(&self.of_epoch(epoch));
        }
        slots
    }
}

impl FromIterator<SlotRange> for SlotSet {
    fn from_iter<T: IntoIterator<Item = SlotRange>>(ranges: T) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

/// The places of a range, by slot.
pub(crate) fn places(range: SlotRange) -> impl Iterator<Item = Place> {
    range.slots().map(move |slot| Place {
        slot,
        epoch: range.epoch,
    })
}

impl Place {
    /// The lowest place of a slot.
    pub(crate) fn first_of(slot: u32) -> Self {
        Self {
            slot,
            epoch: Epoch(0),
        }
    }

    /// The range of this place alone.
    pub fn range(self) -> SlotRange {
        SlotRange {
            first: self.slot,
            last: self.slot,
            epoch: self.epoch,
        }
    }
}

impl Spans {
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut all: Vec<(u32, u32)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut union: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match union.last_mut() {
                Some(before) if before.1.saturating_add(1) >= first => before.1 = before.1.max(last),
                _ => union.push((first, last)),
            }
        }
        Self(union)
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        let mut holes = other.0.iter().copied().peekable();
        for (mut first, last) in self.0.iter().copied() {
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            let mut is_left = true;
            while let Some((hole_first, hole_last)) = holes.peek().copied().filter(|hole| hole.0 <= last) {
                if hole_first > first {
                    rest.push((first, hole_first - 1));
                }
                if hole_last >= last {
                    // It may reach into what follows too.
                    is_left = false;
                    break;
                }
                first = first.max(hole_last + 1);
                holes.next();
            }
            if is_left {
                rest.push((first, last));
            }
        }
        Self(rest)
    }

    pub(crate) fn with_epoch(self, epoch: Epoch) -> impl Iterator<Item = SlotRange> {
        self.0
            .into_iter()
            .map(move |(first, last)| SlotRange { first, last, epoch })
    }
}

fn length(first: u32, last: u32) -> u64 {
    u64::from(last - first) + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range(first: u32, last: u32, epoch: u64) -> SlotRange {
        let epoch = Epoch(epoch);
        SlotRange { first, last, epoch }
    }

    fn any_range() -> impl Strategy<Value = SlotRange> {
        (1..30u32, 0..8u32, 1..3u64).prop_map(|(first, more, epoch)| range(first, first + more, epoch))
    }

    fn plain(set: &SlotSet) -> BTreeSet<Place> {
        set.places().collect()
    }

    fn slots_of(spans: &Spans) -> BTreeSet<u32> {
        spans.0.iter().flat_map(|(first, last)| *first..=*last).collect()
    }

    #[test]
    fn neighbours_become_one_range_and_a_hole_makes_two() {
        let mut set: SlotSet = [range(1, 3, 1), range(4, 9, 1), range(4, 4, 2)]
            .into_iter()
            .collect();
        assert_eq!(set.ranges(), [range(1, 9, 1), range(4, 4, 2)]);
        set.remove(range(4, 4, 1));
        assert_eq!(set.ranges(), [range(1, 3, 1), range(4, 4, 2), range(5, 9, 1)]);
        set.remove(range(1, u32::MAX, 1));
        assert_eq!((set.ranges(), set.count()), (vec![range(4, 4, 2)], 1));
    }

    #[test]
    fn the_last_slot_there_is_can_come_and_go() {
        let mut set: SlotSet = [range(u32::MAX - 1, u32::MAX, 1)].into_iter().collect();
        assert_eq!(set.count(), 2);
        set.insert(range(u32::MAX, u32::MAX, 1));
        set.remove(range(u32::MAX, u32::MAX, 1));
        assert_eq!(set.ranges(), [range(u32::MAX - 1, u32::MAX - 1, 1)]);
    }

    #[test]
    fn taking_gives_each_place_once() {
        let mut set: SlotSet = [range(1, 5, 2), range(3, 4, 1)].into_iter().collect();
        let slots = |places: Vec<Place>| places.iter().map(|place| place.slot).collect::<Vec<_>>();
        assert_eq!(slots(set.take(3)), [3, 4, 1]);
        assert_eq!(slots(set.take(9)), [2, 3, 4, 5]);
        assert!(set.is_empty());
    }

    proptest! {
        /// A set of ranges holds what a plain set of places would, in the fewest ranges.
        #[test]
        fn a_set_of_ranges_is_a_set_of_places(
            steps in prop::collection::vec((prop::bool::ANY, any_range()), 0..30),
        ) {
            let (mut set, mut oracle) = (SlotSet::default(), BTreeSet::new());
            for (inserts, range) in steps {
                let places = range.slots().map(|slot| Place { slot, epoch: range.epoch });
                if inserts {
                    set.insert(range);
                    oracle.extend(places);
                } else {
                    set.remove(range);
                    places.for_each(|place| { oracle.remove(&place); });
                }
                prop_assert_eq!(plain(&set), oracle.clone());
                prop_assert_eq!(set.count(), oracle.len() as u64);
                prop_assert!(oracle.iter().all(|place| set.contains(*place)));
                let fewest = gilliam_model::placement::ranges_of(
                    oracle.iter().filter(|p| p.epoch == Epoch(1)).map(|p| (p.slot, p.epoch)),
                );
                let ranges = set.ranges();
                let own: Vec<_> = ranges.iter().filter(|r| r.epoch == Epoch(1)).copied().collect();
                prop_assert_eq!(own, fewest);
            }
        }

        /// Union and difference of spans are those of the sets of their slots.
        #[test]
        fn spans_are_sets_of_slots(
            a in prop::collection::vec(any_range(), 0..12),
            b in prop::collection::vec(any_range(), 0..12),
        ) {
            let (a, b): (SlotSet, SlotSet) = (a.into_iter().collect(), b.into_iter().collect());
            let (a, b) = (a.slots(), b.of_epoch(Epoch(1)));
            let (left, right) = (slots_of(&a), slots_of(&b));
            prop_assert_eq!(slots_of(&a.union(&b)), left.union(&right).copied().collect());
            prop_assert_eq!(slots_of(&a.minus(&b)), left.difference(&right).copied().collect());
        }
    }
}
