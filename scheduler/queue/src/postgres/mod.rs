//! Queues in PostgreSQL, which several servers share.
//!
//! In flow operations, out flow their answers when they are committed. `put`, `take` and `settle` are done
//! many at a time (`lane`), each kind on connections of its own; `listen` tells the other servers, `vacuum`
//! keeps the tables small.
//!
//! Invariant: an answer follows the commit, and a commit is on PostgreSQL's disk (`synchronous_commit`).
//! Invariant: two servers never have the same job: it is leased under a lock of its row.

mod clock;
mod config;
mod engine;
mod fault;
mod giving;
mod lane;
mod listen;
mod mend;
mod put;
mod read;
mod row;
mod schema;
mod settle;
mod take;
mod tally;
mod tls;
mod vacuum;

use std::{collections::BTreeSet, sync::Arc};

use gilliam_model::{
    Timestamp,
    name::AppName,
    queue::{JobId, JobInfo, JobState, Leased, NewJob, QueueId, QueueInfo, SayJob},
};
use tokio::{sync::watch, task::JoinSet};

pub use self::config::{PostgresConfig, PostgresUrlError};
use self::{engine::Engine, lane::Lane, put::PutJobs, settle::SettleJobs, take::TakeJobs};
use crate::{Put, QueueError, Settled, Want};

/// PostgreSQL's queues; a handle.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    engine: Arc<Engine>,
    puts: Lane<PutJobs>,
    takes: Lane<TakeJobs>,
    settles: Lane<SettleJobs>,
    /// End with the last handle.
    _tasks: Arc<JoinSet<()>>,
}

impl Postgres {
    /// Connects when it is used: a server that is away is no reason not to start.
    pub(crate) fn new(config: PostgresConfig) -> Self {
        let engine = Arc::new(Engine::new(config));
        let mut tasks = JoinSet::new();
        tasks.spawn(listen::talk(Arc::clone(&engine)));
        tasks.spawn(vacuum::keep(Arc::clone(&engine)));
        Self {
            puts: Lane::start(&engine, &mut tasks),
            takes: Lane::start(&engine, &mut tasks),
            settles: Lane::start(&engine, &mut tasks),
            engine,
            _tasks: Arc::new(tasks),
        }
    }

    pub(crate) fn ready(&self) -> watch::Receiver<u64> {
        self.engine.giving.ready()
    }

    pub(crate) fn giving(&self, queues: &[QueueId]) -> Vec<QueueId> {
        self.engine.giving.of(queues)
    }

    pub(crate) async fn put(
        &self,
        queue: &QueueId,
        jobs: Vec<NewJob>,
        now: Timestamp,
    ) -> Result<Vec<Put>, QueueError> {
        let queue = queue.clone();
        self.puts.ask(PutJobs { queue, jobs, now }).await
    }

    pub(crate) async fn take(
        &self,
        wants: Vec<Want>,
        holder: &str,
        now: Timestamp,
    ) -> Result<Vec<Leased>, QueueError> {
        let holder = holder.to_string();
        self.takes.ask(TakeJobs { wants, holder, now }).await
    }

    pub(crate) async fn settle(&self, said: Vec<SayJob>, now: Timestamp) -> Result<Vec<Settled>, QueueError> {
        self.settles.ask(SettleJobs { said, now }).await
    }

    pub(crate) async fn holder_gone(&self, holder: &str, now: Timestamp) -> Result<u64, QueueError> {
        let gone = clock::holder_gone(&self.engine, holder, now);
        self.engine.done(gone).await
    }

    pub(crate) async fn tick(&self, now: Timestamp) -> Result<Option<Timestamp>, QueueError> {
        self.engine.done(clock::tick(&self.engine, now)).await
    }

    pub(crate) async fn pause(&self, queue: &QueueId, paused: bool) -> Result<bool, QueueError> {
        let changed = mend::pause(&self.engine, queue, paused);
        self.engine.done(changed).await
    }

    pub(crate) async fn purge(&self, queue: &QueueId, states: &[JobState]) -> Result<u64, QueueError> {
        mend::purge(&self.engine, queue, states).await
    }

    pub(crate) async fn retry(
        &self,
        queue: &QueueId,
        id: Option<JobId>,
        now: Timestamp,
    ) -> Result<u64, QueueError> {
        mend::retry(&self.engine, queue, id, now).await
    }

    pub(crate) async fn remove(&self, app: &AppName) -> Result<(), QueueError> {
        mend::remove(&self.engine, app).await
    }

    pub(crate) async fn list(&self, app: &AppName) -> Result<Vec<QueueInfo>, QueueError> {
        self.engine.done(read::list(&self.engine, app)).await
    }

    pub(crate) async fn apps(&self) -> Result<BTreeSet<AppName>, QueueError> {
        self.engine.done(read::apps(&self.engine)).await
    }

    pub(crate) async fn jobs(
        &self,
        queue: &QueueId,
        state: JobState,
        most: usize,
    ) -> Result<Vec<JobInfo>, QueueError> {
        let jobs = read::jobs(&self.engine, queue, state, most);
        self.engine.done(jobs).await
    }

    pub(crate) async fn job(
        &self,
        queue: &QueueId,
        id: JobId,
    ) -> Result<Option<(JobInfo, Vec<u8>)>, QueueError> {
        self.engine.done(read::job(&self.engine, queue, id)).await
    }
}
