//! Which group of instances answers for a host.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use gilliam_model::{
    name::{AppName, ProcessName},
    route::RouteTable,
    uses::permits,
};

use super::{group::Group, share::Share};
use crate::logs::Logs;

/// Hosts to groups. A request sees the routes of one moment; a new table is swapped in whole.
#[derive(Debug)]
pub(crate) struct Table {
    hosts: RwLock<Arc<HashMap<String, Arc<Group>>>>,
    groups: Mutex<BTreeMap<(AppName, ProcessName), Arc<Group>>>,
    inside: RwLock<Arc<Inside>>,
    logs: Arc<Logs>,
}

/// Which apps there are, and who may call them inside the cluster.
#[derive(Debug, Default)]
struct Inside {
    apps: BTreeSet<AppName>,
    callers: BTreeMap<AppName, BTreeSet<AppName>>,
}

/// Whether an app may call another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permission {
    Given,
    Refused,
    NoApp,
}

impl Table {
    pub(crate) fn new(logs: Arc<Logs>) -> Self {
        Self {
            hosts: RwLock::default(),
            groups: Mutex::default(),
            inside: RwLock::default(),
            logs,
        }
    }

    /// The group for a host name in lower case, without port.
    pub(crate) fn lookup(&self, host: &str) -> Option<Arc<Group>> {
        self.hosts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(host)
            .cloned()
    }

    pub(crate) fn set_routes(&self, routes: &RouteTable) {
        let hosts = routes
            .hosts
            .iter()
            .map(|(host, route)| (host.clone(), self.group(&route.app, &route.process)))
            .collect();
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(hosts);
        let inside = Inside {
            apps: routes.hosts.values().map(|route| route.app.clone()).collect(),
            callers: routes.callers.clone(),
        };
        *self.inside.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(inside);
        // A group that no route and no instance holds is gone.
        self.groups()
            .retain(|_, group| Arc::strong_count(group) > 1 || !group.is_empty());
    }

    /// Whether `caller` may call `app`.
    pub(super) fn permission(&self, app: &AppName, caller: &AppName) -> Permission {
        let inside = self.inside.read().unwrap_or_else(PoisonError::into_inner).clone();
        match inside.apps.contains(app) {
            false => Permission::NoApp,
            true if permits(app, inside.callers.get(app), caller) => Permission::Given,
            true => Permission::Refused,
        }
    }

    /// Tells every group which instances of other nodes it has; one that is not named has none.
    pub(super) fn set_shares(&self, mut shares: BTreeMap<(AppName, ProcessName), Vec<Arc<Share>>>) {
        for (of, group) in self.groups().iter() {
            let shares = shares.remove(of).unwrap_or_default();
            if !(shares.is_empty() && group.shares().is_empty()) {
                group.set_shares(shares);
            }
        }
    }

    pub(super) fn followed(&self, generation: u64) {
        for group in self.groups().values() {
            group.followed(generation);
        }
    }

    pub(crate) fn group(&self, app: &AppName, process: &ProcessName) -> Arc<Group> {
        self.groups()
            .entry((app.clone(), process.clone()))
            .or_insert_with(|| Arc::new(Group::new(app.clone(), self.logs.app(app))))
            .clone()
    }

    pub(crate) fn existing_group(&self, app: &AppName, process: &ProcessName) -> Option<Arc<Group>> {
        self.groups().get(&(app.clone(), process.clone())).cloned()
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<(AppName, ProcessName), Arc<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
