//! Which slots are free, where each lies, and how a memory moves: plain data, no system calls.

use std::ops::Range;

/// Equal slots side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes of one slot, a multiple of the page size.
    pub(super) slot_bytes: usize,
    /// Slots in all.
    pub(super) count: u32,
}

impl Layout {
    /// Bytes of all slots; none when they are more than an address can say.
    pub(super) fn total_bytes(self) -> Option<usize> {
        self.slot_bytes.checked_mul(self.count as usize)
    }

    /// Where a slot lies, counted from the first.
    ///
    /// # Panics
    ///
    /// When there is no such slot.
    pub(super) fn range(self, slot: u32) -> Range<usize> {
        assert!(slot < self.count, "slot {slot} of {}", self.count);
        let start = self.slot_bytes * slot as usize;
        start..start + self.slot_bytes
    }
}

/// A slot that was free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nobody had it before.
    Fresh(u32),
    /// Somebody had it and gave it back.
    Used(u32),
}

/// Slots given back, last in, first out, so that those in use stay close together; then those never used.
#[derive(Debug)]
pub(super) struct FreeList {
    /// Slots from here on were never taken.
    fresh: u32,
    count: u32,
    given_back: Vec<u32>,
    /// So many slots side by side are a group: they share a page of page tables.
    group: u32,
    /// Slots taken in each group.
    taken: Vec<u32>,
}

impl FreeList {
    pub(super) fn new(count: u32, group: u32) -> Self {
        Self {
            fresh: 0,
            count,
            given_back: Vec::new(),
            group,
            taken: Vec::new(),
        }
    }

    pub(super) fn take(&mut self) -> Option<Taken> {
        let taken = match self.given_back.pop() {
            Some(slot) => Taken::Used(slot),
            None if self.fresh == self.count => return None,
            None => {
                self.fresh += 1;
                Taken::Fresh(self.fresh - 1)
            }
        };
        let (Taken::Used(slot) | Taken::Fresh(slot)) = taken;
        let group = (slot / self.group) as usize;
        if group == self.taken.len() {
            self.taken.push(0);
        }
        self.taken[group] += 1;
        Some(taken)
    }

    /// The caller had it from [`FreeList::take`] and gives it back once. Tells the slots of its group when none of
    /// them is taken any more.
    pub(super) fn give_back(&mut self, slot: u32) -> Option<Range<u32>> {
        debug_assert!(slot < self.fresh, "slot {slot} was never taken");
        self.given_back.push(slot);
        let first = slot / self.group * self.group;
        let taken = &mut self.taken[(slot / self.group) as usize];
        *taken -= 1;
        (*taken == 0).then(|| first..self.count.min(first + self.group))
    }

    /// Slots taken now.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.fresh as usize - self.given_back.len()
    }
}

/// Copies `from` to the front of `to`, which is all zero, and leaves out pages that are all zero: they stay without
/// memory behind them.
pub(super) fn copy_sparse(from: &[u8], to: &mut [u8], page_bytes: usize) {
    for (source, target) in from.chunks(page_bytes).zip(to.chunks_mut(page_bytes)) {
        if source.iter().any(|byte| *byte != 0) {
            target[..source.len()].copy_from_slice(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn slots_lie_side_by_side_and_end_with_the_last() {
        let layout = Layout {
            slot_bytes: 64 << 20,
            count: 1_000_000,
        };
        assert_eq!(layout.total_bytes(), Some(64_000_000 << 20));
        let mut end = 0;
        for slot in (0..3).chain(999_998..1_000_000) {
            let range = layout.range(slot);
            assert_eq!(range.len(), 64 << 20);
            assert!(slot == 999_998 || range.start == end);
            end = range.end;
        }
        assert_eq!(Some(end), layout.total_bytes());
        let absurd = Layout {
            slot_bytes: usize::MAX,
            count: 2,
        };
        assert_eq!(absurd.total_bytes(), None);
    }

    #[test]
    #[should_panic(expected = "slot 3 of 3")]
    fn no_slot_lies_beyond_the_last() {
        let layout = Layout {
            slot_bytes: 4096,
            count: 3,
        };
        layout.range(3);
    }

    #[test]
    fn copying_keeps_every_byte() {
        let page = 64;
        let written = |index: usize| index % 130 > 100;
        let byte = |index| if written(index) { 7 } else { 0 };
        let from: Vec<u8> = (0..10 * page + 7).map(byte).collect();
        let mut to = vec![0; from.len() + 3 * page];
        copy_sparse(&from, &mut to, page);
        assert_eq!(from, to[..from.len()]);
        assert!(to[from.len()..].iter().all(|byte| *byte == 0));
    }

    /// Against a set: no slot has two owners, none gets lost, and all can be had.
    #[test]
    fn every_slot_has_one_owner_at_most() {
        let count = if cfg!(miri) { 16 } else { 300 };
        let group = 8;
        let mut free = FreeList::new(count, group);
        let mut owned: Vec<u32> = Vec::new();
        let mut ever = BTreeSet::new();
        let mut random = 88_172_645_463_325_252_u64;
        for _ in 0..count * 100 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if random.is_multiple_of(3) && !owned.is_empty() {
                let index = usize::try_from(random >> 8).expect("64 bits") % owned.len();
                let slot = owned.swap_remove(index);
                let first = slot / group * group;
                let slots = first..count.min(first + group);
                let is_empty = !owned.iter().any(|other| slots.contains(other));
                assert_eq!(free.give_back(slot), is_empty.then_some(slots));
            } else {
                match free.take() {
                    Some(Taken::Fresh(slot)) => {
                        assert!(ever.insert(slot), "slot {slot} was had before");
                        owned.push(slot);
                    }
                    Some(Taken::Used(slot)) => {
                        assert!(ever.contains(&slot) && !owned.contains(&slot));
                        owned.push(slot);
                    }
                    None => assert_eq!(owned.len(), count as usize),
                }
            }
            assert_eq!(free.taken(), owned.len());
        }
        assert_eq!(ever.len(), count as usize);
    }
}
