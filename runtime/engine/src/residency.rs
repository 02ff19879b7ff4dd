//! Which components stay mapped: those in use, and of the others the most recently used, within bounds.
//!
//! In flows every component that is mapped, out flow those to be let go. A component in use stays mapped for
//! as long as a lane or a command holds it, whatever this file decides.
//!
//! Invariant: what nobody uses is mapped only within the bounds of [`Keep`].

use std::{
    cmp::Reverse,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

/// Each has about six memory maps and an open file, of 65,530 and 1,024 to a million that a process may have.
const KEEP_COUNT_MAX: usize = 1_000;
/// The kernel can drop the pages of mapped files, but counts them as in use; a hundred components with a
/// language runtime, ten thousand small ones.
const KEEP_BYTES_MAX: u64 = 4 << 30;
/// To map a component again costs a request well below a millisecond.
const KEEP_IDLE_MAX: Duration = Duration::from_secs(300);
/// Share of the bounds that is let go at once when one is reached, so that not every mapping looks through
/// all.
const SLACK_DIVISOR: usize = 16;
/// Components that are let go at once by whoever maps one, who has a request wait: each takes some 50 µs to unmap.
/// More than one, so that it never falls behind.
const LEAVE_AT_ONCE_MAX: usize = 2;
/// Components that are mapped at once: each holds a thread for a while, some of it waiting for the disk.
const MAPPINGS_MAX: usize = 8;

/// How much stays mapped that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Components.
    pub count_max: usize,
    /// Bytes of their files.
    pub bytes_max: u64,
    /// After the last use.
    pub idle_max: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            count_max: KEEP_COUNT_MAX,
            bytes_max: KEEP_BYTES_MAX,
            idle_max: KEEP_IDLE_MAX,
        }
    }
}

/// One mapped component, as far as this file is concerned.
#[derive(Debug)]
pub(crate) struct Mapped<T> {
    pub(crate) value: T,
    bytes: u64,
    /// In milliseconds of the residency's clock.
    used_ms: AtomicU64,
}

/// The mapped components of a node.
pub(crate) struct Residency<T> {
    keep: Keep,
    mapped: Mutex<Vec<Arc<Mapped<T>>>>,
    /// To be let go, and mapped yet. Whoever had one again meanwhile keeps it for that time.
    leaving: Mutex<Vec<Arc<Mapped<T>>>>,
    mappings: Arc<Semaphore>,
    start: Instant,
}

impl<T> fmt::Debug for Residency<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Residency")
            .field("keep", &self.keep)
            .field("mapped", &self.mapped().len())
            .finish_non_exhaustive()
    }
}

impl<T> Residency<T> {
    pub(crate) fn new(keep: Keep) -> Arc<Self> {
        Arc::new(Self {
            keep,
            mapped: Mutex::default(),
            leaving: Mutex::default(),
            mappings: Arc::new(Semaphore::new(MAPPINGS_MAX)),
            start: Instant::now(),
        })
    }

    /// The right to map one more component, in turn.
    pub(crate) fn mappings(&self) -> &Arc<Semaphore> {
        &self.mappings
    }

    /// Takes in what was just mapped from a file of `bytes`, and lets go some of what is too much. That unmaps: run
    /// it where blocking is allowed.
    pub(crate) fn admit(&self, value: T, bytes: u64) -> Arc<Mapped<T>> {
        let now_ms = self.now_ms();
        let mapped = Arc::new(Mapped {
            value,
            bytes,
            used_ms: AtomicU64::new(now_ms),
        });
        let too_much = {
            let mut all = self.mapped();
            all.push(mapped.clone());
            take(&mut all, &self.keep, 0)
        };
        let gone: Vec<_> = {
            let mut leaving = self.leaving();
            leaving.extend(too_much);
            let kept = leaving.len().saturating_sub(LEAVE_AT_ONCE_MAX);
            leaving.split_off(kept)
        };
        drop(gone);
        mapped
    }

    /// Takes note of a use.
    pub(crate) fn used(&self, mapped: &Mapped<T>) {
        mapped.used_ms.store(self.now_ms(), Relaxed);
    }

    /// Lets go a component that nobody can ask for any more.
    pub(crate) fn forget(&self, mapped: &Arc<Mapped<T>>) {
        self.mapped().retain(|known| !Arc::ptr_eq(known, mapped));
        self.leaving().retain(|known| !Arc::ptr_eq(known, mapped));
    }

    /// Lets go what was not used for long.
    pub(crate) fn sweep(&self) {
        let idle_ms_max = u64::try_from(self.keep.idle_max.as_millis()).unwrap_or(u64::MAX);
        let unused_ms = self.now_ms().saturating_sub(idle_ms_max);
        let gone = take(&mut self.mapped(), &self.keep, unused_ms);
        let leaving = std::mem::take(&mut *self.leaving());
        drop((gone, leaving));
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn mapped(&self) -> MutexGuard<'_, Vec<Arc<Mapped<T>>>> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Arc<Mapped<T>>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take<T>(all: &mut Vec<Arc<Mapped<T>>>, keep: &Keep, unused_ms: u64) -> Vec<Arc<Mapped<T>>> {
    let known = all.iter().map(|mapped| Known {
        bytes: mapped.bytes,
        used_ms: mapped.used_ms.load(Relaxed),
        in_use: Arc::strong_count(mapped) > 1,
    });
    let known: Vec<Known> = known.collect();
    let mut gone = surplus(&known, keep, unused_ms);
    gone.sort_unstable();
    gone.into_iter()
        .rev()
        .map(|index| all.swap_remove(index))
        .collect()
}

/// What the decision needs to know of a mapped component.
#[derive(Debug, Clone, Copy)]
struct Known {
    bytes: u64,
    used_ms: u64,
    in_use: bool,
}

/// Which to let go: those last used before `unused_ms`, and the least recently used beyond the bounds.
fn surplus(known: &[Known], keep: &Keep, unused_ms: u64) -> Vec<usize> {
    let mut idle: Vec<usize> = (0..known.len()).filter(|index| !known[*index].in_use).collect();
    let bytes: u64 = idle.iter().map(|index| known[*index].bytes).sum();
    let Keep {
        mut count_max,
        mut bytes_max,
        ..
    } = *keep;
    let is_full = idle.len() > count_max || bytes > bytes_max;
    if is_full {
        count_max -= count_max / SLACK_DIVISOR;
        bytes_max -= bytes_max / SLACK_DIVISOR as u64;
    } else if unused_ms == 0 {
        return Vec::new();
    }
    idle.sort_by_key(|index| (Reverse(known[*index].used_ms), *index));
    let mut kept_bytes = 0u64;
    let kept = idle.iter().enumerate().take_while(|(count, index)| {
        let Known { bytes, used_ms, .. } = known[**index];
        kept_bytes = kept_bytes.saturating_add(bytes);
        *count < count_max && kept_bytes <= bytes_max && used_ms >= unused_ms
    });
    let kept = kept.count();
    idle.split_off(kept)
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;

    fn known(used_ms: u64, bytes: u64) -> Known {
        Known {
            bytes,
            used_ms,
            in_use: false,
        }
    }

    const KEEP: Keep = Keep {
        count_max: 64,
        bytes_max: 1_000,
        idle_max: Duration::from_secs(1),
    };

    fn gone(known: &[Known], unused_ms: u64) -> Vec<usize> {
        let mut gone = surplus(known, &KEEP, unused_ms);
        gone.sort_unstable();
        gone
    }

    #[test]
    fn the_least_recently_used_go_when_there_are_too_many_or_too_large_ones() {
        let mut all: Vec<Known> = (0..64).map(|at| known(at, 1)).collect();
        assert_eq!(gone(&all, 0), Vec::<usize>::new());
        all.push(known(5_000, 1));
        assert_eq!(gone(&all, 0), [0, 1, 2, 3, 4], "one too many, and some room");
        let large = [known(1, 1_000), known(3, 1), known(2, 1)];
        assert_eq!(gone(&large, 0), [0]);
    }

    #[test]
    fn what_is_in_use_is_neither_let_go_nor_counted() {
        let mut all: Vec<Known> = (0..300).map(|at| known(at, 1 << 30)).collect();
        for known in &mut all {
            known.in_use = true;
        }
        all.push(known(0, 1));
        assert_eq!(gone(&all, 0), Vec::<usize>::new());
        assert_eq!(gone(&all, 1), [300]);
    }

    #[test]
    fn what_was_not_used_for_long_goes_and_the_rest_stays() {
        let all = [known(10, 1), known(99, 1), known(100, 1), known(200, 1)];
        assert_eq!(gone(&all, 100), [0, 1]);
    }

    #[test]
    fn many_are_let_go_in_small_lots_and_never_fewer_than_come() {
        let keep = Keep {
            bytes_max: u64::MAX,
            ..KEEP
        };
        let residency = Residency::new(keep);
        let (mut all, mut most) = (Vec::new(), 0);
        for at in 0..500 {
            let before = all.iter().filter(|one: &&Weak<_>| one.strong_count() > 0).count();
            all.push(Arc::downgrade(&residency.admit(at, 1)));
            let there = all.iter().filter(|one| one.strong_count() > 0).count();
            assert!(before + 1 - there <= LEAVE_AT_ONCE_MAX);
            most = most.max(there);
        }
        assert_eq!(most, keep.count_max + 1, "with the one that is new, and in use");
    }

    #[test]
    fn a_component_that_is_held_outlives_its_place() {
        let residency = Residency::new(KEEP);
        let held = residency.admit("held", 1_000);
        let gone = Arc::downgrade(&residency.admit("not held", 1_000));
        assert!(gone.upgrade().is_some(), "there is room for one");
        residency.admit("another", 1_000);
        residency.admit("one more", 1_000);
        assert!(gone.upgrade().is_none());
        assert_eq!(held.value, "held");
    }
}
