//! The ingress: from a request to an instance of the app its host names, and back.
//!
//! `table` finds the app's group of instances, `group` picks one (by `balance`), `backend` calls it,
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
mod group;
mod headers;
mod refuse;
mod request;
mod serve;
mod table;
mod tcp;

use std::{net::SocketAddr, sync::Arc};

use gilliam_model::{instance::InstanceId, name::AppName, name::ProcessName, route::RouteTable};
use gilliam_serve::{Places, ServeConfig};

use crate::{entropy::RequestIds, logs::Logs};
pub(crate) use backend::Backend;
pub(crate) use door::Door;
pub(crate) use group::{Group, Phase};
use table::Table;

/// The settings of a socket that requests come in by; all of a node share their places.
pub(crate) fn listening(address: SocketAddr, places: Places) -> ServeConfig {
    ServeConfig {
        places: Some(places),
        refusal: Some(refuse::unreadable),
        ..ServeConfig::new(address)
    }
}

/// The ingress of a node; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Ingress {
    table: Arc<Table>,
    ids: Arc<RequestIds>,
}

impl Ingress {
    pub(crate) fn new(logs: Arc<Logs>) -> Self {
        Self {
            table: Arc::new(Table::new(logs)),
            ids: Arc::default(),
        }
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
