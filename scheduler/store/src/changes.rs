//! What changed when, for those who wait for it and those who follow it.
//!
//! Invariant: a change is published after it is durable, and every change after `floor` and up to `whole` is
//! in `told`, in the order of revisions.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{Changed, Entry, Revision, Since};

/// Bytes of changes that are remembered: more than a plan commits between two readings of a million records.
/// Who is further behind is woken at once, and reads everything anew.
const REMEMBERED_BYTES_MAX: usize = 32 << 20;
/// What a change takes besides its key and value: pointers, lengths, a revision, an allocation.
const CHANGE_BYTES: usize = 96;

/// The newest changes, and a wake-up for each.
#[derive(Debug)]
pub(crate) struct Changes {
    recent: Mutex<Recent>,
    newest: watch::Sender<Revision>,
    /// The revision up to which every change was told.
    whole: watch::Sender<Revision>,
}

#[derive(Debug)]
struct Recent {
    /// The revision up to which changes are forgotten.
    floor: Revision,
    told: VecDeque<Told>,
    /// What `told` takes.
    bytes: usize,
}

/// A key that changed.
#[derive(Debug)]
struct Told {
    revision: Revision,
    key: Box<str>,
    /// None when it was deleted.
    value: Option<Arc<[u8]>>,
}

/// Whether all that a commit changed was told by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// There may be more of the same revision.
    Part,
    /// What was told of this revision and all before it is all there is.
    Whole,
}

impl Changes {
    /// No change is known of before `revision`.
    pub(crate) fn after(revision: Revision) -> Self {
        let recent = Recent {
            floor: revision,
            told: VecDeque::new(),
            bytes: 0,
        };
        Self {
            recent: Mutex::new(recent),
            newest: watch::Sender::new(revision),
            whole: watch::Sender::new(revision),
        }
    }

    /// Tells of keys, changed by the commit of `revision`, with their values.
    pub(crate) fn publish<'a>(
        &self,
        revision: Revision,
        changes: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
        extent: Extent,
    ) {
        {
            let mut recent = self.recent();
            for (key, value) in changes {
                recent.push(Told {
                    revision,
                    key: key.into(),
                    value: value.map(Arc::from),
                });
            }
        }
        // A watch that resumes tells the last revision twice.
        let later = |now: &mut Revision| *now = revision.max(*now);
        if extent == Extent::Whole {
            self.whole.send_modify(later);
        }
        self.newest.send_modify(later);
    }

    /// Forgets every change up to `revision`, of which some may never have been told: who waits from before
    /// it is woken.
    pub(crate) fn forget(&self, revision: Revision) {
        self.recent().forget(revision);
        let later = |now: &mut Revision| *now = revision.max(*now);
        self.whole.send_modify(later);
        self.newest.send_modify(later);
    }

    /// Waits for a change under `prefix` after `after`.
    pub(crate) async fn changed(&self, prefix: &str, after: Revision) -> Revision {
        let mut newest = self.newest.subscribe();
        let mut looked = after;
        loop {
            // Marked as seen before the look: a change that comes after the look wakes again.
            let revision = *newest.borrow_and_update();
            if let Some(found) = self.recent().last_change(prefix, looked) {
                return found.unwrap_or(revision);
            }
            looked = looked.max(revision);
            if newest.changed().await.is_err() {
                unreachable!("the sender is in self");
            }
        }
    }

    /// Waits until all changes up to `revision` were told.
    pub(crate) async fn told(&self, revision: Revision) {
        let mut whole = self.whole.subscribe();
        // The sender is in self, so this ends by a change only.
        let _ = whole.wait_for(|whole| *whole >= revision).await;
    }

    /// What changed under `prefixes` after `after`, up to the newest revision that was told whole.
    pub(crate) fn since(&self, prefixes: &[&str], after: Revision) -> Since {
        let recent = self.recent();
        let whole = *self.whole.borrow();
        if after < recent.floor {
            return Since::Forgotten;
        }
        let mut changes: BTreeMap<&str, &Told> = BTreeMap::new();
        let newer = recent.told.iter().rev().take_while(|told| told.revision > after);
        for told in newer.filter(|told| told.revision <= whole) {
            if prefixes.iter().any(|prefix| told.key.starts_with(prefix)) {
                // The latest is met first.
                changes.entry(&told.key).or_insert(told);
            }
        }
        Since::Known {
            revision: whole.max(after),
            changes: changes.into_values().map(Told::changed).collect(),
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // Nothing under the lock can panic half-way, so a poisoned one still holds whole changes.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn bytes(&self) -> usize {
        CHANGE_BYTES + self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }

    fn changed(&self) -> Changed {
        match &self.value {
            Some(value) => Changed::Put(Entry {
                key: self.key.to_string(),
                value: value.to_vec(),
                revision: self.revision,
            }),
            None => Changed::Deleted(self.key.to_string()),
        }
    }
}

impl Recent {
    fn push(&mut self, told: Told) {
        self.bytes += told.bytes();
        self.told.push_back(told);
        while self.bytes > REMEMBERED_BYTES_MAX {
            let Some(oldest) = self.told.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes();
            self.floor = self.floor.max(oldest.revision);
        }
    }

    fn forget(&mut self, revision: Revision) {
        self.told.retain(|told| told.revision > revision);
        self.bytes = self.told.iter().map(Told::bytes).sum();
        self.floor = self.floor.max(revision);
    }

    /// The last change under `prefix` after `after`; `Some(None)` when there may be one that is forgotten.
    fn last_change(&self, prefix: &str, after: Revision) -> Option<Option<Revision>> {
        let newer = self.told.iter().rev().take_while(|told| told.revision > after);
        for told in newer {
            if told.key.starts_with(prefix) {
                return Some(Some(told.revision));
            }
        }
        (after < self.floor).then_some(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(changes: &Changes, revision: u64, key: &str, value: Option<&[u8]>, extent: Extent) {
        changes.publish(Revision(revision), [(key, value)].into_iter(), extent);
    }

    #[tokio::test]
    async fn who_is_too_far_behind_is_woken_at_once() {
        let changes = Changes::after(Revision(1));
        let value = vec![0; 1 << 20];
        let newest = 2 + (REMEMBERED_BYTES_MAX / value.len()) as u64;
        for n in 2..=newest {
            publish(&changes, n, "/b", Some(&value), Extent::Whole);
        }
        let floor = changes.recent().floor;
        assert!(floor > Revision(1) && floor < Revision(newest), "{floor}");
        assert!(changes.recent().bytes <= REMEMBERED_BYTES_MAX);
        let before = Revision(floor.0 - 1);
        assert!(
            changes.changed("/a", before).await > floor,
            "what changed then is forgotten"
        );
        assert!(
            changes.recent().last_change("/a", floor).is_none(),
            "what changed since is known"
        );
        assert_eq!(changes.since(&["/"], before), Since::Forgotten);
        assert!(matches!(
            changes.since(&["/"], floor),
            Since::Known { revision, .. } if revision == Revision(newest)
        ));
    }

    #[test]
    fn a_commit_that_is_told_in_part_is_not_told_of() {
        let changes = Changes::after(Revision(1));
        publish(&changes, 2, "/a", Some(b"1"), Extent::Whole);
        publish(&changes, 3, "/a", Some(b"2"), Extent::Part);
        let put = |value: &[u8], revision| {
            Changed::Put(Entry {
                key: "/a".into(),
                value: value.to_vec(),
                revision: Revision(revision),
            })
        };
        let known = |revision, changes: &[Changed]| Since::Known {
            revision: Revision(revision),
            changes: changes.to_vec(),
        };
        assert_eq!(changes.since(&["/"], Revision(1)), known(2, &[put(b"1", 2)]));
        publish(&changes, 3, "/b", None, Extent::Whole);
        let deleted = Changed::Deleted("/b".into());
        assert_eq!(
            changes.since(&["/"], Revision(1)),
            known(3, &[put(b"2", 3), deleted.clone()])
        );
        assert_eq!(changes.since(&["/b"], Revision(2)), known(3, &[deleted]));
        assert_eq!(changes.since(&["/"], Revision(9)), known(9, &[]));
    }
}
