//! Queues: jobs on their way from whoever asks for them to whoever does them.
//!
//! A job is delivered at least once: it is leased to one worker at a time, and comes back when the lease ends without
//! word. Each lease has a number of its own ([`LeaseId`]), which every word about it must name: what a worker says
//! after its lease has passed on is refused (fencing; Kleppmann, "How to do distributed locking", 2016).

mod put;
mod rate;
mod terms;
mod wire;

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    name::{AppName, QueueName},
    text::excerpt,
};

pub use put::{JobToPut, PutAnswer, PutInto, PutJobs, PutsAnswered, TakenJob, TakenJobs};
pub use rate::{RATE_JOBS_MAX, Rate, RateError};
pub use terms::{JobTerms, JobTermsError, QUEUE_CONCURRENCY_MAX, check_terms};
pub use wire::{
    AwaitJobs, ExchangeJobs, ExchangedJobs, GivenJob, Heard, JobDetails, JobsChanged, Payload, PutJob,
    QueuesReady, SayJob, WantJobs,
};

/// Bytes of a job's payload: what is larger belongs into a blob, and its name into the job.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Bytes of a job's key.
pub const KEY_BYTES_MAX: usize = 200;
/// Bytes of the last error that is kept with a job.
pub const ERROR_BYTES_MAX: usize = 1 << 10;
/// Jobs in one call that puts or takes: together they stay within a few of the largest payloads.
pub const BATCH_MAX: usize = 1_000;
/// Bytes of payloads in one call: the largest job, several times.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// How long a worker has a job before it must say so again.
pub const LEASE: Duration = Duration::from_secs(60);
/// Longest time that a lease is asked for at once.
pub const LEASE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Attempts until a job is among the dead letters: with the back-off of [`after_failure`], three weeks.
pub const ATTEMPTS_MAX: u32 = 25;
/// How long a dead letter is kept.
pub const DEAD_KEPT: Duration = Duration::from_secs(14 * 24 * 3600);
/// Furthest a job can be delayed.
pub const DELAY_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Jobs of an app that are not done, in all its queues; beyond it puts are refused (Q13).
pub const JOBS_PER_APP_MAX: u64 = 10_000_000;
/// Bytes of their payloads.
pub const BYTES_PER_APP_MAX: u64 = 4 << 30;

/// A job, one of all queues: larger for a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct JobId(pub u64);

/// A text that is no job's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no job; `gilliam queue NAME` lists ids, such as 17")]
pub struct JobIdError(String);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, JobIdError> {
        let id = text.parse().map(JobId);
        id.map_err(|_| JobIdError(excerpt(text)))
    }
}

impl TryFrom<String> for JobId {
    type Error = JobIdError;

    fn try_from(text: String) -> Result<Self, JobIdError> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> String {
        id.to_string()
    }
}

/// One lease of a job: the number of times that it was leased. Whoever holds an older one holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = u32))]
pub struct LeaseId(pub u32);

/// How urgent a job is among those of its queue: a higher one goes first, and is 0 unless it is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = i8))]
pub struct Priority(pub i8);

/// A job to put into a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewJob {
    /// What the worker is given, as it is.
    pub payload: Vec<u8>,
    /// While a job of this key is in the queue and not dead, another one is not put.
    pub key: Option<String>,
    /// Not before this.
    pub not_before: Option<Timestamp>,
    /// How urgent it is.
    pub priority: Priority,
    /// Attempts until it is dead; [`ATTEMPTS_MAX`] unless it is said.
    pub attempts_max: Option<u32>,
}

/// A job that cannot be put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewJobError {
    /// Too large.
    #[error("the payload has {0} bytes; a job carries at most {PAYLOAD_BYTES_MAX}")]
    Payload(usize),
    /// A key that is empty or too long.
    #[error("the key has {0} bytes; it has 1 to {KEY_BYTES_MAX}")]
    Key(usize),
    /// Too far away.
    #[error("the job is due in more than {} days", DELAY_MAX.as_secs() / 86_400)]
    Delay,
    /// No attempts, or too many.
    #[error("{0} attempts; a job has 1 to {ATTEMPTS_MAX}")]
    Attempts(u32),
}

impl NewJob {
    /// Whether it is within the limits, `now` being the time.
    pub fn check(&self, now: Timestamp) -> Result<(), NewJobError> {
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(NewJobError::Payload(self.payload.len()));
        }
        if let Some(key) = &self.key
            && !(1..=KEY_BYTES_MAX).contains(&key.len())
        {
            return Err(NewJobError::Key(key.len()));
        }
        if self.not_before.is_some_and(|due| due > now + DELAY_MAX) {
            return Err(NewJobError::Delay);
        }
        match self.attempts_max {
            Some(n) if !(1..=ATTEMPTS_MAX).contains(&n) => Err(NewJobError::Attempts(n)),
            _ => Ok(()),
        }
    }
}

/// A queue: of one app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueId {
    /// Whose it is.
    pub app: AppName,
    /// Its name.
    pub queue: QueueName,
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.queue)
    }
}

/// A job that a worker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// Its queue.
    pub queue: QueueId,
    /// Itself.
    pub id: JobId,
    /// This lease of it.
    pub lease: LeaseId,
    /// When it ends.
    pub until: Timestamp,
    /// 1 at the first attempt.
    pub attempt: u32,
    /// What the sender sent.
    pub payload: Vec<u8>,
}

/// What a worker says of a job that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Outcome {
    /// It is done.
    Done,
    /// It failed; `after_ms` where the worker says when to try again.
    Retry {
        /// Why.
        error: String,
        /// Not before this many milliseconds from now.
        after_ms: Option<u64>,
    },
    /// It failed for ever.
    Discard {
        /// Why.
        error: String,
    },
    /// It was not begun, or given up because the worker ends: this was no attempt.
    HandBack,
    /// It goes on: the lease is to last this many milliseconds from now.
    Extend {
        /// At most [`LEASE_MAX`].
        for_ms: u64,
    },
}

/// What becomes of a job that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It waits this long.
    Wait(Duration),
    /// It is dead.
    Dead,
}

/// What becomes of a job whose attempt number `attempt` (from 1) failed; `spread` is drawn from 0 to 1.
///
/// The wait is n⁴ + 15 s, ten per cent more or less: 16 s at first, four and a half days before the last (the rule of
/// Sidekiq and River).
pub fn after_failure(attempt: u32, attempts_max: u32, asked: Option<Duration>, spread: f64) -> Next {
    if attempt >= attempts_max {
        return Next::Dead;
    }
    Next::Wait(asked.map_or_else(
        || {
            let n = f64::from(attempt.min(ATTEMPTS_MAX));
            Duration::from_secs_f64((n.powi(4) + 15.0) * (0.9 + 0.2 * spread.clamp(0.0, 1.0)))
        },
        |asked| asked.min(DELAY_MAX),
    ))
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum JobState {
    /// It may be taken.
    Ready,
    /// It waits for its time: it was delayed, or has failed.
    Scheduled,
    /// A worker has it.
    Running,
    /// It failed too often, or for ever.
    Dead,
}

impl JobState {
    /// Every state.
    pub const ALL: [JobState; 4] = [
        JobState::Ready,
        JobState::Scheduled,
        JobState::Running,
        JobState::Dead,
    ];

    /// As it is printed: `scheduled`.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Ready => "ready",
            JobState::Scheduled => "scheduled",
            JobState::Running => "running",
            JobState::Dead => "dead",
        }
    }
}

/// What is known of a job, without its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobInfo {
    /// Itself.
    pub id: JobId,
    /// Where it is.
    pub state: JobState,
    /// Attempts so far.
    pub attempts: u32,
    /// Attempts until it is dead.
    pub attempts_max: u32,
    /// How urgent it is.
    pub priority: Priority,
    /// The sender's key.
    pub key: Option<String>,
    /// Bytes of its payload.
    pub bytes: u64,
    /// When it was put.
    pub created_at: Timestamp,
    /// When it may be taken, when its lease ends, or when it died.
    pub at: Timestamp,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// How much is in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueCounts {
    /// Jobs that may be taken.
    pub ready: u64,
    /// Jobs that wait for their time.
    pub scheduled: u64,
    /// Jobs that workers have.
    pub running: u64,
    /// Jobs that are dead.
    pub dead: u64,
}

/// A queue as users see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueInfo {
    /// Its name.
    pub name: QueueName,
    /// Whether it gives out no jobs.
    pub paused: bool,
    /// How much is in it.
    #[serde(flatten)]
    pub counts: QueueCounts,
    /// When the job that may be taken next was put.
    pub oldest: Option<Timestamp>,
    /// Jobs that were done since the queue was made.
    pub done: u64,
    /// Attempts that failed.
    pub failed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_fails_waits_longer_each_time_and_dies_in_the_end() {
        let wait = |attempt| match after_failure(attempt, ATTEMPTS_MAX, None, 0.5) {
            Next::Wait(wait) => wait.as_secs(),
            Next::Dead => panic!("dead at {attempt}"),
        };
        assert_eq!([1, 2, 3, 10, 24].map(wait), [16, 31, 96, 10_015, 331_791]);
        assert_eq!(after_failure(25, ATTEMPTS_MAX, None, 0.5), Next::Dead);
        assert_eq!(after_failure(1, 1, Some(Duration::ZERO), 0.5), Next::Dead);
    }

    #[test]
    fn the_wait_is_spread_by_a_tenth_and_the_workers_word_counts() {
        let wait = |spread| after_failure(5, 25, None, spread);
        assert_eq!(wait(0.0), Next::Wait(Duration::from_secs(576)));
        assert_eq!(wait(1.0), Next::Wait(Duration::from_secs(704)));
        let asked = after_failure(5, 25, Some(Duration::from_secs(3)), 0.0);
        assert_eq!(asked, Next::Wait(Duration::from_secs(3)));
    }

    #[test]
    fn a_job_beyond_the_limits_is_named() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        let check = |change: fn(&mut NewJob)| {
            let mut job = NewJob::default();
            change(&mut job);
            job.check(now)
        };
        assert_eq!(check(|_| ()), Ok(()));
        let large = check(|job| job.payload = vec![0; PAYLOAD_BYTES_MAX + 1]);
        assert_eq!(large, Err(NewJobError::Payload(PAYLOAD_BYTES_MAX + 1)));
        assert_eq!(
            check(|job| job.key = Some(String::new())),
            Err(NewJobError::Key(0))
        );
        assert_eq!(
            check(|job| job.attempts_max = Some(0)),
            Err(NewJobError::Attempts(0))
        );
        let far = check(|job| job.not_before = "2027-06-01T00:00:00Z".parse().ok());
        assert_eq!(far, Err(NewJobError::Delay));
    }
}
