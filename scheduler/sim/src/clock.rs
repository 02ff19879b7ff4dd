//! Virtual time, and what is to happen when.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use gilliam_model::Timestamp;
use gilliam_scheduler::Now;

/// Milliseconds since the beginning.
pub(crate) type Ms = u64;

/// Where virtual time begins; both are only ever added to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch {
    clock: Instant,
    wall: Timestamp,
}

/// Events in the order of their times; of one time, in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<(Ms, u64, Slot<E>)>>,
    added: u64,
}

/// An event that takes no part in the order.
#[derive(Debug)]
struct Slot<E>(E);

impl Epoch {
    pub(crate) fn begin() -> Self {
        Self {
            clock: Instant::now(),
            wall: Timestamp::from_second(1_800_000_000).expect("in this century"),
        }
    }

    /// The moment `at`, on a machine whose wall clock is wrong by so many seconds.
    pub(crate) fn now(self, at: Ms, wall_off_s: i64) -> Now {
        Now {
            clock: self.clock + Duration::from_millis(at),
            wall: self.wall_at(at, wall_off_s),
        }
    }

    pub(crate) fn wall_at(self, at: Ms, wall_off_s: i64) -> Timestamp {
        let off = jiff::SignedDuration::from_secs(wall_off_s);
        let wall = self.wall.checked_add(Duration::from_millis(at));
        wall.and_then(|wall| wall.checked_add(off))
            .expect("in this century")
    }
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            added: 0,
        }
    }

    pub(crate) fn add(&mut self, at: Ms, event: E) {
        self.added += 1;
        self.heap.push(Reverse((at, self.added, Slot(event))));
    }

    /// The next event, if it is due by `until`.
    pub(crate) fn next(&mut self, until: Ms) -> Option<(Ms, E)> {
        if self.heap.peek().is_none_or(|Reverse((at, _, _))| *at > until) {
            return None;
        }
        self.heap.pop().map(|Reverse((at, _, Slot(event)))| (at, event))
    }
}

impl<E> PartialEq for Slot<E> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<E> Eq for Slot<E> {}

impl<E> PartialOrd for Slot<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Slot<E> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
