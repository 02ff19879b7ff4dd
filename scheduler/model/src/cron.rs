//! Crons: what an app has run on a schedule.
//!
//! A release declares them, each with a name. For each the store has a record of what was done about it last, so that
//! a due time is dealt with once, whichever control plane does it.
//!
//! Invariant: a record says up to when due times are dealt with, and never goes back; the run of a due time is made in
//! the commit that says so.

mod check;
mod record;
mod schedule;
mod wire;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    name::CronName,
    quantity::Unit,
    run::{RUN_ARGS_BYTES_MAX, RUN_ARGS_MAX, RUN_MS_MAX},
    text::{excerpt, wire_text},
};
pub use check::{CronsError, check_intervals, check_targets};
pub use record::{CronRecord, CronSchedule, Fired, PassedOver, Paused};
pub use schedule::{EXPRESSION_BYTES_MAX, Schedule, ScheduleError, UTC};
pub use wire::{CronEnd, CronInfo, CronSpec};

/// Most crons of an app: each is looked at whenever one is due.
pub const CRONS_MAX: usize = 64;
/// Least seconds between two firings unless an operator allows less: what cron has had since 1975.
pub const CRON_INTERVAL_S_MIN: u64 = 60;
/// How late a firing is that counts as in time: a control plane that is restarted takes less.
pub const CRON_LATE_MS_MAX: i64 = 60_000;
/// Ends of runs that are remembered of one cron.
pub const CRON_RUNS_KEPT: usize = 10;

/// What an app has run on a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CronSpec", into = "CronSpec")]
pub struct Cron {
    /// When.
    pub schedule: Schedule,
    /// A process type or the file of a component of the image, and arguments.
    pub run: Vec<String>,
    /// What becomes of due times that passed while nobody could fire.
    pub missed: Missed,
    /// What becomes of a due time while the run of an earlier one has not ended.
    pub overlap: Overlap,
    /// How long a run may take, in milliseconds; as any run unless it is said.
    pub run_ms_max: Option<u64>,
}

/// What becomes of due times that passed while nobody could fire, such as while all control planes were down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Missed {
    /// It is made up for, once for all of them.
    #[default]
    Once,
    /// It is made up for, once, if the last of them is no longer ago than this.
    Within {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// It is not made up for.
    Skip,
}

/// What becomes of a due time while the run of an earlier one has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Overlap {
    /// Nothing: the run that is there goes on.
    #[default]
    Skip,
    /// Another run begins.
    Allow,
    /// The run that is there is stopped, and another begins.
    Replace,
}

/// The firing that a run is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OfCron {
    /// The cron.
    pub name: CronName,
    /// The due time; none when a user asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub due: Option<Timestamp>,
}

/// A cron that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Its schedule.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Nothing to run.
    #[error("it runs nothing")]
    Nothing,
    /// Too much to run.
    #[error("{count} arguments of {bytes} bytes")]
    Arguments {
        /// How many.
        count: usize,
        /// Their bytes together.
        bytes: usize,
    },
    /// An argument that no process can be given.
    #[error("the argument {argument:?} holds a NUL byte")]
    Nul {
        /// Which, cut.
        argument: String,
    },
    /// A run that would never end, or at once.
    #[error("a timeout of {ms} ms is outside 1 s to {} h", RUN_MS_MAX / 3_600_000)]
    Timeout {
        /// As it was given.
        ms: u64,
    },
}

impl CronError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            CronError::Schedule(error) => error.hint(),
            CronError::Nothing => {
                "name a process type of the Procfile or the file of a component, and its arguments"
                    .to_string()
            }
            CronError::Arguments { .. } => {
                format!("at most {RUN_ARGS_MAX} of {RUN_ARGS_BYTES_MAX} bytes together are taken")
            }
            CronError::Nul { .. } => "arguments are text".to_string(),
            CronError::Timeout { .. } => {
                "work that takes longer is a process type: gilliam scale".to_string()
            }
        }
    }
}

// === impl Cron ===

impl Cron {
    /// The process type or the file that it runs.
    pub fn target(&self) -> &str {
        self.run.first().map_or("", String::as_str)
    }

    /// The arguments of what it runs.
    pub fn args(&self) -> &[String] {
        self.run.get(1..).unwrap_or_default()
    }

    /// Its schedule as it is kept.
    pub fn kept_schedule(&self) -> CronSchedule {
        CronSchedule {
            expression: self.schedule.expression().to_string(),
            timezone: self.schedule.zone().to_string(),
        }
    }
}

impl TryFrom<CronSpec> for Cron {
    type Error = CronError;

    fn try_from(spec: CronSpec) -> Result<Self, CronError> {
        let bytes = spec.run.iter().map(String::len).sum();
        if spec.run.first().is_none_or(String::is_empty) {
            return Err(CronError::Nothing);
        }
        if spec.run.len() > RUN_ARGS_MAX || bytes > RUN_ARGS_BYTES_MAX {
            let count = spec.run.len();
            return Err(CronError::Arguments { count, bytes });
        }
        if let Some(argument) = spec.run.iter().find(|word| word.contains('\0')) {
            let argument = excerpt(argument);
            return Err(CronError::Nul { argument });
        }
        if let Some(ms) = spec.run_ms_max.filter(|ms| !(1_000..=RUN_MS_MAX).contains(ms)) {
            return Err(CronError::Timeout { ms });
        }
        Ok(Self {
            schedule: Schedule::new(&spec.schedule, &spec.timezone)?,
            run: spec.run,
            missed: spec.missed,
            overlap: spec.overlap,
            run_ms_max: spec.run_ms_max,
        })
    }
}

// === impl Missed ===

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missed::Once => f.write_str("once"),
            Missed::Within { ms } => f.write_str(&Unit::Millis.show(*ms)),
            Missed::Skip => f.write_str("skip"),
        }
    }
}

/// Text that says nothing about missed due times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not once, skip or a time such as 10m")]
pub struct MissedError {
    /// As it was given, cut.
    pub value: String,
}

impl FromStr for Missed {
    type Err = MissedError;

    fn from_str(value: &str) -> Result<Self, MissedError> {
        match value {
            "once" => Ok(Missed::Once),
            "skip" => Ok(Missed::Skip),
            _ => {
                let ms = Unit::Millis.parse(value).filter(|ms| *ms > 0);
                ms.map(|ms| Missed::Within { ms }).ok_or_else(|| MissedError {
                    value: excerpt(value),
                })
            }
        }
    }
}

wire_text!(Missed);

// === impl Overlap ===

impl Overlap {
    /// Every policy.
    pub const ALL: [Overlap; 3] = [Overlap::Skip, Overlap::Allow, Overlap::Replace];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Overlap::Skip => "skip",
            Overlap::Allow => "allow",
            Overlap::Replace => "replace",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Result<Cron, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn a_cron_round_trips_and_has_defaults() {
        let cron = spec(r#"{"schedule":"0 3 * * *","run":["worker.wasm","cleanup"]}"#).expect("a cron");
        assert_eq!(
            (cron.target(), cron.args()),
            ("worker.wasm", &["cleanup".to_string()][..])
        );
        assert_eq!(
            (cron.missed, cron.overlap, cron.schedule.zone()),
            (Missed::Once, Overlap::Skip, UTC)
        );
        let json = serde_json::to_string(&cron).expect("json");
        assert_eq!(spec(&json).expect(&json), cron);
    }

    #[test]
    fn what_cannot_be_run_is_no_cron() {
        for (json, reason) in [
            (r#"{"schedule":"0 3 * * *","run":[]}"#, "it runs nothing"),
            (r#"{"schedule":"0 3 * * *","run":[""]}"#, "it runs nothing"),
            (
                r#"{"schedule":"0 3 * * *","run":["a","\u0000"]}"#,
                "holds a NUL byte",
            ),
            (r#"{"schedule":"0 3 30 2 *","run":["a"]}"#, "never fires"),
            (
                r#"{"schedule":"0 3 * * *","run":["a"],"timezone":"X"}"#,
                "is not a time zone",
            ),
            (
                r#"{"schedule":"0 3 * * *","run":["a"],"missed":"twice"}"#,
                "is not once, skip",
            ),
            (
                r#"{"schedule":"0 3 * * *","run":["a"],"run_ms_max":1}"#,
                "outside 1 s to 24 h",
            ),
            (r#"{"schedule":"0 3 * * *","run":["a"],"x":1}"#, "unknown field"),
        ] {
            let error = spec(json).expect_err(json).to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }

    #[test]
    fn missed_is_a_word_or_a_time() {
        for text in ["once", "skip", "10m", "90s"] {
            assert_eq!(text.parse::<Missed>().expect(text).to_string(), text);
        }
        for bad in ["", "0s", "never", "10"] {
            bad.parse::<Missed>().expect_err(bad);
        }
    }
}
