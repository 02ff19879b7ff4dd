//! Runs as users ask for them and see them, over the API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Outcome, Run, RunCause, RunProgress, RunState};
use crate::{
    Timestamp,
    cron::OfCron,
    name::{AppName, ConfigKey, NodeName, ProcessName},
    release::ReleaseId,
};

/// `POST /v1/apps/{app}/runs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AskRun {
    /// A process type, whose arguments the given ones follow, or the file of a component of the image, which gets
    /// the given ones alone: `worker`, `worker.wasm`.
    pub target: String,
    /// The arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// The release; by default the newest that may run.
    #[serde(default)]
    pub release: Option<ReleaseId>,
    /// Variables over the release's configuration.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, String>))]
    pub env: BTreeMap<ConfigKey, String>,
    /// Bytes of memory that it may use, when not what its process type may.
    #[serde(default)]
    pub memory_bytes_max: Option<u64>,
    /// How long it may take, in milliseconds; [`RUN_MS_DEFAULT`](super::RUN_MS_DEFAULT) when it is not said.
    #[serde(default)]
    pub run_ms_max: Option<u64>,
    /// Asks for its standard streams, and says what becomes of it when they are let go; without it its standard input
    /// is at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<OnLeave>,
}

/// What becomes of a run when whoever holds its standard streams is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum OnLeave {
    /// It goes on; what it prints is in the log.
    GoOn,
    /// It is asked to end.
    Stop,
}

/// A run, as `gilliam runs` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunInfo {
    /// Its app.
    pub app: AppName,
    /// `run.3`: the source of its log lines as well.
    pub name: String,
    /// Its number.
    pub number: u32,
    /// Of which release.
    pub release: ReleaseId,
    /// The process type whose component and limits it has.
    pub process: ProcessName,
    /// What it runs.
    pub command: String,
    /// Why.
    pub cause: RunCause,
    /// Who asked for it.
    pub author: String,
    /// The firing of a cron that it is of, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<OfCron>,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub asked_at: Timestamp,
    /// How long it may take, in milliseconds.
    pub run_ms_max: u64,
    /// What it is doing.
    pub state: RunPhase,
    /// Since when it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub running_since: Option<Timestamp>,
    /// The node that has or had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RunPhase {
    /// No node has it yet.
    Waiting,
    /// Its component is being fetched, compiled or loaded.
    Starting,
    /// It runs.
    Running,
    /// It was asked to end.
    Stopping,
    /// It is over.
    Ended,
}

impl RunPhase {
    /// The phase as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            RunPhase::Waiting => "waiting",
            RunPhase::Starting => "starting",
            RunPhase::Running => "running",
            RunPhase::Stopping => "stopping",
            RunPhase::Ended => "ended",
        }
    }
}

impl Run {
    /// As it is shown, with what its node says of it.
    pub fn info(&self, progress: Option<&RunProgress>) -> RunInfo {
        let state = match (&self.state, progress) {
            (RunState::Ended { .. }, _) => RunPhase::Ended,
            _ if self.is_to_stop => RunPhase::Stopping,
            (RunState::Asked, _) => RunPhase::Waiting,
            (RunState::Placed { .. }, None | Some(RunProgress::Starting)) => RunPhase::Starting,
            (RunState::Placed { .. }, Some(RunProgress::Running { .. } | RunProgress::Ended { .. })) => {
                RunPhase::Running
            }
        };
        let running_since = match progress {
            Some(RunProgress::Running { since }) => Some(*since),
            _ => None,
        };
        let ended_at = match &self.state {
            RunState::Ended { at, .. } => Some(*at),
            RunState::Asked | RunState::Placed { .. } => None,
        };
        RunInfo {
            app: self.id.app.clone(),
            name: self.id.label(),
            number: self.id.number,
            release: self.release,
            process: self.process.clone(),
            command: self.command.clone(),
            cause: self.cause,
            author: self.author.clone(),
            cron: self.cron.clone(),
            asked_at: self.id.asked_at,
            run_ms_max: self.run_ms_max,
            state,
            running_since,
            node: self.node().cloned(),
            ended_at,
            outcome: self.outcome().cloned(),
        }
    }
}
