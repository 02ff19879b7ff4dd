//! What nodes say of jobs that their instances put, and what instances are told of those that they take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{JobId, LeaseId, NewJob, Payload, Priority, PutJob, QueueId};
use crate::{Timestamp, api::ApiError};

/// Jobs that instances of a node put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutJobs {
    /// Each by itself: what is wrong with one does not hinder the others.
    pub puts: Vec<PutInto>,
}

/// Jobs for one queue, all or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutInto {
    /// The queue.
    pub queue: QueueId,
    /// The jobs.
    pub jobs: Vec<JobToPut>,
}

/// A job to put.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobToPut {
    /// What the worker is given, as it is.
    #[serde(default)]
    pub payload: Payload,
    /// While a job of this key waits or runs, another one is not put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Not before so many milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// How urgent it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i8>,
    /// Attempts until it is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
}

impl JobToPut {
    /// The job, put at `now`.
    pub fn at(self, now: Timestamp) -> NewJob {
        let due = |delay| {
            now.checked_add(Duration::from_millis(delay))
                .unwrap_or(Timestamp::MAX)
        };
        NewJob {
            payload: self.payload.0,
            key: self.key,
            not_before: self.delay_ms.map(due),
            priority: Priority(self.priority.unwrap_or_default()),
            attempts_max: self.attempts,
        }
    }
}

/// The answer to [`PutJobs`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutsAnswered {
    /// What became of each, in its turn.
    pub puts: Vec<PutAnswer>,
}

/// What became of jobs that were put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PutAnswer {
    /// They are in the queue.
    Put {
        /// Each in its turn.
        jobs: Vec<PutJob>,
    },
    /// None of them is.
    Refused(ApiError),
}

/// What an instance is told that asked for jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenJobs {
    /// Those that it has from now on.
    pub jobs: Vec<TakenJob>,
}

/// A job that an instance has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenJob {
    /// Itself.
    pub id: JobId,
    /// The lease, which every word about it names.
    pub lease: LeaseId,
    /// 1 at the first attempt.
    pub attempt: u32,
    /// What the sender sent.
    pub payload: Payload,
}
