//! Nodes: what is kept of them, and what an operator sees of them.

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    api::NodeState,
    digest::Digest,
    name::{AppName, NodeName, ProcessName},
    release::ReleaseId,
    sync::NodeFacts,
};

/// A node as stored: what operators decided of it. What it observes is never here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Who may speak in its name; none for a node that shows a token, or that was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Since when it is to be emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining_since: Option<Timestamp>,
    /// Since when it is not of the cluster any more: until another node joins under its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten_at: Option<Timestamp>,
}

/// The key that a node proves to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The digest of its public key (`SubjectPublicKeyInfo`).
    pub key: Digest,
    /// When it joined.
    pub joined_at: Timestamp,
}

impl Node {
    /// A node of which nothing was decided yet.
    pub fn new(name: NodeName) -> Self {
        Self {
            name,
            identity: None,
            draining_since: None,
            forgotten_at: None,
        }
    }
}

/// A node, as `gilliam nodes` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeSummary {
    /// Its name.
    pub name: NodeName,
    /// Whether it can be counted on; `lost` too for one that this control plane has not heard of.
    pub state: NodeState,
    /// Since when it is to be emptied.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub draining_since: Option<Timestamp>,
    /// When it joined; none for the node of `gilliam up`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub joined_at: Option<Timestamp>,
    /// When it last synced; none when this control plane has not heard of it.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub seen_at: Option<Timestamp>,
    /// How long ago that was, in milliseconds.
    pub silent_ms: Option<u64>,
    /// What it says of itself.
    pub facts: Option<NodeFacts>,
    /// Slots that are placed on it.
    pub placed: u64,
    /// Instances that run on it.
    pub running: u64,
    /// Bytes of memory that its instances use.
    pub memory_used_bytes: u64,
    /// Bytes of memory that they are promised.
    pub memory_promised_bytes: u64,
    /// Thousandths of a core that they are promised.
    pub cpu_promised_millis: u64,
}

/// A node with what is placed on it, as `gilliam nodes show` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeDetails {
    /// The node.
    pub node: NodeSummary,
    /// By app, release and process type.
    pub processes: Vec<PlacedProcess>,
}

/// Slots of a process type on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlacedProcess {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// The process type.
    pub process: ProcessName,
    /// How many slots.
    pub placed: u32,
    /// How many of them run.
    pub running: u32,
    /// Bytes of memory that they use.
    pub memory_used_bytes: u64,
}
