//! Which node runs instances that take HTTP: what the ingress of every other node needs to know.
//!
//! It travels beside the assignment and not in it: it follows what nodes report, which no store has seen, so
//! its versions are those of one life of one control plane, and a change of it makes no node look at what it
//! runs.
//!
//! Invariant: the table is one for all nodes, so that it is made, compared and kept once; a node leaves
//! itself out.

use serde::{Deserialize, Serialize};

use crate::name::{AppName, NodeName, ProcessName};

/// Every node that takes requests of other nodes. Published whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PeerTable {
    /// Grows with every change within a life of the control plane; 0 for the one that is empty at first.
    pub version: u64,
    /// The nodes, by name.
    pub nodes: Vec<PeerNode>,
}

/// A node that takes requests of other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PeerNode {
    /// Its name, which its certificate has to show.
    pub node: NodeName,
    /// Where it takes them: `10.0.0.7:8443`.
    pub address: String,
    /// What it runs or starts, by app and process type.
    pub running: Vec<PeerShare>,
}

/// Running instances of a process type on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PeerShare {
    /// The app.
    pub app: AppName,
    /// The process type.
    pub process: ProcessName,
    /// How many, as [`coarse`] counts; 0 when they are still starting, which is told only of a process type that
    /// runs nowhere.
    pub count: u32,
}

/// `count` rounded down to a power of two: a share is a weight, and the start of one instance of 10,000 must
/// not wake every node.
pub fn coarse(count: u32) -> u32 {
    count.checked_ilog2().map_or(0, |log| 1 << log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_starts_are_fourteen_changes() {
        let counts: std::collections::BTreeSet<u32> = (1..=10_000).map(coarse).collect();
        assert_eq!(counts.len(), 14);
        assert_eq!(
            [0, 1, 2, 3, 4, 7, 8, u32::MAX].map(coarse),
            [0, 1, 2, 2, 4, 4, 8, 1 << 31]
        );
    }
}
