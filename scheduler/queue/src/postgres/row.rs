//! What a row of `jobs` says, and what becomes of the job that a worker has. Pure but for what it reads from
//! a row.

use std::time::Duration;

use gilliam_model::{
    Timestamp,
    queue::{
        ERROR_BYTES_MAX, JobId, JobInfo, JobState, LEASE_MAX, LeaseId, Next, Outcome, Priority, QueueId,
        after_failure,
    },
};
use tokio_postgres::Row;

use super::fault::Fault;
use crate::{QueueError, Settled};

/// A queue's number in the tables; never used again.
pub(super) type QueueNumber = i32;

/// The number of a state in the tables.
pub(super) fn number_of(state: JobState) -> u8 {
    match state {
        JobState::Ready => 0,
        JobState::Scheduled => 1,
        JobState::Running => 2,
        JobState::Dead => 3,
    }
}

/// The same, as statements take it.
pub(super) fn state(state: JobState) -> i16 {
    number_of(state).into()
}

/// What the tables say that cannot be.
pub(super) fn corrupt(what: impl Into<String>) -> Fault {
    Fault::Refused(QueueError::Corrupt(what.into()))
}

/// A count, which is none below zero.
pub(super) fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// A number that the tables hold: beyond what they can hold there is nothing.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A higher priority comes first in an index that is read from its beginning.
pub(super) fn rank(priority: Priority) -> i16 {
    127 - i16::from(priority.0)
}

pub(super) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

pub(super) fn time(at: i64) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX)
}

/// The queue of two columns.
pub(super) fn queue_id(app: &str, name: &str) -> Result<QueueId, Fault> {
    let corrupt = || corrupt(format!("a queue has the name {app:?}/{name:?}"));
    Ok(QueueId {
        app: app.parse().map_err(|_| corrupt())?,
        queue: name.parse().map_err(|_| corrupt())?,
    })
}

/// What is known of a job, of the columns that say it.
pub(super) fn info(row: &Row) -> Result<JobInfo, Fault> {
    let number = |n: i32| u32::try_from(n).unwrap_or(0);
    let state = row.get::<_, i16>("state");
    let known = JobState::ALL
        .into_iter()
        .find(|known| self::state(*known) == state);
    Ok(JobInfo {
        id: JobId(count(row.get("id"))),
        state: known.ok_or_else(|| corrupt(format!("a job has state {state}")))?,
        attempts: number(row.get("attempts")),
        attempts_max: number(row.get("attempts_max")),
        priority: Priority(i8::try_from(127 - row.get::<_, i16>("rank")).unwrap_or(0)),
        key: row.get::<_, Option<Vec<u8>>>("key").map(text),
        bytes: number(row.get("bytes")).into(),
        created_at: time(row.get("created")),
        at: time(row.get("at")),
        error: row.get::<_, Option<Vec<u8>>>("error").map(text),
    })
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A job that a worker has, locked by the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobRow {
    pub(super) id: i64,
    pub(super) queue: QueueNumber,
    pub(super) name: QueueId,
    pub(super) lease: LeaseId,
    pub(super) attempts: u32,
    pub(super) attempts_max: u32,
    pub(super) bytes: i32,
    pub(super) holder: String,
}

impl JobRow {
    /// Of the columns id, queue, app, name, lease, attempts, attempts_max, bytes, holder.
    pub(super) fn read(row: &Row) -> Result<Self, Fault> {
        let number = |n: i32| u32::try_from(n).unwrap_or(0);
        Ok(Self {
            id: row.get(0),
            queue: row.get(1),
            name: queue_id(row.get(2), row.get(3))?,
            lease: LeaseId(number(row.get(4))),
            attempts: number(row.get(5)),
            attempts_max: number(row.get(6)),
            bytes: row.get(7),
            holder: row
                .get::<_, Option<String>>(8)
                .unwrap_or_else(|| "its worker".to_string()),
        })
    }
}

/// What becomes of a job that a worker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done, and gone.
    Gone,
    /// It is this from now on.
    Is {
        state: JobState,
        /// When it may be taken, when its lease ends, or when it died.
        at: Timestamp,
        attempts: u32,
        /// Why the attempt failed, if it did.
        error: Option<String>,
    },
}

/// What a worker's word makes of its job; `spread` is drawn from 0 to 1.
pub(super) fn fate(job: &JobRow, outcome: &Outcome, now: Timestamp, spread: f64) -> (Fate, Settled) {
    let is = |state, at, attempts, error| Fate::Is {
        state,
        at,
        attempts,
        error,
    };
    match outcome {
        Outcome::Done => (Fate::Gone, Settled::Kept(None)),
        Outcome::Extend { for_ms } => {
            let until = now + Duration::from_millis(*for_ms).min(LEASE_MAX);
            // As exact as it is kept.
            let until = time(millis(until));
            (
                is(JobState::Running, until, job.attempts, None),
                Settled::Kept(Some(until)),
            )
        }
        Outcome::HandBack => {
            let attempts = job.attempts.saturating_sub(1);
            (is(JobState::Ready, now, attempts, None), Settled::Kept(None))
        }
        Outcome::Retry { error, after_ms } => {
            let asked = after_ms.map(Duration::from_millis);
            match after_failure(job.attempts, job.attempts_max, asked, spread) {
                Next::Dead => (
                    is(JobState::Dead, now, job.attempts, Some(cut(error))),
                    Settled::Dead,
                ),
                Next::Wait(wait) => {
                    let due = now + wait;
                    let state = match millis(due) > millis(now) {
                        true => JobState::Scheduled,
                        false => JobState::Ready,
                    };
                    (
                        is(state, due, job.attempts, Some(cut(error))),
                        Settled::Kept(None),
                    )
                }
            }
        }
        Outcome::Discard { error } => (
            is(JobState::Dead, now, job.attempts, Some(cut(error))),
            Settled::Dead,
        ),
    }
}

/// An error as it is kept.
fn cut(error: &str) -> String {
    error[..error.floor_char_boundary(ERROR_BYTES_MAX)].to_string()
}
