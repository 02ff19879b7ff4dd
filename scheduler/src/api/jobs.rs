//! The node protocol's part about jobs: what a node says of those that it has, and which it is given.
//!
//! A node waits for queues, then takes: what it takes is its own from the moment of the answer, so that a
//! wait that is cut off loses nothing.

use std::{collections::BTreeSet, time::Duration};

use axum::{Extension, Json, extract::State};
use gilliam_model::{
    Timestamp,
    queue::{
        AwaitJobs, BATCH_BYTES_MAX, BATCH_MAX, ExchangeJobs, ExchangedJobs, GivenJob, Heard, JobTerms,
        Leased, Outcome, Payload, QueueId, QueuesReady, SayJob, WantJobs,
    },
};
use gilliam_queue::{QueueError, Queues, Settled, Want};
use tokio::time::{Instant, sleep_until};

use crate::{
    api::{
        Api,
        auth::CallingNode,
        extract::{self, LastName},
        openapi::Errors,
    },
    queues::{Held, holder},
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
    let node = caller.named(&path)?;
    let shared = &api.shared;
    let queues = shared.queues()?;
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
        false => settle(queues, &shared.held, asked.said, now).await?,
    };
    let said = said.into_iter().map(|settled| match settled {
        Settled::Kept(_) => Heard::Kept,
        Settled::Dead => Heard::Dead,
        Settled::Lost => Heard::Lost,
    });
    // What is not placed on it is none of its business.
    let orders = shared.publisher.subscribe(&node).borrow().clone();
    let wants = asked.wants.into_iter().filter_map(|want| {
        let terms = orders.as_ref()?.terms_of(&want.queue)?;
        Some((within(want, &terms), terms))
    });
    let (wants, terms): (Vec<Want>, Vec<JobTerms>) = wants.unzip();
    let given = match wants.is_empty() {
        true => Vec::new(),
        false => {
            queues
                .take(wants.clone(), &holder(&node, &asked.life), now)
                .await?
        }
    };
    hold(queues, &shared.held, wants.iter().zip(&terms), &given);
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

/// Does what a node says of its jobs.
async fn settle(
    queues: &Queues,
    held: &Held,
    said: Vec<SayJob>,
    now: Timestamp,
) -> Result<Vec<Settled>, QueueError> {
    let ends = |said: &&SayJob| !matches!(said.outcome, Outcome::Extend { .. });
    let ended: BTreeSet<QueueId> = said.iter().filter(ends).map(|said| said.queue.clone()).collect();
    let settled = queues.settle(said, now).await?;
    held.free(ended.iter());
    Ok(settled)
}

/// A node's wish, within the terms of its workers.
fn within(want: WantJobs, terms: &JobTerms) -> Want {
    Want {
        queue: want.queue,
        jobs: usize::try_from(want.jobs).unwrap_or(usize::MAX).min(BATCH_MAX),
        running_max: terms.running_max.map(u64::from),
        rate: terms.rate,
    }
}

/// Holds the queues that gave fewer jobs than they have, for their terms.
fn hold<'a>(
    queues: &Queues,
    held: &Held,
    wants: impl Iterator<Item = (&'a Want, &'a JobTerms)>,
    given: &[Leased],
) {
    // What is as large as an answer may be says nothing of terms.
    let bytes: usize = given.iter().map(|job| job.payload.len()).sum();
    if bytes > BATCH_BYTES_MAX {
        return;
    }
    for (want, terms) in wants.filter(|(_, terms)| terms.limits()) {
        let n_given = given.iter().filter(|job| job.queue == want.queue).count();
        if n_given < want.jobs && !queues.giving(std::slice::from_ref(&want.queue)).is_empty() {
            held.hold(&want.queue, terms, Instant::now());
        }
    }
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
    let shared = &api.shared;
    let queues = shared.queues()?;
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
            let freed = shared.held.freed();
            let (found, next) = shared.held.sort_out(queues.giving(&asked.queues), Instant::now());
            if !found.is_empty() {
                return found;
            }
            tokio::select! {
                // The sender lives as long as the queues do.
                changed = ready.changed() => if changed.is_err() {
                    return found;
                },
                () = freed => {}
                () = until(next) => {}
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

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
