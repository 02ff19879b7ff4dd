//! Routes: which app answers for which host.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::name::{AppName, ProcessName};

/// The process type that takes an app's HTTP.
pub const WEB: &str = "web";
/// Apps answer at `APP.localhost`, which every resolver sends to the loopback address (RFC 6761 section 6.3).
pub const LOCAL_DOMAIN: &str = "localhost";

/// Where requests for one host go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Route {
    /// The app.
    pub app: AppName,
    /// Its process type.
    pub process: ProcessName,
}

/// Every route of the cluster: lower-case host name without port → route. Published whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RouteTable {
    /// Routes by host.
    pub hosts: BTreeMap<String, Route>,
    /// What apps use of one another: requests of instances reach it from every node, host or not.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub inside: BTreeSet<Route>,
    /// Who may use an app; one that is not here lets every app of the cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, Vec<String>>))]
    pub callers: BTreeMap<AppName, BTreeSet<AppName>>,
}
