//! What becomes of the crons of an app: begun with, fired, passed over, forgotten.
//!
//! In: what the release that runs declares, what is known of each cron, the runs that have not ended, the time. Out:
//! what changes, each change with the record that says so.
//!
//! Invariant: a due time is dealt with once: what is decided of it comes with a record that says so, and a record
//! never goes back.
//! Invariant: what was due before a cron was declared, or while it was paused, is not made up for.

use std::collections::BTreeMap;

use gilliam_model::{
    Timestamp,
    cron::{CRON_LATE_MS_MAX, Cron, CronRecord, Missed, Overlap},
    name::CronName,
    run::Run,
};

/// What a decision about the crons of an app is made from.
#[derive(Debug, Clone, Copy)]
pub struct CronsView<'a> {
    /// Those that the release that runs declares.
    pub declared: &'a BTreeMap<CronName, Cron>,
    /// What is known, of others too.
    pub known: &'a BTreeMap<CronName, &'a CronRecord>,
    /// The runs of the app that have not ended.
    pub open: &'a [&'a Run],
    /// The time.
    pub now: Timestamp,
}

/// Something to do about a cron.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CronStep {
    /// Its record becomes this.
    Keep {
        /// The cron.
        name: CronName,
        /// The record.
        record: CronRecord,
    },
    /// It is due: a run of it is made.
    Fire {
        /// The cron.
        name: CronName,
        /// The due time.
        due: Timestamp,
        /// Its record, but for the run.
        record: CronRecord,
        /// The numbers of runs that are to end.
        stop: Vec<u32>,
    },
    /// Nothing is to be known of it any more.
    Forget {
        /// The cron.
        name: CronName,
    },
}

impl CronStep {
    /// The cron that it is about.
    pub fn name(&self) -> &CronName {
        match self {
            CronStep::Keep { name, .. } | CronStep::Fire { name, .. } | CronStep::Forget { name } => name,
        }
    }
}

/// What to do about the crons of an app.
pub fn crons(view: &CronsView<'_>) -> Vec<CronStep> {
    let declared = view.declared.iter();
    let steps = declared.filter_map(|(name, cron)| step(view, name, cron, view.known.get(name).copied()));
    let others = view
        .known
        .iter()
        .filter(|(name, _)| !view.declared.contains_key(*name));
    let others = others.filter_map(|(name, record)| leave(name, record));
    steps.chain(others).collect()
}

/// When something is to be done about a cron that is declared; none while it is paused.
pub fn cron_due(cron: &Cron, record: Option<&CronRecord>, now: Timestamp) -> Option<Timestamp> {
    match record.filter(|record| record.schedule.as_ref() == Some(&cron.kept_schedule())) {
        None => Some(now),
        Some(record) if record.paused.is_some() => None,
        Some(record) => cron.schedule.next(record.considered),
    }
}

fn step(view: &CronsView<'_>, name: &CronName, cron: &Cron, record: Option<&CronRecord>) -> Option<CronStep> {
    let schedule = Some(cron.kept_schedule());
    let name = name.clone();
    let Some(record) = record.filter(|record| record.schedule == schedule) else {
        let before = record.cloned().unwrap_or_else(|| CronRecord::new(view.now));
        let record = CronRecord {
            schedule,
            considered: before.considered.max(view.now),
            ..before
        };
        return Some(CronStep::Keep { name, record });
    };
    if record.paused.is_some() {
        return None;
    }
    let due = cron.schedule.latest(view.now)?;
    if due <= record.considered {
        return None;
    }
    let record = CronRecord {
        considered: due,
        ..record.clone()
    };
    let of_cron = |run: &&&Run| run.cron.as_ref().is_some_and(|of| of.name == name) && !run.has_ended();
    let running: Vec<&Run> = view.open.iter().filter(of_cron).copied().collect();
    if let Some(reason) = why_not(cron, due, &running, view.now) {
        let record = record.passed_over(due, reason);
        return Some(CronStep::Keep { name, record });
    }
    let to_stop = running.iter().filter(|run| !run.is_to_stop);
    let stop = match cron.overlap {
        Overlap::Replace => to_stop.map(|run| run.id.number).collect(),
        Overlap::Skip | Overlap::Allow => Vec::new(),
    };
    Some(CronStep::Fire {
        name,
        due,
        record: CronRecord {
            passed_over: None,
            ..record
        },
        stop,
    })
}

/// Why nothing is run for a due time, if so.
fn why_not(cron: &Cron, due: Timestamp, running: &[&Run], now: Timestamp) -> Option<String> {
    let late_ms = now.as_millisecond() - due.as_millisecond();
    let may_be_late = match cron.missed {
        Missed::Once => true,
        Missed::Within { ms } => late_ms <= i64::try_from(ms).unwrap_or(i64::MAX).max(CRON_LATE_MS_MAX),
        Missed::Skip => late_ms <= CRON_LATE_MS_MAX,
    };
    if !may_be_late {
        return Some(format!(
            "nobody could fire it in time, and missed is {}",
            cron.missed
        ));
    }
    match (cron.overlap, running.first()) {
        (Overlap::Skip, Some(run)) => Some(format!("{} had not ended", run.id.label())),
        _ => None,
    }
}

/// What becomes of a cron that no release that runs declares: that it is paused is remembered.
fn leave(name: &CronName, record: &CronRecord) -> Option<CronStep> {
    let name = name.clone();
    if record.paused.is_none() {
        return Some(CronStep::Forget { name });
    }
    record.schedule.as_ref()?;
    let record = CronRecord {
        schedule: None,
        passed_over: None,
        ..record.clone()
    };
    Some(CronStep::Keep { name, record })
}
