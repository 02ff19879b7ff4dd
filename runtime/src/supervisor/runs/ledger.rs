//! What a node knows of the runs that it has begun: written by those who carry them out, read by reports.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use gilliam_model::{
    Timestamp,
    code::Code,
    run::{Outcome, RunId, RunProgress, RunReport},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::decide::Known;

/// Runs that are remembered after nobody asks for them: more than there can be on their way in assignments that
/// are older than the present one.
const FORGOTTEN_KEPT: usize = 10_000;

/// What is known of the runs of a node.
#[derive(Debug)]
pub(crate) struct Ledger {
    runs: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    told: BTreeMap<RunId, Entry>,
    /// Ended and not asked for; the oldest is in front.
    forgotten: VecDeque<RunId>,
}

#[derive(Debug)]
struct Entry {
    progress: RunProgress,
    stop: CancellationToken,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            runs: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// What reports say.
    pub(crate) fn reports(&self) -> Vec<RunReport> {
        let state = self.state();
        let report = |(id, entry): (&RunId, &Entry)| RunReport {
            id: id.clone(),
            progress: entry.progress.clone(),
        };
        state.told.iter().map(report).collect()
    }

    /// Hears of every change of what reports say.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Has every run asked to end.
    pub(super) fn stop_all(&self) {
        self.state().told.values().for_each(|entry| entry.stop.cancel());
    }

    pub(super) fn known(&self) -> BTreeMap<RunId, Known> {
        let state = self.state();
        let told = state.told.iter().map(|(id, entry)| {
            let has_ended = matches!(entry.progress, RunProgress::Ended { .. });
            (id.clone(), if has_ended { Known::Ended } else { Known::Open })
        });
        let forgotten = state.forgotten.iter().map(|id| (id.clone(), Known::Forgotten));
        told.chain(forgotten).collect()
    }

    /// Takes note that a run is begun; what asks it to end.
    pub(super) fn begin(&self, id: RunId) -> CancellationToken {
        let stop = CancellationToken::new();
        let entry = Entry {
            progress: RunProgress::Starting,
            stop: stop.clone(),
        };
        self.state().told.insert(id, entry);
        self.changed();
        stop
    }

    pub(super) fn stop(&self, id: &RunId) {
        if let Some(entry) = self.state().told.get(id) {
            entry.stop.cancel();
        }
    }

    pub(super) fn running(&self, id: &RunId, since: Timestamp) {
        self.set(id, RunProgress::Running { since });
    }

    pub(super) fn ended(&self, id: &RunId, outcome: Outcome) {
        self.set(id, RunProgress::Ended { outcome });
    }

    /// Takes note that a task failed, by a defect: whichever run it was for, all that have not ended are told to end,
    /// and the one that nobody carries out any more has.
    pub(super) fn fail_unended(&self) {
        let mut state = self.state();
        for entry in state.told.values_mut() {
            if !matches!(entry.progress, RunProgress::Ended { .. }) {
                entry.stop.cancel();
                let message = "a run of this node failed by a defect".to_string();
                let code = Code::R99;
                entry.progress = RunProgress::Ended {
                    outcome: Outcome::Failed { code, message },
                };
            }
        }
        drop(state);
        self.changed();
    }

    /// Ends what is told of runs that nobody asks for.
    pub(super) fn forget(&self, ids: &[RunId]) {
        if ids.is_empty() {
            return;
        }
        let mut state = self.state();
        for id in ids {
            if state.told.remove(id).is_some() {
                state.forgotten.push_back(id.clone());
            }
        }
        let surplus = state.forgotten.len().saturating_sub(FORGOTTEN_KEPT);
        state.forgotten.drain(..surplus);
        drop(state);
        self.changed();
    }

    fn set(&self, id: &RunId, progress: RunProgress) {
        if let Some(entry) = self.state().told.get_mut(id)
            && !matches!(entry.progress, RunProgress::Ended { .. })
        {
            entry.progress = progress;
        }
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> RunId {
        RunId {
            app: "hello".parse().expect("name"),
            number,
            asked_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_first_end_counts_and_is_told_until_it_is_forgotten() {
        let ledger = Ledger::new();
        let stop = ledger.begin(id(1));
        ledger.running(&id(1), Timestamp::UNIX_EPOCH);
        ledger.stop(&id(1));
        assert!(stop.is_cancelled());
        ledger.ended(&id(1), Outcome::Exited { code: 3 });
        ledger.ended(&id(1), Outcome::Exited { code: 4 });
        let told: Vec<RunProgress> = ledger.reports().into_iter().map(|r| r.progress).collect();
        let outcome = Outcome::Exited { code: 3 };
        assert_eq!(told, [RunProgress::Ended { outcome }]);
        ledger.forget(&[id(1)]);
        assert!(ledger.reports().is_empty());
        assert_eq!(ledger.known(), [(id(1), Known::Forgotten)].into());
    }
}
