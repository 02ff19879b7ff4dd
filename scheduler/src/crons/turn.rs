//! What the control loop does about crons: what was decided is stored, each step in a commit.
//!
//! Invariant: the run of a due time is made in the commit that says that the due time is dealt with, and that commit
//! checks that nobody said so before: of several control planes one fires.

use std::{collections::BTreeMap, time::Duration};

use gilliam_model::{
    Timestamp,
    cron::{Cron, CronRecord, CronSchedule, OfCron},
    name::{AppName, CronName},
    run::Run,
};
use gilliam_plan::{CronStep, CronsView, cron_due, crons};
use gilliam_store::{Check, CommitError, Expect, Write, keys, records};

use crate::{
    control::TurnError,
    runs::{self, Full, NewRun},
    shared::Shared,
    state::{AppEntry, State},
};

/// When crons are due, as far as the state was looked at.
#[derive(Debug, Default)]
pub(crate) struct Clockwork {
    /// The version of the state that was looked at.
    version: Option<u64>,
    /// When something is due next.
    next: Option<Timestamp>,
    /// What was reckoned of each cron, and from what.
    reckoned: BTreeMap<(AppName, CronName), Reckoned>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reckoned {
    schedule: CronSchedule,
    record: Option<(Option<CronSchedule>, Timestamp, bool)>,
    due: Option<Timestamp>,
}

impl Clockwork {
    /// Whether something is due, as far as is known.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// How long to rest until something is due, but no longer than `most`.
    pub(crate) fn rest(&self, now: Timestamp, most: Duration) -> Duration {
        let Some(next) = self.next else {
            return most;
        };
        // A timer that ends a moment early would find nothing due.
        let ms = next.as_millisecond().saturating_sub(now.as_millisecond()).max(0) + 1;
        most.min(Duration::from_millis(ms.unsigned_abs()))
    }

    /// The apps of which a cron is due.
    pub(crate) fn due(&mut self, state: &State, version: u64, now: Timestamp) -> Vec<AppName> {
        if self.version == Some(version) && !self.is_due(now) {
            return Vec::new();
        }
        let mut before = std::mem::take(&mut self.reckoned);
        let (mut next, mut due) = (None::<Timestamp>, Vec::new());
        for (app, entry) in state.apps.iter() {
            let Some((_, image)) = entry.active() else {
                continue;
            };
            let known = state.crons.get(app);
            if image.crons.is_empty() && known.is_none() {
                continue;
            }
            let mut earliest = leaving(&image.crons, known).then_some(now);
            for (name, cron) in &image.crons {
                let record = known
                    .and_then(|known| known.get(name))
                    .map(|stored| &stored.value);
                let key = (app.clone(), name.clone());
                let mut reckoned = Reckoned {
                    schedule: cron.kept_schedule(),
                    record: record.map(|r| (r.schedule.clone(), r.considered, r.paused.is_some())),
                    due: None,
                };
                let was = before
                    .remove(&key)
                    .filter(|was| was.schedule == reckoned.schedule && was.record == reckoned.record);
                reckoned.due = match was {
                    Some(was) => was.due,
                    None => cron_due(cron, record, now),
                };
                earliest = earliest.into_iter().chain(reckoned.due).min();
                self.reckoned.insert(key, reckoned);
            }
            if earliest.is_some_and(|at| at <= now) {
                due.push(app.clone());
            }
            next = next.into_iter().chain(earliest).min();
        }
        (self.version, self.next) = (Some(version), next);
        due
    }
}

/// Whether there is a record of a cron that is not declared, and that says it is.
fn leaving(
    declared: &BTreeMap<CronName, Cron>,
    known: Option<&BTreeMap<CronName, records::Stored<CronRecord>>>,
) -> bool {
    let mut known = known.into_iter().flatten();
    known.any(|(name, stored)| {
        let is_left = stored.value.paused.is_some() && stored.value.schedule.is_none();
        !is_left && !declared.contains_key(name)
    })
}

/// Does what is due about the crons of these apps; says whether there was anything.
pub(crate) async fn take(
    shared: &Shared,
    state: &State,
    due: &[AppName],
    now: Timestamp,
) -> Result<bool, TurnError> {
    let mut changed = false;
    for app in due {
        let Some(entry) = state.apps.get(app) else {
            continue;
        };
        let Some((_, image)) = entry.active() else {
            continue;
        };
        let stored = state.crons.get(app).into_iter().flatten();
        let known: BTreeMap<CronName, &CronRecord> = stored
            .map(|(name, stored)| (name.clone(), &stored.value))
            .collect();
        let open: Vec<&Run> = open_of(state, app).collect();
        let steps = crons(&CronsView {
            declared: &image.crons,
            known: &known,
            open: &open,
            now,
        });
        for step in steps {
            changed = true;
            let (checks, writes) = commit_of(shared, state, entry, step, now).await?;
            match shared.store.commit(&checks, &writes).await {
                Ok(_) => {}
                // Another control plane was faster, or users changed the app: the next turn sees what they did.
                Err(CommitError::Conflict { .. }) => return Ok(true),
                Err(error) => return Err(TurnError::Commit(error)),
            }
        }
    }
    Ok(changed)
}

fn open_of<'a>(state: &'a State, app: &'a AppName) -> impl Iterator<Item = &'a Run> {
    let of_app = state.runs.range((app.clone(), 0)..=(app.clone(), u32::MAX));
    of_app.map(|(_, stored)| &stored.value)
}

/// The commit that carries out a step.
async fn commit_of(
    shared: &Shared,
    state: &State,
    entry: &AppEntry,
    step: CronStep,
    now: Timestamp,
) -> Result<(Vec<Check>, Vec<Write>), TurnError> {
    let app = &entry.stored.value.name;
    let name = step.name().clone();
    let key = keys::cron(app, &name);
    let stored = state.crons.get(app).and_then(|of_app| of_app.get(&name));
    let unchanged = Check {
        key: key.clone(),
        expect: Expect::unchanged(stored.map(|stored| stored.revision)),
    };
    let mut checks = vec![entry.stored.unchanged(), unchanged];
    let (due, record, stop) = match step {
        CronStep::Forget { .. } => return Ok((checks, vec![records::delete(key)])),
        CronStep::Keep { record, .. } => {
            if let Some(passed) = record.passed_over.as_ref().filter(|p| p.due == record.considered) {
                tracing::info!(%app, cron = %name, due = %passed.due, reason = passed.reason, "passed over");
            }
            return Ok((checks, vec![records::put(key, &record)]));
        }
        CronStep::Fire {
            due, record, stop, ..
        } => (due, record, stop),
    };
    let run = match run_of(state, entry, name, due, now) {
        Ok(run) => run,
        Err(reason) => {
            return Ok((checks, vec![records::put(key, &record.passed_over(due, reason))]));
        }
    };
    let NewRun { run, check, writes } = runs::next(&shared.store, run).await?;
    tracing::info!(run = %run.id, author = run.author, %due, "fired");
    let mut all = vec![records::put(key, &record.fired(Some(due), now, run.id.number))];
    all.extend(writes);
    checks.push(check);
    for stored in stop
        .iter()
        .filter_map(|number| state.runs.get(&(app.clone(), *number)))
    {
        checks.push(stored.unchanged());
        let stopped = Run {
            is_to_stop: true,
            ..stored.value.clone()
        };
        all.push(records::put_run(&stopped));
    }
    Ok((checks, all))
}

/// The run of a due time, or why there is none.
fn run_of(
    state: &State,
    entry: &AppEntry,
    name: CronName,
    due: Timestamp,
    now: Timestamp,
) -> Result<Run, String> {
    let app = &entry.stored.value.name;
    let of_app = open_of(state, app).count();
    runs::room(of_app, state.runs.len()).map_err(|full| match full {
        Full::App => format!("{of_app} runs of the app had not ended"),
        Full::Cluster => "the cluster has as many runs as it may".to_string(),
    })?;
    let made = entry.active().and_then(|(release, image)| {
        let cron = image.crons.get(&name)?;
        let author = format!("cron {name}");
        let due = Some(due);
        runs::of_cron(release, image, cron, OfCron { name, due }, author, now)
    });
    made.ok_or_else(|| "what it runs is not there".to_string())
}
