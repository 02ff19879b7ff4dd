//! What a plan says.

use std::collections::BTreeMap;

use gilliam_model::{
    api,
    instance::Epoch,
    name::{AppName, ProcessName},
    placement::Placement,
    release::ReleaseId,
};

/// What changes, and what could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its epoch: that of the snapshot, and one.
    pub epoch: Epoch,
    /// What changes, in parts: each is to be committed whole, one after the other. What is not committed of
    /// them is planned anew.
    pub parts: Vec<Vec<Change>>,
    /// What could not be done.
    pub report: Report,
}

impl Plan {
    /// Whether it changes nothing, and need not be committed.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What changes, in order; a record may be there several times.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.parts.iter().flatten()
    }
}

/// A change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The record, whole, as it is to be; one without ranges is to be deleted.
    pub placement: Placement,
    /// Slots that start.
    pub started: u32,
    /// Slots that stop.
    pub stopped: u32,
}

/// What a plan could not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Slots that no node can take.
    pub blocked: Vec<Blocked>,
    /// Whether there was more to do than one plan may: plan again, once this one is in effect.
    pub deferred: bool,
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
    /// Why, by node; `cluster` for what no node can change, `others` for the sums of nodes that are too many
    /// to be named.
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
