//! What is so of a snapshot, worked out slot by slot: what properties are held against.

use std::collections::BTreeMap;

use gilliam_model::{image::Process, instance::Epoch, name::NodeName, placement::Placement, rules::Spread};
use gilliam_plan::{Availability, NodeState, Placements, Snapshot};

use crate::generators::Group;

pub(crate) fn node<'a>(snapshot: &'a Snapshot, name: &NodeName) -> Option<&'a NodeState> {
    snapshot.nodes.iter().find(|node| node.name == *name)
}

pub(crate) fn state_of(snapshot: &Snapshot, name: &NodeName) -> Option<Availability> {
    node(snapshot, name).map(|node| node.state)
}

pub(crate) fn process_of<'a>(snapshot: &'a Snapshot, group: &Group) -> Option<&'a Process> {
    let state = snapshot.apps.iter().find(|state| state.app.name == group.0)?;
    state.images.get(&group.1)?.processes.get(&group.2)
}

pub(crate) fn group(placement: &Placement) -> Group {
    (
        placement.app.clone(),
        placement.release,
        placement.process.clone(),
    )
}

/// What is promised on a node.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) slots: u32,
    pub(crate) bytes: u64,
    pub(crate) cpu_millis: u64,
}

pub(crate) fn load(snapshot: &Snapshot, placements: &[Placement], node: &NodeName) -> Load {
    let here = placements.iter().filter(|placement| placement.node == *node);
    here.fold(Load::default(), |load, placement| {
        let limits = process_of(snapshot, &group(placement)).map(|process| &process.limits);
        let count = u64::from(placement.count());
        Load {
            slots: load.slots + placement.count(),
            bytes: load.bytes + limits.map_or(0, |limits| limits.memory_bytes_max) * count,
            cpu_millis: load.cpu_millis + limits.map_or(0, |limits| u64::from(limits.cpu_millis)) * count,
        }
    })
}

pub(crate) fn cpu_promisable(snapshot: &Snapshot, node: &NodeState) -> u64 {
    let times = snapshot.policy.cpu_overcommit;
    times.map_or(u64::MAX, |times| u64::from(node.cpu_millis) * u64::from(times))
}

/// Whether a node could take one more slot of a group.
pub(crate) fn has_room(
    snapshot: &Snapshot,
    placements: &[Placement],
    group: &Group,
    node: &NodeState,
) -> bool {
    let Some(process) = process_of(snapshot, group) else {
        return false;
    };
    let load = load(snapshot, placements, &node.name);
    let here = |of: &dyn Fn(&Group) -> bool| -> u32 {
        let here = placements
            .iter()
            .filter(|p| p.node == node.name && of(&self::group(p)));
        here.map(Placement::count).sum()
    };
    let rules = &process.placement;
    let own = here(&|other| other == group);
    node.state == Availability::Ready
        && load.slots < node.slots_max
        && load.bytes + process.limits.memory_bytes_max <= node.memory_bytes
        && load.cpu_millis + u64::from(process.limits.cpu_millis) <= cpu_promisable(snapshot, node)
        && rules.require.iter().all(|r| r.holds(&node.name, &node.labels))
        && rules.max_per_node.is_none_or(|max| own < max.get())
        && here(&|other| keep_apart(snapshot, group, other)) == 0
}

/// Whether two groups never share a node.
pub(crate) fn keep_apart(snapshot: &Snapshot, a: &Group, b: &Group) -> bool {
    let names = |one: &Group, other: &Group| {
        process_of(snapshot, one).is_some_and(|process| process.placement.anti_affinity.contains(&other.2))
    };
    a.0 == b.0 && a.2 != b.2 && (names(a, b) || names(b, a))
}

/// The domain of a node, as a process type is spread.
pub(crate) fn domain<'a>(process: &Process, node: &'a NodeState) -> Option<&'a str> {
    match &process.placement.spread {
        Spread::Over(key) => node.labels.get(key).map(|value| value.as_str()),
        Spread::Nodes | Spread::None => None,
    }
}

/// Every placed slot: its group and number, with its node and epoch.
pub(crate) fn slots<'a>(
    placements: impl IntoIterator<Item = &'a Placement>,
) -> BTreeMap<(Group, u32), (NodeName, Epoch)> {
    let mut slots = BTreeMap::new();
    for placement in placements {
        for id in placement.instances() {
            let double = slots.insert((group(placement), id.slot), (placement.node.clone(), id.epoch));
            assert_eq!(double, None, "{id} is placed twice");
        }
    }
    slots
}

pub(crate) fn wanted(snapshot: &Snapshot) -> BTreeMap<Group, u32> {
    let apps = snapshot.apps.iter().map(|state| &state.app);
    let scales = apps.flat_map(|app| {
        app.scale
            .iter()
            .map(|(release, scale)| (app.name.clone(), *release, scale))
    });
    scales
        .flat_map(|(app, release, scale)| {
            scale
                .0
                .iter()
                .map(move |(process, count)| ((app.clone(), release, process.clone()), *count))
        })
        .collect()
}

pub(crate) fn listed(placements: &Placements) -> Vec<Placement> {
    placements.iter().collect()
}

/// Slots of a group on nodes that are lost or draining, or that leave: what starts in their place is not new.
pub(crate) fn displaced(snapshot: &Snapshot, group: &Group) -> usize {
    let gone = [Some(Availability::Lost), Some(Availability::Draining)];
    let here = snapshot.placements.iter().filter(|p| self::group(p) == *group);
    let displaced = here.map(|p| match gone.contains(&state_of(snapshot, &p.node)) {
        true => p.count(),
        false => p.leaving.iter().map(|range| range.count()).sum(),
    });
    displaced.map(|count| count as usize).sum()
}
