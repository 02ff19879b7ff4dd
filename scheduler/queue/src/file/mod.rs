//! Queues in one file of the data folder, which one thread writes.
//!
//! In flow operations, out flow their answers when they are durable. What waits while one group is made
//! durable goes together with the next. Reads are as of the last commit.

mod jobs;
mod state;
mod table;
mod work;
mod writer;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use gilliam_model::{
    Timestamp,
    name::AppName,
    queue::{JobId, JobInfo, JobState, Leased, NewJob, QueueId, QueueInfo, SayJob},
};
use tokio::sync::{mpsc, oneshot, watch};

use self::writer::{Request, Shared};
use crate::{OpenError, Put, QueueError, Settled, Want};

/// Operations that wait for the writer; who comes later waits to be let in.
const REQUESTS_MAX: usize = 1_024;

/// The file's queues; a handle.
#[derive(Debug, Clone)]
pub(crate) struct File {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
    ready: watch::Receiver<u64>,
}

impl File {
    pub(crate) fn open(data: &Path) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::open(data)?);
        let (requests, incoming) = mpsc::channel(REQUESTS_MAX);
        let (woken, ready) = watch::channel(0);
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("queues".to_string())
            .spawn(move || writer::run(&writer, incoming, &woken))
            .map_err(|error| writer::refused(data, &error.to_string()))?;
        Ok(Self {
            requests,
            shared,
            ready,
        })
    }

    pub(crate) fn ready(&self) -> watch::Receiver<u64> {
        self.ready.clone()
    }

    pub(crate) fn giving(&self, queues: &[QueueId]) -> Vec<QueueId> {
        self.shared.giving(queues)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> Request,
    ) -> Result<T, QueueError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(request(answer)).await;
        sent.map_err(|_| QueueError::Closed)?;
        answered.await.map_err(|_| QueueError::Closed)?
    }

    pub(crate) async fn put(
        &self,
        queue: &QueueId,
        jobs: Vec<NewJob>,
        now: Timestamp,
    ) -> Result<Vec<Put>, QueueError> {
        let queue = queue.clone();
        self.ask(|answer| Request::Put {
            queue,
            jobs,
            now,
            answer,
        })
        .await
    }

    pub(crate) async fn take(
        &self,
        wants: Vec<Want>,
        holder: &str,
        now: Timestamp,
    ) -> Result<Vec<Leased>, QueueError> {
        let holder = holder.to_string();
        self.ask(|answer| Request::Take {
            wants,
            holder,
            now,
            answer,
        })
        .await
    }

    pub(crate) async fn settle(&self, said: Vec<SayJob>, now: Timestamp) -> Result<Vec<Settled>, QueueError> {
        self.ask(|answer| Request::Settle { said, now, answer }).await
    }

    pub(crate) async fn holder_gone(&self, holder: &str, now: Timestamp) -> Result<u64, QueueError> {
        let holder = holder.to_string();
        self.ask(|answer| Request::HolderGone { holder, now, answer })
            .await
    }

    pub(crate) async fn tick(&self, now: Timestamp) -> Result<Option<Timestamp>, QueueError> {
        self.ask(|answer| Request::Tick { now, answer }).await
    }

    pub(crate) async fn pause(&self, queue: &QueueId, paused: bool) -> Result<bool, QueueError> {
        let queue = queue.clone();
        self.ask(|answer| Request::Pause {
            queue,
            paused,
            answer,
        })
        .await
    }

    pub(crate) async fn purge(&self, queue: &QueueId, states: &[JobState]) -> Result<u64, QueueError> {
        let (queue, states) = (queue.clone(), states.to_vec());
        self.ask(|answer| Request::Purge {
            queue,
            states,
            answer,
        })
        .await
    }

    pub(crate) async fn retry(
        &self,
        queue: &QueueId,
        id: Option<JobId>,
        now: Timestamp,
    ) -> Result<u64, QueueError> {
        let queue = queue.clone();
        self.ask(|answer| Request::Retry {
            queue,
            id,
            now,
            answer,
        })
        .await
    }

    pub(crate) async fn remove(&self, app: &AppName) -> Result<(), QueueError> {
        let app = app.clone();
        self.ask(|answer| Request::Remove { app, answer }).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || read(&shared));
        read.await.map_err(|_| QueueError::Closed)?
    }

    pub(crate) async fn list(&self, app: &AppName) -> Result<Vec<QueueInfo>, QueueError> {
        let app = app.clone();
        self.read(move |shared| jobs::list(&shared.snapshot()?, &app))
            .await
    }

    pub(crate) async fn apps(&self) -> Result<BTreeSet<AppName>, QueueError> {
        self.read(|shared| jobs::apps(&shared.snapshot()?)).await
    }

    pub(crate) async fn jobs(
        &self,
        queue: &QueueId,
        state: JobState,
        most: usize,
    ) -> Result<Vec<JobInfo>, QueueError> {
        let queue = queue.clone();
        self.read(move |shared| jobs::of_state(&shared.snapshot()?, &queue, state, most))
            .await
    }

    pub(crate) async fn job(
        &self,
        queue: &QueueId,
        id: JobId,
    ) -> Result<Option<(JobInfo, Vec<u8>)>, QueueError> {
        let queue = queue.clone();
        self.read(move |shared| jobs::one(&shared.snapshot()?, &queue, id))
            .await
    }
}
