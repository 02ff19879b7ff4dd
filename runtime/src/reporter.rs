//! What each report to the control plane carries: at first everything, then what changed since the last
//! report that was answered.
//!
//! Invariant: what was in a report that was not answered is in the next one again.

use gilliam_model::{
    report::{DetailsWanted, ProcessKey, ProcessReport},
    sync::SyncResponse,
};

use crate::board::{Board, Changes};

/// The state of the conversation.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    /// The number of the last report.
    number: u64,
    /// The board's version that the last report is as of.
    version: u64,
    /// Number and version of the last one that was answered; none when the next one is to be whole.
    base: Option<(u64, u64)>,
    wanted: Vec<DetailsWanted>,
}

/// The board's part of a report.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) number: u64,
    pub(crate) base: Option<u64>,
    pub(crate) processes: Vec<ProcessReport>,
    pub(crate) gone: Vec<ProcessKey>,
}

impl Reporter {
    /// The next report.
    pub(crate) fn next(&mut self, board: &Board) -> Report {
        let changes = board.changes(self.base.map(|(_, version)| version));
        let Some(changes) = changes.or_else(|| {
            self.base = None;
            board.changes(None)
        }) else {
            unreachable!("everything there is can always be told");
        };
        let Changes {
            version,
            mut fleets,
            gone,
        } = changes;
        for wanted in &self.wanted {
            let key = wanted.key();
            let is_listed = fleets.iter().any(|fleet| fleet.key == key);
            if let Some(fleet) = board.existing(&key).filter(|_| !is_listed) {
                fleets.push(fleet);
            }
        }
        self.number += 1;
        self.version = version;
        let reports = fleets.iter().map(|fleet| fleet.report(&self.wanted));
        Report {
            number: self.number,
            base: self.base.map(|(number, _)| number),
            processes: reports.collect(),
            gone,
        }
    }

    /// Takes note of the answer to the last report. `is_other` when another control plane gave it than
    /// before.
    pub(crate) fn answered(&mut self, answer: &SyncResponse, is_other: bool) {
        self.wanted.clone_from(&answer.details);
        if is_other || answer.resync {
            self.base = None;
            return;
        }
        self.base = Some((self.number, self.version));
    }

    /// Whether the next report is to be sent at once.
    pub(crate) fn is_asked(&self) -> bool {
        !self.wanted.is_empty() || self.base.is_none()
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::{instance::Epoch, placement::SlotRange};

    use super::*;

    fn answer(resync: bool, details: Vec<DetailsWanted>) -> SyncResponse {
        SyncResponse {
            control: "life".to_owned(),
            assignment: None,
            resync,
            details,
            dead_after_ms: None,
            peers: None,
        }
    }

    fn names(report: &Report) -> Vec<&str> {
        report
            .processes
            .iter()
            .map(|report| report.process.as_str())
            .collect()
    }

    #[test]
    fn a_report_carries_what_changed_since_the_last_answer_and_what_is_asked_for() {
        let board = Board::new();
        let key = |process: &str| ProcessKey {
            app: "a".parse().expect("app"),
            release: "v1".parse().expect("release"),
            process: process.parse().expect("process"),
        };
        let slots = |first, last| SlotRange {
            first,
            last,
            epoch: Epoch(1),
        };
        board.fleet(&key("web"), 1).add(slots(1, 2));
        board.fleet(&key("worker"), 1).add(slots(1, 5_000));
        let mut reporter = Reporter::default();
        let first = reporter.next(&board);
        assert_eq!((first.number, first.base), (1, None));
        assert_eq!(names(&first), ["web", "worker"]);
        // It was cut off: all of it again.
        assert_eq!(names(&reporter.next(&board)), ["web", "worker"]);
        let wanted = DetailsWanted {
            app: key("web").app,
            release: key("web").release,
            process: key("worker").process,
            first: 4_000,
            last: 4_001,
        };
        reporter.answered(&answer(false, vec![wanted]), false);
        assert!(reporter.is_asked());
        let asked = reporter.next(&board);
        assert_eq!((asked.base, names(&asked)), (Some(2), vec!["worker"]));
        let slots_of = asked.processes[0].details.iter().map(|detail| detail.id.slot);
        assert_eq!(slots_of.collect::<Vec<_>>(), [4_000, 4_001]);
        board.fleet(&key("web"), 1).remove(slots(1, 2));
        board.forget_empty(&key("web"));
        reporter.answered(&answer(false, Vec::new()), false);
        assert!(!reporter.is_asked());
        let last = reporter.next(&board);
        assert_eq!((names(&last), last.gone.clone()), (vec![], vec![key("web")]));
        reporter.answered(&answer(true, Vec::new()), false);
        let whole = reporter.next(&board);
        assert_eq!(
            (whole.base, names(&whole), whole.gone.clone()),
            (None, vec!["worker"], vec![])
        );
    }

    /// A control plane that could not be reached held instances for running that another had been told were gone.
    #[test]
    fn what_is_gone_is_told_to_every_control_plane_however_late_it_is_reached() {
        let board = Board::new();
        let key = ProcessKey {
            app: "a".parse().expect("app"),
            release: "v1".parse().expect("release"),
            process: "web".parse().expect("process"),
        };
        board.fleet(&key, 1);
        let (mut near, mut cut_off) = (Reporter::default(), Reporter::default());
        for reporter in [&mut near, &mut cut_off] {
            assert_eq!(names(&reporter.next(&board)), ["web"]);
            reporter.answered(&answer(false, Vec::new()), false);
        }
        board.forget_empty(&key);
        for _ in 0..2 {
            near.next(&board);
            near.answered(&answer(false, Vec::new()), false);
        }
        assert!(near.next(&board).gone.is_empty(), "it was told");
        let late = cut_off.next(&board);
        assert_eq!((late.base, late.gone), (Some(1), vec![key]));
    }
}
