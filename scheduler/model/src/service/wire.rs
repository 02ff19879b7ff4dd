//! What is said about services over the API: by users, and by the nodes that have their data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BoundService, ServiceKind};
use crate::{
    Timestamp,
    name::{AppName, NodeName, ServiceName},
    queue::Payload,
};

/// Bytes of the body of a request to a service, and of its answer, by way of the API: what one value may have.
pub const ASK_BYTES_MAX: usize = 4 << 20;
/// Bytes of these as JSON, with all else that is said.
pub const ASK_JSON_BYTES_MAX: usize = 6 << 20;
/// Longest time that a node waits for questions in one call.
pub const QUESTIONS_WAIT_MS_MAX: u64 = 30_000;

/// A service of an app, as users see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceInfo {
    /// How the app calls it.
    pub name: ServiceName,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ServiceKind,
    /// Whether the newest release is bound to it.
    pub state: ServiceState,
    /// The variable by which processes find it.
    pub variable: String,
    /// What that holds.
    pub address: String,
    /// Bytes that it may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes_max: Option<u64>,
    /// How long a key lives, unless it is said with the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// How much is in it; none when its node does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ServiceUsage>,
    /// The node that has its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<NodeName>,
    /// Whose it is, when another app shares it: `billing/db`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The apps that it is shared with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared_with: Vec<AppName>,
    /// When it was made.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub made_at: Timestamp,
}

/// How an app has a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ServiceState {
    /// The newest release declares it.
    Bound,
    /// The newest release does not declare it; its data stays.
    Detached,
    /// It is another app's.
    Shared,
}

impl ServiceState {
    /// As printed: `bound`.
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceState::Bound => "bound",
            ServiceState::Detached => "detached",
            ServiceState::Shared => "shared",
        }
    }
}

/// How much is in a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceUsage {
    /// Bytes, as its quota counts them.
    pub bytes: u64,
    /// Keys, objects or files; none where nothing is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
}

/// With whom a service is to be shared, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShareService {
    /// The other app.
    pub with: AppName,
    /// How that app calls it; by default as its owner does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ServiceName>,
}

/// A request to a service, as a process makes it to `http://NAME.internal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AskService {
    /// `GET`, `PUT` …
    pub method: String,
    /// Path and query: `/user:1?ttl=60s`.
    pub target: String,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default)]
    pub body: Payload,
}

/// A service's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceAnswer {
    /// Its HTTP status.
    pub status: u16,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default)]
    pub body: Payload,
}

/// What a node is asked about a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ServiceVerb {
    /// To answer a request.
    Request(AskService),
    /// How much is in it; the answer's body is a [`ServiceUsage`].
    Usage,
    /// To remove its data.
    Destroy,
}

/// A question to the node that has a service's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceQuestion {
    /// By which the answer is known.
    pub number: u64,
    /// Which service.
    pub service: BoundService,
    /// What is asked.
    pub verb: ServiceVerb,
}

/// A node's wait for questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AwaitQuestions {
    /// How long, in milliseconds, at most.
    pub wait_ms: u64,
}

/// Questions to a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceQuestions {
    /// What is asked of it now.
    pub questions: Vec<ServiceQuestion>,
}
