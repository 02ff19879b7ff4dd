//! Instances: one running process each.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    code::Code,
    name::{AppName, ProcessName},
    release::ReleaseId,
    text::{excerpt, wire_text},
};

/// The epoch of the plan that made a placement: it tells two lives of one slot apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = u64))]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// `guestbook/v2/web.1@7`: unique for ever, readable, made without randomness.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId {
    /// Its app.
    pub app: AppName,
    /// Its release.
    pub release: ReleaseId,
    /// Its process type.
    pub process: ProcessName,
    /// Its slot, from 1.
    pub slot: u32,
    /// The epoch of its placement.
    pub epoch: Epoch,
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for InstanceId {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        String::schema()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for InstanceId {}

impl InstanceId {
    /// The instance as users call it within an app: `web.1`.
    pub fn label(&self) -> String {
        format!("{}.{}", self.process, self.slot)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}.{}@{}",
            self.app, self.release, self.process, self.slot, self.epoch.0
        )
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an instance id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not an instance; expected the form guestbook/v2/web.1@7")]
pub struct InstanceIdError {
    /// The text as given, cut to a printable length.
    pub value: String,
}

impl FromStr for InstanceId {
    type Err = InstanceIdError;
    fn from_str(value: &str) -> Result<Self, InstanceIdError> {
        fn parse(value: &str) -> Option<InstanceId> {
            let (app, rest) = value.split_once('/')?;
            let (release, rest) = rest.split_once('/')?;
            let (label, epoch) = rest.split_once('@')?;
            let (process, slot) = label.rsplit_once('.')?;
            Some(InstanceId {
                app: app.parse().ok()?,
                release: release.parse().ok()?,
                process: process.parse().ok()?,
                slot: slot.parse().ok().filter(|s| *s > 0)?,
                epoch: Epoch(epoch.parse().ok()?),
            })
        }
        parse(value).ok_or_else(|| InstanceIdError {
            value: excerpt(value),
        })
    }
}

wire_text!(InstanceId);

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum InstanceState {
    /// Its component is being fetched, compiled, loaded or booted.
    Starting,
    /// It is ready.
    Running,
    /// It finishes what it has and ends.
    Stopping,
    /// It ended by itself and is started again after a delay.
    Crashed,
    /// Its node is silent: whether it runs is not known.
    Unknown,
}

impl InstanceState {
    /// The state as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            InstanceState::Starting => "starting",
            InstanceState::Running => "running",
            InstanceState::Stopping => "stopping",
            InstanceState::Crashed => "crashed",
            InstanceState::Unknown => "unknown",
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why an instance ended, or the last failure within it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Failure {
    /// Its code; none for a process that exited by itself.
    pub code: Option<Code>,
    /// What happened, for people.
    pub message: String,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
}

/// What a node observes of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstanceReport {
    /// Which instance.
    pub id: InstanceId,
    /// What it is doing.
    pub state: InstanceState,
    /// Since when it is in that state.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
    /// The TCP port it answers on, for instances that take HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Bytes of linear memory and tables in use.
    pub memory_bytes: u64,
    /// The most it ever was in this life of the instance.
    #[serde(default)]
    pub memory_bytes_peak: u64,
    /// Bytes it may use.
    pub memory_bytes_max: u64,
    /// Fuel burnt per second, over the last seconds.
    pub fuel_per_s: u64,
    /// Times it was started again since its placement.
    pub restarts: u32,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
    /// When a crashed one is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub retry_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ids_round_trip() {
        let text = "guestbook/v2/web.1@7";
        let id: InstanceId = text.parse().expect("id");
        assert_eq!((id.to_string().as_str(), id.label().as_str()), (text, "web.1"));
        for bad in [
            "",
            "a/v1/web.0@1",
            "a/v1/web@1",
            "a/1/web.1@1",
            "a/v1/web.1",
            "../v1/web.1@1",
        ] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
    }
}
