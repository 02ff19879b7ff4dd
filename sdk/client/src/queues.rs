//! Queues: the calls of users, and those of the nodes whose workers do the jobs.

use std::time::Duration;

use gilliam_model::{
    name::{AppName, NodeName, QueueName},
    queue::{
        AwaitJobs, ExchangeJobs, ExchangedJobs, JobDetails, JobId, JobInfo, JobState, JobsChanged, PutJob,
        PutJobs, PutsAnswered, QueueInfo, QueuesReady,
    },
};
use reqwest::{Method, header};

use crate::{Client, ClientError, call::CALL_TIMEOUT};

/// What is said with a job beside its payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// While a job of this key waits or runs, another one is not put.
    pub key: Option<String>,
    /// Not before this from now.
    pub delay: Option<Duration>,
    /// How urgent it is.
    pub priority: Option<i8>,
    /// Attempts until it is dead.
    pub attempts: Option<u32>,
}

fn path(app: &AppName, queue: &QueueName) -> String {
    format!("/v1/apps/{app}/queues/{queue}")
}

impl Client {
    /// The queues of an app.
    pub async fn queues(&self, app: &AppName) -> Result<Vec<QueueInfo>, ClientError> {
        self.get(&format!("/v1/apps/{app}/queues")).await
    }

    /// One queue.
    pub async fn queue(&self, app: &AppName, queue: &QueueName) -> Result<QueueInfo, ClientError> {
        self.get(&path(app, queue)).await
    }

    /// Puts a job into a queue.
    pub async fn put_job(
        &self,
        app: &AppName,
        queue: &QueueName,
        payload: Vec<u8>,
        options: &PutOptions,
    ) -> Result<PutJob, ClientError> {
        let mut query: Vec<(&str, String)> = Vec::new();
        query.extend(options.key.as_ref().map(|key| ("key", key.clone())));
        query.extend(
            options
                .delay
                .map(|delay| ("delay_ms", delay.as_millis().to_string())),
        );
        query.extend(
            options
                .priority
                .map(|priority| ("priority", priority.to_string())),
        );
        query.extend(
            options
                .attempts
                .map(|attempts| ("attempts", attempts.to_string())),
        );
        let call = self
            .request(Method::POST, &format!("{}/jobs", path(app, queue)))
            .query(&query)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(payload)
            .timeout(CALL_TIMEOUT);
        self.json(call).await
    }

    /// Jobs of a queue that are in one state.
    pub async fn jobs(
        &self,
        app: &AppName,
        queue: &QueueName,
        state: JobState,
        limit: usize,
    ) -> Result<Vec<JobInfo>, ClientError> {
        let call = self
            .request(Method::GET, &format!("{}/jobs", path(app, queue)))
            .query(&[("state", state.as_str()), ("limit", &limit.to_string())])
            .timeout(CALL_TIMEOUT);
        self.json(call).await
    }

    /// One job with its payload.
    pub async fn job(&self, app: &AppName, queue: &QueueName, id: JobId) -> Result<JobDetails, ClientError> {
        self.get(&format!("{}/jobs/{id}", path(app, queue))).await
    }

    /// Has a dead job begin anew, or all of them.
    pub async fn retry_jobs(
        &self,
        app: &AppName,
        queue: &QueueName,
        id: Option<JobId>,
    ) -> Result<JobsChanged, ClientError> {
        let query: Vec<_> = id.map(|id| ("id", id.to_string())).into_iter().collect();
        let call = self
            .request(Method::POST, &format!("{}/retry", path(app, queue)))
            .query(&query);
        self.json(call.timeout(CALL_TIMEOUT)).await
    }

    /// Has a queue give out no jobs, or give them out again.
    pub async fn pause_queue(
        &self,
        app: &AppName,
        queue: &QueueName,
        paused: bool,
    ) -> Result<(), ClientError> {
        let verb = if paused { "pause" } else { "resume" };
        self.finish(self.request(Method::POST, &format!("{}/{verb}", path(app, queue))))
            .await
    }

    /// Removes jobs of one state, or all that wait.
    pub async fn purge_queue(
        &self,
        app: &AppName,
        queue: &QueueName,
        state: Option<JobState>,
    ) -> Result<JobsChanged, ClientError> {
        let query: Vec<_> = state.map(|state| ("state", state.as_str())).into_iter().collect();
        let call = self
            .request(Method::DELETE, &format!("{}/jobs", path(app, queue)))
            .query(&query);
        self.json(call.timeout(CALL_TIMEOUT)).await
    }

    /// Says what became of a node's jobs, and takes others.
    pub async fn exchange_jobs(
        &self,
        node: &NodeName,
        exchange: &ExchangeJobs,
    ) -> Result<ExchangedJobs, ClientError> {
        self.send(Method::POST, &format!("/v1/nodes/{node}/jobs"), exchange)
            .await
    }

    /// Puts jobs of a node's instances.
    pub async fn put_jobs(&self, node: &NodeName, puts: &PutJobs) -> Result<PutsAnswered, ClientError> {
        self.send(Method::POST, &format!("/v1/nodes/{node}/puts"), puts)
            .await
    }

    /// Waits until one of a node's queues has jobs; all in all up to `limit`.
    pub async fn await_jobs(
        &self,
        node: &NodeName,
        wait: &AwaitJobs,
        limit: Duration,
    ) -> Result<QueuesReady, ClientError> {
        let call = self.request(Method::POST, &format!("/v1/nodes/{node}/queues"));
        self.json(call.json(wait).timeout(limit)).await
    }
}
