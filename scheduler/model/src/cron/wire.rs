//! Crons as images hold them and as users see them.

use serde::{Deserialize, Serialize};

use super::{Cron, Missed, Overlap, PassedOver, Paused, UTC};
use crate::{
    Timestamp,
    name::{AppName, CronName},
    release::ReleaseId,
    run::Outcome,
};

/// A cron as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CronSpec {
    /// A cron expression: `0 3 * * *`.
    pub schedule: String,
    /// A process type or the file of a component of the image, and arguments.
    pub run: Vec<String>,
    /// The name of a time zone.
    #[serde(default = "utc")]
    pub timezone: String,
    /// `once`, `skip`, or a time such as `10m`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub missed: Missed,
    /// What becomes of a due time while an earlier run has not ended.
    #[serde(default)]
    pub overlap: Overlap,
    /// How long a run may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_ms_max: Option<u64>,
}

fn utc() -> String {
    UTC.to_string()
}

impl From<Cron> for CronSpec {
    fn from(cron: Cron) -> Self {
        Self {
            schedule: cron.schedule.expression().to_string(),
            timezone: cron.schedule.zone().to_string(),
            run: cron.run,
            missed: cron.missed,
            overlap: cron.overlap,
            run_ms_max: cron.run_ms_max,
        }
    }
}

/// How a run of a cron ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CronEnd {
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
}

/// A cron, as `gilliam cron` lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CronInfo {
    /// Its app.
    pub app: AppName,
    /// Its name.
    pub name: CronName,
    /// The release that declares it.
    pub release: ReleaseId,
    /// What it is.
    pub cron: CronSpec,
    /// Its schedule in words.
    pub words: String,
    /// When it is due next; none while it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub next_at: Option<Timestamp>,
    /// The same as clocks of its time zone show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_local: Option<String>,
    /// Since when it is paused, and by whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// When it was fired last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub last_at: Option<Timestamp>,
    /// The run of that: `run.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// How that ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<CronEnd>,
    /// The due time that was passed over last, if that was after the last firing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_over: Option<PassedOver>,
}
