//! Reading: queues and jobs as of the last commit.

use std::collections::BTreeSet;

use gilliam_model::{
    name::AppName,
    queue::{JobId, JobInfo, JobState, QueueCounts, QueueId, QueueInfo},
};
use redb::{ReadTransaction, ReadableTable as _};

use super::table::{
    self, DEAD, DUE, JOBS, JobRecord, LEASES, PAYLOADS, QUEUES, QueueNumber, QueueRecord, READY, time,
};
use crate::QueueError;

/// A read that failed.
struct Unread(QueueError);

impl<E: Into<redb::Error>> From<E> for Unread {
    fn from(error: E) -> Self {
        Unread(QueueError::Corrupt(error.into().to_string()))
    }
}

type Read<T> = Result<T, Unread>;

pub(super) fn list(snapshot: &ReadTransaction, app: &AppName) -> Result<Vec<QueueInfo>, QueueError> {
    let read = || -> Read<Vec<QueueInfo>> {
        let (queues, jobs, ready) = (
            snapshot.open_table(QUEUES)?,
            snapshot.open_table(JOBS)?,
            snapshot.open_table(READY)?,
        );
        let prefix = format!("{app}/");
        let mut infos = Vec::new();
        for entry in queues.range(prefix.as_str()..)? {
            let (key, bytes) = entry?;
            let Some(name) = key.value().strip_prefix(&prefix) else {
                break;
            };
            let record: QueueRecord = table::decode("a queue", bytes.value()).map_err(Unread)?;
            let number = record.number;
            let first = ready.range((number, 0, 0)..=(number, u8::MAX, u64::MAX))?.next();
            let oldest = match first {
                Some(entry) => Some(job(&jobs, entry?.0.value().2)?),
                None => None,
            };
            let corrupt = |_| Unread(QueueError::Corrupt(format!("a queue has the name {name:?}")));
            infos.push(QueueInfo {
                name: name.parse().map_err(corrupt)?,
                paused: record.paused,
                counts: QueueCounts {
                    ready: record.ready,
                    scheduled: record.scheduled,
                    running: record.running,
                    dead: record.dead,
                },
                oldest: oldest.map(|job| time(job.created)),
                done: record.done,
                failed: record.failed,
            });
        }
        Ok(infos)
    };
    read().map_err(|Unread(error)| error)
}

pub(super) fn apps(snapshot: &ReadTransaction) -> Result<BTreeSet<AppName>, QueueError> {
    let read = || -> Read<BTreeSet<AppName>> {
        let mut apps = BTreeSet::new();
        for entry in snapshot.open_table(QUEUES)?.iter()? {
            let (key, _) = entry?;
            let app = key.value().split('/').next().and_then(|app| app.parse().ok());
            apps.extend(app);
        }
        Ok(apps)
    };
    read().map_err(|Unread(error)| error)
}

pub(super) fn of_state(
    snapshot: &ReadTransaction,
    queue: &QueueId,
    state: JobState,
    most: usize,
) -> Result<Vec<JobInfo>, QueueError> {
    let read = || -> Read<Vec<JobInfo>> {
        let Some(number) = number(snapshot, queue)? else {
            return Ok(Vec::new());
        };
        let jobs = snapshot.open_table(JOBS)?;
        let mut ids = Vec::new();
        match state {
            JobState::Ready => {
                let ready = snapshot.open_table(READY)?;
                for entry in ready
                    .range((number, 0, 0)..=(number, u8::MAX, u64::MAX))?
                    .take(most)
                {
                    ids.push(entry?.0.value().2);
                }
            }
            JobState::Dead => {
                let dead = snapshot.open_table(DEAD)?;
                for entry in dead
                    .range((number, 0, 0)..=(number, u64::MAX, u64::MAX))?
                    .take(most)
                {
                    ids.push(entry?.0.value().2);
                }
            }
            JobState::Scheduled | JobState::Running => {
                let by_time = match state {
                    JobState::Scheduled => DUE,
                    _ => LEASES,
                };
                for entry in snapshot.open_table(by_time)?.iter()? {
                    let (key, queue) = entry?;
                    if queue.value() == number {
                        ids.push(key.value().1);
                    }
                    if ids.len() == most {
                        break;
                    }
                }
            }
        }
        ids.into_iter().map(|id| Ok(job(&jobs, id)?.info(id))).collect()
    };
    read().map_err(|Unread(error)| error)
}

pub(super) fn one(
    snapshot: &ReadTransaction,
    queue: &QueueId,
    id: JobId,
) -> Result<Option<(JobInfo, Vec<u8>)>, QueueError> {
    let read = || -> Read<Option<(JobInfo, Vec<u8>)>> {
        let (jobs, payloads) = (snapshot.open_table(JOBS)?, snapshot.open_table(PAYLOADS)?);
        let (Some(number), Some(bytes)) = (number(snapshot, queue)?, jobs.get(id.0)?) else {
            return Ok(None);
        };
        let job: JobRecord = table::decode("a job", bytes.value()).map_err(Unread)?;
        let Some(payload) = payloads.get(id.0)?.filter(|_| job.queue == number) else {
            return Ok(None);
        };
        let payload = table::open("a payload", payload.value()).map_err(Unread)?;
        Ok(Some((job.info(id.0), payload.to_vec())))
    };
    read().map_err(|Unread(error)| error)
}

fn number(snapshot: &ReadTransaction, queue: &QueueId) -> Read<Option<QueueNumber>> {
    let queues = snapshot.open_table(QUEUES)?;
    let Some(bytes) = queues.get(queue.to_string().as_str())? else {
        return Ok(None);
    };
    let record: QueueRecord = table::decode("a queue", bytes.value()).map_err(Unread)?;
    Ok(Some(record.number))
}

fn job(jobs: &redb::ReadOnlyTable<u64, &'static [u8]>, id: u64) -> Read<JobRecord> {
    let lacking = || Unread(QueueError::Corrupt(format!("job {id} is listed and not there")));
    let bytes = jobs.get(id)?.ok_or_else(lacking)?;
    table::decode("a job", bytes.value()).map_err(Unread)
}
