//! Assignments: everything one node should run, whole.

use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    image::Process,
    name::{AppName, ProcessName},
    placement::SlotRange,
    release::ReleaseId,
    route::RouteTable,
    run::AssignedRun,
    service::BoundService,
};

/// Everything one node should run, and the routes its ingress serves.
///
/// A node refuses one whose generation is older than its own, so a stale control plane cannot move it backwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Assignment {
    /// The revision of the store it was made from; it only grows.
    pub generation: u64,
    /// What to run.
    pub processes: Vec<AssignedProcess>,
    /// Runs to run once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<AssignedRun>,
    /// The cluster's routes.
    pub routes: RouteTable,
}

/// Slots of one process type of one release, with all that is needed to run them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AssignedProcess {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// The process type's name.
    pub name: ProcessName,
    /// The slots.
    pub ranges: Vec<SlotRange>,
    /// What to run.
    pub process: Process,
    /// The release's configuration.
    pub config: Config,
    /// What its instances are bound to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<BoundService>,
}
