//! Images: what a build seals.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    cron::Cron,
    digest::Digest,
    imports::Imports,
    interface::InterfaceName,
    limits::Limits,
    name::{CronName, ProcessName, ServiceName},
    outbound::OutboundHost,
    queue::{JobTerms, QueueId},
    rules::PlacementRules,
    service::Service,
    text::excerpt,
    uses::Uses,
};

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
    /// Exports `gilliam:worker/handler@0.1`.
    Job,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Shape; 5] = [
        Shape::HttpP2,
        Shape::HttpP3,
        Shape::CommandP2,
        Shape::CommandP3,
        Shape::Job,
    ];

    /// The shape as printed: `http-p2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Shape::HttpP2 => "http-p2",
            Shape::HttpP3 => "http-p3",
            Shape::CommandP2 => "command-p2",
            Shape::CommandP3 => "command-p3",
            Shape::Job => "job",
        }
    }

    /// The interface whose export makes a component one of this shape, with the line of its versions.
    pub fn export(self) -> &'static str {
        match self {
            Shape::HttpP2 => "wasi:http/incoming-handler@0.2",
            Shape::HttpP3 => "wasi:http/handler@0.3",
            Shape::CommandP2 => "wasi:cli/run@0.2",
            Shape::CommandP3 => "wasi:cli/run@0.3",
            Shape::Job => "gilliam:worker/handler@0.1",
        }
    }

    fn of_export(export: &str) -> Option<Self> {
        let name = InterfaceName::parse(export)?;
        let known = Some((name.path, name.line()?));
        Shape::ALL
            .into_iter()
            .find(|shape| shape.export().split_once('@') == known)
    }

    /// The shape of a component with these exports, and the export that makes it so.
    ///
    /// Invariant: exactly one export decides. To choose among several would run a process in a way that its
    /// author may not have meant.
    pub fn of_exports<'a>(exports: impl IntoIterator<Item = &'a str>) -> Result<(Self, &'a str), ShapeError> {
        let mut found = exports
            .into_iter()
            .filter_map(|export| Some((Self::of_export(export)?, export)));
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            (Some((_, first)), Some((_, second))) => Err(ShapeError::Several {
                first: excerpt(first),
                second: excerpt(second),
            }),
            (None, _) => Err(ShapeError::None),
        }
    }

    /// Whether the platform calls the component for each request, rather than running it to its end.
    pub fn is_http(self) -> bool {
        matches!(self, Shape::HttpP2 | Shape::HttpP3)
    }

    /// Why a process of this shape does not run to its end, if so.
    pub fn never_ends(self) -> Option<&'static str> {
        match self {
            Shape::HttpP2 | Shape::HttpP3 => Some("answers requests, and never ends"),
            Shape::Job => Some("takes the jobs of a queue, and never ends"),
            Shape::CommandP2 | Shape::CommandP3 => None,
        }
    }

    /// Whether the platform calls the component for each job of a queue.
    pub fn takes_jobs(self) -> bool {
        matches!(self, Shape::Job)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Exports that do not say how a component is to be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// None of those that make a process.
    #[error("exports nothing that the platform can run")]
    None,
    /// More than one of them.
    #[error("exports {first} and {second}, so how to run it is not clear")]
    Several {
        /// One.
        first: String,
        /// The next.
        second: String,
    },
}

impl ShapeError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            ShapeError::None => {
                let [others @ .., last] = Shape::ALL.map(Shape::export);
                format!("export one of {} and {last}", others.join(", "))
            }
            ShapeError::Several { .. } => {
                "build one component per process, each with one of these exports".to_string()
            }
        }
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
    /// Whether a command's memory has guard pages of its own, for faster code and at the price of density; by
    /// default it may run on the slab.
    #[serde(default)]
    pub guard_pages: bool,
    /// Where its instances may run and where they had better.
    #[serde(default, skip_serializing_if = "PlacementRules::is_empty")]
    pub placement: PlacementRules,
    /// On what terms it does jobs, if it is one that does.
    #[serde(default, skip_serializing_if = "JobTerms::is_empty")]
    pub jobs: JobTerms,
    /// What it calls of other apps, by the names that it has for that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, crate::uses::Use>))]
    pub uses: Uses,
    /// Names of the interfaces that its component imports; images of older builders do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>))]
    pub imports: Option<Imports>,
}

impl Process {
    /// Whether a process type of this name takes the jobs of a queue of its app.
    pub fn takes_jobs_of(&self, name: &ProcessName, queue: &QueueId) -> bool {
        self.shape.takes_jobs() && self.jobs.queue_of(name) == queue.queue
    }
}

/// What was named of a process type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Itself: its arguments are of it.
    Process,
    /// Its component's file.
    File,
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
    /// The services that its processes need, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, Service>))]
    pub services: BTreeMap<ServiceName, Service>,
    /// What is run on a schedule, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, crate::cron::CronSpec>))]
    pub crons: BTreeMap<CronName, Cron>,
}

impl Image {
    /// The format this build writes.
    pub const SCHEMA_VERSION: u32 = 1;

    /// An image of these process types, and of nothing else.
    pub fn new(processes: BTreeMap<ProcessName, Process>) -> Self {
        Self {
            schema_version: Self::SCHEMA_VERSION,
            processes,
            services: BTreeMap::new(),
            crons: BTreeMap::new(),
        }
    }

    /// What `gilliam run TARGET` runs: a process type, or one whose component is the file, and whether it was named.
    pub fn target(&self, target: &str) -> Option<(&ProcessName, &Process, Named)> {
        let is_file = |process: &Process| {
            let file = process.args.first().map_or("", String::as_str);
            file == target || file.rsplit('/').next() == Some(target)
        };
        if let Some((name, process)) = self.processes.get_key_value(target) {
            return Some((name, process, Named::Process));
        }
        let found = self.processes.iter().find(|(_, process)| is_file(process))?;
        Some((found.0, found.1, Named::File))
    }

    /// Bytes of its components, each counted once.
    pub fn component_bytes(&self) -> u64 {
        let components = self.processes.values();
        let sizes: BTreeMap<Digest, u64> = components.map(|p| (p.component, p.component_bytes)).collect();
        sizes.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_comes_from_the_one_export_that_is_known() {
        for (export, shape) in [
            ("wasi:http/incoming-handler@0.2.3", Some(Shape::HttpP2)),
            ("wasi:http/handler@0.3.0", Some(Shape::HttpP3)),
            ("wasi:cli/run@0.2.0", Some(Shape::CommandP2)),
            ("wasi:cli/run@0.3.1", Some(Shape::CommandP3)),
            ("wasi:cli/run@0.2.0-rc-2023-11-10", None),
            ("wasi:cli/run@0.4.0", None),
            ("wasi:cli/run", None),
            ("wasi:http/handler@0.2.0", None),
            ("run", None),
        ] {
            let found = Shape::of_exports(["a:b/c@1.0.0", export, "memory"]);
            assert_eq!(found, shape.map(|shape| (shape, export)).ok_or(ShapeError::None));
        }
    }

    #[test]
    fn two_known_exports_are_refused_in_any_order() {
        let (http, run) = ("wasi:http/incoming-handler@0.2.3", "wasi:cli/run@0.2.3");
        for [first, second] in [[http, run], [run, http], [run, "wasi:cli/run@0.3.0"]] {
            let error = Shape::of_exports([first, second]).expect_err("two");
            let message = format!("exports {first} and {second}, so how to run it is not clear");
            assert_eq!(error.to_string(), message);
        }
    }
}
