//! Warm lanes: which idle lanes are kept for the next request, over all instances of a pool.
//!
//! In flow lanes that have served their request, out flow those for the next one, and those to be dropped. An
//! instance keeps as many as it used at once in the last seconds, for `idle_ms_max` after its last request;
//! all instances together keep within a bound of memory; and when the pool has no slot left, or memory is at
//! its bound, the lanes of the instance that was used the longest ago go first.
//!
//! Invariant: an instance without a request for `idle_ms_max` has no lane.
//! Invariant: idle lanes never hold more than the bytes that [`Warm::new`] was given.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Lanes one instance keeps at most: beyond them a burst is better served by fresh ones than by memory that
/// waits for the next burst.
const KEPT_MAX: usize = 64;
/// Of the number of lanes used at once, what is forgotten in one sweep: half of it in three seconds.
const FORGET_DIVISOR: u64 = 8;

/// The idle lanes of a pool.
pub(crate) struct Warm<T> {
    bytes_max: u64,
    bytes: AtomicU64,
    last_number: AtomicU64,
    /// Lots with lanes, by when they were used and their number. A lot that was used since is found under the
    /// older time, and put right when it comes up.
    lots: Mutex<Lots<T>>,
}

type Lots<T> = BTreeMap<(u64, u64), Weak<Lot<T>>>;

/// The idle lanes of one instance.
pub(crate) struct Lot<T> {
    warm: Arc<Warm<T>>,
    number: u64,
    idle_ms_max: u64,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// The most recently used one last.
    lanes: Vec<Lane<T>>,
    used_ms: u64,
    /// Most requests in a lane at once: since the last sweep, and in the last seconds.
    busy: u64,
    recent: u64,
    /// Under which time it stands in the list of lots.
    listed: Option<u64>,
    is_closed: bool,
}

struct Lane<T> {
    lane: T,
    bytes: u64,
}

impl<T> fmt::Debug for Warm<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warm")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// How many of its idle lanes an instance keeps: none when it had no request for too long, else as many as it
/// used at once in the last seconds, and one at least.
fn kept(idle_ms: u64, idle_ms_max: u64, recent: u64) -> usize {
    if idle_ms >= idle_ms_max {
        return 0;
    }
    usize::try_from(recent).unwrap_or(KEPT_MAX).clamp(1, KEPT_MAX)
}

/// Milliseconds of a clock that never goes back, to a few of them: it is read twice for each request, and the
/// coarse clock is an order of magnitude cheaper.
fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    let (s, ns) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    s.unwrap_or(0) * 1_000 + ns.unwrap_or(0) / 1_000_000
}

impl<T> Warm<T> {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            bytes: AtomicU64::new(0),
            last_number: AtomicU64::new(0),
            lots: Mutex::default(),
        })
    }

    /// The place for the idle lanes of one instance.
    pub(crate) fn lot(self: &Arc<Self>, idle_ms_max: u64) -> Arc<Lot<T>> {
        Arc::new(Lot {
            warm: self.clone(),
            number: self.last_number.fetch_add(1, Relaxed),
            idle_ms_max,
            state: Mutex::new(State {
                lanes: Vec::new(),
                used_ms: now_ms(),
                busy: 0,
                recent: 0,
                listed: None,
                is_closed: false,
            }),
        })
    }

    /// Takes an idle lane of the instance that was used the longest ago.
    pub(crate) fn evict(&self) -> Option<T> {
        let mut lots = self.lots();
        while let Some(((listed_ms, number), lot)) = lots.pop_first() {
            let Some(lot) = lot.upgrade() else { continue };
            let mut state = lot.state();
            if state.used_ms != listed_ms && !state.lanes.is_empty() {
                state.listed = Some(state.used_ms);
                lots.insert((state.used_ms, number), Arc::downgrade(&lot));
                continue;
            }
            let oldest = (!state.lanes.is_empty()).then(|| state.lanes.remove(0));
            state.listed = None;
            if !state.lanes.is_empty() {
                state.listed = Some(listed_ms);
                lots.insert((listed_ms, number), Arc::downgrade(&lot));
            }
            if let Some(lane) = oldest {
                self.bytes.fetch_sub(lane.bytes, Relaxed);
                return Some(lane.lane);
            }
        }
        None
    }

    /// Drops the lanes that nobody needs any more.
    pub(crate) fn sweep(&self) {
        let now_ms = now_ms();
        let listed: Vec<Arc<Lot<T>>> = {
            let mut lots = self.lots();
            lots.retain(|_, lot| lot.strong_count() > 0);
            lots.values().filter_map(Weak::upgrade).collect()
        };
        for lot in listed {
            // Unmapping takes a while: with no lock held.
            drop(lot.sweep(now_ms));
            let mut lots = self.lots();
            let mut state = lot.state();
            if state.lanes.is_empty()
                && let Some(listed_ms) = state.listed.take()
            {
                lots.remove(&(listed_ms, lot.number));
            }
        }
    }

    fn lots(&self) -> MutexGuard<'_, Lots<T>> {
        self.lots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Lot<T> {
    /// An idle lane for a request, if there is one; `busy` requests are in a lane now, this one included.
    pub(crate) fn take(&self, busy: u64) -> Option<T> {
        let mut state = self.state();
        state.used_ms = now_ms();
        state.busy = state.busy.max(busy);
        let lane = state.lanes.pop()?;
        self.warm.bytes.fetch_sub(lane.bytes, Relaxed);
        Some(lane.lane)
    }

    /// Keeps a lane of `bytes` for the next request, or gives it back to be dropped. Lanes of others are
    /// dropped when all together hold too much.
    pub(crate) fn park(self: &Arc<Self>, lane: T, bytes: u64) -> Result<(), T> {
        if bytes > self.warm.bytes_max || self.idle_ms_max == 0 {
            return Err(lane);
        }
        self.warm.bytes.fetch_add(bytes, Relaxed);
        while self.warm.bytes.load(Relaxed) > self.warm.bytes_max {
            let Some(other) = self.warm.evict() else {
                self.warm.bytes.fetch_sub(bytes, Relaxed);
                return Err(lane);
            };
            drop(other);
        }
        let mut state = self.state();
        let kept_max = kept(0, self.idle_ms_max, state.busy.max(state.recent));
        if state.is_closed || state.lanes.len() >= kept_max {
            self.warm.bytes.fetch_sub(bytes, Relaxed);
            return Err(lane);
        }
        state.used_ms = now_ms();
        state.lanes.push(Lane { lane, bytes });
        if state.listed.is_none() {
            let used_ms = state.used_ms;
            state.listed = Some(used_ms);
            // Whoever has the list may want this state.
            drop(state);
            let mut lots = self.warm.lots();
            lots.insert((used_ms, self.number), Arc::downgrade(self));
        }
        Ok(())
    }

    /// Drops all lanes and takes no more.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let gone = std::mem::take(&mut state.lanes);
        drop(state);
        self.forget(&gone);
    }

    fn sweep(&self, now_ms: u64) -> Vec<Lane<T>> {
        let mut state = self.state();
        let idle_ms = now_ms.saturating_sub(state.used_ms);
        state.recent = state
            .busy
            .max(state.recent - state.recent.div_ceil(FORGET_DIVISOR));
        state.busy = 0;
        let kept = kept(idle_ms, self.idle_ms_max, state.recent);
        let surplus = state.lanes.len().saturating_sub(kept);
        let gone: Vec<Lane<T>> = state.lanes.drain(..surplus).collect();
        drop(state);
        self.forget(&gone);
        gone
    }

    fn forget(&self, gone: &[Lane<T>]) {
        let bytes = gone.iter().map(|lane| lane.bytes).sum();
        self.warm.bytes.fetch_sub(bytes, Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Lot<T> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let bytes = state.lanes.iter().map(|lane| lane.bytes).sum();
        // Its place in the list goes with the next look at it: this may run where the list is locked.
        self.warm.bytes.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_kept_as_many_as_were_used_and_for_as_long_as_is_asked() {
        assert_eq!(kept(0, 1_000, 0), 1);
        assert_eq!(kept(999, 1_000, 5), 5);
        assert_eq!(kept(1_000, 1_000, 5), 0);
        assert_eq!(kept(0, 0, 5), 0, "0 keeps none");
        assert_eq!(kept(0, 1_000, 1_000_000), KEPT_MAX);
    }

    #[test]
    fn the_lane_that_was_used_last_serves_next_and_surplus_ones_go() {
        let warm = Warm::new(100);
        let lot = warm.lot(60_000);
        assert_eq!(lot.take(3), None);
        for lane in 1..=3 {
            assert_eq!(lot.park(lane, 10), Ok(()));
        }
        assert_eq!(lot.park(4, 10), Err(4), "three were used at once");
        assert_eq!(lot.take(1), Some(3));
        assert_eq!(warm.bytes.load(Relaxed), 20);
        // As the seconds pass without a request the number that is kept goes down to one.
        for _ in 0..20 {
            warm.sweep();
        }
        assert_eq!(warm.bytes.load(Relaxed), 10);
        assert_eq!(lot.take(1), Some(2));
    }

    #[test]
    fn an_instance_without_requests_keeps_nothing() {
        let warm = Warm::new(100);
        let lot = warm.lot(1);
        assert_eq!(lot.park((), 10), Ok(()));
        let start = now_ms();
        while now_ms() <= start + 1 {
            std::thread::yield_now();
        }
        warm.sweep();
        assert_eq!(warm.bytes.load(Relaxed), 0);
        assert!(warm.lots().is_empty());
        assert_eq!(lot.take(1), None);
        assert_eq!(lot.park((), 10), Ok(()));
        assert_eq!(warm.lots().len(), 1);
    }

    #[test]
    fn the_lanes_that_were_used_the_longest_ago_make_room() {
        let warm = Warm::new(30);
        let lots = [warm.lot(60_000), warm.lot(60_000), warm.lot(60_000)];
        for (lane, lot) in lots.iter().enumerate() {
            assert_eq!(lot.park(lane, 10), Ok(()));
        }
        // All in the same moment but for the first, which is used once more, later.
        let before = now_ms();
        while now_ms() == before {
            std::thread::yield_now();
        }
        let first = lots[0].take(1).expect("its own");
        assert_eq!(lots[0].park(first, 10), Ok(()));
        let other = warm.lot(60_000);
        assert_eq!(other.park(3, 20), Ok(()));
        assert_eq!(warm.bytes.load(Relaxed), 30);
        assert_eq!([1, 2].map(|lot: usize| lots[lot].take(1)), [None, None]);
        assert_eq!(other.park(4, 31), Err(4), "more than all may hold");
        assert_eq!(warm.evict(), Some(0));
        assert_eq!(warm.evict(), Some(3));
        assert_eq!(warm.evict(), None);
        assert_eq!(warm.bytes.load(Relaxed), 0);
    }

    #[test]
    fn a_closed_or_forgotten_instance_leaves_nothing_behind() {
        let warm = Warm::new(100);
        let (closed, forgotten) = (warm.lot(60_000), warm.lot(60_000));
        assert_eq!(closed.park(1, 10), Ok(()));
        assert_eq!(forgotten.park(2, 10), Ok(()));
        closed.close();
        assert_eq!(closed.park(3, 10), Err(3));
        drop(forgotten);
        assert_eq!(warm.bytes.load(Relaxed), 0);
        assert_eq!(warm.evict(), None);
        warm.sweep();
        assert!(warm.lots().is_empty());
    }
}
