//! The wire types of the API at `/v1`, as the command line and scripts see them.
//!
//! | method, path | body | answer |
//! |---|---|---|
//! | `GET /v1/health` | | 200 `ok`; needs no token |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/apps` · `POST /v1/apps` | [`CreateApp`] | [`AppInfo`] |
//! | `GET` · `DELETE /v1/apps/{app}` | | [`AppInfo`] · 204 |
//! | `POST /v1/apps/{app}/deploy?message=&migrate=` | a tar archive | NDJSON of [`DeployEvent`] |
//! | `POST /v1/apps/{app}/build?message=&clean=` | a tar archive | NDJSON of [`DeployEvent`]: an image, no release |
//! | `GET /v1/apps/{app}/releases` | | `Vec<`[`ReleaseInfo`]`>`, newest first |
//! | `POST /v1/apps/{app}/releases` | [`MakeRelease`](crate::images::MakeRelease) | [`ReleaseInfo`] |
//! | `POST /v1/apps/{app}/rollback` | [`Rollback`] | [`ReleaseInfo`] |
//! | `GET` · `PATCH /v1/apps/{app}/config` | [`ConfigPatch`] | [`ConfigInfo`] · [`ReleaseInfo`] |
//! | `GET` · `POST /v1/apps/{app}/runs` | [`AskRun`](crate::run::AskRun) | `Vec<`[`RunInfo`]`>` · [`RunInfo`] |
//! | `GET /v1/apps/{app}/runs/{run}?wait_ms=` · `DELETE` | | [`RunInfo`], of an end or after so long · asked to end |
//! | `POST …/runs/{run}/stdin` · `GET …/output` | bytes | 204 · [`Frames`](crate::run::Frames) |
//! | `GET /v1/apps/{app}/crons` | | `Vec<`[`CronInfo`](crate::cron::CronInfo)`>` |
//! | `POST /v1/apps/{app}/crons/{cron}/run` · `/pause` · `/resume` | | [`RunInfo`] · 204 · 204 |
//! | `GET /v1/apps/{app}/image?release=` | | [`ImageInfo`] |
//! | `GET /v1/apps/{app}/components/{process}?release=` | | the component |
//! | `GET /v1/apps/{app}/images` | | `Vec<`[`ImageSummary`](crate::images::ImageSummary)`>`, newest first |
//! | `POST /v1/apps/{app}/images?message=` | a tar archive of an OCI image layout | NDJSON of [`DeployEvent`] |
//! | `GET /v1/images/{digest}` | | [`StoredImage`](crate::images::StoredImage) |
//! | `GET /v1/images/{digest}/blobs/{blob}` | | a blob of the image: its manifest, its config, a component |
//! | `GET` · `PATCH /v1/apps/{app}/limits` | [`LimitsPatch`] | [`LimitsInfo`] · [`ReleaseInfo`] |
//! | `GET` · `PATCH /v1/apps/{app}/scale` | [`ScalePatch`] | [`ScaleInfo`] |
//! | `GET /v1/apps/{app}/instances?process=&release=&from=&limit=` | | [`Instances`] |
//! | `POST /v1/apps/{app}/restart` | [`Restart`] | [`Instances`] |
//! | `POST /v1/plan/what-if` | [`Question`](crate::what_if::Question) | [`Difference`](crate::what_if::Difference) |
//! | `POST /v1/plan/rebalance` | | 202 |
//! | `GET /v1/apps/{app}/logs?lines=&follow=&source=` | | NDJSON of [`LogLine`](crate::log::LogLine) |
//! | `GET /v1/apps/{app}/services` | | `Vec<`[`ServiceInfo`](crate::service::ServiceInfo)`>` |
//! | `DELETE /v1/apps/{app}/services/{service}?confirm=` | | 204: it is gone with its data |
//! | `POST /v1/apps/{app}/services/{service}/share` · `/unshare` | `ShareService` | 204 |
//! | `POST /v1/apps/{app}/services/{service}/request` | `AskService` of [`service`](crate::service) | `ServiceAnswer` |
//! | `POST /v1/nodes/{node}/questions` · `/answers/{number}` | [`service`](crate::service) | that node only |
//! | `GET /v1/nodes` · `GET /v1/nodes/{node}` | | `Vec<NodeSummary>` · `NodeDetails` of [`node`](crate::node) |
//! | `POST /v1/nodes/{node}/drain` · `/undrain` | | [`NodeDetails`](crate::node::NodeDetails) |
//! | `DELETE /v1/nodes/{node}` | | 204: it is forgotten |
//! | `POST /v1/join-tokens` | [`MakeJoinToken`](crate::join) | [`MadeJoinToken`](crate::join) |
//! | `POST /v1/join` | [`Join`](crate::join::Join) | [`Joined`](crate::join::Joined); with a join token |
//! | `POST /v1/nodes/{node}/renew` | [`Renew`](crate::join::Renew) | [`Joined`](crate::join::Joined); that node only |
//! | `POST /v1/nodes/{node}/sync` · `/logs` | [`sync`](crate::sync) | that node only |
//! | `GET /v1/nodes/{node}/runs/{app}/{run}/input` · `POST …/output` | bytes | that node only |
//! | `GET /v1/blobs/{digest}` | | the blob; nodes only |
//! | `GET /v1/openapi.json` | | this table, for machines |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    app::{Migration, MigrationFailure},
    capabilities::CapabilityChange,
    code::Code,
    config::{Config, ConfigChange},
    digest::Digest,
    image::{Image, Process, Shape},
    instance::{InstanceReport, InstanceState},
    limits::{LimitName, Limits},
    name::{AppName, NodeName, ProcessName},
    overrides::LimitsChange,
    release::{HookStatus, ReleaseId},
    run::RunInfo,
    scale::Scale,
    sync::NodeFacts,
};

/// Largest archive that `deploy` takes.
pub const ARCHIVE_BYTES_MAX: u64 = 256 << 20;
/// Largest archive of an image: a dozen components of the largest kind.
pub const IMAGE_ARCHIVE_BYTES_MAX: u64 = 512 << 20;
/// Most lines that one `logs` request answers with before it follows; also what is kept per app.
pub const LOG_LINES_MAX: usize = 1_500;

/// Instances that one page lists when its reader does not say how many: some screens, as kubectl's users know
/// from long lists.
pub const INSTANCES_LISTED: usize = 100;
/// Most instances that one answer lists: a page for scripts; some 600 bytes each.
pub const INSTANCES_COUNT_MAX: usize = 1_000;

/// The body of every error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiError {
    /// The catalogue code.
    pub code: Code,
    /// What went wrong: the thing and the value.
    pub message: String,
    /// The way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// `POST /v1/apps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateApp {
    /// The app's name, still to be checked: the answer to a bad one says which rule it breaks.
    pub name: String,
}

/// An app, as `apps` and `status` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AppInfo {
    /// Its name.
    pub name: AppName,
    /// When it was created.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// Its newest release.
    pub latest: Option<ReleaseId>,
    /// Desired counts of each release that should run.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, Scale>))]
    pub scale: BTreeMap<ReleaseId, Scale>,
    /// Instances that are running.
    pub running: u64,
    /// Where it answers: `http://guestbook.localhost:8080`.
    pub urls: Vec<String>,
    /// A migration under way.
    pub migration: Option<Migration>,
    /// How the last one failed.
    pub migration_failure: Option<MigrationFailure>,
}

/// A line of the answer to a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeployEvent {
    /// A line of build output.
    Output {
        /// The line, without its end.
        line: String,
    },
    /// The release was made: the last event.
    Released {
        /// The release.
        release: Box<ReleaseInfo>,
    },
    /// The image was made and is kept, without a release: the last event.
    Built {
        /// Its digest.
        digest: Digest,
        /// What is in it.
        image: Box<Image>,
    },
    /// Nothing was made: the last event.
    Failed {
        /// Why.
        error: ApiError,
    },
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseInfo {
    /// Its app.
    pub app: AppName,
    /// Its number.
    pub id: ReleaseId,
    /// Its image.
    pub image: Digest,
    /// What changed.
    pub message: String,
    /// Who made it.
    pub author: String,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// Its process types, by the line of the Procfile.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, String>))]
    pub processes: BTreeMap<ProcessName, String>,
    /// What should run of it now.
    pub scale: Scale,
    /// Whether instances move to it (a migration began with it).
    pub migrating: bool,
    /// What its processes can reach that those of the release before could not, and the other way round.
    #[serde(default, skip_serializing_if = "CapabilityChange::is_empty")]
    pub capabilities: CapabilityChange,
    /// What its author should know: of uses that do not answer. Said once, when it is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What became of its `release` process; none when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookStatus>,
}

/// `POST /v1/apps/{app}/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rollback {
    /// The release to go back to; by default the one before the newest.
    pub to: Option<String>,
}

/// `PATCH /v1/apps/{app}/config`: all of it happens, in one new release, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigPatch {
    /// What to change.
    pub change: ConfigChange,
    /// Whether what the previous release ran moves to the new one.
    pub migrate: bool,
}

/// The configuration of the newest release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigInfo {
    /// The release; none before the first.
    pub release: Option<ReleaseId>,
    /// Its configuration.
    pub config: Config,
}

/// The image of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageInfo {
    /// The release.
    pub release: ReleaseId,
    /// The image's digest.
    pub digest: Digest,
    /// Its process types, with the limits that the release runs them with.
    pub image: Image,
}

/// `PATCH /v1/apps/{app}/limits`: all of it happens, in one new release, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LimitsPatch {
    /// What to change.
    pub change: LimitsChange,
    /// Whether what the previous release ran moves to the new one.
    pub migrate: bool,
}

/// The limits of the newest release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LimitsInfo {
    /// The release; none before the first.
    pub release: Option<ReleaseId>,
    /// The limits of each of its process types.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, ProcessLimits>))]
    pub processes: BTreeMap<ProcessName, ProcessLimits>,
}

/// The limits of a process type, and where they come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProcessLimits {
    /// How it is run.
    pub shape: Shape,
    /// What holds.
    pub limits: Limits,
    /// What its image was sealed with: the `gilliam.toml` of the deploy, or the defaults.
    pub image: Limits,
    /// The limits that were set since, which stand over the image's.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub set: Vec<LimitName>,
}

/// `PATCH /v1/apps/{app}/scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScalePatch {
    /// The release; by default the one that is scaled, or the newest when none is.
    #[serde(default)]
    pub release: Option<ReleaseId>,
    /// Counts to set; process types that are not named keep theirs.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, u32>))]
    pub counts: BTreeMap<ProcessName, u32>,
}

/// What should run of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScaleInfo {
    /// Desired counts by release.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, Scale>))]
    pub scale: BTreeMap<ReleaseId, Scale>,
    /// The release a `scale` without one acts on.
    pub release: Option<ReleaseId>,
    /// What the patched release had before, for undoing; absent in the answer to a GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Scale>,
}

/// `GET /v1/apps/{app}/instances`: what `ps` lists, and whether all of it is as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Instances {
    /// Every process type of each release that has instances or should, by release and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessSummary>,
    /// Instances by release, process type, slot: all of process types with few, or the page that is asked
    /// for.
    pub instances: Vec<InstanceInfo>,
    /// First slot after the page that is asked for; none when it is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
    /// Slots that no node can take, with the reasons.
    pub blocked: Vec<Blocked>,
    /// Whether every wanted instance is running and nothing else is.
    pub settled: bool,
    /// A migration under way.
    pub migration: Option<Migration>,
    /// How the last one failed.
    pub migration_failure: Option<MigrationFailure>,
    /// Runs that have not ended, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunInfo>,
}

/// All instances of a process type of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProcessSummary {
    /// The process type.
    pub process: ProcessName,
    /// The release.
    pub release: ReleaseId,
    /// How many should run.
    pub wanted: u32,
    /// How many there are, by what they are doing.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, u32>))]
    pub states: BTreeMap<InstanceState, u32>,
    /// When the last of those in a state came into it.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, String>))]
    pub newest: BTreeMap<InstanceState, Timestamp>,
    /// Bytes of linear memory and tables in use, all together.
    pub memory_bytes: u64,
    /// Fuel burnt per second over the last seconds, all together.
    pub fuel_per_s: u64,
    /// Times they were started again since their placement, all together.
    pub restarts: u64,
    /// How many are on each node.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, u32>))]
    pub nodes: BTreeMap<NodeName, u32>,
    /// Some of those that failed: crashed ones first, then the newest failures.
    pub failures: Vec<InstanceInfo>,
}

impl ProcessSummary {
    /// How many there are.
    pub fn count(&self) -> u32 {
        self.states.values().sum()
    }

    /// How many are in a state.
    pub fn in_state(&self, state: InstanceState) -> u32 {
        self.states.get(&state).copied().unwrap_or(0)
    }
}

/// One line of `ps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstanceInfo {
    /// `web.1`.
    pub name: String,
    /// Its process type.
    pub process: ProcessName,
    /// Its release.
    pub release: ReleaseId,
    /// The node it is placed on.
    pub node: NodeName,
    /// The node's host name.
    pub host: String,
    /// What it is doing; `starting` until its node first reports it.
    pub state: InstanceState,
    /// What its node reports of it.
    pub report: Option<InstanceReport>,
}

/// Slots without a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Blocked {
    /// The release.
    pub release: ReleaseId,
    /// The process type.
    pub process: ProcessName,
    /// How many slots.
    pub count: u32,
    /// Why, by node; `cluster` when there is none.
    pub reasons: BTreeMap<String, String>,
}

/// `POST /v1/apps/{app}/restart`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Restart {
    /// `web`, `web.1`, or all of the app.
    pub target: Option<String>,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// gilliam's version on the control plane.
    pub version: String,
    /// The store's revision.
    pub revision: u64,
    /// Apps in all.
    pub apps: u64,
    /// Instances wanted in all.
    pub instances_wanted: u64,
    /// Instances running in all.
    pub instances_running: u64,
    /// The nodes.
    pub nodes: Vec<NodeInfo>,
}

/// A node, as the control plane sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeInfo {
    /// What it says of itself.
    pub facts: NodeFacts,
    /// `ready`, or `lost` when it has not synced for a while.
    pub state: NodeState,
    /// When it last synced.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub seen_at: Timestamp,
    /// Instances it runs.
    pub running: u64,
}

/// Whether a node can be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum NodeState {
    /// It syncs.
    Ready,
    /// It has not synced for longer than the liveness limit.
    Lost,
}

/// What a probe child reads: a process type whose lanes are to be reused, as a release would run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRequest {
    /// With the limits of the release.
    pub process: Process,
    /// The environment of its instances.
    pub env: BTreeMap<String, String>,
    /// The host it is asked for.
    pub host: String,
}

/// What a probe child writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ProbeOutcome {
    /// Requests through one lane got what fresh ones get.
    Passed {},
    /// They did not, or it does not start.
    Refused {
        /// Why.
        reason: String,
    },
}

/// The last line a build child writes to its output: the contract between the control plane and the builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum BuildOutcome {
    /// An image was sealed and its blobs stored.
    Sealed {
        /// The digest of its OCI manifest.
        digest: Digest,
        /// Its config.
        image: Image,
    },
    /// Nothing was stored.
    Refused {
        /// Why.
        error: ApiError,
    },
}
