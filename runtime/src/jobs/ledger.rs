//! Who may have which job. Pure: the time is an argument.
//!
//! Invariant: a worker never has more jobs than it takes at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use gilliam_model::{
    instance::InstanceId,
    queue::{BATCH_MAX, GivenJob, JobId, LeaseId, QueueId, SayJob, WantJobs},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    EXTEND_AFTER, extend,
    takers::{Takers, Ticket},
};

/// One lease of a job.
pub(super) type LeaseOf = (JobId, LeaseId);

/// Jobs of one queue asked for at once: what a worker cannot begin soon waits where others can take it.
const ASKED_MAX: u32 = 256;

/// What the node knows of its workers and their jobs.
#[derive(Debug)]
pub(super) struct Ledger<W, T> {
    queues: BTreeMap<QueueId, Queue<W, T>>,
    running: HashMap<LeaseOf, Running>,
    said: VecDeque<SayJob>,
}

#[derive(Debug)]
struct Queue<W, T> {
    members: Vec<Member<W>>,
    /// Instances that take jobs by themselves, and wait for some.
    takers: Takers<T>,
    /// The control plane said that it has jobs.
    is_ready: bool,
}

#[derive(Debug)]
struct Member<W> {
    id: InstanceId,
    worker: W,
    free: u32,
}

#[derive(Debug)]
struct Running {
    queue: QueueId,
    member: InstanceId,
    /// When the lease was given, or asked for again.
    since: Instant,
    lost: CancellationToken,
}

/// A worker's place for a job.
#[derive(Debug)]
pub(super) struct Place<W> {
    pub(super) worker: W,
    /// Cancelled when the job is somebody else's.
    pub(super) lost: CancellationToken,
}

impl<W, T> Default for Ledger<W, T> {
    fn default() -> Self {
        Self {
            queues: BTreeMap::new(),
            running: HashMap::new(),
            said: VecDeque::new(),
        }
    }
}

impl<W: Clone, T> Ledger<W, T> {
    pub(super) fn join(&mut self, queue: QueueId, id: InstanceId, worker: W, at_once: u32) {
        let queue = self.queues.entry(queue).or_default();
        queue.members.push(Member {
            id,
            worker,
            free: at_once,
        });
    }

    pub(super) fn leave(&mut self, queue: &QueueId, id: &InstanceId) {
        if let Some(known) = self.queues.get_mut(queue) {
            known.members.retain(|member| member.id != *id);
            if known.is_deserted() {
                self.queues.remove(queue);
            }
        }
    }

    /// Has `taker` wait for at most `max` jobs.
    pub(super) fn wait(&mut self, queue: QueueId, taker: T, max: u32) -> Ticket {
        let queue = self.queues.entry(queue).or_default();
        queue.takers.wait(taker, max)
    }

    /// It waits no more.
    pub(super) fn waits_no_more(&mut self, queue: &QueueId, ticket: Ticket) {
        if let Some(known) = self.queues.get_mut(queue) {
            known.takers.leave(ticket);
            if known.is_deserted() {
                self.queues.remove(queue);
            }
        }
    }

    /// Gives a job to one that waits for it; back when nobody does.
    pub(super) fn hand(&mut self, job: GivenJob) -> Option<GivenJob> {
        match self.queues.get_mut(&job.queue) {
            Some(queue) => queue.takers.give(job),
            None => Some(job),
        }
    }

    /// Those of a queue that have jobs now, and wait no more.
    pub(super) fn served(&mut self, queue: &QueueId) -> Vec<(T, Vec<GivenJob>)> {
        let Some(known) = self.queues.get_mut(queue) else {
            return Vec::new();
        };
        let served = known.takers.served();
        if known.is_deserted() {
            self.queues.remove(queue);
        }
        served
    }

    /// Gives a job to the worker of its queue that has most room; none when nobody has any.
    pub(super) fn give(&mut self, queue: &QueueId, lease: LeaseOf, now: Instant) -> Option<Place<W>> {
        let members = &mut self.queues.get_mut(queue)?.members;
        // Of those with as much room the first that came: what it runs is warm.
        let member = members.iter_mut().rev().max_by_key(|member| member.free)?;
        member.free = member.free.checked_sub(1)?;
        let lost = CancellationToken::new();
        let running = Running {
            queue: queue.clone(),
            member: member.id.clone(),
            since: now,
            lost: lost.clone(),
        };
        self.running.insert(lease, running);
        Some(Place {
            worker: member.worker.clone(),
            lost,
        })
    }

    /// Takes note that a job is over; whether its worker is here no more, or leaving.
    pub(super) fn done(&mut self, queue: &QueueId, lease: LeaseOf) -> bool {
        let Some(running) = self.running.remove(&lease) else {
            return false;
        };
        let members = self.queues.get_mut(queue).map(|queue| &mut queue.members);
        let member = members.and_then(|all| all.iter_mut().find(|member| member.id == running.member));
        match member {
            Some(member) => {
                member.free += 1;
                false
            }
            None => true,
        }
    }

    /// Ends a job that is somebody else's.
    pub(super) fn lost(&mut self, lease: LeaseOf) {
        if let Some(running) = self.running.get(&lease) {
            running.lost.cancel();
        }
    }

    pub(super) fn say(&mut self, said: SayJob) {
        self.said.push_back(said);
    }

    /// Puts words back that were not heard.
    pub(super) fn unheard(&mut self, said: Vec<SayJob>) {
        for said in said.into_iter().rev() {
            self.said.push_front(said);
        }
    }

    /// What there is to say now, and the jobs to ask for.
    pub(super) fn exchange(&mut self, now: Instant) -> (Vec<SayJob>, Vec<WantJobs>) {
        let mut said: Vec<SayJob> = self.said.drain(..self.said.len().min(BATCH_MAX)).collect();
        for (lease, running) in &mut self.running {
            if said.len() == BATCH_MAX {
                break;
            }
            if now.duration_since(running.since) >= EXTEND_AFTER {
                running.since = now;
                said.push(extend(running.queue.clone(), *lease));
            }
        }
        let ready = self.queues.iter().filter(|(_, queue)| queue.is_ready);
        let wants = ready.filter_map(|(id, queue)| {
            let jobs = queue.room().min(ASKED_MAX);
            let queue = id.clone();
            (jobs > 0).then_some(WantJobs { queue, jobs })
        });
        (said, wants.take(BATCH_MAX).collect())
    }

    /// When a lease is to be asked for again next.
    pub(super) fn next_extension(&self) -> Option<Instant> {
        let since = self.running.values().map(|running| running.since);
        since.min().map(|since| since + EXTEND_AFTER)
    }

    /// Takes note of how many jobs of each queue came: one that gave fewer than were asked for has no more.
    pub(super) fn given(&mut self, wants: &[WantJobs], count: impl Fn(&QueueId) -> usize) {
        for want in wants {
            if let Some(queue) = self.queues.get_mut(&want.queue) {
                queue.is_ready = count(&want.queue) >= usize::try_from(want.jobs).unwrap_or(usize::MAX);
            }
        }
    }

    /// Takes note of queues that have jobs.
    pub(super) fn ready(&mut self, queues: &[QueueId]) {
        for id in queues {
            if let Some(queue) = self.queues.get_mut(id) {
                queue.is_ready = true;
            }
        }
    }

    /// The queues to wait for: there is room for their jobs, and none are known of.
    pub(super) fn waiting(&self) -> BTreeSet<QueueId> {
        let waiting = self
            .queues
            .iter()
            .filter(|(_, queue)| !queue.is_ready && queue.room() > 0);
        waiting.map(|(id, _)| id.clone()).collect()
    }
}

impl<W, T> Default for Queue<W, T> {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            takers: Takers::default(),
            is_ready: false,
        }
    }
}

impl<W, T> Queue<W, T> {
    fn room(&self) -> u32 {
        self.members.iter().fold(self.takers.room(), |room, member| {
            room.saturating_add(member.free)
        })
    }

    fn is_deserted(&self) -> bool {
        self.members.is_empty() && self.takers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::{instance::Epoch, queue::Outcome, release::ReleaseId};

    use super::*;

    fn queue(name: &str) -> QueueId {
        QueueId {
            app: "shop".parse().expect("app"),
            queue: name.parse().expect("queue"),
        }
    }

    fn instance(slot: u32) -> InstanceId {
        InstanceId {
            app: "shop".parse().expect("app"),
            release: ReleaseId::FIRST,
            process: "emails".parse().expect("process"),
            slot,
            epoch: Epoch(1),
        }
    }

    fn lease(job: u64) -> LeaseOf {
        (JobId(job), LeaseId(1))
    }

    fn ledger() -> Ledger<&'static str, ()> {
        let mut ledger = Ledger::default();
        ledger.join(queue("emails"), instance(1), "one", 2);
        ledger.join(queue("emails"), instance(2), "two", 1);
        ledger
    }

    #[test]
    fn as_many_jobs_are_asked_for_as_there_is_room() {
        let (mut ledger, now) = (ledger(), Instant::now());
        assert_eq!(
            ledger.exchange(now),
            (vec![], vec![]),
            "nothing is known to be there"
        );
        assert_eq!(ledger.waiting(), BTreeSet::from([queue("emails")]));
        ledger.ready(&[queue("emails"), queue("unknown")]);
        assert_eq!(ledger.waiting(), BTreeSet::new());
        let (_, wants) = ledger.exchange(now);
        let want = |jobs| WantJobs {
            queue: queue("emails"),
            jobs,
        };
        assert_eq!(wants, [want(3)]);
        let given = [7, 8].map(|job| {
            ledger
                .give(&queue("emails"), lease(job), now)
                .expect("room")
                .worker
        });
        assert_eq!(given, ["one", "one"]);
        ledger.given(&wants, |_| 3);
        assert_eq!(ledger.exchange(now).1, [want(1)]);
        assert_eq!(
            ledger.give(&queue("emails"), lease(9), now).expect("room").worker,
            "two"
        );
        assert!(ledger.give(&queue("emails"), lease(10), now).is_none());
        assert_eq!(ledger.exchange(now).1, []);
        assert!(!ledger.done(&queue("emails"), lease(9)));
        assert_eq!(ledger.exchange(now).1, [want(1)]);
        // It gave fewer than were asked for: it is waited for again.
        ledger.given(&[want(1)], |_| 0);
        assert_eq!(ledger.exchange(now).1, []);
        assert_eq!(ledger.waiting(), BTreeSet::from([queue("emails")]));
    }

    #[test]
    fn a_worker_that_leaves_is_given_nothing_and_its_jobs_end_as_those_of_one_that_left() {
        let (mut ledger, now) = (ledger(), Instant::now());
        ledger.give(&queue("emails"), lease(7), now).expect("room");
        ledger.leave(&queue("emails"), &instance(1));
        assert_eq!(
            ledger.give(&queue("emails"), lease(8), now).expect("room").worker,
            "two"
        );
        assert!(ledger.done(&queue("emails"), lease(7)));
        assert!(!ledger.done(&queue("emails"), lease(8)));
        ledger.leave(&queue("emails"), &instance(2));
        assert!(ledger.give(&queue("emails"), lease(9), now).is_none());
        assert_eq!(ledger.waiting(), BTreeSet::new());
    }

    #[test]
    fn leases_are_asked_for_again_in_time_and_a_lost_one_ends_its_job() {
        let (mut ledger, now) = (ledger(), Instant::now());
        let place = ledger.give(&queue("emails"), lease(7), now).expect("room");
        assert_eq!(ledger.next_extension(), Some(now + EXTEND_AFTER));
        assert_eq!(ledger.exchange(now), (vec![], vec![]));
        let later = now + EXTEND_AFTER;
        let (said, _) = ledger.exchange(later);
        assert!(matches!(said[0].outcome, Outcome::Extend { .. }), "{said:?}");
        assert_eq!(ledger.exchange(later), (vec![], vec![]));
        ledger.lost(lease(7));
        assert!(place.lost.is_cancelled());
    }

    #[test]
    fn who_waits_for_jobs_by_itself_has_room_while_it_waits() {
        let (mut ledger, now) = (Ledger::<&'static str, u8>::default(), Instant::now());
        let (one, _two) = (
            ledger.wait(queue("emails"), 1, 1),
            ledger.wait(queue("emails"), 2, 1),
        );
        assert_eq!(ledger.waiting(), BTreeSet::from([queue("emails")]));
        ledger.ready(&[queue("emails")]);
        assert_eq!(ledger.exchange(now).1[0].jobs, 2);
        ledger.waits_no_more(&queue("emails"), one);
        assert_eq!(ledger.exchange(now).1[0].jobs, 1);
        let job = GivenJob {
            queue: queue("emails"),
            id: JobId(7),
            lease: LeaseId(1),
            attempt: 1,
            payload: Default::default(),
        };
        assert_eq!(ledger.hand(job.clone()), None);
        assert_eq!(ledger.served(&queue("emails")), [(2, vec![job.clone()])]);
        assert_eq!(ledger.hand(job.clone()), Some(job), "nobody waits any more");
        assert_eq!(ledger.waiting(), BTreeSet::new());
    }

    #[test]
    fn words_that_were_not_heard_are_said_again_in_their_order() {
        let (mut ledger, now) = (ledger(), Instant::now());
        let done = |job| SayJob {
            queue: queue("emails"),
            id: JobId(job),
            lease: LeaseId(1),
            outcome: Outcome::Done,
        };
        ledger.say(done(1));
        ledger.say(done(2));
        let (said, _) = ledger.exchange(now);
        ledger.say(done(3));
        ledger.unheard(said);
        assert_eq!(ledger.exchange(now).0, [done(1), done(2), done(3)]);
    }
}
