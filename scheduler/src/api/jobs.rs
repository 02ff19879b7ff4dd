//! The node protocol's part about jobs: what a node says of those that it has, and which it is given.
//!
//! A node waits for queues, then takes: what it takes is its own from the moment of the answer, so that a
//! wait that is cut off loses nothing.

use std::time::Duration;

use axum::{Extension, Json, extract::State};
use gilliam_model::{
    Timestamp,
    name::NodeName,
    queue::{
        AwaitJobs, BATCH_MAX, ExchangeJobs, ExchangedJobs, GivenJob, Heard, Payload, QueueId, QueuesReady,
    },
    text::excerpt,
};
use gilliam_queue::{Settled, Want};

use crate::{
    api::{
        Api,
        auth::CallingNode,
        extract::{self, LastName},
        openapi::Errors,
    },
    queues::holder,
    refusal::Refusal,
};

/// Largest body: words about a full batch, each with a long error.
const EXCHANGE_BYTES_MAX: usize = 4 << 20;
/// Longest wait for jobs.
const WAIT_MS_MAX: u64 = 60_000;
/// Queues that a node may wait for at once.
const QUEUES_MAX: usize = 100_000;

/// Hears what a node says of its jobs, and gives it others.
#[utoipa::path(post, path = "/v1/nodes/{node}/jobs", operation_id = "exchange_jobs", tag = "nodes",
    security(("bearer" = [])),
    params(("node" = String, Path, description = "The node's name")), request_body = ExchangeJobs,
    responses((status = 200, description = "What became of it", body = ExchangedJobs), Errors))]
pub(crate) async fn exchange(
    State(api): State<Api>,
    Extension(caller): Extension<CallingNode>,
    LastName(path): LastName,
    extract::Json(asked): extract::Json<ExchangeJobs, EXCHANGE_BYTES_MAX>,
) -> Result<Json<ExchangedJobs>, Refusal> {
    caller.speaks_for(&path)?;
    let shared = &api.shared;
    let queues = shared.queues()?;
    let node: NodeName = path
        .parse()
        .map_err(|_| Refusal::invalid(format!("{:?} is no node's name", excerpt(&path))))?;
    let count = asked.said.len().max(asked.wants.len());
    if count > BATCH_MAX {
        let message = format!("{count} words or wishes at once; at most {BATCH_MAX} are heard");
        return Err(Refusal::invalid(message));
    }
    let now = Timestamp::now();
    if shared.holders.hear(&node, &asked.life, asked.begins) {
        queues.holder_gone(node.as_str(), now).await?;
    }
    let said = match asked.said.is_empty() {
        true => Vec::new(),
        false => queues.settle(asked.said, now).await?,
    };
    let said = said.into_iter().map(|settled| match settled {
        Settled::Kept(_) => Heard::Kept,
        Settled::Dead => Heard::Dead,
        Settled::Lost => Heard::Lost,
    });
    // What is not placed on it is none of its business.
    let orders = shared.publisher.subscribe(&node).borrow().clone();
    let takes = |queue: &QueueId| orders.as_ref().is_some_and(|orders| orders.take_jobs_of(queue));
    let wants: Vec<Want> = asked
        .wants
        .into_iter()
        .filter(|want| takes(&want.queue))
        .map(|want| Want {
            queue: want.queue,
            jobs: usize::try_from(want.jobs).unwrap_or(usize::MAX).min(BATCH_MAX),
            running_max: None,
        })
        .collect();
    let given = match wants.is_empty() {
        true => Vec::new(),
        false => queues.take(wants, &holder(&node, &asked.life), now).await?,
    };
    let given = given.into_iter().map(|job| GivenJob {
        queue: job.queue,
        id: job.id,
        lease: job.lease,
        attempt: job.attempt,
        payload: Payload(job.payload),
    });
    Ok(Json(ExchangedJobs {
        said: said.collect(),
        given: given.collect(),
    }))
}

/// Waits until a job could be taken from one of a node's queues.
#[utoipa::path(post, path = "/v1/nodes/{node}/queues", operation_id = "await_jobs", tag = "nodes",
    security(("bearer" = [])),
    params(("node" = String, Path, description = "The node's name")), request_body = AwaitJobs,
    responses((status = 200, description = "The queues that have jobs", body = QueuesReady), Errors))]
pub(crate) async fn wait(
    State(api): State<Api>,
    Extension(caller): Extension<CallingNode>,
    LastName(path): LastName,
    extract::Json(asked): extract::Json<AwaitJobs, EXCHANGE_BYTES_MAX>,
) -> Result<Json<QueuesReady>, Refusal> {
    caller.speaks_for(&path)?;
    let queues = api.shared.queues()?;
    if asked.queues.len() > QUEUES_MAX {
        let message = format!(
            "{} queues; a node waits for at most {QUEUES_MAX}",
            asked.queues.len()
        );
        return Err(Refusal::invalid(message));
    }
    let mut drain = api.drain.clone();
    let mut ready = queues.ready();
    let found = async {
        loop {
            ready.mark_unchanged();
            let found: Vec<QueueId> = queues.giving(&asked.queues);
            // The sender lives as long as the queues do.
            if !found.is_empty() || ready.changed().await.is_err() {
                return found;
            }
        }
    };
    let longest = Duration::from_millis(asked.wait_ms.min(WAIT_MS_MAX));
    let queues = tokio::select! {
        found = found => found,
        () = tokio::time::sleep(longest) => Vec::new(),
        _ = drain.requested() => return Err(Refusal::draining()),
    };
    Ok(Json(QueuesReady { queues }))
}
