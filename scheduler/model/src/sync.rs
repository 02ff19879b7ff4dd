//! The node protocol: report up, assignment down, in one long poll.
//!
//! A report carries whole process types: all of them at first and when the answer asked for it
//! ([`SyncResponse::resync`]); later those that changed since the last report that was answered. What is cut
//! off unanswered may have arrived or not: the next report carries its changes again, so both are the same.
//!
//! Invariant: a report is complete in each process type it names; nothing is ever added up over reports.

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    assignment::Assignment,
    label::Labels,
    log::LogLine,
    name::NodeName,
    peer::PeerTable,
    report::{DetailsWanted, ProcessKey, ProcessReport},
    run::RunReport,
};

/// Version of the node protocol this build speaks.
pub const PROTOCOL: u32 = 2;
/// Most process types in one report, named or gone: more than a node can hold releases of.
pub const PROCESSES_COUNT_MAX: usize = 100_000;
/// Longest time a sync may be held open.
pub const WAIT_MS_MAX: u32 = 30_000;
/// Most log lines in one batch.
pub const LOG_BATCH_LINES_MAX: usize = 1_000;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeFacts {
    /// Its name.
    pub name: NodeName,
    /// The machine's host name, as users see it in `ps`.
    pub host: String,
    /// gilliam's version on it.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Where its ingress listens: `127.0.0.1:8080`.
    pub http: String,
    /// Where it takes requests of other nodes, over TLS with certificates of both: `10.0.0.7:8443`; none when it
    /// takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// CPU cores.
    pub cpus: u32,
    /// Bytes of memory that instances may be promised.
    pub memory_bytes: u64,
    /// Instances that its process can hold at once; none when it does not know.
    #[serde(default)]
    pub instances_max: Option<u32>,
    /// Thousandths of a core that instances may be promised; none for all of its cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// What placement rules ask for.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// When its process started: two lives of one node differ in it.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub started_at: Timestamp,
}

/// A node's report, and its request for what changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SyncRequest {
    /// [`PROTOCOL`] of the node.
    pub protocol: u32,
    /// The node.
    pub node: NodeFacts,
    /// Generation of the assignment it follows; 0 for none.
    pub generation: u64,
    /// The control plane it last spoke to ([`SyncResponse::control`]); empty at first.
    pub control: String,
    /// The number of this report: it grows with every report in a life of the node, from 1. One that arrives
    /// after a later one says nothing.
    pub number: u64,
    /// The number of the report that this one is relative to: the last one answered; none when it is whole.
    ///
    /// A relative one carries every process type that changed since that report was made, even one that
    /// changed back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    /// Process types with instances here: all, or those that changed.
    pub processes: Vec<ProcessReport>,
    /// Process types of which no instance is left since the report it is relative to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<ProcessKey>,
    /// Every run that it is to run and has not been relieved of; whole in each report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunReport>,
    /// How long the answer may wait for a newer assignment, in milliseconds; at most [`WAIT_MS_MAX`].
    pub wait_ms: u32,
    /// Version of the table of peers that it follows, of this life of the control plane; 0 for none, absent
    /// when it wants none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<u64>,
}

/// The answer to a [`SyncRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SyncResponse {
    /// Names this life of the control plane: when it changes, the node answers at once with a full report and
    /// sends the log lines it still holds.
    pub control: String,
    /// The assignment, when its generation is not the one in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Assignment>,
    /// Whether the next report is to be whole: the control plane does not hold the one that this was relative
    /// to.
    #[serde(default)]
    pub resync: bool,
    /// Instances whose details are to be in the next report, which is sent at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<DetailsWanted>,
    /// Silence, in milliseconds, after which the node is held lost and its instances start elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_after_ms: Option<u64>,
    /// The table of nodes that take requests of other nodes, when it is not the one in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<PeerTable>,
}

impl NodeFacts {
    /// Thousandths of a core that instances may be promised.
    pub fn cpu_millis_promisable(&self) -> u32 {
        self.cpu_millis.unwrap_or(self.cpus.saturating_mul(1_000))
    }
}

impl SyncRequest {
    /// Whether it names every process type.
    pub fn is_whole(&self) -> bool {
        self.base.is_none()
    }
}

/// Log lines from a node, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogBatch {
    /// The lines; at most [`LOG_BATCH_LINES_MAX`].
    pub lines: Vec<LogLine>,
}
