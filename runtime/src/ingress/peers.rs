//! The other nodes of the cluster, from the newest table of them.
//!
//! In: tables, whole. Out: for each process type the shares of other nodes, set into its group; connections
//! to nodes that stay listed are kept.
//!
//! Invariant: a node is no peer of itself, whatever the table says.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use gilliam_model::{
    identity::node_dns,
    name::{AppName, NodeName, ProcessName},
    peer::{PeerNode, PeerTable},
};
use rustls::{ClientConfig, pki_types::ServerName};

use super::{share::Share, table::Table, wire::Wire};
use crate::identity::Identity;

/// What a table means for this node.
#[derive(Debug)]
pub(super) struct Peers {
    identity: Identity,
    wires: Mutex<BTreeMap<NodeName, Arc<Wire>>>,
}

type Shares = BTreeMap<(AppName, ProcessName), Vec<Arc<Share>>>;

impl Peers {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            wires: Mutex::default(),
        }
    }

    /// Has the groups of `table` know these nodes and no others.
    pub(super) fn set(&self, newest: &PeerTable, table: &Table) {
        let mut wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.identity.name();
        let tls = self.identity.peer_client();
        let mut next = BTreeMap::new();
        let mut shares = Shares::new();
        for peer in newest.nodes.iter().filter(|peer| peer.node != own) {
            let known = wires.remove(&peer.node);
            let Some(wire) = wire_to(peer, known, &tls) else {
                continue;
            };
            for share in &peer.running {
                let group = table.group(&share.app, &share.process);
                let known = group
                    .shares()
                    .iter()
                    .find(|s| Arc::ptr_eq(&s.wire, &wire))
                    .cloned();
                let of_peer = match known {
                    Some(known) => {
                        known.set_count(share.count);
                        known
                    }
                    None => Share::new(wire.clone(), &share.app, &share.process, share.count),
                };
                let of_group = (share.app.clone(), share.process.clone());
                shares.entry(of_group).or_default().push(of_peer);
            }
            next.insert(peer.node.clone(), wire);
        }
        *wires = next;
        table.set_shares(shares);
    }
}

/// The way to a node: the one there is, while the node is where it was.
fn wire_to(peer: &PeerNode, known: Option<Arc<Wire>>, tls: &Arc<ClientConfig>) -> Option<Arc<Wire>> {
    let address: SocketAddr = peer.address.parse().ok()?;
    if let Some(known) = known.filter(|known| known.address == address) {
        return Some(known);
    }
    let name = ServerName::try_from(node_dns(&peer.node).ok()?).ok()?;
    let wire = Wire::new(peer.node.clone(), address, name, tls.clone());
    Some(Arc::new(wire))
}
