//! The conversation about jobs: words up, jobs down, and a wait while there are none.
//!
//! Invariant: what is cut off here loses no job: a wait takes none, and words that were not heard are said again.

use std::{sync::Arc, time::Duration};

use gilliam_client::ClientError;
use gilliam_model::{
    name::NodeName,
    queue::{AwaitJobs, ExchangeJobs, ExchangedJobs, QueueId, QueuesReady},
};
use tokio::time::{Instant, sleep, sleep_until};

use super::Jobs;
use crate::{
    backoff,
    control::{Control, ControlError},
    entropy,
};

/// Longest wait for jobs in one call.
const WAIT: Duration = Duration::from_secs(30);
/// How much longer its answer may take.
const WAIT_SLACK: Duration = Duration::from_secs(10);
/// Wait after a call that failed.
const RETRY: Duration = Duration::from_millis(250);
/// Wait after a refusal, which is the same the next time.
const REFUSED: Duration = Duration::from_secs(5);

/// Talks about jobs for as long as it is polled; `life` names this process.
pub(crate) async fn talk(jobs: Arc<Jobs>, control: Arc<Control>, node: NodeName, life: String) {
    let exchanging = exchange(&jobs, &control, &node, &life);
    let waiting = wait(&jobs, &control, &node);
    let putting = jobs.puts.put(&control, &node);
    tokio::join!(exchanging, waiting, putting);
}

async fn exchange(jobs: &Arc<Jobs>, control: &Control, node: &NodeName, life: &str) {
    let mut begins = true;
    loop {
        let changed = jobs.changed.notified();
        let (said, wants) = jobs.ledger().exchange(Instant::now());
        // The first word says that what an earlier process of this node had is nobody's.
        let is_idle = said.is_empty() && wants.is_empty();
        if is_idle && !begins {
            let extension = jobs.ledger().next_extension();
            tokio::select! {
                () = changed => {}
                () = until(extension) => {}
            }
            continue;
        }
        let asked = ExchangeJobs {
            life: life.to_owned(),
            begins,
            said,
            wants,
        };
        match call(control, node, &asked).await {
            Ok(ExchangedJobs { said, given }) => {
                begins = false;
                jobs.heard(&asked.said, &said);
                let count = |queue: &QueueId| given.iter().filter(|job| job.queue == *queue).count();
                jobs.ledger().given(&asked.wants, count);
                jobs.other_queues.notify_one();
                jobs.give(given);
            }
            // Where there are no queues nothing is to be begun.
            Err(error) if is_idle && is_refusal(&error) => begins = false,
            Err(error) => {
                jobs.ledger().unheard(asked.said);
                rest(&error).await;
            }
        }
    }
}

async fn wait(jobs: &Jobs, control: &Control, node: &NodeName) {
    loop {
        let other = jobs.other_queues.notified();
        let queues = jobs.ledger().waiting();
        if queues.is_empty() {
            other.await;
            continue;
        }
        let asked = AwaitJobs {
            queues: queues.iter().cloned().collect(),
            wait_ms: u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX),
        };
        let others = async {
            let mut other = std::pin::pin!(other);
            loop {
                other.as_mut().await;
                if jobs.ledger().waiting() != queues {
                    return;
                }
                other.set(jobs.other_queues.notified());
            }
        };
        let answer = tokio::select! {
            answer = ready(control, node, &asked) => answer,
            () = others => continue,
        };
        match answer {
            Ok(QueuesReady { queues }) => {
                jobs.ledger().ready(&queues);
                jobs.changed.notify_one();
            }
            Err(error) => rest(&error).await,
        }
    }
}

async fn call(
    control: &Control,
    node: &NodeName,
    asked: &ExchangeJobs,
) -> Result<ExchangedJobs, ControlError> {
    let client = control.client()?;
    Ok(client.exchange_jobs(node, asked).await?)
}

async fn ready(control: &Control, node: &NodeName, asked: &AwaitJobs) -> Result<QueuesReady, ControlError> {
    let client = control.client()?;
    Ok(client.await_jobs(node, asked, WAIT + WAIT_SLACK).await?)
}

fn is_refusal(error: &ControlError) -> bool {
    matches!(error, ControlError::Client(ClientError::Api { status, .. }) if (400..500).contains(status))
}

/// Waits after a failure: an outage quietly, a refusal aloud.
async fn rest(error: &ControlError) {
    let wait = match error {
        ControlError::Client(ClientError::Api { status, error }) if (400..500).contains(status) => {
            tracing::warn!(
                status,
                "the control plane refuses to talk about jobs: {}",
                error.message
            );
            REFUSED
        }
        error => {
            tracing::debug!(%error, "jobs wait for the control plane");
            RETRY
        }
    };
    sleep(backoff::spread(wait, entropy::jitter())).await;
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
