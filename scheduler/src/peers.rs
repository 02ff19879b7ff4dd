//! The table of nodes that take requests of other nodes, on its way to them: the newest one, in memory.
//!
//! Invariant: the version grows exactly when the nodes listed change, so nobody is woken for nothing.
//! Invariant: a life of the control plane publishes nothing before it has heard of every node that should run
//! something routed, or the time to hear of them is over: what is missing from a table gets no requests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use gilliam_model::{
    instance::InstanceState,
    name::NodeName,
    peer::{PeerNode, PeerTable},
};
use gilliam_plan::{Instances, Routed, RunningOn, Shares};
use tokio::sync::watch;

use crate::{
    observed::{NodeView, Reports},
    state::{Assigned, Placed},
};

/// The newest table.
#[derive(Debug)]
pub(crate) struct Peers {
    newest: watch::Sender<Arc<PeerTable>>,
    /// What it was made of, so that only nodes of which something changed are looked at.
    known: Mutex<BTreeMap<NodeName, Known>>,
}

/// What the part of a node in the table was made of.
#[derive(Debug)]
struct Known {
    routed: Arc<Routed>,
    placed: Arc<Vec<Placed>>,
    reports: Reports,
    address: String,
    shares: Shares,
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            newest: watch::Sender::new(Arc::default()),
            known: Mutex::default(),
        }
    }
}

impl Peers {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<PeerTable>> {
        self.newest.subscribe()
    }

    /// Publishes what ready nodes run of what is placed on them.
    pub(crate) fn publish(
        &self,
        routed: &Arc<Routed>,
        assigned: &Assigned,
        nodes: &BTreeMap<NodeName, NodeView>,
        in_grace: bool,
    ) {
        if in_grace && assigned.keys().any(|holder| !nodes.contains_key(holder)) {
            return;
        }
        let mut known = self.known.lock().expect("no holder panics");
        let count = known.len();
        known.retain(|name, _| nodes.get(name).is_some_and(|node| address(node).is_some()));
        let mut is_news = known.len() < count;
        let nothing = Arc::default();
        for (name, node) in nodes {
            let Some(address) = address(node) else { continue };
            let placed = assigned.get(name).unwrap_or(&nothing);
            let before = known.get(name);
            if before.is_some_and(|before| before.is_of(routed, placed, node, address)) {
                continue;
            }
            let shares = shares(routed, placed, node, address);
            is_news |= before.is_none_or(|before| before.shares != shares || before.address != address);
            let now = Known {
                routed: routed.clone(),
                placed: placed.clone(),
                reports: node.reports.clone(),
                address: address.to_owned(),
                shares,
            };
            known.insert(name.clone(), now);
        }
        if is_news {
            let nodes = known.iter();
            let nodes = nodes.map(|(name, known)| (name, known.address.as_str(), &known.shares));
            self.replace(gilliam_plan::peers(nodes));
        }
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

impl Known {
    fn is_of(&self, routed: &Arc<Routed>, placed: &Arc<Vec<Placed>>, node: &NodeView, address: &str) -> bool {
        Arc::ptr_eq(&self.routed, routed)
            && Arc::ptr_eq(&self.placed, placed)
            && Arc::ptr_eq(&self.reports, &node.reports)
            && self.address == address
    }
}

/// Where a node that is ready takes requests of others.
fn address(node: &NodeView) -> Option<&str> {
    node.facts.peer.as_deref().filter(|_| node.is_ready())
}

/// What a node runs of what is placed on it.
fn shares(routed: &Routed, placed: &[Placed], node: &NodeView, address: &str) -> Shares {
    let running = node.current();
    let there = running.map(|(key, report)| {
        let (running, crashed) = (InstanceState::Running, InstanceState::Crashed);
        let there = Instances {
            running: report.count(running),
            crashed: report.count(crashed),
        };
        (key, there)
    });
    let on = RunningOn {
        node: &node.facts.name,
        address,
        running: there.collect(),
    };
    routed.shares(placed.iter().map(|placed| (placed.key(), placed.count())), &on)
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
