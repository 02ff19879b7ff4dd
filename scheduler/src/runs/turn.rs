//! What the control loop does about runs: those that were decided upon are stored, each in a commit.
//!
//! Invariant: a run is placed in a commit that checks the plan's epoch and takes the next one: no plan of any control
//! plane that has not seen it is committed after it.
//! Invariant: the end of a run that a release waits for, and what the release becomes, are one commit.

use std::collections::BTreeMap;

use gilliam_model::{
    Timestamp,
    cron::CRON_RUNS_KEPT,
    instance::Epoch,
    name::{AppName, CronName, NodeName},
    run::{Outcome, RUN_KEPT_MS, RUNS_ENDED_KEPT, Run, RunState},
};
use gilliam_plan::{RunsOnNode, RunsView, Snapshot};
use gilliam_store::{Check, CommitError, Expect, RangeError, Revision, Store, Write, keys, records};

use crate::{
    control::TurnError,
    observed::NodeView,
    remarks,
    shared::Shared,
    state::{AppEntry, State},
};

/// Ends of runs that are forgotten in one commit.
const FORGET_MAX: usize = 20;

/// Stores what was decided about runs; says whether there was anything.
pub(crate) async fn take(
    shared: &Shared,
    state: &State,
    nodes: &BTreeMap<NodeName, NodeView>,
    snapshot: &Snapshot,
    in_grace: bool,
    now: Timestamp,
) -> Result<bool, TurnError> {
    if snapshot.runs.is_empty() {
        return Ok(false);
    }
    let node = |name: &NodeName| {
        let node = nodes.get(name).filter(|node| node.is_ready())?;
        Some(RunsOnNode {
            life: node.facts.started_at,
            runs: &node.runs,
        })
    };
    let decided = gilliam_plan::runs(&RunsView {
        snapshot,
        node: &node,
        in_grace,
        now,
    });
    let mut epoch = state.epoch.as_ref().map(|stored| (stored.revision, stored.value));
    for run in &decided {
        let Some((checks, writes)) = changes(&shared.store, state, run, epoch, now).await? else {
            continue;
        };
        match shared.store.commit(&checks, &writes).await {
            Ok(revision) => epoch = Some((revision, next(epoch))),
            // Someone else changed it meanwhile: the next turn sees what they did.
            Err(CommitError::Conflict { .. }) => return Ok(true),
            Err(error) => return Err(TurnError::Commit(error)),
        }
        if let RunState::Ended { outcome, .. } = &run.state {
            tracing::info!(run = %run.id, %outcome, "ended");
        }
    }
    Ok(!decided.is_empty())
}

fn next(epoch: Option<(Revision, Epoch)>) -> Epoch {
    epoch.map(|(_, epoch)| epoch).unwrap_or_default().next()
}

/// The commit that changes a run; none when it or its app is not there any more.
async fn changes(
    store: &Store,
    state: &State,
    run: &Run,
    epoch: Option<(Revision, Epoch)>,
    now: Timestamp,
) -> Result<Option<(Vec<Check>, Vec<Write>)>, TurnError> {
    let (app, number) = (&run.id.app, run.id.number);
    let (Some(before), Some(entry)) = (state.runs.get(&(app.clone(), number)), state.apps.get(app)) else {
        return Ok(None);
    };
    let of_plans = Check {
        key: keys::PLAN_EPOCH.to_string(),
        expect: Expect::unchanged(epoch.map(|(revision, _)| revision)),
    };
    let mut checks = vec![before.unchanged(), entry.stored.unchanged(), of_plans];
    let mut writes = vec![records::put_run(run), records::put_epoch(next(epoch))];
    if let RunState::Ended { outcome, .. } = &run.state {
        writes.push(records::delete(before.key.clone()));
        writes.extend(forgotten(store, app, now).await?);
        let release = after_hook(entry, run, outcome, now);
        let told = match &release {
            Some((_, text)) => Some(text.clone()),
            None => untold(run, outcome),
        };
        writes.extend(release.into_iter().flat_map(|(writes, _)| writes));
        if let Some((check, write)) = after_cron(state, run, outcome, now) {
            checks.push(check);
            writes.push(write);
        }
        if let Some(text) = told {
            let (check, remark) = remarks::added(store, app, now, text).await?;
            checks.push(check);
            writes.push(remark);
        }
    }
    Ok(Some((checks, writes)))
}

/// What the end of a run makes of the release that waits for it, with what to tell its users.
fn after_hook(
    entry: &AppEntry,
    run: &Run,
    outcome: &Outcome,
    now: Timestamp,
) -> Option<([Write; 2], String)> {
    let app = &entry.stored.value;
    let latest = app.latest?;
    let (release, image) = (entry.releases.get(&latest)?, entry.state.images.get(&latest)?);
    let (app, release) = gilliam_plan::hook_ended(app, release, image, run, outcome, now)?;
    let label = run.id.label();
    let text = match release.may_run() {
        true => format!("the release process of {latest} ({label}) ended well"),
        false => format!("{latest} failed: its release process ({label}) {outcome}"),
    };
    Some(([records::put_app(&app), records::put_release(&release)], text))
}

/// What the end of a run makes of the cron that it is of, if it is of the last firing.
fn after_cron(state: &State, run: &Run, outcome: &Outcome, now: Timestamp) -> Option<(Check, Write)> {
    let of = run.cron.as_ref()?;
    let stored = state.crons.get(&run.id.app)?.get(&of.name)?;
    let after = stored.value.ended(run.id.number, outcome, now)?;
    Some((stored.unchanged(), records::put(stored.key.clone(), &after)))
}

/// What no node tells of the end of a run.
fn untold(run: &Run, outcome: &Outcome) -> Option<String> {
    let is_untold = matches!(outcome, Outcome::Lost { .. } | Outcome::NotPlaced { .. });
    is_untold.then(|| format!("{} ({}) {outcome}", run.id.label(), run.command))
}

/// The ends of runs that are not remembered any longer.
async fn forgotten(store: &Store, app: &AppName, now: Timestamp) -> Result<Vec<Write>, RangeError> {
    let (_, ended) = records::list::<Run>(store, &keys::ran_of(app)).await?;
    let is_surplus = surplus(ended.iter().map(|run| &run.value));
    let is_old = |run: &Run| match &run.state {
        RunState::Ended { at, .. } => now.as_millisecond() - at.as_millisecond() > RUN_KEPT_MS,
        RunState::Asked | RunState::Placed { .. } => false,
    };
    let old = ended.into_iter().zip(is_surplus);
    let old = old.filter(|(run, is_surplus)| *is_surplus || is_old(&run.value));
    Ok(old
        .take(FORGET_MAX)
        .map(|(run, _)| records::delete(run.key))
        .collect())
}

/// Which ends are more than are remembered, with one more to come: some of each cron, and those of no cron.
fn surplus<'a>(ended: impl DoubleEndedIterator<Item = &'a Run>) -> Vec<bool> {
    let mut counts: BTreeMap<Option<&CronName>, usize> = BTreeMap::new();
    let newest_first = ended.rev().map(|run| {
        let cron = run.cron.as_ref().map(|of| &of.name);
        let count = counts.entry(cron).or_default();
        *count += 1;
        *count >= cron.map_or(RUNS_ENDED_KEPT, |_| CRON_RUNS_KEPT)
    });
    let mut surplus: Vec<bool> = newest_first.collect();
    surplus.reverse();
    surplus
}
