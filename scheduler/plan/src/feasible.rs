//! Which nodes can take how many more slots of a group, and why the others cannot.
//!
//! A node is feasible when it is ready, meets what the process type requires, holds no process type that this
//! one keeps away from (or that keeps away from this one), has fewer of the group than it may, fewer slots than
//! it takes, a TCP port left for what takes HTTP, and the memory and cpu shares promised on it, with one more
//! instance at its limits, stay within what the operator lets it promise.

use std::collections::BTreeMap;

use gilliam_model::quantity::Unit;

use crate::{
    node::{Needs, Node},
    snapshot::Availability,
    views::View,
    world::{GroupName, World},
};

/// Where a reason stands that no node can change.
const CLUSTER: &str = "cluster";
/// Where the sums of the nodes stand that are not named.
const OTHERS: &str = "others";
/// Most nodes named with their reasons, so that a report of many blocked groups stays readable, and its size
/// within bounds.
const NODES_NAMED_MAX: usize = 50;

/// Slots of a group with these needs each that a node can take besides what it has, up to `most`; `own` are
/// there already.
pub(crate) fn capacity(node: &Node<'_>, needs: Needs<'_>, own: u32, most: u32) -> u32 {
    let slots = node.slots_max.saturating_sub(node.slots);
    let per_node = needs
        .rules
        .max_per_node
        .map_or(u32::MAX, |max| max.get().saturating_sub(own));
    let most = most.min(slots).min(per_node);
    let ports = node.ports_max.saturating_sub(node.ports);
    let memory = node.memory_promisable.saturating_sub(node.memory_bytes);
    let cpu = node
        .cpu_promisable
        .map_or(u64::MAX, |all| all.saturating_sub(node.cpu_millis));
    let most = times(ports.into(), needs.ports.into(), most);
    let most = times(memory, needs.memory_bytes, most);
    times(cpu, needs.cpu_millis, most)
}

/// How many times `each` is in `left`, up to `most`: nearly always all of it, which takes no division.
fn times(left: u64, each: u64, most: u32) -> u32 {
    if each.saturating_mul(most.into()) <= left {
        return most;
    }
    left.checked_div(each)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(most)
        .min(most)
}

/// The places of nodes that a group keeps away from: those of process types of its app that either side
/// names.
pub(crate) fn apart(world: &World<'_>, group: usize) -> BTreeMap<u32, usize> {
    let mut places = BTreeMap::new();
    let Some(needs) = world.groups[group].needs else {
        return places;
    };
    let name = world.groups[group].name;
    let first = world.groups.partition_point(|other| other.name.app < name.app);
    let of_app = world.groups[first..]
        .iter()
        .take_while(|other| other.name.app == name.app);
    for (at, other) in of_app.enumerate() {
        let named = needs.rules.anti_affinity.contains(other.name.process)
            || other
                .needs
                .is_some_and(|needs| needs.rules.anti_affinity.contains(name.process));
        if named && other.name.process != name.process {
            places.extend(other.places(world).into_iter().map(|place| (place, first + at)));
        }
    }
    places
}

/// Why a node takes no more slots of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Lost,
    Draining,
    /// The requirement, by its number.
    Requirement(usize),
    /// The group that is on it.
    Apart(usize),
    MaxPerNode(u32),
    Slots,
    Ports,
    Memory,
    Cpu,
}

/// Why each node takes no more slots of a group.
pub(crate) fn reasons(world: &World<'_>, group: usize, view: Option<&View>) -> BTreeMap<String, String> {
    let one = |reason: String| BTreeMap::from([(CLUSTER.to_string(), reason)]);
    let name = world.groups[group].name;
    let (Some(needs), Some(view)) = (world.groups[group].needs, view) else {
        return one(format!(
            "the image of {} has no process type {}",
            name.release, name.process
        ));
    };
    if world.nodes.is_empty() {
        return one("no node has joined".to_string());
    }
    let apart = apart(world, group);
    let own: BTreeMap<u32, u32> = world.groups[group]
        .held()
        .iter()
        .filter_map(|held| Some((held.place?, held.count())))
        .collect();
    let mut named = BTreeMap::new();
    let mut others: BTreeMap<Reason, usize> = BTreeMap::new();
    for (place, node) in (0_u32..).zip(&world.nodes) {
        let own = own.get(&place).copied().unwrap_or(0);
        let reason = reason(
            node,
            needs,
            own,
            apart.get(&place).copied(),
            view.allows(place as usize),
        );
        if named.len() < NODES_NAMED_MAX {
            let text = world.explain(node, needs, reason);
            named.insert(node.state.name.to_string(), text);
        } else {
            *others.entry(reason).or_default() += 1;
        }
    }
    if !others.is_empty() {
        let sums = others
            .iter()
            .map(|(reason, n)| format!("{n} {}", world.summarise(needs, *reason)));
        named.insert(OTHERS.to_string(), sums.collect::<Vec<_>>().join(", "));
    }
    named
}

fn reason(node: &Node<'_>, needs: Needs<'_>, own: u32, apart: Option<usize>, allowed: bool) -> Reason {
    match node.state.state {
        Availability::Lost => return Reason::Lost,
        Availability::Draining => return Reason::Draining,
        Availability::Ready => {}
    }
    if !allowed {
        let met = |r: &gilliam_model::requirement::Requirement| r.holds(&node.state.name, &node.state.labels);
        return Reason::Requirement(needs.rules.require.iter().take_while(|r| met(r)).count());
    }
    if let Some(group) = apart {
        return Reason::Apart(group);
    }
    match needs.rules.max_per_node {
        Some(max) if own >= max.get() => return Reason::MaxPerNode(own),
        _ => {}
    }
    if node.slots >= node.state.slots_max {
        return Reason::Slots;
    }
    if needs.ports > 0 && node.ports >= node.state.ports_max {
        return Reason::Ports;
    }
    if node.memory_bytes.saturating_add(needs.memory_bytes) > node.memory_promisable {
        return Reason::Memory;
    }
    Reason::Cpu
}

/// Whether a node meets what is required.
pub(crate) fn allows(node: &Node<'_>, needs: Needs<'_>) -> bool {
    let (name, labels) = (&node.state.name, &node.state.labels);
    needs.rules.require.iter().all(|rule| rule.holds(name, labels))
}

impl World<'_> {
    /// Why a node takes no run with these needs.
    pub(crate) fn why_no_run(&self, node: &Node<'_>, needs: Needs<'_>) -> String {
        let reason = reason(node, needs, 0, None, allows(node, needs));
        self.explain(node, needs, reason)
    }

    /// The reason as it is said of one node.
    fn explain(&self, node: &Node<'_>, needs: Needs<'_>, reason: Reason) -> String {
        match reason {
            Reason::Lost => "it is lost".to_string(),
            Reason::Draining => "it is draining".to_string(),
            Reason::Requirement(n) => {
                let requirement = &needs.rules.require[n.min(needs.rules.require.len() - 1)];
                let finding = requirement.finding(&node.state.name, &node.state.labels);
                format!("{finding}; {requirement} is required")
            }
            Reason::Apart(group) => format!("{} runs there, which it keeps away from", self.in_words(group)),
            Reason::MaxPerNode(own) => {
                let max = needs.rules.max_per_node.map_or(0, std::num::NonZeroU32::get);
                format!("it has {own} of them; max_per_node is {max}")
            }
            Reason::Slots => format!("all of its {} slots are taken", node.state.slots_max),
            Reason::Ports => {
                format!(
                    "all of its {} ports for web instances are taken",
                    node.state.ports_max
                )
            }
            Reason::Memory => {
                let left = node.memory_promisable.saturating_sub(node.memory_bytes);
                format!(
                    "an instance needs {} MiB; {} MiB are left of the {} MiB it may promise, {} times its memory",
                    needs.memory_bytes.div_ceil(1 << 20),
                    left >> 20,
                    node.memory_promisable >> 20,
                    self.policy.memory_overcommit,
                )
            }
            Reason::Cpu => {
                let all = node.cpu_promisable.unwrap_or(u64::MAX);
                let cores = |millis| Unit::CpuShare.show(millis);
                format!(
                    "an instance needs {} cpu; {} are left of the {} it may promise, {} times its cores",
                    cores(needs.cpu_millis),
                    cores(all.saturating_sub(node.cpu_millis)),
                    cores(all),
                    self.policy.cpu_overcommit.unwrap_or(1),
                )
            }
        }
    }

    /// The reason as it is said of many nodes.
    fn summarise(&self, needs: Needs<'_>, reason: Reason) -> String {
        match reason {
            Reason::Lost => "are lost".to_string(),
            Reason::Draining => "are draining".to_string(),
            Reason::Requirement(n) => {
                let requirement = &needs.rules.require[n.min(needs.rules.require.len() - 1)];
                format!("do not meet {requirement}")
            }
            Reason::Apart(group) => format!("run {}", self.in_words(group)),
            Reason::MaxPerNode(_) => "have as many as max_per_node lets them".to_string(),
            Reason::Slots => "have no slot left".to_string(),
            Reason::Ports => "have no port left".to_string(),
            Reason::Memory => "have too little memory left".to_string(),
            Reason::Cpu => "have too little cpu left".to_string(),
        }
    }

    fn in_words(&self, group: usize) -> String {
        let GroupName { release, process, .. } = self.groups[group].name;
        format!("{process} of {release}")
    }
}
