//! The slots of a group on one node, while a plan changes them.

use gilliam_model::{
    name::NodeName,
    placement::{Placement, SlotRange},
};

use crate::{
    instances::InstanceSet,
    placements::Record,
    report::Change,
    slots::{self, SlotSet},
    world::GroupName,
};

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

/// The slots of a group on a node.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) node: &'a NodeName,
    /// Its place among the nodes that are known; none for one that has not been heard of.
    pub(crate) place: Option<u32>,
    pub(crate) standing: Standing,
    pub(crate) ranges: Vec<SlotRange>,
    /// Those that leave for a better spread; they are treated as those on a draining node.
    pub(crate) leaving: SlotSet,
    /// Those that run, where that matters.
    pub(crate) running: SlotSet,
    /// The part of the plan that it last changed in; 0 for none.
    pub(crate) part: u32,
    started: u32,
    stopped: u32,
}

impl<'a> Held<'a> {
    pub(crate) fn new(node: &'a NodeName, place: Option<u32>, standing: Standing) -> Self {
        Self {
            node,
            place,
            standing,
            ranges: Vec::new(),
            leaving: SlotSet::default(),
            running: SlotSet::default(),
            part: 0,
            started: 0,
            stopped: 0,
        }
    }

    /// What a record says; `running` holds what runs of the group, none for all of it.
    pub(crate) fn of(
        record: &Record,
        node: &'a NodeName,
        place: Option<u32>,
        standing: Standing,
        running: Option<&InstanceSet>,
    ) -> Self {
        let ranges = record.ranges().to_vec();
        let running = match running {
            // What a lost node last said is no longer so.
            _ if standing == Standing::Lost => SlotSet::default(),
            Some(running) if running.is_empty() => SlotSet::default(),
            None => SlotSet::of_placed(&ranges),
            Some(running) => InstanceSet::of(&ranges).intersect(running).slots(),
        };
        let leaving = match record.leaving() {
            [] => SlotSet::default(),
            leaving => SlotSet::of_placed(leaving).intersect(&SlotSet::of_placed(&ranges)),
        };
        Self {
            leaving,
            running,
            ranges,
            ..Self::new(node, place, standing)
        }
    }

    pub(crate) fn slots(&self) -> SlotSet {
        SlotSet::of_placed(&self.ranges)
    }

    pub(crate) fn count(&self) -> u32 {
        self.ranges.iter().map(SlotRange::count).sum()
    }

    /// How many stay where they are.
    pub(crate) fn kept_count(&self) -> u32 {
        match self.standing {
            Standing::Kept => self.count() - self.leaving.count(),
            Standing::Draining | Standing::Lost => 0,
        }
    }

    /// Whether nothing can be known of those that do not run.
    pub(crate) fn is_unheard(&self) -> bool {
        self.place.is_none()
    }

    pub(crate) fn stop(&mut self, gone: &SlotSet) {
        self.ranges = slots::without(&self.ranges, gone);
        self.running = self.running.minus(gone);
        if !self.leaving.is_empty() {
            self.leaving = self.leaving.minus(gone);
        }
        self.stopped += gone.count();
    }

    pub(crate) fn start(&mut self, new: &SlotSet, epoch: gilliam_model::instance::Epoch) {
        self.ranges = slots::with(&self.ranges, new, epoch);
        self.started += new.count();
    }

    /// The record as it is by now, and what changed since it was last asked for.
    pub(crate) fn change(&mut self, group: GroupName<'_>, epoch: gilliam_model::instance::Epoch) -> Change {
        let leaving = self
            .leaving
            .ranges()
            .map(|(first, last)| SlotRange { first, last, epoch });
        Change {
            placement: Placement {
                app: group.app.clone(),
                release: group.release,
                process: group.process.clone(),
                node: self.node.clone(),
                ranges: self.ranges.clone(),
                leaving: leaving.collect(),
            },
            started: std::mem::take(&mut self.started),
            stopped: std::mem::take(&mut self.stopped),
        }
    }
}
