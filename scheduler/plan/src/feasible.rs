//! Which nodes can take how many more slots of a group, and why the others cannot.
//!
//! A node is feasible when it is ready, has fewer slots than it takes, a TCP port left for what takes HTTP,
//! and the memory promised on it, with one more instance at its limit, stays within the node's memory times
//! the overcommit factor.

use std::collections::BTreeMap;

use crate::{
    snapshot::Availability,
    world::{GroupName, Needs, Node, World},
};

/// Where a reason stands that no node can change.
const CLUSTER: &str = "cluster";

/// Slots of a group with these needs each that a node can take besides what it has.
pub(crate) fn capacity(node: &Node<'_>, needs: Needs, overcommit: u32) -> u32 {
    if node.state.state != Availability::Ready {
        return 0;
    }
    let slots = node.state.slots_max.saturating_sub(node.slots);
    let ports = node.state.ports_max.saturating_sub(node.ports);
    let memory = promisable(node, overcommit).saturating_sub(node.memory_bytes);
    let by_ports = ports.checked_div(needs.ports).unwrap_or(u32::MAX);
    let by_memory = memory.checked_div(needs.memory_bytes).unwrap_or(u64::MAX);
    slots
        .min(by_ports)
        .min(u32::try_from(by_memory).unwrap_or(u32::MAX))
}

/// Why each node takes no more slots of a group.
pub(crate) fn reasons(world: &World<'_>, name: GroupName<'_>) -> BTreeMap<String, String> {
    let one = |reason: String| BTreeMap::from([(CLUSTER.to_string(), reason)]);
    let Some(needs) = world.groups.get(&name).and_then(|group| group.needs) else {
        return one(format!(
            "the image of {} has no process type {}",
            name.release, name.process
        ));
    };
    if world.nodes.is_empty() {
        return one("no node has joined".to_string());
    }
    let overcommit = world.policy.memory_overcommit;
    world
        .nodes
        .iter()
        .map(|(node, state)| (node.to_string(), reason(state, needs, overcommit)))
        .collect()
}

fn reason(node: &Node<'_>, needs: Needs, overcommit: u32) -> String {
    match node.state.state {
        Availability::Lost => return "it is lost".to_string(),
        Availability::Draining => return "it is draining".to_string(),
        Availability::Ready => {}
    }
    if node.slots >= node.state.slots_max {
        return format!("all of its {} slots are taken", node.state.slots_max);
    }
    if needs.ports > 0 && node.ports >= node.state.ports_max {
        return format!(
            "all of its {} ports for web instances are taken",
            node.state.ports_max
        );
    }
    let all = promisable(node, overcommit);
    let left = all.saturating_sub(node.memory_bytes);
    format!(
        "an instance needs {} MiB; {} MiB are left of the {} MiB it may promise, {overcommit} times its memory",
        needs.memory_bytes.div_ceil(1 << 20),
        left >> 20,
        all >> 20,
    )
}

fn promisable(node: &Node<'_>, overcommit: u32) -> u64 {
    node.state.memory_bytes.saturating_mul(overcommit.into())
}
