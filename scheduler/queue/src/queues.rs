//! The face of queues, whatever keeps them.

use std::{collections::BTreeSet, path::Path};

use gilliam_model::{
    Timestamp,
    name::{AppName, QueueName},
    queue::{
        BATCH_BYTES_MAX, BATCH_MAX, JobId, JobInfo, JobState, Leased, NewJob, QueueId, QueueInfo, Rate,
        SayJob,
    },
};
use tokio::sync::watch;

use crate::{
    OpenError, QueueError,
    file::File,
    postgres::{Postgres, PostgresConfig},
};

/// What became of a job that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is in the queue.
    New(JobId),
    /// Another of its key is (Q10), which is not done yet.
    Exists(JobId),
}

impl Put {
    /// The job that is in the queue.
    pub fn id(self) -> JobId {
        match self {
            Put::New(id) | Put::Exists(id) => id,
        }
    }
}

/// Jobs that a worker asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Of which queue.
    pub queue: QueueId,
    /// How many at most.
    pub jobs: usize,
    /// How many of the queue may run at once, here and elsewhere.
    pub running_max: Option<u64>,
    /// How many of the queue may begin, here and elsewhere.
    pub rate: Option<Rate>,
}

/// What became of a worker's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is so. With the end of the lease, where there is one still.
    Kept(Option<Timestamp>),
    /// The job goes among the dead letters (Q12).
    Dead,
    /// The lease has passed on (Q11): the word changed nothing.
    Lost,
}

/// All queues of a cluster; a handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Queues(Kept);

/// What keeps them.
#[derive(Debug, Clone)]
enum Kept {
    File(File),
    Postgres(Postgres),
}

/// Has whatever keeps the queues do the same.
macro_rules! of_either {
    ($queues:expr, $kept:ident => $does:expr) => {
        match &$queues.0 {
            Kept::File($kept) => $does,
            Kept::Postgres($kept) => $does,
        }
    };
}

impl Queues {
    /// Opens the queues of a data folder, or makes them. Whoever calls holds the folder's lock.
    pub fn open(data: &Path) -> Result<Self, OpenError> {
        File::open(data).map(|file| Self(Kept::File(file)))
    }

    /// The queues of a PostgreSQL, which several servers may share. It connects when they are used, and makes
    /// its tables then; what cannot be done meanwhile says so.
    pub fn postgres(config: PostgresConfig) -> Self {
        Self(Kept::Postgres(Postgres::new(config)))
    }

    /// Puts jobs into a queue, all or none; answers for each in its turn.
    pub async fn put(
        &self,
        queue: &QueueId,
        jobs: Vec<NewJob>,
        now: Timestamp,
    ) -> Result<Vec<Put>, QueueError> {
        within("jobs", jobs.len(), BATCH_MAX)?;
        let bytes = jobs.iter().map(|job| job.payload.len()).sum();
        within("bytes", bytes, BATCH_BYTES_MAX)?;
        for (index, job) in jobs.iter().enumerate() {
            let number = index + 1;
            job.check(now)
                .map_err(|error| QueueError::Job { number, error })?;
        }
        of_either!(self, kept => kept.put(queue, jobs, now).await)
    }

    /// Leases jobs that may be taken to `holder`: the most urgent of each queue first, and of those the oldest.
    pub async fn take(
        &self,
        wants: Vec<Want>,
        holder: &str,
        now: Timestamp,
    ) -> Result<Vec<Leased>, QueueError> {
        of_either!(self, kept => kept.take(wants, holder, now).await)
    }

    /// Does what workers say of their jobs; answers for each in its turn.
    pub async fn settle(&self, said: Vec<SayJob>, now: Timestamp) -> Result<Vec<Settled>, QueueError> {
        of_either!(self, kept => kept.settle(said, now).await)
    }

    /// Ends the leases of holders that are gone, each an attempt that failed; answers how many there were.
    ///
    /// A holder is gone with all whose names begin with its own and a slash.
    pub async fn holder_gone(&self, holder: &str, now: Timestamp) -> Result<u64, QueueError> {
        of_either!(self, kept => kept.holder_gone(holder, now).await)
    }

    /// Does what time brings: leases that end, jobs that become due, dead letters that were kept long enough.
    /// Answers when there is something to do again.
    pub async fn tick(&self, now: Timestamp) -> Result<Option<Timestamp>, QueueError> {
        of_either!(self, kept => kept.tick(now).await)
    }

    /// Has a queue give out no jobs, or give them out again. Answers false when it is so already.
    pub async fn pause(&self, queue: &QueueId, paused: bool) -> Result<bool, QueueError> {
        of_either!(self, kept => kept.pause(queue, paused).await)
    }

    /// Removes the jobs of these states, but for those that workers have; answers how many.
    pub async fn purge(&self, queue: &QueueId, states: &[JobState]) -> Result<u64, QueueError> {
        of_either!(self, kept => kept.purge(queue, states).await)
    }

    /// Has dead letters begin anew, one or all; answers how many.
    pub async fn retry(&self, queue: &QueueId, id: Option<JobId>, now: Timestamp) -> Result<u64, QueueError> {
        of_either!(self, kept => kept.retry(queue, id, now).await)
    }

    /// Removes all queues of an app.
    pub async fn remove(&self, app: &AppName) -> Result<(), QueueError> {
        of_either!(self, kept => kept.remove(app).await)
    }

    /// The queues of an app, by name.
    pub async fn list(&self, app: &AppName) -> Result<Vec<QueueInfo>, QueueError> {
        of_either!(self, kept => kept.list(app).await)
    }

    /// The apps that have queues.
    pub async fn apps(&self) -> Result<BTreeSet<AppName>, QueueError> {
        of_either!(self, kept => kept.apps().await)
    }

    /// One queue, if anything was ever put into it.
    pub async fn info(&self, queue: &QueueId) -> Result<Option<QueueInfo>, QueueError> {
        let all = self.list(&queue.app).await?;
        Ok(all.into_iter().find(|info| info.name == queue.queue))
    }

    /// Jobs of one state, in the order in which they are taken, or died; at most `most`.
    pub async fn jobs(
        &self,
        queue: &QueueId,
        state: JobState,
        most: usize,
    ) -> Result<Vec<JobInfo>, QueueError> {
        of_either!(self, kept => kept.jobs(queue, state, most).await)
    }

    /// One job with its payload.
    pub async fn job(&self, queue: &QueueId, id: JobId) -> Result<Option<(JobInfo, Vec<u8>)>, QueueError> {
        of_either!(self, kept => kept.job(queue, id).await)
    }

    /// Wakes whoever takes: its value changes whenever jobs have become ready, after they are durable.
    pub fn ready(&self) -> watch::Receiver<u64> {
        of_either!(self, kept => kept.ready())
    }

    /// Those of `queues` from which a job could be taken now.
    pub fn giving(&self, queues: &[QueueId]) -> Vec<QueueId> {
        of_either!(self, kept => kept.giving(queues))
    }

    /// The queue of these names.
    pub fn id(app: &AppName, queue: &QueueName) -> QueueId {
        QueueId {
            app: app.clone(),
            queue: queue.clone(),
        }
    }
}

fn within(what: &'static str, found: usize, max: usize) -> Result<(), QueueError> {
    match found <= max {
        true => Ok(()),
        false => Err(QueueError::Batch { what, found, max }),
    }
}
