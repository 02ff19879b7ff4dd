//! Images: what a build seals.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, limits::Limits, name::ProcessName, outbound::OutboundHost};

/// Most process types in one image; a Procfile with more is refused.
pub const PROCESSES_MAX: usize = 64;
/// Media type of a component's blob (CNCF "Wasm OCI Artifact Layout").
pub const MEDIA_TYPE_COMPONENT: &str = "application/wasm";
/// Media type of the image's config blob, which holds an [`Image`] as JSON.
pub const MEDIA_TYPE_IMAGE: &str = "application/vnd.gilliam.image.config.v1+json";

/// The shape of a process, found from its component's exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Shape {
    /// Exports `wasi:http/incoming-handler@0.2`.
    HttpP2,
    /// Exports `wasi:http/handler@0.3`.
    HttpP3,
    /// Exports `wasi:cli/run@0.2`.
    CommandP2,
    /// Exports `wasi:cli/run@0.3`.
    CommandP3,
}

impl Shape {
    /// The shape as printed: `http-p2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Shape::HttpP2 => "http-p2",
            Shape::HttpP3 => "http-p3",
            Shape::CommandP2 => "command-p2",
            Shape::CommandP3 => "command-p3",
        }
    }

    /// Whether the platform calls the component for each request, rather than running it to its end.
    pub fn is_http(self) -> bool {
        matches!(self, Shape::HttpP2 | Shape::HttpP3)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One process type of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Process {
    /// Its component's blob.
    pub component: Digest,
    /// The blob's size.
    pub component_bytes: u64,
    /// How it is run.
    pub shape: Shape,
    /// The Procfile entry as the author wrote it.
    pub command: String,
    /// Arguments; the first is the program name.
    pub args: Vec<String>,
    /// Its limits.
    #[serde(default)]
    pub limits: Limits,
    /// Hosts it may call, in Spin's spelling (`https://api.example.com`, `https://*.example.com:8443`).
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub allowed_outbound_hosts: Vec<OutboundHost>,
}

/// Components, process types and limits, sealed: the config blob of an OCI artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Image {
    /// Format of this document; a reader refuses a newer one.
    pub schema_version: u32,
    /// The process types by name.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, Process>))]
    pub processes: BTreeMap<ProcessName, Process>,
}

impl Image {
    /// The format this build writes.
    pub const SCHEMA_VERSION: u32 = 1;
}
