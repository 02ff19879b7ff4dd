//! Placements: the planner's decisions, as ranges of slots.

use serde::{Deserialize, Serialize};

use crate::{
    instance::{Epoch, InstanceId},
    name::{AppName, NodeName, ProcessName},
    release::ReleaseId,
};

/// The slots `first ..= last` of a process type, placed by the plan of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SlotRange {
    /// First slot, from 1.
    pub first: u32,
    /// Last slot, inclusive; never before `first`.
    pub last: u32,
    /// The epoch of the plan that placed them.
    pub epoch: Epoch,
}

impl SlotRange {
    /// Number of slots.
    pub fn count(&self) -> u32 {
        self.last - self.first + 1
    }

    /// The slots in order.
    pub fn slots(&self) -> impl Iterator<Item = u32> + use<> {
        self.first..=self.last
    }
}

/// The slots of one process type of one release that run on one node: one record, however many there are.
///
/// Invariant: ranges are sorted and do not overlap; no slot of a process type is in two placements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Placement {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// The process type.
    pub process: ProcessName,
    /// The node.
    pub node: NodeName,
    /// The slots.
    pub ranges: Vec<SlotRange>,
    /// Slots among them that stop once others run in their place, for a better spread, with the epoch in which
    /// that was decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<SlotRange>,
}

impl Placement {
    /// Number of slots.
    pub fn count(&self) -> u32 {
        self.ranges.iter().map(SlotRange::count).sum()
    }

    /// The instances it stands for, in slot order.
    pub fn instances(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.ranges.iter().flat_map(move |range| {
            range.slots().map(move |slot| InstanceId {
                app: self.app.clone(),
                release: self.release,
                process: self.process.clone(),
                slot,
                epoch: range.epoch,
            })
        })
    }
}

/// The fewest ranges that hold the given slots with their epochs.
///
/// Slots must be distinct; order does not matter.
pub fn ranges_of(slots: impl IntoIterator<Item = (u32, Epoch)>) -> Vec<SlotRange> {
    let mut slots: Vec<(u32, Epoch)> = slots.into_iter().collect();
    slots.sort_unstable();
    let mut ranges: Vec<SlotRange> = Vec::new();
    for (slot, epoch) in slots {
        match ranges.last_mut() {
            Some(range) if range.epoch == epoch && range.last + 1 == slot => range.last = slot,
            _ => ranges.push(SlotRange {
                first: slot,
                last: slot,
                epoch,
            }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_fold_into_ranges_by_epoch() {
        let ranges = ranges_of([
            (3, Epoch(1)),
            (1, Epoch(1)),
            (2, Epoch(1)),
            (4, Epoch(2)),
            (6, Epoch(2)),
        ]);
        let text: Vec<String> = ranges
            .iter()
            .map(|r| format!("{}-{}@{}", r.first, r.last, r.epoch.0))
            .collect();
        assert_eq!(text, ["1-3@1", "4-4@2", "6-6@2"]);
    }
}
