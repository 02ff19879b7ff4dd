//! The key space in memory: for tests and simulations, with the semantics of the others.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    Check, CommitError, Entry, Revision, Write,
    changes::{Changes, Extent},
    format,
};

/// Entries in a map.
#[derive(Debug)]
pub(crate) struct Memory {
    state: Mutex<State>,
    changes: Changes,
}

#[derive(Debug, Default)]
struct State {
    revision: Revision,
    entries: BTreeMap<String, (Revision, Vec<u8>)>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let mut state = State::default();
        state.apply(&[format::put()]);
        let changes = Changes::after(state.revision);
        Self {
            state: Mutex::new(state),
            changes,
        }
    }

    pub(crate) fn ranges(&self, prefixes: &[&str]) -> (Revision, Vec<Vec<Entry>>) {
        let state = self.state();
        (
            state.revision,
            prefixes.iter().map(|prefix| state.range(prefix)).collect(),
        )
    }

    pub(crate) fn get(&self, key: &str) -> (Revision, Option<Entry>) {
        let state = self.state();
        (state.revision, state.entries.get_key_value(key).map(entry))
    }

    pub(crate) fn commit(&self, checks: &[Check], writes: &[Write]) -> Result<Revision, CommitError> {
        let mut state = self.state();
        for check in checks {
            if !check
                .expect
                .holds(state.entries.get(&check.key).map(|(revision, _)| *revision))
            {
                return Err(CommitError::Conflict {
                    key: check.key.clone(),
                });
            }
        }
        if !writes.is_empty() {
            state.apply(writes);
            // Under the lock, so that changes are told in the order of their revisions.
            self.changes
                .publish(state.revision, writes.iter().map(Write::change), Extent::Whole);
        }
        Ok(state.revision)
    }

    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A writer applies whole commits and cannot panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, writes: &[Write]) {
        self.revision = self.revision.next();
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    self.entries.insert(key.clone(), (self.revision, value.clone()));
                }
                Write::Delete { key } => {
                    self.entries.remove(key);
                }
            }
        }
    }

    fn range(&self, prefix: &str) -> Vec<Entry> {
        self.entries
            .range(prefix.to_string()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(entry)
            .collect()
    }
}

fn entry((key, (revision, value)): (&String, &(Revision, Vec<u8>))) -> Entry {
    Entry {
        key: key.clone(),
        value: value.clone(),
        revision: *revision,
    }
}
