//! What a plan is made from: the state of the store and what nodes report, as the planner reads them.
//!
//! Invariant: the work is in proportion to apps and nodes, and of what runs only that is looked up which a plan can
//! ask about: what is to be replaced before it stops.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gilliam_model::{
    instance::InstanceState, label::Labels, name::NodeName, node::Node, report::ProcessKey,
    requirement::Requirement, run::Run, scale::COUNT_MAX, service::BoundService,
};
use gilliam_plan::{Availability, NodeState, Observed, Snapshot};

use crate::{observed::NodeView, state::State};

/// Most slots that one node takes when it does not know better itself: what the largest count of one process
/// type needs.
const NODE_SLOTS_MAX: u32 = COUNT_MAX;
/// Most web instances that one node takes: each has a TCP port of its own, of which a node gives out so many.
const NODE_PORTS_MAX: u32 = 20_000;

/// What a plan is made from.
///
/// In the first moments a node that has not synced yet may be on its way, and is left out: what is placed on
/// it stays. Later it is lost.
pub(crate) fn of(state: &State, nodes: &BTreeMap<NodeName, NodeView>, in_grace: bool) -> Snapshot {
    let mut known: Vec<NodeState> = nodes
        .values()
        .map(|node| node_state(node, state.nodes.get(&node.facts.name)))
        .collect();
    let observed = observed(state, nodes, &known);
    if !in_grace {
        let silent = state.placements.holders();
        let silent = silent.filter(|node| !nodes.contains_key(*node));
        known.extend(silent.map(|name| NodeState {
            name: name.clone(),
            state: Availability::Lost,
            memory_bytes: 0,
            cpu_millis: 0,
            labels: Labels::default(),
            slots_max: 0,
            ports_max: 0,
        }));
    }
    Snapshot {
        epoch: state
            .epoch
            .as_ref()
            .map(|stored| stored.value)
            .unwrap_or_default(),
        apps: state.apps.values().map(|entry| entry.state.clone()).collect(),
        nodes: known,
        placements: state.placements.clone(),
        observed,
        runs: runs(state),
        policy: state.policy(),
    }
}

/// The runs that have not ended, of apps that are there: the others end with what is left of their app.
fn runs(state: &State) -> Vec<Arc<Run>> {
    let of_apps = state
        .runs
        .values()
        .filter(|run| state.apps.contains_key(&run.value.id.app));
    of_apps.map(|run| Arc::new(at_home(state, &run.value))).collect()
}

/// A run that is to be placed where the data of the services is that it is bound to.
fn at_home(state: &State, run: &Run) -> Run {
    let mut run = run.clone();
    let home = state.apps.get(&run.id.app);
    let home = home.and_then(|entry| entry.stored.value.home.as_ref());
    let is_bound = |bound: &BoundService| bound.service.kind().is_on_a_node();
    if let (Some(work), Some(home)) = (&mut run.work, home)
        && state.bound(&run.id.app, run.release).iter().any(is_bound)
    {
        work.process.placement.require.push(Requirement::on(home));
    }
    run
}

/// What runs of the process types whose instances are replaced by others before they stop: those of apps that
/// migrate, those that are leaving, those on nodes that are to be emptied.
fn observed(state: &State, nodes: &BTreeMap<NodeName, NodeView>, known: &[NodeState]) -> Observed {
    let migrating = state.apps.iter().filter(|(_, entry)| entry.is_migrating());
    let mut keys: BTreeSet<ProcessKey> = migrating
        .flat_map(|(name, _)| state.placements.keys_of_app(name))
        .chain(state.placements.leaving_keys())
        .cloned()
        .collect();
    for node in known.iter().filter(|node| node.state == Availability::Draining) {
        keys.extend(state.placed_on(&node.name).iter().map(|placed| placed.key()));
    }
    let mut observed = Observed::default();
    for key in &keys {
        for (node, _) in state.placements.on_nodes(key) {
            let node = nodes.get(node).filter(|node| node.is_ready());
            let report = node.and_then(|node| node.reports.get(key));
            if let Some(running) = report.and_then(|report| report.states.get(&InstanceState::Running)) {
                observed.add_ranges(key, running);
            }
        }
    }
    observed
}

fn node_state(node: &NodeView, decided: Option<&Node>) -> NodeState {
    let is_draining = decided.is_some_and(|node| node.draining_since.is_some());
    let is_forgotten = decided.is_some_and(|node| node.forgotten_at.is_some());
    NodeState {
        name: node.facts.name.clone(),
        state: match node.is_ready() && !is_forgotten {
            true if is_draining => Availability::Draining,
            true => Availability::Ready,
            false => Availability::Lost,
        },
        memory_bytes: node.facts.memory_bytes,
        cpu_millis: node.facts.cpu_millis_promisable(),
        labels: node.facts.labels.clone(),
        slots_max: node
            .facts
            .instances_max
            .map_or(NODE_SLOTS_MAX, |max| max.min(NODE_SLOTS_MAX)),
        ports_max: NODE_PORTS_MAX,
    }
}
