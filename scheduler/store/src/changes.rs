//! Which keys changed when, for those who wait for it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::Revision;

/// Changed keys that are remembered: some hundreds of the largest commits, a few hundred KiB. A waiter that
/// is further behind is woken at once.
const KEYS_REMEMBERED_MAX: usize = 16_384;

/// The newest changes, and a wake-up for each.
///
/// Invariant: a change is published after it is durable, and every change after `floor` is in `keys`.
#[derive(Debug)]
pub(crate) struct Changes {
    recent: Mutex<Recent>,
    newest: watch::Sender<Revision>,
}

#[derive(Debug)]
struct Recent {
    /// The revision up to which changes are forgotten.
    floor: Revision,
    keys: VecDeque<(Revision, Box<str>)>,
}

impl Changes {
    /// No change is known of before `revision`.
    pub(crate) fn after(revision: Revision) -> Self {
        let recent = Recent {
            floor: revision,
            keys: VecDeque::new(),
        };
        Self {
            recent: Mutex::new(recent),
            newest: watch::Sender::new(revision),
        }
    }

    /// Tells of `keys`, changed by the commit of `revision`.
    pub(crate) fn publish<'a>(&self, revision: Revision, keys: impl Iterator<Item = &'a str>) {
        {
            let mut recent = self.recent();
            recent.keys.extend(keys.map(|key| (revision, Box::from(key))));
            while recent.keys.len() > KEYS_REMEMBERED_MAX {
                if let Some((forgotten, _)) = recent.keys.pop_front() {
                    recent.floor = forgotten;
                }
            }
        }
        // A watch that resumes tells the last revision twice.
        self.newest.send_modify(|newest| *newest = revision.max(*newest));
    }

    /// Forgets every change up to `revision`, of which some may never have been told: who waits from before
    /// it is woken.
    pub(crate) fn forget(&self, revision: Revision) {
        {
            let mut recent = self.recent();
            recent.keys.retain(|(kept, _)| *kept > revision);
            recent.floor = recent.floor.max(revision);
        }
        self.newest.send_modify(|newest| *newest = revision.max(*newest));
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

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // Nothing under the lock can panic half-way, so a poisoned one still holds whole changes.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    /// The last change under `prefix` after `after`; `Some(None)` when there may be one that is forgotten.
    fn last_change(&self, prefix: &str, after: Revision) -> Option<Option<Revision>> {
        let newer = self
            .keys
            .iter()
            .rev()
            .take_while(|(revision, _)| *revision > after);
        for (revision, key) in newer {
            if key.starts_with(prefix) {
                return Some(Some(*revision));
            }
        }
        (after < self.floor).then_some(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_too_far_behind_is_woken_at_once() {
        let changes = Changes::after(Revision(1));
        for n in 2..=KEYS_REMEMBERED_MAX as u64 + 101 {
            changes.publish(Revision(n), ["/b"].into_iter());
        }
        assert_eq!(changes.recent().keys.len(), KEYS_REMEMBERED_MAX);
        let floor = changes.recent().floor;
        assert_eq!(floor, Revision(101));
        assert!(
            changes.changed("/a", Revision(100)).await > floor,
            "what changed then is forgotten"
        );
        assert!(
            changes.recent().last_change("/a", floor).is_none(),
            "what changed since is known"
        );
    }
}
