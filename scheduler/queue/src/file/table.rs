//! What the file holds: its tables and the bytes of its records.
//!
//! A job has one row in `JOBS` and `PAYLOADS` while it is there, and one in the table of its state: `READY`,
//! `DUE`, `LEASES` (with `HOLDERS`) or `DEAD`. Whoever moves it writes both.

use gilliam_model::Timestamp;
use gilliam_model::queue::{JobId, JobInfo, JobState, LeaseId, Priority};
use redb::TableDefinition;
use serde::{Deserialize, Serialize};

use crate::QueueError;

/// Milliseconds since 1970, as keys of tables hold them.
pub(super) type Millis = u64;
/// A queue's number in keys; never used again.
pub(super) type QueueNumber = u32;

/// `APP/QUEUE` → [`QueueRecord`].
pub(super) const QUEUES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("queues");
/// Job → [`JobRecord`].
pub(super) const JOBS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("jobs");
/// Job → its checksum, then what the sender sent.
pub(super) const PAYLOADS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("payloads");
/// Queue, [`rank`], job: in the order in which they are taken.
pub(super) const READY: TableDefinition<'static, (QueueNumber, u8, u64), ()> = TableDefinition::new("ready");
/// When it becomes ready, job → queue.
pub(super) const DUE: TableDefinition<'static, (Millis, u64), QueueNumber> = TableDefinition::new("due");
/// When the lease ends, job → queue.
pub(super) const LEASES: TableDefinition<'static, (Millis, u64), QueueNumber> =
    TableDefinition::new("leases");
/// Holder, job.
pub(super) const HOLDERS: TableDefinition<'static, (&str, u64), ()> = TableDefinition::new("holders");
/// Queue, when it died, job.
pub(super) const DEAD: TableDefinition<'static, (QueueNumber, Millis, u64), ()> =
    TableDefinition::new("dead");
/// Queue, key → job.
pub(super) const KEYS: TableDefinition<'static, (QueueNumber, &str), u64> = TableDefinition::new("keys");
/// The numbers below.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// Version of these tables.
pub(super) const META_LAYOUT: &str = "layout";
/// The next job's number.
pub(super) const META_NEXT_JOB: &str = "next_job";
/// The next queue's number.
pub(super) const META_NEXT_QUEUE: &str = "next_queue";

const CHECKSUM_BYTES: usize = 8;

/// A queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QueueRecord {
    pub(super) number: QueueNumber,
    pub(super) paused: bool,
    pub(super) ready: u64,
    pub(super) scheduled: u64,
    pub(super) running: u64,
    pub(super) dead: u64,
    /// Payload bytes of all its jobs.
    pub(super) bytes: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
    /// What a rate remembers: microseconds since 1970.
    #[serde(default)]
    pub(super) paced_us: u64,
}

impl QueueRecord {
    /// Jobs that are there.
    pub(super) fn jobs(&self) -> u64 {
        self.ready + self.scheduled + self.running + self.dead
    }

    /// Whether a job could be taken.
    pub(super) fn gives(&self) -> bool {
        self.ready > 0 && !self.paused
    }

    /// The count of a state.
    pub(super) fn count(&mut self, state: JobState) -> &mut u64 {
        match state {
            JobState::Ready => &mut self.ready,
            JobState::Scheduled => &mut self.scheduled,
            JobState::Running => &mut self.running,
            JobState::Dead => &mut self.dead,
        }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobRecord {
    #[serde(rename = "q")]
    pub(super) queue: QueueNumber,
    #[serde(rename = "s")]
    pub(super) state: JobState,
    /// When it may be taken, when its lease ends, or when it died.
    #[serde(rename = "t")]
    pub(super) at: Millis,
    #[serde(rename = "a")]
    pub(super) attempts: u32,
    #[serde(rename = "m")]
    pub(super) attempts_max: u32,
    #[serde(rename = "l")]
    pub(super) lease: LeaseId,
    #[serde(rename = "p")]
    pub(super) priority: Priority,
    #[serde(rename = "c")]
    pub(super) created: Millis,
    #[serde(rename = "b")]
    pub(super) bytes: u64,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub(super) holder: Option<String>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl JobRecord {
    pub(super) fn info(self, id: u64) -> JobInfo {
        JobInfo {
            id: JobId(id),
            state: self.state,
            attempts: self.attempts,
            attempts_max: self.attempts_max,
            priority: self.priority,
            key: self.key,
            bytes: self.bytes,
            created_at: time(self.created),
            at: time(self.at),
            error: self.error,
        }
    }
}

/// A higher priority comes first in a table that is read from its beginning.
pub(super) fn rank(priority: Priority) -> u8 {
    127_i16
        .abs_diff(i16::from(priority.0))
        .try_into()
        .unwrap_or(u8::MAX)
}

/// The milliseconds of a time; those before 1970 are 0.
pub(super) fn millis(time: Timestamp) -> Millis {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

/// The time of milliseconds that [`millis`] made.
pub(super) fn time(at: Millis) -> Timestamp {
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX)
}

pub(super) fn encode(record: &impl Serialize) -> Vec<u8> {
    let body = serde_json::to_vec(record).expect("a record is plain data");
    sealed(&body)
}

pub(super) fn decode<T: for<'a> Deserialize<'a>>(what: &str, bytes: &[u8]) -> Result<T, QueueError> {
    let corrupt = |reason: String| QueueError::Corrupt(format!("{what}: {reason}"));
    serde_json::from_slice(open(what, bytes)?).map_err(|error| corrupt(error.to_string()))
}

/// The bytes behind their checksum.
pub(super) fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHECKSUM_BYTES + body.len());
    bytes.extend_from_slice(&checksum(body));
    bytes.extend_from_slice(body);
    bytes
}

/// The bytes that [`sealed`] was given, if they are still those.
pub(super) fn open<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a [u8], QueueError> {
    match bytes.split_first_chunk::<CHECKSUM_BYTES>() {
        Some((sum, body)) if *sum == checksum(body) => Ok(body),
        _ => Err(QueueError::Corrupt(format!(
            "{what}: its checksum does not match"
        ))),
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&blake3::hash(body).as_bytes()[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_priorities_come_first() {
        let ranks = [127, 1, 0, -1, -128].map(|n| rank(Priority(n)));
        assert_eq!(ranks, [0, 126, 127, 128, 255]);
    }

    #[test]
    fn any_flipped_bit_shows() {
        let record = QueueRecord {
            number: 7,
            ..QueueRecord::default()
        };
        let bytes = encode(&record);
        assert_eq!(decode::<QueueRecord>("queue", &bytes), Ok(record));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<QueueRecord>("queue", &flipped).is_err(), "{bit}");
        }
    }
}
