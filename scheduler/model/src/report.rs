//! What a node reports of a process type: the states of all its instances as ranges, sums, and the details of
//! a few.
//!
//! In: the reports of single instances, and which of them are asked for. Out: one [`ProcessReport`] for each
//! process type of each release, whose size hangs on how mixed the states are, not on how many instances
//! there are.
//!
//! Invariant: an instance is in one range of one state; its details are there or not, its state always is.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    instance::{Epoch, InstanceId, InstanceReport, InstanceState},
    name::{AppName, ProcessName},
    placement::SlotRange,
    release::ReleaseId,
    scale::COUNT_MAX,
};

/// Up to so many instances of a process type are reported with all their details: what people read one by
/// one, and small enough (some 300 bytes each) to be sent at every change.
pub const DETAILS_ALL_COUNT_MAX: usize = 200;
/// Of more instances, the details of so many that failed are reported: enough to see what goes wrong, and
/// that it is the same everywhere.
pub const FAILURES_COUNT_MAX: usize = 20;
/// Most instances whose details are asked for at once: a page that people or scripts read.
pub const WANTED_SLOTS_MAX: u32 = 1_000;
/// Most ranges of slots that one answer asks for: pages that different readers look at.
pub const WANTED_COUNT_MAX: usize = 16;

/// A process type of a release, as placed, run and reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProcessKey {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// The process type.
    pub process: ProcessName,
}

/// What a node reports of all its instances of a process type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProcessReport {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// The process type.
    pub process: ProcessName,
    /// Every instance, by state. Ranges are sorted by epoch, then slot; of one slot instances of two epochs
    /// may be there at once.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, Vec<SlotRange>>))]
    pub states: BTreeMap<InstanceState, Vec<SlotRange>>,
    /// When the last of those in a state came into it.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, String>))]
    pub newest: BTreeMap<InstanceState, Timestamp>,
    /// Bytes of linear memory and tables in use, all together.
    pub memory_bytes: u64,
    /// Fuel burnt per second over the last seconds, all together.
    pub fuel_per_s: u64,
    /// Times they were started again since their placement, all together.
    pub restarts: u64,
    /// Details, by slot and epoch: of all instances up to [`DETAILS_ALL_COUNT_MAX`]; of more, of those that
    /// are asked for and of up to [`FAILURES_COUNT_MAX`] that failed (crashed ones first, then the newest
    /// failures).
    pub details: Vec<InstanceReport>,
}

/// Instances whose details the control plane asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DetailsWanted {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// The process type.
    pub process: ProcessName,
    /// First slot.
    pub first: u32,
    /// Last slot, inclusive; at most [`WANTED_SLOTS_MAX`] in all.
    pub last: u32,
}

/// A report that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the report of {process} is not one: {what}")]
pub struct ProcessReportError {
    /// Of which process type.
    pub process: ProcessKey,
    /// What is wrong with it.
    pub what: String,
}

// === impl ProcessKey ===

impl fmt::Display for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.app, self.release, self.process)
    }
}

impl From<&InstanceId> for ProcessKey {
    fn from(id: &InstanceId) -> Self {
        Self {
            app: id.app.clone(),
            release: id.release,
            process: id.process.clone(),
        }
    }
}

impl ProcessKey {
    /// Whether `id` is one of its instances.
    pub fn has(&self, id: &InstanceId) -> bool {
        self.process == id.process && self.release == id.release && self.app == id.app
    }

    /// Its instance of this slot and epoch.
    pub fn instance(&self, slot: u32, epoch: Epoch) -> InstanceId {
        InstanceId {
            app: self.app.clone(),
            release: self.release,
            process: self.process.clone(),
            slot,
            epoch,
        }
    }
}

// === impl DetailsWanted ===

impl DetailsWanted {
    /// The process type.
    pub fn key(&self) -> ProcessKey {
        ProcessKey {
            app: self.app.clone(),
            release: self.release,
            process: self.process.clone(),
        }
    }

    /// Whether it asks for `id`.
    pub fn asks_for(&self, id: &InstanceId) -> bool {
        (self.first..=self.last).contains(&id.slot)
            && self.process == id.process
            && self.release == id.release
            && self.app == id.app
    }
}

// === impl ProcessReport ===

impl ProcessReport {
    /// Nothing of `key` yet.
    pub fn empty(key: ProcessKey) -> Self {
        Self {
            app: key.app,
            release: key.release,
            process: key.process,
            states: BTreeMap::new(),
            newest: BTreeMap::new(),
            memory_bytes: 0,
            fuel_per_s: 0,
            restarts: 0,
            details: Vec::new(),
        }
    }

    /// The process type.
    pub fn key(&self) -> ProcessKey {
        ProcessKey {
            app: self.app.clone(),
            release: self.release,
            process: self.process.clone(),
        }
    }

    /// Number of instances in a state.
    pub fn count(&self, state: InstanceState) -> u32 {
        self.states
            .get(&state)
            .map_or(0, |ranges| ranges.iter().map(SlotRange::count).sum())
    }

    /// Number of instances.
    pub fn total(&self) -> u32 {
        self.states.values().flatten().map(SlotRange::count).sum()
    }

    /// Checks what its types leave open: whoever takes a report from outside does so before using it.
    pub fn check(&self) -> Result<(), ProcessReportError> {
        let key = self.key();
        let mut total: u64 = 0;
        let mut all: Vec<(Epoch, u32, u32)> = Vec::new();
        for range in self.states.values().flatten() {
            if range.first == 0 || range.last < range.first {
                return Err(self.bad(format!("slots {} to {}", range.first, range.last)));
            }
            total += u64::from(range.last - range.first) + 1;
            all.push((range.epoch, range.first, range.last));
        }
        // Twice the largest count: while all of them are replaced, the old and the new are there.
        if total > 2 * u64::from(COUNT_MAX) {
            return Err(self.bad(format!("{total} instances")));
        }
        all.sort_unstable();
        if let Some(pair) = all.windows(2).find(|p| p[0].0 == p[1].0 && p[1].1 <= p[0].2) {
            return Err(self.bad(format!("slot {} is there twice", pair[1].1)));
        }
        match self.details.iter().find(|report| !key.has(&report.id)) {
            Some(other) => Err(self.bad(format!("details of {}", other.id))),
            None => Ok(()),
        }
    }

    fn bad(&self, what: String) -> ProcessReportError {
        ProcessReportError {
            process: self.key(),
            what,
        }
    }
}

/// Folds the reports of single instances into one for each process type, in the order of their keys.
pub fn fold(
    instances: impl IntoIterator<Item = InstanceReport>,
    wanted: &[DetailsWanted],
) -> Vec<ProcessReport> {
    let mut processes: BTreeMap<ProcessKey, Vec<InstanceReport>> = BTreeMap::new();
    for report in instances {
        processes
            .entry(ProcessKey::from(&report.id))
            .or_default()
            .push(report);
    }
    processes
        .into_iter()
        .map(|(key, reports)| fold_one(key, reports, wanted))
        .collect()
}

fn fold_one(key: ProcessKey, mut reports: Vec<InstanceReport>, wanted: &[DetailsWanted]) -> ProcessReport {
    let mut folded = ProcessReport::empty(key);
    reports.sort_unstable_by_key(|report| (report.id.epoch, report.id.slot));
    for report in &reports {
        add(
            folded.states.entry(report.state).or_default(),
            report.id.slot,
            report.id.epoch,
        );
        let newest = folded.newest.entry(report.state).or_insert(report.since);
        *newest = report.since.max(*newest);
        folded.memory_bytes = folded.memory_bytes.saturating_add(report.memory_bytes);
        folded.fuel_per_s = folded.fuel_per_s.saturating_add(report.fuel_per_s);
        folded.restarts += u64::from(report.restarts);
    }
    if reports.len() > DETAILS_ALL_COUNT_MAX {
        reports = select(reports, wanted);
    }
    reports.sort_unstable_by_key(|report| (report.id.slot, report.id.epoch));
    folded.details = reports;
    folded
}

/// Adds an instance to sorted ranges, after all that are there.
fn add(ranges: &mut Vec<SlotRange>, slot: u32, epoch: Epoch) {
    match ranges.last_mut() {
        Some(range) if range.epoch == epoch && range.last.checked_add(1) == Some(slot) => range.last = slot,
        _ => ranges.push(SlotRange {
            first: slot,
            last: slot,
            epoch,
        }),
    }
}

/// Those that are asked for, and those that failed.
fn select(reports: Vec<InstanceReport>, wanted: &[DetailsWanted]) -> Vec<InstanceReport> {
    let asked = |report: &InstanceReport| wanted.iter().any(|range| range.asks_for(&report.id));
    let (mut selected, others): (Vec<_>, Vec<_>) = reports.into_iter().partition(asked);
    let mut failed: Vec<InstanceReport> = others.into_iter().filter(|r| r.last_failure.is_some()).collect();
    let at = |report: &InstanceReport| report.last_failure.as_ref().map(|failure| failure.at);
    let is_calm = |report: &InstanceReport| report.state != InstanceState::Crashed;
    failed.sort_by(|a, b| (is_calm(a), at(b), &a.id).cmp(&(is_calm(b), at(a), &b.id)));
    failed.truncate(FAILURES_COUNT_MAX);
    selected.extend(failed);
    selected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Failure;

    fn after(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("in this century")
    }

    fn report(slot: u32, epoch: u64, state: InstanceState) -> InstanceReport {
        let id = format!("hello/v2/worker.{slot}@{epoch}").parse().expect("id");
        InstanceReport {
            id,
            state,
            since: after(slot.into()),
            port: None,
            memory_bytes: 10,
            memory_bytes_peak: 10,
            memory_bytes_max: 100,
            fuel_per_s: 3,
            restarts: 1,
            last_failure: None,
            retry_at: None,
        }
    }

    fn failed(slot: u32, state: InstanceState, at: i64) -> InstanceReport {
        let failure = Failure {
            code: None,
            message: "exit 1".into(),
            at: after(at),
        };
        InstanceReport {
            last_failure: Some(failure),
            ..report(slot, 1, state)
        }
    }

    fn text(ranges: &[SlotRange]) -> Vec<String> {
        ranges
            .iter()
            .map(|r| format!("{}-{}@{}", r.first, r.last, r.epoch.0))
            .collect()
    }

    fn slots(report: &ProcessReport) -> Vec<u32> {
        report.details.iter().map(|detail| detail.id.slot).collect()
    }

    #[test]
    fn instances_fold_into_ranges_sums_and_details() {
        use InstanceState::{Running, Starting, Stopping};
        let mut reports = vec![report(3, 2, Starting), report(3, 1, Stopping)];
        reports.extend([2, 1, 5].map(|slot| report(slot, 1, Running)));
        let folded = fold(reports, &[]);
        let [one] = &folded[..] else {
            panic!("one process type: {folded:?}")
        };
        one.check().expect("sound");
        assert_eq!(one.key().to_string(), "hello/v2/worker");
        assert_eq!(text(&one.states[&Running]), ["1-2@1", "5-5@1"]);
        assert_eq!(
            (text(&one.states[&Starting]), text(&one.states[&Stopping])),
            (vec!["3-3@2".to_string()], vec!["3-3@1".to_string()])
        );
        assert_eq!(
            (one.count(Running), one.count(InstanceState::Crashed), one.total()),
            (3, 0, 5)
        );
        assert_eq!((one.memory_bytes, one.fuel_per_s, one.restarts), (50, 15, 5));
        assert_eq!(one.newest[&Running], after(5));
        assert_eq!(slots(one), [1, 2, 3, 3, 5]);
    }

    #[test]
    fn of_many_instances_the_asked_and_the_failed_have_details() {
        use InstanceState::{Crashed, Running};
        let mut reports: Vec<_> = (1..=5_000).map(|slot| report(slot, 1, Running)).collect();
        for slot in 100..130 {
            reports[slot as usize - 1] = failed(slot, Running, slot.into());
        }
        reports[4_999] = failed(5_000, Crashed, -100);
        let wanted = DetailsWanted {
            app: "hello".parse().expect("name"),
            release: "v2".parse().expect("release"),
            process: "worker".parse().expect("name"),
            first: 7,
            last: 9,
        };
        let folded = fold(reports, &[wanted]);
        let mut want: Vec<u32> = vec![7, 8, 9];
        want.extend(111..130);
        want.push(5_000);
        assert_eq!(slots(&folded[0]), want);
        assert_eq!(text(&folded[0].states[&Running]), ["1-4999@1"]);
        let json = serde_json::to_string(&folded[0]).expect("json");
        assert!(
            json.contains(r#""states":{"running":[{"first":1,"last":4999,"epoch":1}],"crashed":["#),
            "{json}"
        );
        assert_eq!(
            serde_json::from_str::<ProcessReport>(&json).expect("a report"),
            folded[0]
        );
    }

    #[test]
    fn a_report_that_contradicts_itself_is_told() {
        let sound = fold([report(1, 1, InstanceState::Running)], &[]).remove(0);
        let with = |ranges: &[(u32, u32, u64)]| {
            let ranges = ranges.iter().map(|(first, last, epoch)| SlotRange {
                first: *first,
                last: *last,
                epoch: Epoch(*epoch),
            });
            ProcessReport {
                states: BTreeMap::from([(InstanceState::Starting, ranges.collect())]),
                ..sound.clone()
            }
        };
        with(&[(1, 3, 1), (2, 5, 2)]).check().expect("two epochs");
        for (bad, want) in [
            (with(&[(5, 4, 1)]), "slots 5 to 4"),
            (with(&[(0, 4, 1)]), "slots 0 to 4"),
            (
                with(&[(1, u32::MAX, 1), (1, u32::MAX, 2)]),
                "8589934590 instances",
            ),
            (with(&[(1, 3, 1), (3, 5, 1)]), "slot 3 is there twice"),
        ] {
            let error = bad.check().expect_err(want).to_string();
            assert!(
                error.contains("hello/v2/worker") && error.ends_with(want),
                "{error}"
            );
        }
        let mut other = sound;
        other.details[0].id.process = "web".parse().expect("name");
        assert!(
            other
                .check()
                .expect_err("another")
                .to_string()
                .ends_with("details of hello/v2/web.1@1")
        );
    }
}
