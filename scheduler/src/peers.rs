//! The table of nodes that take requests of other nodes, on its way to them: the newest one, in memory.
//!
//! Invariant: the version grows exactly when the nodes listed change, so nobody is woken for nothing.
//! Invariant: a life of the control plane publishes nothing before it has heard of every node that should run
//! something routed, or the time to hear of them is over: what is missing from a table gets no requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gilliam_model::{
    instance::InstanceState,
    name::NodeName,
    peer::{PeerNode, PeerTable},
    placement::Placement,
    route::RouteTable,
};
use gilliam_plan::{Instances, RunningOn};
use tokio::sync::watch;

use crate::observed::NodeView;

/// The newest table.
#[derive(Debug)]
pub(crate) struct Peers {
    newest: watch::Sender<Arc<PeerTable>>,
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            newest: watch::Sender::new(Arc::default()),
        }
    }
}

impl Peers {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<PeerTable>> {
        self.newest.subscribe()
    }

    /// Publishes what ready nodes run of what is placed on them.
    pub(crate) fn publish<'a>(
        &self,
        routes: &RouteTable,
        placements: impl Iterator<Item = &'a Placement> + Clone,
        nodes: &'a BTreeMap<NodeName, NodeView>,
        in_grace: bool,
    ) {
        let holders: BTreeSet<&NodeName> = placements.clone().map(|placement| &placement.node).collect();
        if in_grace && holders.into_iter().any(|holder| !nodes.contains_key(holder)) {
            return;
        }
        let takers = nodes.values().filter_map(running_on);
        self.replace(gilliam_plan::peers(routes, placements, takers));
    }

    fn replace(&self, nodes: Vec<PeerNode>) {
        self.newest.send_if_modified(|newest| {
            let is_news = newest.nodes != nodes;
            if is_news {
                let version = newest.version + 1;
                *newest = Arc::new(PeerTable { version, nodes });
            }
            is_news
        });
    }
}

/// What a node that is ready and takes requests of others reports.
fn running_on(node: &NodeView) -> Option<RunningOn<'_>> {
    let address = node.facts.peer.as_deref().filter(|_| node.is_ready())?;
    let running = node.current();
    let there = running.map(|(key, report)| {
        let (running, crashed) = (InstanceState::Running, InstanceState::Crashed);
        let there = Instances {
            running: report.count(running),
            crashed: report.count(crashed),
        };
        (key, there)
    });
    Some(RunningOn {
        node: &node.facts.name,
        address,
        running: there.collect(),
    })
}

/// The newest table, for one who `follows` a version of it: none when that is the newest, or no table is
/// wanted.
pub(crate) fn newer(newest: &Arc<PeerTable>, follows: Option<u64>) -> Option<PeerTable> {
    let is_news = follows.is_some_and(|version| version != newest.version);
    is_news.then(|| PeerTable::clone(newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_content_makes_a_version() {
        let peers = Peers::default();
        let node = |name: &str| PeerNode {
            node: name.parse().expect("name"),
            address: "127.0.0.1:1".to_owned(),
            running: Vec::new(),
        };
        let mut newest = peers.subscribe();
        peers.replace(Vec::new());
        assert!(!newest.has_changed().expect("open"));
        peers.replace(vec![node("a")]);
        assert_eq!(newest.borrow_and_update().version, 1);
        peers.replace(vec![node("a")]);
        assert!(!newest.has_changed().expect("open"));
        let table = newest.borrow().clone();
        assert_eq!(newer(&table, Some(1)), None);
        assert_eq!(newer(&table, None), None, "a node that asks for none");
        assert!(newer(&table, Some(0)).is_some());
    }
}
