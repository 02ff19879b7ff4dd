//! What a node should do next: the assignment against what is alive here. Pure.
//!
//! The supervisor calls [`decide`] whenever either side changed and carries the actions out; it keeps no plan
//! of its own. Public, so that a cluster can be played through without a node.
//!
//! Invariant: no clock, no randomness, no IO; the same input gives the same actions in the same order.

use std::collections::{BTreeMap, BTreeSet};

use gilliam_model::{
    assignment::Assignment,
    instance::{InstanceId, InstanceState},
    name::{AppName, ProcessName},
    release::ReleaseId,
    route::WEB,
};

/// One step of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Ask an instance to finish and end.
    Stop(InstanceId),
    /// Start an instance of the assignment.
    Start(InstanceId),
}

/// The place an instance fills: two lives of it differ in their epoch alone.
type Slot<'a> = (&'a AppName, ReleaseId, &'a ProcessName, u32);

fn slot_of(id: &InstanceId) -> Slot<'_> {
    (&id.app, id.release, &id.process, id.slot)
}

/// The instances an assignment asks for, each with the index of its process in it.
pub fn wanted(assignment: &Assignment) -> BTreeMap<InstanceId, usize> {
    let mut wanted = BTreeMap::new();
    for (index, process) in assignment.processes.iter().enumerate() {
        for range in &process.ranges {
            for slot in range.slots() {
                let id = InstanceId {
                    app: process.app.clone(),
                    release: process.release,
                    process: process.name.clone(),
                    slot,
                    epoch: range.epoch,
                };
                wanted.insert(id, index);
            }
        }
    }
    wanted
}

/// The steps to take now, stops first.
///
/// When a slot got a new epoch, a web instance is replaced make-before-break: the old one serves until the
/// new one runs. Every other process is replaced break-before-make: two workers of one slot never run at
/// once.
pub fn decide<V>(
    wanted: &BTreeMap<InstanceId, V>,
    alive: &BTreeMap<InstanceId, InstanceState>,
) -> Vec<Action> {
    let next: BTreeMap<Slot<'_>, &InstanceId> = wanted.keys().map(|id| (slot_of(id), id)).collect();
    let taken: BTreeSet<Slot<'_>> = alive.keys().map(slot_of).collect();
    let mut actions = Vec::new();
    for (id, state) in alive {
        if *state == InstanceState::Stopping || wanted.contains_key(id) {
            continue;
        }
        let successor = next.get(&slot_of(id)).filter(|_| is_web(id));
        let still_needed = *state == InstanceState::Running
            && successor.is_some_and(|id| alive.get(*id) != Some(&InstanceState::Running));
        if !still_needed {
            actions.push(Action::Stop(id.clone()));
        }
    }
    for (slot, id) in next {
        if !alive.contains_key(id) && (is_web(id) || !taken.contains(&slot)) {
            actions.push(Action::Start(id.clone()));
        }
    }
    actions
}

fn is_web(id: &InstanceId) -> bool {
    id.process.as_str() == WEB
}

#[cfg(test)]
mod tests {
    use InstanceState::{Crashed, Running, Starting, Stopping};
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> InstanceId {
        text.parse().expect("instance id")
    }

    #[track_caller]
    fn check(wanted: &[&str], alive: &[(&str, InstanceState)], expected: &[&str]) {
        let wanted: BTreeMap<_, ()> = wanted.iter().map(|text| (id(text), ())).collect();
        let alive = alive.iter().map(|(text, state)| (id(text), *state)).collect();
        let actions: Vec<String> = decide(&wanted, &alive).iter().map(text_of).collect();
        assert_eq!(actions, expected);
    }

    fn text_of(action: &Action) -> String {
        match action {
            Action::Stop(id) => format!("stop {id}"),
            Action::Start(id) => format!("start {id}"),
        }
    }

    #[test]
    fn a_settled_node_does_nothing() {
        check(&[], &[], &[]);
        check(&["a/v1/web.1@1"], &[("a/v1/web.1@1", Running)], &[]);
        check(&["a/v1/web.1@1"], &[("a/v1/web.1@1", Crashed)], &[]);
        check(&["a/v1/web.1@1"], &[("a/v1/web.1@1", Starting)], &[]);
    }

    #[test]
    fn missing_instances_start_and_others_stop_once() {
        check(
            &["a/v1/web.1@1", "a/v1/w.1@1"],
            &[],
            &["start a/v1/w.1@1", "start a/v1/web.1@1"],
        );
        check(&[], &[("a/v1/web.1@1", Running)], &["stop a/v1/web.1@1"]);
        check(&[], &[("a/v1/web.1@1", Crashed)], &["stop a/v1/web.1@1"]);
        check(&[], &[("a/v1/web.1@1", Stopping)], &[]);
    }

    #[test]
    fn a_web_instance_serves_until_its_successor_runs() {
        let wanted = ["a/v1/web.1@2"];
        check(&wanted, &[("a/v1/web.1@1", Running)], &["start a/v1/web.1@2"]);
        check(
            &wanted,
            &[("a/v1/web.1@1", Running), ("a/v1/web.1@2", Starting)],
            &[],
        );
        check(
            &wanted,
            &[("a/v1/web.1@1", Running), ("a/v1/web.1@2", Crashed)],
            &[],
        );
        check(
            &wanted,
            &[("a/v1/web.1@1", Running), ("a/v1/web.1@2", Running)],
            &["stop a/v1/web.1@1"],
        );
        check(
            &wanted,
            &[("a/v1/web.1@1", Crashed)],
            &["stop a/v1/web.1@1", "start a/v1/web.1@2"],
        );
    }

    #[test]
    fn a_worker_ends_before_its_successor_starts() {
        let wanted = ["a/v1/worker.1@2"];
        check(
            &wanted,
            &[("a/v1/worker.1@1", Running)],
            &["stop a/v1/worker.1@1"],
        );
        check(&wanted, &[("a/v1/worker.1@1", Stopping)], &[]);
        check(&wanted, &[], &["start a/v1/worker.1@2"]);
    }

    #[test]
    fn releases_and_slots_do_not_disturb_each_other() {
        check(
            &["a/v1/web.1@1", "a/v2/web.1@1"],
            &[("a/v1/web.1@1", Running), ("a/v1/web.2@1", Running)],
            &["stop a/v1/web.2@1", "start a/v2/web.1@1"],
        );
    }

    fn any_id() -> impl Strategy<Value = InstanceId> {
        (prop::bool::ANY, 1..3u32, 1..4u32, 1..4u64).prop_map(|(web, release, slot, epoch)| {
            id(&format!(
                "a/v{release}/{}.{slot}@{epoch}",
                if web { "web" } else { "worker" }
            ))
        })
    }

    /// At most one epoch for each slot, as in every assignment.
    fn any_wanted() -> impl Strategy<Value = BTreeMap<InstanceId, ()>> {
        prop::collection::vec(any_id(), 0..10).prop_map(|ids| {
            let mut taken = BTreeSet::new();
            ids.iter()
                .filter(|id| taken.insert(slot_of(id)))
                .map(|id| (id.clone(), ()))
                .collect()
        })
    }

    fn any_alive() -> impl Strategy<Value = BTreeMap<InstanceId, InstanceState>> {
        let state = prop::sample::select(vec![Starting, Running, Stopping, Crashed]);
        prop::collection::btree_map(any_id(), state, 0..10)
    }

    fn live_of(alive: &BTreeMap<InstanceId, InstanceState>, slot: Slot<'_>) -> usize {
        alive.keys().filter(|id| slot_of(id) == slot).count()
    }

    fn serving(alive: &BTreeMap<InstanceId, InstanceState>, slot: Slot<'_>) -> bool {
        alive
            .iter()
            .any(|(id, state)| slot_of(id) == slot && *state == Running)
    }

    proptest! {
        /// Carried out by a perfect node, the decisions lead to exactly what is wanted; on the way no slot
        /// that serves stops serving while it is wanted, and no worker's slot is doubled.
        #[test]
        fn decisions_reach_the_assignment_without_a_gap(wanted in any_wanted(), mut alive in any_alive()) {
            for _ in 0..8 {
                let actions = decide(&wanted, &alive);
                let before = alive.clone();
                for action in &actions {
                    match action {
                        Action::Stop(id) => prop_assert!(alive.insert(id.clone(), Stopping).is_some()),
                        Action::Start(id) => prop_assert!(alive.insert(id.clone(), Starting).is_none()),
                    }
                }
                for id in wanted.keys() {
                    let slot = slot_of(id);
                    prop_assert!(!serving(&before, slot) || !is_web(id) || serving(&alive, slot));
                    prop_assert!(is_web(id) || live_of(&alive, slot) <= live_of(&before, slot).max(1));
                }
                alive.retain(|_, state| *state != Stopping);
                alive.values_mut().for_each(|state| *state = Running);
            }
            prop_assert_eq!(alive.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
            prop_assert!(decide(&wanted, &alive).is_empty());
        }
    }
}
