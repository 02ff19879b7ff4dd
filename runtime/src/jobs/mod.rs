//! Jobs: the workers of this node, and what they have.
//!
//! In flow workers that come and go, and jobs; out flow what workers say of them. `ledger` (pure) knows who
//! may have what, `talk` is the conversation with the control plane. Instances that take jobs by themselves wait among
//! `takers` (pure) and do it at a `desk`, by HTTP through a `counter`; `puts` gathers what instances put.
//!
//! Invariant: a job is given to one worker, once for each lease; one that nobody here can do is handed back.
//! Invariant: of each job that was taken something is said in the end, unless its lease is lost.

mod counter;
mod desk;
mod ledger;
mod puts;
mod takers;
mod talk;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gilliam_engine::{CallError, HttpInstance, JobCall, Verdict};
use gilliam_model::{
    instance::InstanceId,
    log::LogStream,
    name::QueueName,
    queue::{ERROR_BYTES_MAX, GivenJob, Heard, LEASE, Outcome, QueueId, SayJob},
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout},
};

use crate::logs::AppLog;
pub(crate) use counter::answer;
pub(crate) use desk::Desk;
use desk::Taker;
use ledger::{LeaseOf, Ledger, Place};
use puts::Puts;
pub(crate) use talk::talk;

/// How long before the end of a lease it is asked for again: two attempts fail before it is lost.
const EXTEND_AFTER: Duration = Duration::from_secs(20);
/// Longest wait of an instance for what becomes of its word: shorter than what it waits for any answer.
const HEARD_MAX: Duration = Duration::from_secs(10);

/// The workers of a node.
#[derive(Default)]
pub(crate) struct Jobs {
    ledger: Mutex<Ledger<Worker, Taker>>,
    /// Who waits for what becomes of a word, in the order of the words.
    awaited: Mutex<HashMap<LeaseOf, VecDeque<oneshot::Sender<Heard>>>>,
    puts: Puts,
    /// Told when there is something to say or to ask for.
    changed: Notify,
    /// Told when there are other queues to wait for.
    other_queues: Notify,
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

/// An instance that does jobs.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) instance: Arc<HttpInstance>,
    pub(crate) log: Arc<AppLog>,
    /// `emails.1`.
    pub(crate) label: String,
}

impl Jobs {
    fn ledger(&self) -> MutexGuard<'_, Ledger<Worker, Taker>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an instance take jobs of a queue of its app, up to `at_once`.
    pub(crate) fn join(&self, id: &InstanceId, queue: QueueName, worker: Worker, at_once: u32) {
        let queue = queue_of(id, queue);
        self.ledger().join(queue, id.clone(), worker, at_once);
        self.changed.notify_one();
        self.other_queues.notify_one();
    }

    /// Has an instance take no more jobs; those that it has, it may end.
    pub(crate) fn leave(&self, id: &InstanceId, queue: QueueName) {
        self.ledger().leave(&queue_of(id, queue), id);
        self.other_queues.notify_one();
    }

    /// Gives jobs to workers.
    fn give(self: &Arc<Self>, jobs: Vec<GivenJob>) {
        let mut handed = BTreeSet::new();
        for job in jobs {
            let lease = (job.id, job.lease);
            let place = self.ledger().give(&job.queue, lease, Instant::now());
            if let Some(place) = place {
                tokio::spawn(work(self.clone(), place, job));
                continue;
            }
            let queue = job.queue.clone();
            let left = self.ledger().hand(job);
            match left {
                None => drop(handed.insert(queue)),
                // Who could do it left meanwhile.
                Some(job) => self.hand_back(&job),
            }
        }
        for queue in handed {
            let served = self.ledger().served(&queue);
            for (taker, jobs) in served {
                taker.serve(self, jobs);
            }
        }
    }

    /// Gives back a job that nobody began.
    fn hand_back(&self, job: &GivenJob) {
        self.say(SayJob {
            queue: job.queue.clone(),
            id: job.id,
            lease: job.lease,
            outcome: Outcome::HandBack,
        });
    }

    /// Says a word, and waits for what becomes of it; none when that is not known in time. It is said all the same.
    async fn say_and_hear(&self, said: SayJob) -> Option<Heard> {
        let (tell, told) = oneshot::channel();
        self.awaited()
            .entry((said.id, said.lease))
            .or_default()
            .push_back(tell);
        self.say(said);
        timeout(HEARD_MAX, told).await.ok()?.ok()
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<LeaseOf, VecDeque<oneshot::Sender<Heard>>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, lease: LeaseOf, heard: Heard) -> bool {
        let mut awaited = self.awaited();
        let Some(waiting) = awaited.get_mut(&lease) else {
            return false;
        };
        let tell = waiting.pop_front();
        if waiting.is_empty() {
            awaited.remove(&lease);
        }
        // Whoever waited may have given up.
        tell.is_some_and(|tell| tell.send(heard).is_ok())
    }

    fn say(&self, said: SayJob) {
        self.ledger().say(said);
        self.changed.notify_one();
    }

    /// Takes note of what became of words; the jobs that are others' now are ended here.
    fn heard(&self, said: &[SayJob], heard: &[Heard]) {
        for (said, heard) in said.iter().zip(heard) {
            if self.tell((said.id, said.lease), *heard) {
                continue;
            }
            match (heard, &said.outcome) {
                (Heard::Lost, Outcome::Extend { .. }) => self.ledger().lost((said.id, said.lease)),
                (Heard::Lost, _) => {
                    let (queue, job) = (&said.queue, said.id);
                    tracing::warn!(%queue, %job, "Q11: its lease was lost: it may be done twice");
                }
                (Heard::Kept | Heard::Dead, _) => {}
            }
        }
    }
}

fn queue_of(id: &InstanceId, queue: QueueName) -> QueueId {
    QueueId {
        app: id.app.clone(),
        queue,
    }
}

/// One job from its beginning to its word.
async fn work(jobs: Arc<Jobs>, place: Place<Worker>, job: GivenJob) {
    let Place { worker, lost } = place;
    let call = JobCall {
        id: job.id.to_string(),
        queue: job.queue.queue.to_string(),
        payload: job.payload.0,
        attempt: job.attempt,
    };
    let verdict = tokio::select! {
        biased;
        () = lost.cancelled() => None,
        verdict = worker.instance.work(call) => Some(verdict),
    };
    let lease = (job.id, job.lease);
    let is_leaving = jobs.ledger().done(&job.queue, lease);
    let outcome = verdict.map(|verdict| outcome(verdict, is_leaving));
    if let Some(outcome) = &outcome {
        if let Some(text) = remark(&job.id.to_string(), job.attempt, outcome) {
            worker.log.write(&worker.label, LogStream::Platform, text);
        }
        jobs.ledger().say(SayJob {
            queue: job.queue,
            id: job.id,
            lease: job.lease,
            outcome: outcome.clone(),
        });
    }
    jobs.changed.notify_one();
    jobs.other_queues.notify_one();
}

/// The word about a job; `is_leaving` says that its worker was being stopped.
fn outcome(verdict: Result<Verdict, CallError>, is_leaving: bool) -> Outcome {
    match verdict {
        Ok(Verdict::Done) => Outcome::Done,
        Ok(Verdict::Retry { reason, after_ms }) => Outcome::Retry {
            error: cut(reason),
            after_ms,
        },
        Ok(Verdict::Discard { reason }) => Outcome::Discard { error: cut(reason) },
        Err(_) if is_leaving => Outcome::HandBack,
        Err(error) => Outcome::Retry {
            error: cut(format!(
                "{} {}: {}",
                error.code,
                error.code.title(),
                error.message
            )),
            after_ms: None,
        },
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
    text
}

/// What the app's log says of a job that was not done.
fn remark(id: &str, attempt: u32, outcome: &Outcome) -> Option<String> {
    let (what, error) = match outcome {
        Outcome::Retry { error, .. } => ("failed", error.as_str()),
        Outcome::Discard { error } => ("was discarded (Q12)", error.as_str()),
        Outcome::HandBack => ("was handed back", "its worker is being stopped"),
        Outcome::Done | Outcome::Extend { .. } => return None,
    };
    let first = error.lines().next().unwrap_or_default();
    Some(format!("job {id} {what} at attempt {attempt}: {first}"))
}

/// The word that keeps a job.
fn extend(queue: QueueId, (id, lease): LeaseOf) -> SayJob {
    SayJob {
        queue,
        id,
        lease,
        outcome: Outcome::Extend {
            for_ms: u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_a_worker_that_is_being_stopped_is_no_attempt() {
        let stopped = || {
            Err(CallError {
                code: gilliam_model::code::Code::H13,
                message: "the instance was stopped".to_owned(),
                usage: None,
            })
        };
        assert_eq!(outcome(stopped(), true), Outcome::HandBack);
        assert!(matches!(outcome(stopped(), false), Outcome::Retry { .. }));
        assert_eq!(outcome(Ok(Verdict::Done), true), Outcome::Done);
    }

    #[test]
    fn the_log_tells_of_what_was_not_done() {
        let retry = Outcome::Retry {
            error: "R23 trap: unreachable\n  at handle".to_owned(),
            after_ms: None,
        };
        let text = remark("7", 2, &retry);
        assert_eq!(
            text.as_deref(),
            Some("job 7 failed at attempt 2: R23 trap: unreachable")
        );
        assert_eq!(remark("7", 2, &Outcome::Done), None);
    }
}
