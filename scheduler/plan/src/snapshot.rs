//! What a plan is made from.

use std::{collections::BTreeMap, sync::Arc};

use gilliam_model::{
    app::App,
    image::Image,
    instance::{Epoch, InstanceId},
    label::Labels,
    name::NodeName,
    placement::SlotRange,
    release::ReleaseId,
    report::ProcessKey,
    run::Run,
};

use crate::{
    instances::InstanceSet,
    parts::{PARTS_MAX, STEPS_MAX},
    placements::Placements,
};

/// Everything a plan depends on, as it was read.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The epoch of the last plan.
    pub epoch: Epoch,
    /// Every app. Placements of an app that is not here stop. Shared, since nearly all of them are as they were
    /// the last time.
    pub apps: Vec<Arc<AppState>>,
    /// The nodes that are known of. A node that is not here is one that has not been heard of since the
    /// control plane began to listen: it keeps what is placed on it and gets nothing new, until it is listed
    /// as ready or as lost.
    pub nodes: Vec<NodeState>,
    /// Every placement.
    pub placements: Placements,
    /// What nodes report to be running.
    pub observed: Observed,
    /// Runs that have not ended.
    pub runs: Vec<Arc<Run>>,
    /// The operator's choices.
    pub policy: Policy,
}

/// An app with the images of its releases.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The app.
    pub app: App,
    /// The image of every release that is scaled, migrated from, or placed.
    pub images: BTreeMap<ReleaseId, Arc<Image>>,
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
    /// Thousandths of a core it has for instances.
    pub cpu_millis: u32,
    /// What placement rules ask for.
    pub labels: Labels,
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
    /// How many times over a node's cores are promised; none for no bound.
    ///
    /// The default is none: a share is a ceiling, a whole core unless an app says otherwise, that thousands of
    /// mostly idle instances each have, and the node gives its cores fairly to those that want them. Shares
    /// count in ranking anyhow. An operator whose apps say what they need sets a number.
    pub cpu_overcommit: Option<u32>,
    /// Whether slots move for the sake of a better spread; none for never.
    pub rebalance: Option<Rebalance>,
    /// Most records in one part of a plan; at most [`STEPS_MAX`].
    pub steps_max: usize,
    /// Most parts of one plan; at most [`PARTS_MAX`].
    pub parts_max: usize,
}

/// When slots move for the sake of a better spread, and how many at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebalance {
    /// The difference of slots between the fullest and the emptiest domain, or node, above which some of a
    /// process type move; at least 1, since a difference of one is as even as can be.
    pub skew_max: u32,
    /// Most slots on their way at once, over all apps.
    pub slots_max: u32,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self {
            skew_max: 1,
            slots_max: 100,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            memory_overcommit: 4,
            cpu_overcommit: None,
            rebalance: None,
            steps_max: STEPS_MAX,
            parts_max: PARTS_MAX,
        }
    }
}

/// The instances that are running (ready), as ranges: 500,000 of one process type are a few numbers.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// In the order in which they were added.
    running: BTreeMap<ProcessKey, Vec<SlotRange>>,
    everything: bool,
}

impl Observed {
    /// Every instance that is placed on a node that is not lost runs.
    pub fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// Adds a running instance.
    pub fn add(&mut self, id: &InstanceId) {
        let range = SlotRange {
            first: id.slot,
            last: id.slot,
            epoch: id.epoch,
        };
        self.running.entry(ProcessKey::from(id)).or_default().push(range);
    }

    /// Adds running instances of a process type.
    pub fn add_ranges(&mut self, process: &ProcessKey, ranges: &[SlotRange]) {
        match self.running.get_mut(process) {
            Some(known) => known.extend_from_slice(ranges),
            None => drop(self.running.insert(process.clone(), ranges.to_vec())),
        }
    }

    /// Whether an instance is running.
    pub fn is_running(&self, id: &InstanceId) -> bool {
        let is_it =
            |range: &SlotRange| range.epoch == id.epoch && (range.first..=range.last).contains(&id.slot);
        let running = self.running.get(&ProcessKey::from(id));
        self.everything || running.is_some_and(|running| running.iter().any(is_it))
    }

    /// The running instances of a process type; none when all of them run.
    pub(crate) fn running(&self, process: &ProcessKey) -> Option<InstanceSet> {
        if self.everything {
            return None;
        }
        Some(self.running.get(process).map(InstanceSet::of).unwrap_or_default())
    }
}

impl<'a> FromIterator<&'a InstanceId> for Observed {
    fn from_iter<I: IntoIterator<Item = &'a InstanceId>>(ids: I) -> Self {
        let mut observed = Self::default();
        ids.into_iter().for_each(|id| observed.add(id));
        observed
    }
}
