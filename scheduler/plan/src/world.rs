//! The state a plan works on: placements by group and node, and what each node has promised.

use std::collections::BTreeMap;

use gilliam_model::{
    image::{Image, Process},
    instance::Epoch,
    name::{AppName, NodeName, ProcessName},
    placement::{Placement, SlotRange},
    release::ReleaseId,
    report::ProcessKey,
    route::WEB,
};

use crate::{
    budget::Budget,
    desired,
    report::{Blocked, Plan, Report, Step},
    slots::{self, SlotSet},
    snapshot::{Availability, NodeState, Policy, Snapshot},
};

/// A process type of a release: what is scaled, stopped and placed as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupName<'a> {
    pub(crate) app: &'a AppName,
    pub(crate) release: ReleaseId,
    pub(crate) process: &'a ProcessName,
}

/// What a plan may make of slots, by the node they are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They stay.
    Kept,
    /// They stay until others run in their place.
    Draining,
    /// They start elsewhere if there is room.
    Lost,
}

/// Everything of one group.
#[derive(Debug, Default)]
pub(crate) struct Group<'a> {
    /// What an instance takes of its node; `None` when there is no such image or process.
    pub(crate) needs: Option<Needs>,
    /// Its slots by node.
    pub(crate) held: BTreeMap<&'a NodeName, Held>,
}

/// What an instance takes of its node besides a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Bytes that it may use.
    pub(crate) memory_bytes: u64,
    /// TCP ports: one for what takes HTTP.
    pub(crate) ports: u32,
}

/// The slots of a group on a node.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) standing: Standing,
    /// Those that run.
    pub(crate) running: SlotSet,
    /// Whether nothing can be known of those that do not: their node has not been heard of.
    unheard: bool,
    ranges: Vec<SlotRange>,
    started: u32,
    stopped: u32,
}

impl Held {
    fn new(standing: Standing, unheard: bool) -> Self {
        Self {
            standing,
            running: SlotSet::default(),
            unheard,
            ranges: Vec::new(),
            started: 0,
            stopped: 0,
        }
    }

    pub(crate) fn slots(&self) -> SlotSet {
        SlotSet::of_placed(&self.ranges)
    }

    fn is_changed(&self) -> bool {
        self.started > 0 || self.stopped > 0
    }
}

/// A node with what is placed on it.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) state: &'a NodeState,
    pub(crate) slots: u32,
    pub(crate) ports: u32,
    pub(crate) memory_bytes: u64,
}

impl Needs {
    fn of(name: GroupName<'_>, process: &Process) -> Self {
        let takes_http = process.shape.is_http() || name.process.as_str() == WEB;
        Self {
            memory_bytes: process.limits.memory_bytes_max,
            ports: takes_http.into(),
        }
    }
}

impl Node<'_> {
    fn take(&mut self, needs: Option<Needs>, count: u32) {
        self.slots += count;
        if let Some(needs) = needs {
            self.ports += needs.ports * count;
            self.memory_bytes += needs.memory_bytes * u64::from(count);
        }
    }

    fn give_back(&mut self, needs: Option<Needs>, count: u32) {
        self.slots -= count;
        if let Some(needs) = needs {
            self.ports -= needs.ports * count;
            self.memory_bytes -= needs.memory_bytes * u64::from(count);
        }
    }
}

/// How many slots of a group there are, by what is known of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// On nodes that are not lost.
    pub(crate) placed: u32,
    /// Of those, on nodes that keep them.
    pub(crate) kept: u32,
    /// Of those placed, running.
    pub(crate) running: u32,
    /// Of those placed, on nodes that have not been heard of.
    pub(crate) unheard: u32,
    /// On lost nodes.
    pub(crate) lost: u32,
}

/// The state a plan works on.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) policy: Policy,
    pub(crate) nodes: BTreeMap<&'a NodeName, Node<'a>>,
    pub(crate) groups: BTreeMap<GroupName<'a>, Group<'a>>,
    pub(crate) budget: Budget,
}

impl<'a> World<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot) -> Self {
        let nodes = snapshot.nodes.iter().map(|state| {
            (
                &state.name,
                Node {
                    state,
                    slots: 0,
                    ports: 0,
                    memory_bytes: 0,
                },
            )
        });
        let images: BTreeMap<(&AppName, ReleaseId), &Image> = snapshot
            .apps
            .iter()
            .flat_map(|state| {
                state
                    .images
                    .iter()
                    .map(|(release, image)| ((&state.app.name, *release), image))
            })
            .collect();
        let mut world = Self {
            policy: snapshot.policy,
            nodes: nodes.collect(),
            groups: BTreeMap::new(),
            budget: Budget::of(snapshot.policy),
        };
        for name in snapshot.apps.iter().flat_map(|state| desired::names(&state.app)) {
            world.group(&images, name);
        }
        for placement in &snapshot.placements {
            let Placement {
                app,
                release,
                process,
                node,
                ranges,
            } = placement;
            let name = GroupName {
                app,
                release: *release,
                process,
            };
            let needs = world.group(&images, name).needs;
            let key = ProcessKey {
                app: app.clone(),
                release: *release,
                process: process.clone(),
            };
            let running = snapshot.observed.running(&key, ranges);
            world.hold(name, node, ranges, running, needs);
        }
        world
    }

    fn group(
        &mut self,
        images: &BTreeMap<(&AppName, ReleaseId), &Image>,
        name: GroupName<'a>,
    ) -> &mut Group<'a> {
        self.groups.entry(name).or_insert_with(|| {
            let image = images.get(&(name.app, name.release));
            let process = image.and_then(|image| image.processes.get(name.process));
            Group {
                needs: process.map(|process| Needs::of(name, process)),
                held: BTreeMap::new(),
            }
        })
    }

    fn hold(
        &mut self,
        name: GroupName<'a>,
        node: &'a NodeName,
        ranges: &[SlotRange],
        running: SlotSet,
        needs: Option<Needs>,
    ) {
        let known = self.nodes.get_mut(node);
        let standing = match known.as_ref().map(|known| known.state.state) {
            None | Some(Availability::Ready) => Standing::Kept,
            Some(Availability::Draining) => Standing::Draining,
            Some(Availability::Lost) => Standing::Lost,
        };
        let mut held = Held::new(standing, known.is_none());
        held.ranges = ranges.to_vec();
        // What a lost node last said is no longer so.
        held.running = if standing == Standing::Lost {
            SlotSet::default()
        } else {
            running
        };
        if let Some(known) = known {
            known.take(needs, held.slots().count());
        }
        if let Some(group) = self.groups.get_mut(&name) {
            group.held.insert(node, held);
        }
    }

    pub(crate) fn group_names(&self) -> Vec<GroupName<'a>> {
        self.groups.keys().copied().collect()
    }

    pub(crate) fn tally(&self, name: GroupName<'_>) -> Tally {
        let mut tally = Tally::default();
        for held in self
            .groups
            .get(&name)
            .into_iter()
            .flat_map(|group| group.held.values())
        {
            let (count, running) = (held.slots().count(), held.running.count());
            match held.standing {
                Standing::Lost => tally.lost += count,
                Standing::Kept | Standing::Draining => tally.placed += count,
            }
            tally.kept += if held.standing == Standing::Kept { count } else { 0 };
            tally.running += running;
            tally.unheard += if held.unheard { count - running } else { 0 };
        }
        tally
    }

    /// Whether the records of a group on these nodes may change together.
    pub(crate) fn admit(&mut self, name: GroupName<'a>, nodes: &[&'a NodeName]) -> bool {
        let Some(group) = self.groups.get(&name) else {
            return false;
        };
        let held = nodes.iter().map(|node| group.held.get(node));
        let unchanged = held.filter(|held| !held.is_some_and(Held::is_changed));
        let ranges: Vec<usize> = unchanged
            .map(|held| held.map_or(0, |held| held.ranges.len()))
            .collect();
        self.budget.admit(&ranges)
    }

    /// Stops slots of a group on a node; they must be there.
    pub(crate) fn stop(&mut self, name: GroupName<'a>, node: &'a NodeName, gone: &SlotSet) {
        let Some(group) = self.groups.get_mut(&name) else {
            return;
        };
        let Some(held) = group.held.get_mut(node) else {
            return;
        };
        held.ranges = slots::without(&held.ranges, gone);
        held.running = held.running.intersect(&held.slots());
        held.stopped += gone.count();
        if let Some(node) = self.nodes.get_mut(node) {
            node.give_back(group.needs, gone.count());
        }
    }

    /// Starts slots of a group on a ready node; they must be nowhere.
    pub(crate) fn start(&mut self, name: GroupName<'a>, node: &'a NodeName, new: &SlotSet, epoch: Epoch) {
        let Some(group) = self.groups.get_mut(&name) else {
            return;
        };
        let held = group
            .held
            .entry(node)
            .or_insert_with(|| Held::new(Standing::Kept, false));
        held.ranges = slots::with(&held.ranges, new, epoch);
        held.started += new.count();
        if let Some(node) = self.nodes.get_mut(node) {
            node.take(group.needs, new.count());
        }
    }

    pub(crate) fn into_plan(self, epoch: Epoch, blocked: Vec<Blocked>) -> Plan {
        let mut report = Report {
            blocked,
            steps: Vec::new(),
            deferred: self.budget.deferred(),
        };
        let mut placements = Vec::new();
        for (name, group) in self.groups {
            for (node, held) in group.held.into_iter().filter(|(_, held)| held.is_changed()) {
                let (app, release, process) = (name.app.clone(), name.release, name.process.clone());
                let node = node.clone();
                let (started, stopped) = (held.started, held.stopped);
                report.steps.push(Step {
                    app: app.clone(),
                    release,
                    process: process.clone(),
                    node: node.clone(),
                    started,
                    stopped,
                });
                placements.push(Placement {
                    app,
                    release,
                    process,
                    node,
                    ranges: held.ranges,
                });
            }
        }
        Plan {
            epoch,
            placements,
            report,
        }
    }
}
