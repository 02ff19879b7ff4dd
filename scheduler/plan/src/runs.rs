//! What becomes of runs: placed, left alone, ended.
//!
//! In: the runs that have not ended, what nodes tell of them, and the state that plans are made from. Out: the runs
//! that change, as they are to be.
//!
//! A run goes to a node as an instance of its process type would: one that is ready, meets what the process type
//! requires, and has room for one more; the one it ranks highest, then the fullest. How many of the process type
//! are there does not matter to it.
//!
//! Invariant: a run is placed at most once, for one life of one node. One whose node is lost, or began another
//! life, ends as lost, and is never placed again.
//! Invariant: a run ends: when its node says so, when it is stopped before it is placed, and at the latest some
//! time after it may have run.

use std::{cmp::Reverse, collections::BTreeMap};

use gilliam_model::{
    Timestamp,
    name::NodeName,
    run::{Outcome, RUN_BOOT_MS_MAX, RUN_UNTAKEN_MS_MAX, RUN_WAIT_MS_MAX, Run, RunId, RunProgress, RunState},
};

use crate::{
    feasible,
    node::Needs,
    snapshot::{Availability, Snapshot},
    world::World,
};

/// Nodes that are named with their reasons when no node takes a run.
const NODES_NAMED_MAX: usize = 5;

/// What a node tells of itself and its runs.
#[derive(Debug, Clone, Copy)]
pub struct RunsOnNode<'a> {
    /// When its life began.
    pub life: Timestamp,
    /// Its runs.
    pub runs: &'a BTreeMap<RunId, RunProgress>,
}

/// What a decision about runs is made from.
#[derive(Clone, Copy)]
pub struct RunsView<'a> {
    /// The state, with the runs that have not ended.
    pub snapshot: &'a Snapshot,
    /// What a node tells, if it can be counted on.
    pub node: &'a dyn Fn(&NodeName) -> Option<RunsOnNode<'a>>,
    /// Whether a node that was not heard of may be on its way.
    pub in_grace: bool,
    /// The time.
    pub now: Timestamp,
}

impl std::fmt::Debug for RunsView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunsView")
            .field("runs", &self.snapshot.runs)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// The runs that change, as they are to be: those that end, and those that get a node.
pub fn runs(view: &RunsView<'_>) -> Vec<Run> {
    let mut changed = Vec::new();
    let mut waiting: Vec<&Run> = Vec::new();
    for run in &view.snapshot.runs {
        match &run.state {
            RunState::Asked if run.is_to_stop => {
                let reason = "it was stopped before it began".to_string();
                changed.push(run.ended(Outcome::Stopped { reason }, view.now));
            }
            RunState::Asked => waiting.push(run),
            RunState::Placed { node, life, at } => {
                if let Some(outcome) = end(view, run, node, *life, *at) {
                    changed.push(run.ended(outcome, view.now));
                }
            }
            RunState::Ended { .. } => {}
        }
    }
    if !waiting.is_empty() {
        waiting.sort_by_key(|run| (run.id.asked_at, &run.id));
        place(view, &waiting, &mut changed);
    }
    changed
}

/// How a run that was placed ended, if it did.
fn end(
    view: &RunsView<'_>,
    run: &Run,
    node: &NodeName,
    life: Timestamp,
    placed_at: Timestamp,
) -> Option<Outcome> {
    let lost = |reason: String| Some(Outcome::Lost { reason });
    let Some(seen) = (view.node)(node) else {
        let known = view.snapshot.nodes.iter().find(|known| known.name == *node);
        let is_lost = known.is_some_and(|known| known.state == Availability::Lost);
        return match is_lost || !view.in_grace {
            true => lost(format!("its node {node} is lost")),
            false => None,
        };
    };
    if seen.life != life {
        return lost(format!("its node {node} was started again"));
    }
    let passed_ms = passed_ms(placed_at, view.now);
    match seen.runs.get(&run.id) {
        Some(RunProgress::Ended { outcome }) => Some(outcome.clone()),
        None if passed_ms > RUN_UNTAKEN_MS_MAX => lost(format!("its node {node} did not take it")),
        Some(_) if passed_ms > longest_ms(run) => lost(format!("its node {node} did not end it in time")),
        _ => None,
    }
}

/// When a node that works has ended a run at the latest.
fn longest_ms(run: &Run) -> i64 {
    let exit_ms = run
        .work
        .as_ref()
        .map_or(0, |work| work.process.limits.exit_ms_max);
    let run_ms = i64::try_from(run.run_ms_max.saturating_add(exit_ms)).unwrap_or(i64::MAX);
    run_ms.saturating_add(RUN_BOOT_MS_MAX)
}

fn passed_ms(since: Timestamp, now: Timestamp) -> i64 {
    now.as_millisecond() - since.as_millisecond()
}

fn place(view: &RunsView<'_>, waiting: &[&Run], changed: &mut Vec<Run>) {
    let mut world = World::of(view.snapshot, view.snapshot.epoch.next());
    for run in waiting {
        let Some(work) = &run.work else {
            let reason = "what it was to run is not known".to_string();
            changed.push(run.ended(Outcome::NotPlaced { reason }, view.now));
            continue;
        };
        let needs = Needs::of_run(&work.process);
        match pick(view, &world, needs) {
            Some((at, life)) => {
                let node = &mut world.nodes[at];
                node.take(Some(needs), 1);
                changed.push(run.placed(node.state.name.clone(), life, view.now));
            }
            None if passed_ms(run.id.asked_at, view.now) > RUN_WAIT_MS_MAX => {
                let reason = why_not(&world, needs);
                changed.push(run.ended(Outcome::NotPlaced { reason }, view.now));
            }
            None => {}
        }
    }
}

/// The place of the best node for a run, and the life that the node is in.
fn pick(view: &RunsView<'_>, world: &World<'_>, needs: Needs<'_>) -> Option<(usize, Timestamp)> {
    let candidates = world.nodes.iter().enumerate().filter_map(|(at, node)| {
        let life = (view.node)(&node.state.name)?.life;
        let fits =
            node.is_ready && feasible::allows(node, needs) && feasible::capacity(node, needs, 0, 1) > 0;
        let labels = &node.state.labels;
        let ranks = needs.rules.rank.iter();
        let met = ranks.filter(|(rule, _)| rule.holds(&node.state.name, labels));
        let score: i32 = met.map(|(_, weight)| *weight).sum();
        fits.then(|| ((Reverse(score), Reverse(node.fill(needs).now), at), life))
    });
    let best = candidates.min_by_key(|(key, _)| *key);
    best.map(|((.., at), life)| (at, life))
}

fn why_not(world: &World<'_>, needs: Needs<'_>) -> String {
    if world.nodes.is_empty() {
        return "no node has joined".to_string();
    }
    let named = world.nodes.iter().take(NODES_NAMED_MAX);
    let mut reasons: Vec<String> = named
        .map(|node| format!("{}: {}", node.state.name, world.why_no_run(node, needs)))
        .collect();
    if world.nodes.len() > NODES_NAMED_MAX {
        reasons.push(format!("and {} others", world.nodes.len() - NODES_NAMED_MAX));
    }
    reasons.join(", ")
}
