//! What a plan is made from.

use std::collections::BTreeMap;

use gilliam_model::{
    app::App,
    image::Image,
    instance::{Epoch, InstanceId},
    name::NodeName,
    placement::{Placement, SlotRange},
    release::ReleaseId,
    report::ProcessKey,
};

use crate::{budget::STEPS_MAX, instances::InstanceSet, slots::SlotSet};

/// Everything a plan depends on, as it was read.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The epoch of the last plan.
    pub epoch: Epoch,
    /// Every app. Placements of an app that is not here stop.
    pub apps: Vec<AppState>,
    /// The nodes that are known of. A node that is not here is one that has not been heard of since the
    /// control plane began to listen: it keeps what is placed on it and gets nothing new, until it is listed
    /// as ready or as lost.
    pub nodes: Vec<NodeState>,
    /// Every placement.
    pub placements: Vec<Placement>,
    /// What nodes report to be running.
    pub observed: Observed,
    /// The operator's choices.
    pub policy: Policy,
}

/// An app with the images of its releases.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The app.
    pub app: App,
    /// The image of every release that is scaled, migrated from, or placed.
    pub images: BTreeMap<ReleaseId, Image>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Its name.
    pub name: NodeName,
    /// Whether it can be counted on.
    pub state: Availability,
    /// Bytes of memory it has for instances.
    pub memory_bytes: u64,
    /// Most slots it takes.
    pub slots_max: u32,
    /// Most slots it takes whose instances each need a TCP port of their own.
    pub ports_max: u32,
}

/// Whether a node can be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It takes slots.
    Ready,
    /// It is to be emptied: each slot stops once another node runs its replacement.
    Draining,
    /// It is gone: its slots start elsewhere.
    Lost,
}

/// The operator's choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many times over a node's memory is promised.
    ///
    /// The default is 4: a limit is the most an instance may use, and instances rarely use most of it (an
    /// idle one a few MiB of 128). The engine enforces each limit, so that a wrong guess costs page-outs,
    /// never another app's data.
    pub memory_overcommit: u32,
    /// Most records that one plan changes; at most [`STEPS_MAX`].
    pub steps_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            memory_overcommit: 4,
            steps_max: STEPS_MAX,
        }
    }
}

/// The instances that are running (ready), as ranges: 500,000 of one process type are a few numbers.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    running: BTreeMap<ProcessKey, InstanceSet>,
}

impl Observed {
    /// Adds a running instance; cheapest in the order of slots.
    pub fn add(&mut self, id: &InstanceId) {
        let range = SlotRange {
            first: id.slot,
            last: id.slot,
            epoch: id.epoch,
        };
        self.running.entry(ProcessKey::from(id)).or_default().add(range);
    }

    /// Adds running instances of a process type.
    pub fn add_ranges(&mut self, process: &ProcessKey, ranges: &[SlotRange]) {
        let running = InstanceSet::of(ranges);
        match self.running.get_mut(process) {
            Some(known) => *known = known.union(&running),
            None => drop(self.running.insert(process.clone(), running)),
        }
    }

    /// Whether an instance is running.
    pub fn is_running(&self, id: &InstanceId) -> bool {
        let running = self.running.get(&ProcessKey::from(id));
        running.is_some_and(|running| running.contains(id.slot, id.epoch))
    }

    /// The slots of `placed` whose instances, of that very epoch, are running.
    pub(crate) fn running(&self, process: &ProcessKey, placed: &[SlotRange]) -> SlotSet {
        let running = self.running.get(process);
        running
            .map(|running| running.intersect(&InstanceSet::of(placed)).slots())
            .unwrap_or_default()
    }
}

impl<'a> FromIterator<&'a InstanceId> for Observed {
    fn from_iter<I: IntoIterator<Item = &'a InstanceId>>(ids: I) -> Self {
        let mut observed = Self::default();
        ids.into_iter().for_each(|id| observed.add(id));
        observed
    }
}
