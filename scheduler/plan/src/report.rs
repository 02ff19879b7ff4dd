//! What a plan says.

use std::collections::BTreeMap;

use gilliam_model::{
    api,
    instance::Epoch,
    name::{AppName, NodeName, ProcessName},
    placement::Placement,
    release::ReleaseId,
};

/// What changes, and what could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its epoch: that of the snapshot, and one.
    pub epoch: Epoch,
    /// The records that change, whole, in the order of their keys; one without ranges is to be deleted.
    pub placements: Vec<Placement>,
    /// What was done and what was not.
    pub report: Report,
}

impl Plan {
    /// Whether it changes nothing, and need not be committed.
    pub fn is_empty(&self) -> bool {
        self.placements.is_empty()
    }
}

/// What a plan does and what it could not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Slots that no node can take.
    pub blocked: Vec<Blocked>,
    /// What changes, by record.
    pub steps: Vec<Step>,
    /// Whether there was more to do than one plan may: plan again, once this one is in effect.
    pub deferred: bool,
}

/// A change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// The process type.
    pub process: ProcessName,
    /// The node.
    pub node: NodeName,
    /// Slots that start on it.
    pub started: u32,
    /// Slots that stop on it.
    pub stopped: u32,
}

/// Slots that no node can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// The process type.
    pub process: ProcessName,
    /// How many slots.
    pub count: u32,
    /// Why, by node; `cluster` for what no node can change.
    pub reasons: BTreeMap<String, String>,
}

impl From<Blocked> for api::Blocked {
    fn from(blocked: Blocked) -> Self {
        let Blocked {
            app: _,
            release,
            process,
            count,
            reasons,
        } = blocked;
        Self {
            release,
            process,
            count,
            reasons,
        }
    }
}
