//! Where one instance takes jobs by itself, and says what becomes of them.
//!
//! In flow what the instance asks, out flow jobs and what the control plane says. What it has when it ends goes back at
//! once.
//!
//! Invariant: an instance has a word about the jobs that it took itself, and about no others.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use gilliam_engine::Leaving;
use gilliam_model::{
    name::{AppName, QueueName},
    queue::{GivenJob, Heard, JobId, JobToPut, LeaseId, Outcome, PutAnswer, PutInto, QueueId, SayJob},
};
use tokio::{sync::oneshot, time::timeout};

use super::{Jobs, LeaseOf, puts::PutError, takers::Ticket};

/// Leases that one instance may have at once: as many as its largest batches, several times.
const LEASES_MAX: usize = 10_000;

/// An instance's place at the queues of its app.
pub(crate) struct Desk {
    app: AppName,
    jobs: Arc<Jobs>,
    holds: Mutex<Holds>,
}

#[derive(Debug, Default)]
struct Holds {
    leases: BTreeMap<LeaseOf, QueueName>,
    /// It has ended.
    has_left: bool,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

/// Why a word about a job is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unheard {
    /// The instance does not have the job.
    NotHeld,
    /// Nothing was answered in time.
    Silence,
}

impl Desk {
    pub(crate) fn new(app: AppName, jobs: Arc<Jobs>) -> Arc<Self> {
        Arc::new(Self {
            app,
            jobs,
            holds: Mutex::default(),
        })
    }

    fn holds(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, queue: &QueueName) -> QueueId {
        QueueId {
            app: self.app.clone(),
            queue: queue.clone(),
        }
    }

    /// Waits up to `wait` for jobs, and takes at most `max` of them.
    pub(super) async fn take(self: &Arc<Self>, queue: &QueueName, max: u32, wait: Duration) -> Vec<GivenJob> {
        let room = LEASES_MAX.saturating_sub(self.holds().leases.len());
        let max = max.min(u32::try_from(room).unwrap_or(u32::MAX));
        if max == 0 {
            return Vec::new();
        }
        let queue = self.id(queue);
        let (serve, served) = oneshot::channel();
        let taker = Taker {
            desk: Arc::downgrade(self),
            serve,
        };
        let ticket = self.jobs.ledger().wait(queue.clone(), taker, max);
        let mut waits = Waits {
            desk: self,
            queue,
            ticket,
            served,
        };
        self.jobs.changed.notify_one();
        self.jobs.other_queues.notify_one();
        match timeout(wait, &mut waits.served).await {
            Ok(served) => served.unwrap_or_default(),
            // They may have come just now.
            Err(_) => {
                waits.leave();
                waits.served.try_recv().unwrap_or_default()
            }
        }
    }

    /// Says what becomes of a job that it has.
    pub(super) async fn say(
        &self,
        queue: &QueueName,
        lease: LeaseOf,
        outcome: Outcome,
    ) -> Result<Heard, Unheard> {
        let goes_on = matches!(outcome, Outcome::Extend { .. });
        {
            let mut holds = self.holds();
            if holds.leases.get(&lease) != Some(queue) {
                return Err(Unheard::NotHeld);
            }
            if !goes_on {
                holds.leases.remove(&lease);
            }
        }
        let heard = self.jobs.say_and_hear(self.word(queue, lease, outcome)).await;
        let heard = heard.ok_or(Unheard::Silence)?;
        if goes_on && heard != Heard::Kept {
            self.holds().leases.remove(&lease);
        }
        Ok(heard)
    }

    /// Puts jobs, all or none.
    pub(super) async fn put(&self, queue: &QueueName, jobs: Vec<JobToPut>) -> Result<PutAnswer, PutError> {
        let queue = self.id(queue);
        self.jobs.puts.ask(PutInto { queue, jobs }).await
    }

    /// Bytes of jobs to put that may be read now.
    pub(super) fn puts(&self) -> &super::Puts {
        &self.jobs.puts
    }

    /// The instance has ended: its jobs go to others at once, and count as attempts if that was its own doing.
    pub(crate) fn leave(&self, end: Leaving) {
        let leases = {
            let mut holds = self.holds();
            holds.has_left = true;
            std::mem::take(&mut holds.leases)
        };
        for (lease, queue) in leases {
            let outcome = match end {
                Leaving::Stopped => Outcome::HandBack,
                Leaving::Ended => Outcome::Retry {
                    error: "its worker ended before it said what became of the job".to_owned(),
                    after_ms: Some(0),
                },
            };
            self.jobs.say(self.word(&queue, lease, outcome));
        }
    }

    fn word(&self, queue: &QueueName, (id, lease): (JobId, LeaseId), outcome: Outcome) -> SayJob {
        SayJob {
            queue: self.id(queue),
            id,
            lease,
            outcome,
        }
    }

    /// Takes note of jobs that the instance has from now on; false when it has ended.
    fn hold(&self, jobs: &[GivenJob]) -> bool {
        let mut holds = self.holds();
        if !holds.has_left {
            let leases = jobs
                .iter()
                .map(|job| ((job.id, job.lease), job.queue.queue.clone()));
            holds.leases.extend(leases);
        }
        !holds.has_left
    }

    /// The instance never heard of these jobs.
    fn hand_back(&self, jobs: &[GivenJob]) {
        for job in jobs {
            if self.holds().leases.remove(&(job.id, job.lease)).is_some() {
                self.jobs.hand_back(job);
            }
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.leave(Leaving::Stopped);
    }
}

/// One that waits for jobs.
#[derive(Debug)]
pub(super) struct Taker {
    desk: Weak<Desk>,
    serve: oneshot::Sender<Vec<GivenJob>>,
}

impl Taker {
    /// Gives it jobs; back they go when it is not there any more.
    pub(super) fn serve(self, all: &Jobs, jobs: Vec<GivenJob>) {
        let desk = self.desk.upgrade().filter(|desk| desk.hold(&jobs));
        let Some(desk) = desk else {
            jobs.iter().for_each(|job| all.hand_back(job));
            return;
        };
        if let Err(jobs) = self.serve.send(jobs) {
            desk.hand_back(&jobs);
        }
    }
}

/// A wait for jobs. However it ends, none that came is forgotten.
struct Waits<'a> {
    desk: &'a Desk,
    queue: QueueId,
    ticket: Ticket,
    served: oneshot::Receiver<Vec<GivenJob>>,
}

impl Waits<'_> {
    fn leave(&self) {
        self.desk.jobs.ledger().waits_no_more(&self.queue, self.ticket);
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.leave();
        self.desk.jobs.other_queues.notify_one();
        self.served.close();
        if let Ok(jobs) = self.served.try_recv() {
            self.desk.hand_back(&jobs);
        }
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::queue::Payload;

    use super::*;

    fn queue() -> QueueName {
        "emails".parse().expect("queue")
    }

    fn job(desk: &Desk, id: u64) -> GivenJob {
        GivenJob {
            queue: desk.id(&queue()),
            id: JobId(id),
            lease: LeaseId(1),
            attempt: 1,
            payload: Payload::default(),
        }
    }

    fn desk() -> (Arc<Jobs>, Arc<Desk>) {
        let jobs = Arc::new(Jobs::default());
        let desk = Desk::new("shop".parse().expect("app"), jobs.clone());
        (jobs, desk)
    }

    /// The words that wait to be said.
    fn said(jobs: &Jobs) -> Vec<(u64, Outcome)> {
        let (said, _) = jobs.ledger().exchange(tokio::time::Instant::now());
        said.into_iter().map(|said| (said.id.0, said.outcome)).collect()
    }

    async fn taken(jobs: &Arc<Jobs>, desk: &Arc<Desk>, ids: &[u64]) -> Vec<u64> {
        let queue = queue();
        let take = desk.take(&queue, 10, Duration::from_secs(20));
        let give = async {
            jobs.give(ids.iter().map(|id| job(desk, *id)).collect());
        };
        let (taken, ()) = tokio::join!(take, give);
        taken.iter().map(|job| job.id.0).collect()
    }

    #[tokio::test]
    async fn an_instance_that_ends_gives_its_jobs_back() {
        for (end, is_attempt) in [(Leaving::Stopped, false), (Leaving::Ended, true)] {
            let (jobs, desk) = desk();
            assert_eq!(taken(&jobs, &desk, &[1, 2]).await, [1, 2]);
            desk.leave(end);
            let said = said(&jobs);
            assert_eq!(said.len(), 2);
            for (_, outcome) in said {
                assert_eq!(matches!(outcome, Outcome::Retry { .. }), is_attempt);
            }
            jobs.give(vec![job(&desk, 3)]);
        }
    }

    #[tokio::test]
    async fn jobs_that_come_for_nobody_go_back() {
        let (jobs, desk) = desk();
        let none = desk.take(&queue(), 1, Duration::ZERO).await;
        assert_eq!(none, []);
        jobs.give(vec![job(&desk, 1)]);
        assert_eq!(said(&jobs), [(1, Outcome::HandBack)]);
        // One that came while nobody looks any more.
        {
            let queue = queue();
            let mut take = Box::pin(desk.take(&queue, 1, Duration::from_secs(20)));
            assert!(futures::poll!(&mut take).is_pending());
            jobs.give(vec![job(&desk, 2)]);
        }
        assert_eq!(said(&jobs), [(2, Outcome::HandBack)]);
    }

    #[tokio::test]
    async fn a_word_is_answered_with_what_became_of_it() {
        let (jobs, desk) = desk();
        taken(&jobs, &desk, &[1]).await;
        let lease = (JobId(1), LeaseId(1));
        let queue = queue();
        let word = desk.say(&queue, lease, Outcome::Done);
        let hear = async {
            let (said, _) = jobs.ledger().exchange(tokio::time::Instant::now());
            jobs.heard(&said, &[Heard::Lost]);
        };
        let (heard, ()) = tokio::join!(word, hear);
        assert_eq!(heard, Ok(Heard::Lost));
        let again = desk.say(&queue, lease, Outcome::Done).await;
        assert_eq!(again, Err(Unheard::NotHeld), "it has no say any more");
        let others = desk.say(&queue, (JobId(9), LeaseId(1)), Outcome::Done).await;
        assert_eq!(others, Err(Unheard::NotHeld));
    }
}
