//! What a plan is made from.

use std::collections::BTreeMap;

use gilliam_model::{
    app::App,
    image::Image,
    instance::{Epoch, InstanceId},
    name::{AppName, NodeName, ProcessName},
    placement::{Placement, SlotRange},
    release::ReleaseId,
};

use crate::{budget::STEPS_MAX, slots::SlotSet};

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

/// The instances that are running (ready), as ranges: 100,000 of one process type are a few numbers.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    running: BTreeMap<(AppName, ReleaseId, ProcessName), ByEpoch>,
}

/// Ranges of slots by the epoch of their instances: of one slot an old and a new instance may run at once.
type ByEpoch = BTreeMap<Epoch, Vec<(u32, u32)>>;

impl Observed {
    /// Adds a running instance; cheapest in the order of slots.
    pub fn add(&mut self, id: &InstanceId) {
        self.add_range(
            &id.app,
            id.release,
            &id.process,
            SlotRange {
                first: id.slot,
                last: id.slot,
                epoch: id.epoch,
            },
        );
    }

    /// Adds running instances.
    pub fn add_range(&mut self, app: &AppName, release: ReleaseId, process: &ProcessName, range: SlotRange) {
        let key = (app.clone(), release, process.clone());
        let ranges = self
            .running
            .entry(key)
            .or_default()
            .entry(range.epoch)
            .or_default();
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(range.first) => *last = range.last,
            _ => ranges.push((range.first, range.last)),
        }
    }

    /// Whether an instance is running.
    pub fn is_running(&self, id: &InstanceId) -> bool {
        let epochs = self
            .running
            .get(&(id.app.clone(), id.release, id.process.clone()));
        let ranges = epochs.and_then(|epochs| epochs.get(&id.epoch));
        ranges.is_some_and(|ranges| {
            ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&id.slot))
        })
    }

    /// The slots of `placed` whose instances, of that very epoch, are running.
    pub(crate) fn running(
        &self,
        app: &AppName,
        release: ReleaseId,
        process: &ProcessName,
        placed: &[SlotRange],
    ) -> SlotSet {
        let Some(epochs) = self.running.get(&(app.clone(), release, process.clone())) else {
            return SlotSet::default();
        };
        let mut by_epoch = ByEpoch::new();
        for range in placed {
            by_epoch
                .entry(range.epoch)
                .or_default()
                .push((range.first, range.last));
        }
        let mut running = SlotSet::default();
        for (epoch, placed) in by_epoch {
            if let Some(ranges) = epochs.get(&epoch) {
                let here = SlotSet::of(ranges.iter().copied()).intersect(&SlotSet::of(placed));
                running = running.union(&here);
            }
        }
        running
    }
}

impl<'a> FromIterator<&'a InstanceId> for Observed {
    fn from_iter<I: IntoIterator<Item = &'a InstanceId>>(ids: I) -> Self {
        let mut observed = Self::default();
        ids.into_iter().for_each(|id| observed.add(id));
        observed
    }
}
