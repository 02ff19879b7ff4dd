//! Runs: one-off processes, run to their end once.
//!
//! A run is asked for, placed on one node for one life of it, and ends; what it needs is in its record until then.
//! Its name within its app is `run.3`: the source of its log lines.
//!
//! Invariant: a run is placed at most once, and with the life of the node that it is for: another life of that
//! node does not begin it. So it happens at most once, whatever dies.

mod frames;
mod wire;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    code::Code,
    config::Config,
    cron::OfCron,
    image::Process,
    name::{AppName, NodeName, ProcessName},
    release::ReleaseId,
    service::BoundService,
};
pub use frames::{FRAME_BYTES_MAX, FrameError, Frames, RunStream, frame_head};
pub use wire::{AskRun, OnLeave, RunInfo, RunPhase};

/// The process type that runs to its end before instances move to a release.
pub const RELEASE_HOOK: &str = "release";
/// What the names of runs begin with; no process type of a new image has it.
pub const RUN: &str = "run";
/// Most runs of one app that have not ended: one-off work is started by people and by scripts of theirs.
pub const RUNS_OPEN_PER_APP_MAX: usize = 20;
/// Most runs of all apps that have not ended: what every sync of a node and every plan looks at.
pub const RUNS_OPEN_MAX: usize = 1_000;
/// Runs of one app whose end is remembered.
pub const RUNS_ENDED_KEPT: usize = 50;
/// How long the end of a run is remembered, once others end: a day.
pub const RUN_KEPT_MS: i64 = 24 * 3_600_000;
/// How long a run may take unless it is said.
pub const RUN_MS_DEFAULT: u64 = 3_600_000;
/// Longest time that a run may take: a day, as what Heroku stops at.
pub const RUN_MS_MAX: u64 = 24 * 3_600_000;
/// How long the `release` process of a release may take unless it is said.
pub const HOOK_MS_DEFAULT: u64 = 600_000;
/// Most arguments that a run is given.
pub const RUN_ARGS_MAX: usize = 256;
/// Most bytes of these arguments together: what is on the command line of a shell, and fits a record.
pub const RUN_ARGS_BYTES_MAX: usize = 32 << 10;
/// How long a run waits for a node with room.
pub const RUN_WAIT_MS_MAX: i64 = 60_000;
/// How long the node of a run may take to tell of it: it syncs many times within.
pub const RUN_UNTAKEN_MS_MAX: i64 = 60_000;
/// How long a run may take to begin, once its node knows of it: to fetch and compile the largest component.
pub const RUN_BOOT_MS_MAX: i64 = 600_000;

/// A run, told apart from every other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunId {
    /// Its app.
    pub app: AppName,
    /// Its number in the app, from 1.
    pub number: u32,
    /// When it was asked for: an app of the same name, and a store that was set back, number anew.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub asked_at: Timestamp,
}

/// Why a run was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RunCause {
    /// A user wanted it.
    User,
    /// It is the `release` process of a new release.
    Release,
    /// It was due.
    Cron,
}

/// A run as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which one.
    pub id: RunId,
    /// Of which release.
    pub release: ReleaseId,
    /// The process type whose component and limits it has.
    pub process: ProcessName,
    /// What it runs, as people read it: the words of its arguments.
    pub command: String,
    /// Why.
    pub cause: RunCause,
    /// The name of the token that asked for it.
    pub author: String,
    /// The firing of a cron that it is of, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<OfCron>,
    /// The life of a control plane by way of which a user holds its standard streams, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<String>,
    /// How long it may take, in milliseconds, from its start.
    pub run_ms_max: u64,
    /// Whether it is to end before it ends by itself.
    #[serde(default)]
    pub is_to_stop: bool,
    /// How far it is.
    pub state: RunState,
    /// What to run; none once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
}

/// What a run runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Work {
    /// Its component, arguments and limits.
    pub process: Process,
    /// Its environment: the release's configuration, and what was said over it.
    pub config: Config,
}

/// How far a run is, as decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RunState {
    /// No node has it yet.
    Asked,
    /// A node is to run it.
    Placed {
        /// The node.
        node: NodeName,
        /// When the life of the node began that it is for.
        life: Timestamp,
        /// When it was decided.
        at: Timestamp,
    },
    /// It is over.
    Ended {
        /// The node, if it got to one.
        node: Option<NodeName>,
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Outcome {
    /// It ended by itself.
    Exited {
        /// 0 when all went well.
        code: u8,
    },
    /// A trap, a limit or a failure of the platform ended it, or it could not start.
    Failed {
        /// R14, R17, R21, R22, R23 or R99.
        code: Code,
        /// What happened.
        message: String,
    },
    /// It took longer than it may.
    TimedOut {
        /// How long it may take, in milliseconds.
        run_ms_max: u64,
    },
    /// Somebody stopped it.
    Stopped {
        /// Who or what.
        reason: String,
    },
    /// Its node was lost with it: how far it got is not known. It is not run again.
    Lost {
        /// What became of the node.
        reason: String,
    },
    /// No node had room for it in time: it was never begun.
    NotPlaced {
        /// Why.
        reason: String,
    },
}

/// A run that a node is to run, with all that is needed for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AssignedRun {
    /// Which one.
    pub id: RunId,
    /// When the life of the node began that it is for; another life leaves it alone.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub life: Timestamp,
    /// Of which release.
    pub release: ReleaseId,
    /// The process type whose component and limits it has.
    pub process: ProcessName,
    /// What to run.
    pub work: Work,
    /// What it is bound to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<BoundService>,
    /// The life of a control plane by way of which a user holds its standard streams, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<String>,
    /// How long it may take, in milliseconds, from its start.
    pub run_ms_max: u64,
    /// Whether it is to end before it ends by itself.
    #[serde(default)]
    pub is_to_stop: bool,
}

/// What a node says of a run that it is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunReport {
    /// Which one.
    pub id: RunId,
    /// How far it is.
    pub progress: RunProgress,
}

/// How far a run is, as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RunProgress {
    /// Its component is being fetched, compiled or loaded.
    Starting,
    /// It runs.
    Running {
        /// Since when, by the node's clock.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        since: Timestamp,
    },
    /// It is over.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

// === impl RunId ===

impl RunId {
    /// The run as users call it within its app: `run.3`.
    pub fn label(&self) -> String {
        format!("{RUN}.{}", self.number)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{RUN}.{}", self.app, self.number)
    }
}

/// The number of a run that is called `run.3`, or `3`.
pub fn parse_label(text: &str) -> Option<u32> {
    let digits = text
        .strip_prefix(RUN)
        .and_then(|rest| rest.strip_prefix('.'))
        .unwrap_or(text);
    let is_number = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

// === impl Run ===

impl Run {
    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, RunState::Ended { .. })
    }

    /// The node that has or had it.
    pub fn node(&self) -> Option<&NodeName> {
        match &self.state {
            RunState::Asked => None,
            RunState::Placed { node, .. } => Some(node),
            RunState::Ended { node, .. } => node.as_ref(),
        }
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            RunState::Ended { outcome, .. } => Some(outcome),
            RunState::Asked | RunState::Placed { .. } => None,
        }
    }

    /// The run on a node.
    ///
    /// # Panics
    /// When it has ended already: how a run ended does not change.
    pub fn placed(&self, node: NodeName, life: Timestamp, at: Timestamp) -> Self {
        assert!(self.node().is_none(), "{} is placed once", self.id);
        Self {
            state: RunState::Placed { node, life, at },
            ..self.clone()
        }
    }

    /// The run after its end: how it ended is kept, what it ran is not.
    ///
    /// # Panics
    /// When it has ended already: how a run ended does not change.
    pub fn ended(&self, outcome: Outcome, at: Timestamp) -> Self {
        assert!(!self.has_ended(), "{} ends once", self.id);
        Self {
            state: RunState::Ended {
                node: self.node().cloned(),
                at,
                outcome,
            },
            work: None,
            ..self.clone()
        }
    }

    /// As it is sent to its node, bound to nothing; none when it is not on one.
    pub fn assigned(&self) -> Option<AssignedRun> {
        let RunState::Placed { life, .. } = &self.state else {
            return None;
        };
        Some(AssignedRun {
            id: self.id.clone(),
            life: *life,
            release: self.release,
            process: self.process.clone(),
            work: self.work.clone()?,
            services: Vec::new(),
            attached: self.attached.clone(),
            run_ms_max: self.run_ms_max,
            is_to_stop: self.is_to_stop,
        })
    }
}

// === impl Outcome ===

impl Outcome {
    /// Whether all went well.
    pub fn is_ok(&self) -> bool {
        matches!(self, Outcome::Exited { code: 0 })
    }

    /// What a command that waits for the run exits with: the run's own code where it has one, else as shells and
    /// `timeout` have it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Outcome::Exited { code } => *code,
            Outcome::TimedOut { .. } => 124,
            Outcome::Stopped { .. } => 130,
            Outcome::Failed { .. } | Outcome::Lost { .. } | Outcome::NotPlaced { .. } => 1,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exited { code } => write!(f, "exited with code {code}"),
            Outcome::Failed { code, message } => write!(f, "{code} {}: {message}", code.title()),
            Outcome::TimedOut { run_ms_max } if run_ms_max % 1_000 == 0 => {
                write!(f, "stopped: it took longer than {} s", run_ms_max / 1_000)
            }
            Outcome::TimedOut { run_ms_max } => write!(f, "stopped: it took longer than {run_ms_max} ms"),
            Outcome::Stopped { reason } => write!(f, "stopped: {reason}"),
            Outcome::Lost { reason } => write!(f, "lost: {reason}"),
            Outcome::NotPlaced { reason } => write!(f, "not begun: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_called_by_their_number() {
        for (text, number) in [
            ("run.3", Some(3)),
            ("17", Some(17)),
            ("run.0", None),
            ("run.03", None),
            ("run.", None),
            ("", None),
            ("web.3", None),
            ("run.+3", None),
            ("run.99999999999", None),
        ] {
            assert_eq!(parse_label(text), number, "{text:?}");
        }
    }

    #[test]
    fn how_a_run_ended_is_told_in_words_and_as_an_exit_code() {
        let reason = "node a is gone".to_string();
        for (outcome, text, code) in [
            (Outcome::Exited { code: 3 }, "exited with code 3", 3),
            (
                Outcome::TimedOut { run_ms_max: 2_000 },
                "stopped: it took longer than 2 s",
                124,
            ),
            (Outcome::Lost { reason }, "lost: node a is gone", 1),
        ] {
            assert_eq!((outcome.to_string().as_str(), outcome.exit_code()), (text, code));
            let json = serde_json::to_string(&outcome).expect("json");
            assert_eq!(serde_json::from_str::<Outcome>(&json).expect(&json), outcome);
        }
    }
}
