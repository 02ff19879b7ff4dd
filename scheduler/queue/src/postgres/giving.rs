//! Which queues have jobs to take, as far as this server knows, and whom that wakes.
//!
//! In flow what this server did, what others tell, and what a look at the tables showed. What is not known to
//! be empty counts as giving: one take too many is harmless, one that does not happen is a job that waits for
//! the next look.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use gilliam_model::queue::QueueId;
use tokio::sync::{Notify, watch};

/// Moments at which something was learnt: a later one has a larger number.
pub(super) type Moment = u64;

/// What is known.
#[derive(Debug)]
pub(super) struct Giving {
    known: Mutex<Known>,
    changed: watch::Sender<u64>,
    /// Told when there is something to tell others.
    pub(super) to_tell: Notify,
}

#[derive(Debug, Default)]
struct Known {
    now: Moment,
    /// Queues that give, and when that was learnt last.
    giving: HashMap<QueueId, Moment>,
    /// Queues that other servers are to hear of.
    untold: BTreeSet<QueueId>,
}

impl Default for Giving {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            changed: watch::channel(0).0,
            to_tell: Notify::new(),
        }
    }
}

impl Giving {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ready(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Those of `queues` that give.
    pub(super) fn of(&self, queues: &[QueueId]) -> Vec<QueueId> {
        let known = self.known();
        let giving = queues.iter().filter(|queue| known.giving.contains_key(queue));
        giving.cloned().collect()
    }

    /// This moment, for what is learnt by looking from now on.
    pub(super) fn moment(&self) -> Moment {
        self.known().now
    }

    /// Takes note of queues into which this server's work brought jobs; others are told.
    pub(super) fn woke(&self, queues: BTreeSet<QueueId>) {
        if queues.is_empty() {
            return;
        }
        self.known().untold.extend(queues.iter().cloned());
        self.to_tell.notify_one();
        self.heard(queues);
    }

    /// Takes note of queues that have jobs.
    pub(super) fn heard(&self, queues: impl IntoIterator<Item = QueueId>) {
        let mut known = self.known();
        known.now += 1;
        let now = known.now;
        known.giving.extend(queues.into_iter().map(|queue| (queue, now)));
        drop(known);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Takes note that a queue had no more to give, as of a look that began at `since`.
    pub(super) fn spent(&self, queue: &QueueId, since: Moment) {
        let mut known = self.known();
        if known.giving.get(queue).is_some_and(|learnt| *learnt <= since) {
            known.giving.remove(queue);
        }
    }

    /// Takes note of all queues that give, as of a look that began at `since`.
    pub(super) fn seen(&self, queues: BTreeSet<QueueId>, since: Moment) {
        let mut known = self.known();
        known
            .giving
            .retain(|queue, learnt| *learnt > since || queues.contains(queue));
        let new: Vec<_> = queues
            .into_iter()
            .filter(|queue| !known.giving.contains_key(queue))
            .collect();
        drop(known);
        if !new.is_empty() {
            self.heard(new);
        }
    }

    /// What others are to be told.
    pub(super) fn take_untold(&self) -> BTreeSet<QueueId> {
        std::mem::take(&mut self.known().untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> QueueId {
        QueueId {
            app: "shop".parse().expect("app"),
            queue: name.parse().expect("queue"),
        }
    }

    #[test]
    fn what_was_learnt_during_a_look_is_not_forgotten_by_it() {
        let giving = Giving::default();
        let both = [queue("a"), queue("b")];
        giving.heard([queue("a")]);
        let look = giving.moment();
        giving.heard([queue("b")]);
        giving.spent(&queue("b"), look);
        giving.seen(BTreeSet::new(), look);
        assert_eq!(giving.of(&both), [queue("b")]);
        giving.spent(&queue("b"), giving.moment());
        assert_eq!(giving.of(&both), []);
    }

    #[test]
    fn what_a_look_finds_wakes_once_and_is_told_to_nobody() {
        let giving = Giving::default();
        let mut ready = giving.ready();
        giving.seen(BTreeSet::from([queue("a")]), giving.moment());
        assert!(ready.has_changed().expect("open"));
        ready.mark_unchanged();
        giving.seen(BTreeSet::from([queue("a")]), giving.moment());
        assert!(!ready.has_changed().expect("open"));
        assert!(giving.take_untold().is_empty());
        giving.woke(BTreeSet::from([queue("a")]));
        assert_eq!(giving.take_untold(), BTreeSet::from([queue("a")]));
    }
}
