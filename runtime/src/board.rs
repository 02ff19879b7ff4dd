//! What is known of every instance here, by process type: written by those who run them, read by supervisor
//! and agent.
//!
//! Whoever waits for a change waits for a version and then asks what changed since another.
//!
//! Invariant: a change costs what changed, whatever else is on the board.

pub(crate) mod fleet;
mod member;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use gilliam_model::report::{DETAILS_ALL_COUNT_MAX, ProcessKey};
use tokio::sync::watch;

pub(crate) use fleet::Fleet;
pub(crate) use member::{Change, Guest};

/// Instances whose usage is read at a time, in all: a look at one costs some 100 ns, and whoever owns half
/// a million gets a rolling sum. A process type that is reported with all details is read whole all the
/// same.
const SAMPLES_COUNT_MAX: usize = 10_000;
/// Usages read under one lock.
const SAMPLES_AT_ONCE: usize = 500;
/// The last so many process types that are gone are remembered, for whoever has not been told yet: one of several
/// control planes may be out of reach for long. Who lags farther behind is told everything anew.
const GONE_COUNT_MAX: usize = 1_000;

/// All process types with instances here.
#[derive(Debug)]
pub(crate) struct Board {
    fleets: Mutex<Fleets>,
    signals: Arc<Signals>,
}

#[derive(Debug, Default)]
struct Fleets {
    by_key: BTreeMap<ProcessKey, Arc<Fleet>>,
    /// The oldest first.
    gone: VecDeque<(u64, ProcessKey)>,
    /// Of what was gone by this version nothing is known any more.
    gone_since: u64,
}

/// What the process types of a board tell others with.
#[derive(Debug)]
struct Signals {
    /// Grows when a state, a port or a failure changes.
    states: watch::Sender<u64>,
    /// Grows when only figures change.
    figures: watch::Sender<u64>,
    /// Grows with every change.
    version: AtomicU64,
    /// Where states changed since the supervisor last looked. Weak: what is on the board ends with the board.
    touched: Mutex<Vec<Weak<Fleet>>>,
    started: Instant,
}

/// What changed since a version.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The version this is as of.
    pub(crate) version: u64,
    pub(crate) fleets: Vec<Arc<Fleet>>,
    pub(crate) gone: Vec<ProcessKey>,
}

impl Board {
    pub(crate) fn new() -> Arc<Self> {
        let signals = Signals {
            states: watch::Sender::new(0),
            figures: watch::Sender::new(0),
            version: AtomicU64::new(0),
            touched: Mutex::default(),
            started: Instant::now(),
        };
        Arc::new(Self {
            fleets: Mutex::default(),
            signals: Arc::new(signals),
        })
    }

    /// The instances of a process type, none at first; those to come may use so much memory each.
    pub(crate) fn fleet(&self, key: &ProcessKey, memory_bytes_max: u64) -> Arc<Fleet> {
        let mut fleets = self.fleets();
        if let Some(fleet) = fleets.by_key.get(key) {
            return fleet.clone();
        }
        let fleet = Fleet::new(key.clone(), memory_bytes_max, self.signals.clone());
        fleets.by_key.insert(key.clone(), fleet.clone());
        fleet
    }

    /// The instances of a process type, if there are any.
    pub(crate) fn existing(&self, key: &ProcessKey) -> Option<Arc<Fleet>> {
        self.fleets().by_key.get(key).cloned()
    }

    /// Lets go of a process type without instances. To be called by the one who adds instances.
    pub(crate) fn forget_empty(&self, key: &ProcessKey) {
        let mut fleets = self.fleets();
        if fleets.by_key.get(key).is_some_and(|fleet| fleet.is_empty()) {
            fleets.by_key.remove(key);
            let version = self.signals.version.fetch_add(1, SeqCst) + 1;
            fleets.gone.retain(|(_, gone)| gone != key);
            fleets.gone.push_back((version, key.clone()));
            if fleets.gone.len() > GONE_COUNT_MAX
                && let Some((forgotten, _)) = fleets.gone.pop_front()
            {
                fleets.gone_since = forgotten;
            }
            drop(fleets);
            self.signals.states.send_modify(|version| *version += 1);
        }
    }

    /// The process types whose states changed since this was last called.
    pub(crate) fn take_touched(&self) -> Vec<Arc<Fleet>> {
        let touched = std::mem::take(&mut *self.signals.touched());
        let fleets = touched.iter().filter_map(Weak::upgrade);
        fleets.inspect(|fleet| fleet.seen()).collect()
    }

    /// What changed after `version`, or everything; none when it is not known any more what did.
    pub(crate) fn changes(&self, version: Option<u64>) -> Option<Changes> {
        // Read first: what changes meanwhile has a later version, and is found the next time.
        let now = self.signals.version.load(SeqCst);
        let fleets = self.fleets();
        let since = version.unwrap_or_default();
        if version.is_some_and(|version| version < fleets.gone_since) {
            return None;
        }
        let is_gone = |(at, key): &&(u64, ProcessKey)| *at > since && !fleets.by_key.contains_key(key);
        let gone = fleets.gone.iter().filter(is_gone);
        let gone = gone.map(|(_, key)| key.clone());
        Some(Changes {
            version: now,
            gone: version.map(|_| gone.collect()).unwrap_or_default(),
            fleets: fleets
                .by_key
                .values()
                .filter(|fleet| version.is_none_or(|version| fleet.version() > version))
                .cloned()
                .collect(),
        })
    }

    pub(crate) fn watch_states(&self) -> watch::Receiver<u64> {
        self.signals.states.subscribe()
    }

    pub(crate) fn watch_figures(&self) -> watch::Receiver<u64> {
        self.signals.figures.subscribe()
    }

    /// Reads the usage of running instances: of all where they are few, of some where they are very many.
    pub(crate) async fn sample(&self) {
        let fleets: Vec<_> = self.fleets().by_key.values().cloned().collect();
        let many = fleets
            .iter()
            .filter(|fleet| fleet.count() > DETAILS_ALL_COUNT_MAX);
        let share = (SAMPLES_COUNT_MAX / many.count().max(1)).max(DETAILS_ALL_COUNT_MAX);
        for fleet in fleets {
            let mut rest = share.min(fleet.count());
            while rest > 0 {
                let count = rest.min(SAMPLES_AT_ONCE);
                fleet.sample(count);
                rest -= count;
                tokio::task::yield_now().await;
            }
        }
    }

    fn fleets(&self) -> MutexGuard<'_, Fleets> {
        self.fleets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signals {
    fn touched(&self) -> MutexGuard<'_, Vec<Weak<Fleet>>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::{instance::InstanceState, placement::SlotRange};

    use super::*;

    fn key(process: &str) -> ProcessKey {
        ProcessKey {
            app: "a".parse().expect("app"),
            release: "v1".parse().expect("release"),
            process: process.parse().expect("process"),
        }
    }

    fn slots(first: u32, last: u32) -> SlotRange {
        let epoch = gilliam_model::instance::Epoch(1);
        SlotRange { first, last, epoch }
    }

    fn keys(changes: &Changes) -> Vec<&str> {
        changes
            .fleets
            .iter()
            .map(|fleet| fleet.key.process.as_str())
            .collect()
    }

    #[test]
    fn only_what_changed_is_told_and_what_is_gone_once() {
        let board = Board::new();
        let (web, worker) = (board.fleet(&key("web"), 1), board.fleet(&key("worker"), 1));
        web.add(slots(1, 2));
        worker.add(slots(1, 100_000));
        let all = board.changes(None).expect("all");
        assert_eq!((keys(&all), all.gone.len()), (vec!["web", "worker"], 0));
        assert!(keys(&board.changes(Some(all.version)).expect("none")).is_empty());
        web.remove(slots(1, 1));
        let some = board.changes(Some(all.version)).expect("some");
        assert_eq!(keys(&some), ["web"]);
        web.remove(slots(2, 2));
        board.forget_empty(&web.key);
        board.forget_empty(&worker.key);
        let gone = board.changes(Some(some.version)).expect("gone");
        assert_eq!((keys(&gone), gone.gone.clone()), (vec![], vec![key("web")]));
        let after = board.changes(Some(gone.version)).expect("nothing");
        assert!(after.gone.is_empty());
        let report = worker.report(&[]);
        assert_eq!(report.states[&InstanceState::Starting], [slots(1, 100_000)]);
        assert!(report.details.is_empty());
    }

    #[test]
    fn what_is_gone_and_there_again_is_not_gone() {
        let board = Board::new();
        board.fleet(&key("web"), 1);
        let before = board.changes(None).expect("all").version;
        board.forget_empty(&key("web"));
        board.fleet(&key("web"), 1).add(slots(1, 1));
        let changes = board.changes(Some(before)).expect("changes");
        assert_eq!((keys(&changes), changes.gone.len()), (vec!["web"], 0));
    }

    #[test]
    fn what_is_gone_is_told_to_each_who_asks_and_who_lags_too_far_behind_is_told_everything() {
        let board = Board::new();
        board.fleet(&key("web"), 1);
        let before = board.changes(None).expect("all").version;
        board.forget_empty(&key("web"));
        for _ in 0..2 {
            assert_eq!(board.changes(Some(before)).expect("changes").gone, [key("web")]);
        }
        let told = board.changes(Some(before)).expect("changes").version;
        for n in 0..GONE_COUNT_MAX {
            let key = key(&format!("p{n}"));
            board.fleet(&key, 1);
            board.forget_empty(&key);
        }
        assert!(
            board.changes(Some(before)).is_none(),
            "web is not remembered any more"
        );
        let rest = board.changes(Some(told)).expect("those after it are");
        assert_eq!(rest.gone.len(), GONE_COUNT_MAX);
    }

    #[test]
    fn touched_process_types_are_listed_once() {
        let board = Board::new();
        let web = board.fleet(&key("web"), 1);
        web.add(slots(1, 1));
        web.add(slots(2, 2));
        assert_eq!(board.take_touched().len(), 1);
        assert!(board.take_touched().is_empty());
        web.remove(slots(1, 2));
        assert_eq!(board.take_touched().len(), 1);
    }
}
