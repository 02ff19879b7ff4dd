//! The ingress: from a request to an instance of the app its host names, and back.
//!
//! `table` finds the app's group of instances, `group` picks one (by `balance`), `backend` calls it when it
//! is here, `share` over a `wire` when it is at another node (`ejection` says which nodes are left alone);
//! `peers` reads the table of these, `peer` lets in what they send;
//! `request` and `headers` decide what passes, `refuse` makes the answers of the platform, `access` writes
//! the log line.
//!
//! Invariant: a failure is one code of the catalogue, the same in status, header, body and log; no answer
//! tells anything of the platform's inside.

mod access;
mod backend;
mod balance;
mod body;
mod door;
mod ejection;
mod group;
mod headers;
mod inside;
mod lent;
mod peer;
mod peers;
mod place;
mod refuse;
mod request;
mod serve;
mod share;
mod table;
mod tcp;
mod wire;

use std::{net::SocketAddr, sync::Arc};

use gilliam_model::{
    assignment::{AssignedProcess, Assignment},
    instance::InstanceId,
    name::{AppName, ProcessName},
    peer::PeerTable,
    route::{RouteTable, WEB},
};
use gilliam_serve::{Clients, Places, ServeConfig};

use crate::{entropy::RequestIds, identity::Identity, logs::Logs, vigil::Vigil};
pub(crate) use backend::Backend;
pub(crate) use door::Door;
pub(crate) use group::{Group, Phase};
pub(crate) use inside::{InsideCaller, chain};
use peers::Peers;
use table::Table;

/// The settings of a socket that requests come in by; all of a node share their places.
pub(crate) fn listening(address: SocketAddr, places: Places) -> ServeConfig {
    ServeConfig {
        places: Some(places),
        refusal: Some(refuse::unreadable),
        ..ServeConfig::new(address)
    }
}

/// The settings of the socket that requests of other nodes come in by. Its places are its own: however many
/// clients come, nodes reach each other.
pub(crate) fn listening_for_peers(address: SocketAddr, identity: &Identity) -> ServeConfig {
    ServeConfig {
        tls: Some(identity.peer_server()),
        clients: Clients::Ours,
        ..ServeConfig::new(address)
    }
}

/// The ingress of a node; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Ingress {
    table: Arc<Table>,
    vigil: Arc<Vigil>,
    ids: Arc<RequestIds>,
    /// Of a node of a cluster.
    peers: Option<Arc<Peers>>,
}

impl Ingress {
    pub(crate) fn new(logs: Arc<Logs>, identity: Option<Identity>, vigil: Arc<Vigil>) -> Self {
        Self {
            table: Arc::new(Table::new(logs)),
            vigil,
            ids: Arc::default(),
            peers: identity.map(|identity| Arc::new(Peers::new(identity))),
        }
    }

    /// Whether requests can go to other nodes.
    pub(crate) fn has_peers(&self) -> bool {
        self.peers.is_some()
    }

    /// Sends requests to instances of these nodes too from now on.
    pub(crate) fn set_peers(&self, newest: &PeerTable) {
        if let Some(peers) = &self.peers {
            peers.set(newest, &self.table);
        }
    }

    /// What says whether requests may pass.
    pub(crate) fn vigil(&self) -> &Arc<Vigil> {
        &self.vigil
    }

    /// Takes note of an assignment that is about to be followed: requests for what it has here wait from now on.
    pub(crate) fn expect(&self, assignment: &Assignment) {
        let processes = assignment.processes.iter();
        let takes =
            |process: &&AssignedProcess| process.name.as_str() == WEB || process.process.shape.is_http();
        for http in processes
            .filter(takes)
            .filter(|process| !process.ranges.is_empty())
        {
            self.group(&http.app, &http.name).expect(assignment.generation);
        }
    }

    /// Takes note that instances of an assignment are starting where there were none.
    pub(crate) fn followed(&self, generation: u64) {
        self.table.followed(generation);
    }

    /// Serves these routes from now on.
    pub(crate) fn set_routes(&self, routes: &RouteTable) {
        self.table.set_routes(routes);
    }

    /// The group of a process type that takes HTTP.
    pub(crate) fn group(&self, app: &AppName, process: &ProcessName) -> Arc<Group> {
        self.table.group(app, process)
    }

    /// Takes an instance out, whatever state its task left it in.
    pub(crate) fn forget(&self, id: &InstanceId) {
        if let Some(group) = self.table.existing_group(&id.app, &id.process) {
            group.leave(id);
        }
    }
}
