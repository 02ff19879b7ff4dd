//! What is known of a cron, as stored.
//!
//! Invariant: a record never goes back: due times up to `considered` are dealt with.

use serde::{Deserialize, Serialize};

use super::CronEnd;
use crate::{Timestamp, run::Outcome};

/// What is known of a cron of an app, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronRecord {
    /// The schedule by which it goes; none while no release that runs declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<CronSchedule>,
    /// Up to when due times are dealt with.
    pub considered: Timestamp,
    /// Since when it is paused, and by whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// What was fired last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired: Option<Fired>,
    /// The due time that was passed over last, if that was after the last firing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_over: Option<PassedOver>,
}

/// A schedule as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronSchedule {
    /// The cron expression.
    pub expression: String,
    /// The name of the time zone.
    pub timezone: String,
}

/// Who paused a cron, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Paused {
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// The name of the token.
    pub by: String,
}

/// A firing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// For which due time; none for one that a user asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// When.
    pub at: Timestamp,
    /// The number of its run.
    pub run: u32,
    /// How it ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<CronEnd>,
}

/// A due time for which nothing was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PassedOver {
    /// Which.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub due: Timestamp,
    /// Why.
    pub reason: String,
}

// === impl CronRecord ===

impl CronRecord {
    /// A record of which nothing is dealt with that is due after `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            schedule: None,
            considered: now,
            paused: None,
            fired: None,
            passed_over: None,
        }
    }

    /// The record after a due time for which nothing is run.
    pub fn passed_over(self, due: Timestamp, reason: String) -> Self {
        Self {
            considered: due,
            passed_over: Some(PassedOver { due, reason }),
            ..self
        }
    }

    /// The record after a firing that made the run of this number.
    pub fn fired(self, due: Option<Timestamp>, at: Timestamp, run: u32) -> Self {
        let ended = None;
        Self {
            fired: Some(Fired { due, at, run, ended }),
            passed_over: None,
            ..self
        }
    }

    /// The record once the run of its last firing has ended; none when that was another run.
    pub fn ended(&self, run: u32, outcome: &Outcome, at: Timestamp) -> Option<Self> {
        let fired = self.fired.as_ref().filter(|fired| fired.run == run)?;
        let ended = Some(CronEnd {
            at,
            outcome: outcome.clone(),
        });
        Some(Self {
            fired: Some(Fired {
                ended,
                ..fired.clone()
            }),
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_last_firing_is_remembered_and_of_no_other() {
        let at = |s| Timestamp::from_second(s).expect("an instant");
        let fired = Fired {
            due: Some(at(60)),
            at: at(61),
            run: 7,
            ended: None,
        };
        let record = CronRecord {
            fired: Some(fired),
            ..CronRecord::new(at(60))
        };
        let outcome = Outcome::Exited { code: 3 };
        assert_eq!(record.ended(6, &outcome, at(70)), None);
        let ended = record.ended(7, &outcome, at(70)).expect("its run");
        let ended = ended.fired.and_then(|fired| fired.ended).expect("it ended");
        assert_eq!((ended.at, ended.outcome), (at(70), outcome));
    }
}
