//! Jobs that instances put, gathered: what waits while a call is under way goes with the next.
//!
//! In flow puts, each with one who waits for its answer; out flow calls of the control plane, few at once.
//!
//! Invariant: a put is answered as done only after the control plane said so; one of which that is not known is
//! answered as such, and not put again.

use std::{sync::Arc, time::Duration};

use gilliam_model::{
    api::ApiError,
    name::NodeName,
    queue::{BATCH_BYTES_MAX, BATCH_MAX, PutAnswer, PutInto, PutJobs},
};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    backoff,
    control::{Control, ControlError},
    entropy,
};

/// Puts that wait on a node; what comes on top waits with its instance.
const WAITING_MAX: usize = 1_024;
/// Calls under way at once: a large one does not hold up the others.
const CALLS_MAX: usize = 4;
/// KiB of payloads on their way through the node.
const KIB_MAX: usize = 64 << 10;
/// Longest wait of an instance for its put: shorter than what it waits for any answer.
const PUT_MAX: Duration = Duration::from_secs(20);
/// Between two attempts to reach the control plane.
const RETRY: Duration = Duration::from_millis(250);

/// Why it is not known that jobs were put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PutError {
    /// They were not: the control plane does not answer.
    Unreachable,
    /// The call was cut off.
    Unknown,
    /// The control plane refuses all such calls.
    Refused(ApiError),
}

#[derive(Debug)]
struct Asked {
    put: PutInto,
    until: Instant,
    answer: oneshot::Sender<Result<PutAnswer, PutError>>,
}

/// The puts of a node.
#[derive(Debug)]
pub(super) struct Puts {
    ask: mpsc::Sender<Asked>,
    asked: Mutex<mpsc::Receiver<Asked>>,
    kib: Arc<Semaphore>,
}

impl Default for Puts {
    fn default() -> Self {
        let (ask, asked) = mpsc::channel(WAITING_MAX);
        Self {
            ask,
            asked: Mutex::new(asked),
            kib: Arc::new(Semaphore::new(KIB_MAX)),
        }
    }
}

impl Puts {
    /// Waits until so many bytes may be read of an instance.
    pub(super) async fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        let kib = u32::try_from(bytes.div_ceil(1 << 10).min(KIB_MAX)).unwrap_or(u32::MAX);
        let room = self.kib.clone().acquire_many_owned(kib).await;
        room.expect("it is never closed")
    }

    /// Puts jobs, and waits for what becomes of them.
    pub(super) async fn ask(&self, put: PutInto) -> Result<PutAnswer, PutError> {
        let until = Instant::now() + PUT_MAX;
        let (answer, answered) = oneshot::channel();
        let asked = Asked { put, until, answer };
        match timeout_at(until, self.ask.send(asked)).await {
            Ok(Ok(())) => {}
            _ => return Err(PutError::Unreachable),
        }
        // Whoever puts them keeps to the time, within that of a call.
        answered.await.unwrap_or(Err(PutError::Unknown))
    }

    /// Puts what is asked for, for as long as it is polled.
    pub(super) async fn put(&self, control: &Control, node: &NodeName) {
        let calls = (0..CALLS_MAX).map(|_| async {
            loop {
                let Some(batch) = self.gather().await else { return };
                send(control, node, batch).await;
            }
        });
        futures::future::join_all(calls).await;
    }

    /// What waits now, as much as goes together; waits for the first.
    async fn gather(&self) -> Option<Vec<Asked>> {
        let mut asked = self.asked.lock().await;
        let first = asked.recv().await?;
        let mut bytes = bytes_of(&first.put);
        let mut batch = vec![first];
        // Room for the largest is left.
        while bytes < BATCH_BYTES_MAX / 2 && batch.len() < BATCH_MAX {
            let Ok(next) = asked.try_recv() else { break };
            bytes += bytes_of(&next.put);
            batch.push(next);
        }
        Some(batch)
    }
}

fn bytes_of(put: &PutInto) -> usize {
    put.jobs.iter().map(|job| job.payload.0.len()).sum()
}

/// Sends a batch and answers each of it. While no connection comes about nothing was sent, and it is tried again.
async fn send(control: &Control, node: &NodeName, mut batch: Vec<Asked>) {
    loop {
        let now = Instant::now();
        let late = batch.extract_if(.., |asked| asked.until <= now || asked.answer.is_closed());
        for asked in late.collect::<Vec<_>>() {
            let _ = asked.answer.send(Err(PutError::Unreachable));
        }
        if batch.is_empty() {
            return;
        }
        let (puts, waiting): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|asked| (asked.put, (asked.until, asked.answer)))
            .unzip();
        let asked = PutJobs { puts };
        match call(control, node, &asked).await {
            Ok(answers) => {
                // One that is left over hears that it is not known: its channel closes.
                for ((_, answer), put) in waiting.into_iter().zip(answers) {
                    let _ = answer.send(Ok(put));
                }
                return;
            }
            Err(ControlError::Client(error)) if !error.is_unsent() => {
                let why = match error.api() {
                    Some(error) => PutError::Refused(error.clone()),
                    None => PutError::Unknown,
                };
                tracing::debug!(%error, "jobs could not be put");
                for (_, answer) in waiting {
                    let _ = answer.send(Err(why.clone()));
                }
                return;
            }
            Err(error) => tracing::debug!(%error, "puts wait for the control plane"),
        }
        let puts = asked.puts.into_iter().zip(waiting);
        batch = puts
            .map(|(put, (until, answer))| Asked { put, until, answer })
            .collect();
        sleep(backoff::spread(RETRY, entropy::jitter())).await;
    }
}

async fn call(control: &Control, node: &NodeName, puts: &PutJobs) -> Result<Vec<PutAnswer>, ControlError> {
    let client = control.client()?;
    Ok(client.put_jobs(node, puts).await?.puts)
}
