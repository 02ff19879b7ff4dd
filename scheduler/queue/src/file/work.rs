//! The operations, on the tables of one transaction: synchronous, and with `now` given.

mod mend;

use std::time::Duration;

use gilliam_model::{
    Timestamp,
    queue::{
        ATTEMPTS_MAX, BATCH_BYTES_MAX, DEAD_KEPT, ERROR_BYTES_MAX, JobId, JobState, LEASE, LEASE_MAX,
        LeaseId, Leased, NewJob, Next, Outcome, QueueId, SayJob, after_failure,
    },
};
use redb::{ReadableTable as _, Table, WriteTransaction};

use super::{
    state::Books,
    table::{
        self, DEAD, DUE, HOLDERS, JOBS, JobRecord, KEYS, LEASES, META, META_NEXT_JOB, META_NEXT_QUEUE,
        Millis, PAYLOADS, QUEUES, QueueNumber, READY, millis, rank, time,
    },
};
use crate::{Put, QueueError, Settled, Want};

/// Jobs that one tick moves: what is left is done in the next, after others had their turn.
const TICK_MAX: usize = 10_000;

/// An operation that failed.
pub(super) enum Fault {
    /// It was refused, and changed nothing.
    Refused(QueueError),
    /// The file cannot be read or written.
    Broken(QueueError),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Corrupted(reason) => Fault::Broken(QueueError::Corrupt(reason)),
            error => Fault::Broken(QueueError::ReadOnly(error.to_string())),
        }
    }
}

/// What a group changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Whether jobs have become ready.
    pub(super) woke: bool,
    /// The queues that changed, and whether each gives out jobs.
    pub(super) queues: Vec<(QueueId, bool)>,
}

pub(super) type Done<T> = Result<T, Fault>;

fn broken(error: QueueError) -> Fault {
    Fault::Broken(error)
}

/// The tables of a transaction, and the books.
pub(super) struct Work<'t> {
    books: &'t mut Books,
    jobs: Table<'t, u64, &'static [u8]>,
    payloads: Table<'t, u64, &'static [u8]>,
    ready: Table<'t, (QueueNumber, u8, u64), ()>,
    due: Table<'t, (Millis, u64), QueueNumber>,
    leases: Table<'t, (Millis, u64), QueueNumber>,
    holders: Table<'t, (&'static str, u64), ()>,
    dead: Table<'t, (QueueNumber, Millis, u64), ()>,
    keys: Table<'t, (QueueNumber, &'static str), u64>,
    meta: Table<'t, &'static str, u64>,
    queues: Table<'t, &'static str, &'static [u8]>,
    /// Whether jobs have become ready.
    pub(super) woke: bool,
}

impl<'t> Work<'t> {
    pub(super) fn begin(transaction: &'t WriteTransaction, books: &'t mut Books) -> Done<Self> {
        Ok(Self {
            books,
            jobs: transaction.open_table(JOBS)?,
            payloads: transaction.open_table(PAYLOADS)?,
            ready: transaction.open_table(READY)?,
            due: transaction.open_table(DUE)?,
            leases: transaction.open_table(LEASES)?,
            holders: transaction.open_table(HOLDERS)?,
            dead: transaction.open_table(DEAD)?,
            keys: transaction.open_table(KEYS)?,
            meta: transaction.open_table(META)?,
            queues: transaction.open_table(QUEUES)?,
            woke: false,
        })
    }

    /// Writes the books' changes; answers what changed.
    pub(super) fn end(mut self) -> Done<Ended> {
        let changed = self.books.take_changed();
        for (id, record) in &changed {
            let key = id.to_string();
            self.queues
                .insert(key.as_str(), table::encode(record).as_slice())?;
        }
        let removed = self.books.take_removed().into_iter().map(|id| (id, false));
        let changed = changed.into_iter().map(|(id, record)| (id, record.gives()));
        // One that was made again after it was removed comes last.
        let queues = removed.chain(changed);
        Ok(Ended {
            woke: self.woke,
            queues: queues.collect(),
        })
    }

    fn next(&mut self, name: &str, by: u64) -> Done<u64> {
        let first = self.meta.get(name)?.map_or(1, |n| n.value());
        self.meta.insert(name, first + by)?;
        Ok(first)
    }

    fn queue(&mut self, id: &QueueId) -> Done<QueueNumber> {
        if let Some(record) = self.books.get(id) {
            return Ok(record.number);
        }
        let number = self.next(META_NEXT_QUEUE, 1)?;
        let spent = || broken(QueueError::ReadOnly("there were too many queues".to_string()));
        let number = QueueNumber::try_from(number).map_err(|_| spent())?;
        self.books.create(id, number);
        Ok(number)
    }

    fn job(&self, id: u64) -> Done<Option<JobRecord>> {
        match self.jobs.get(id)? {
            Some(bytes) => table::decode("a job", bytes.value()).map(Some).map_err(broken),
            None => Ok(None),
        }
    }

    /// The job that a table of states names.
    fn listed(&self, id: u64) -> Done<JobRecord> {
        let lacking = || broken(QueueError::Corrupt(format!("job {id} is listed and not there")));
        self.job(id)?.ok_or_else(lacking)
    }

    pub(super) fn put(&mut self, queue: &QueueId, new: &[NewJob], now: Timestamp) -> Done<Vec<Put>> {
        let bytes = new.iter().map(|job| job.payload.len() as u64).sum();
        let room = self.books.room(&queue.app, new.len() as u64, bytes);
        room.map_err(Fault::Refused)?;
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let number = self.queue(queue)?;
        let mut next = self.next(META_NEXT_JOB, new.len() as u64)?;
        let mut answers = Vec::with_capacity(new.len());
        for job in new {
            let id = next;
            if let Some(key) = &job.key {
                if let Some(there) = self.keys.get((number, key.as_str()))? {
                    answers.push(Put::Exists(JobId(there.value())));
                    continue;
                }
                self.keys.insert((number, key.as_str()), id)?;
            }
            next += 1;
            let waits = job.not_before.filter(|due| *due > now);
            let mut record = JobRecord {
                queue: number,
                state: JobState::Ready,
                at: millis(now),
                attempts: 0,
                attempts_max: job.attempts_max.unwrap_or(ATTEMPTS_MAX),
                lease: LeaseId(0),
                priority: job.priority,
                created: millis(now),
                bytes: job.payload.len() as u64,
                key: job.key.clone(),
                holder: None,
                error: None,
            };
            self.payloads.insert(id, table::sealed(&job.payload).as_slice())?;
            self.enter(id, &mut record, waits)?;
            self.books.came(&record).map_err(broken)?;
            answers.push(Put::New(JobId(id)));
        }
        Ok(answers)
    }

    /// Writes a job that is in no table of states: ready, or due later.
    fn enter(&mut self, id: u64, job: &mut JobRecord, waits: Option<Timestamp>) -> Done<()> {
        match waits {
            Some(due) => {
                job.state = JobState::Scheduled;
                job.at = millis(due);
                self.due.insert((job.at, id), job.queue)?;
            }
            None => {
                job.state = JobState::Ready;
                self.ready.insert((job.queue, rank(job.priority), id), ())?;
                self.woke = true;
            }
        }
        self.jobs.insert(id, table::encode(job).as_slice())?;
        Ok(())
    }

    /// Takes a job out of the table of its state.
    fn leave(&mut self, id: u64, job: &JobRecord) -> Done<()> {
        match job.state {
            JobState::Ready => drop(self.ready.remove((job.queue, rank(job.priority), id))?),
            JobState::Scheduled => drop(self.due.remove((job.at, id))?),
            JobState::Dead => drop(self.dead.remove((job.queue, job.at, id))?),
            JobState::Running => {
                self.leases.remove((job.at, id))?;
                if let Some(holder) = &job.holder {
                    self.holders.remove((holder.as_str(), id))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self, wants: &[Want], holder: &str, now: Timestamp) -> Done<Vec<Leased>> {
        let (mut leased, mut bytes) = (Vec::new(), 0);
        for want in wants {
            let Some(record) = self.books.get(&want.queue) else {
                continue;
            };
            let room = want
                .running_max
                .map_or(u64::MAX, |max| max.saturating_sub(record.running));
            let (number, paced) = (record.number, record.paced_us);
            let now_us = u64::try_from(now.as_microsecond()).unwrap_or(0);
            let due = want.rate.map_or(u64::MAX, |rate| rate.allows(paced, now_us));
            let most = usize::try_from(room.min(due))
                .unwrap_or(usize::MAX)
                .min(want.jobs);
            if record.paused || record.ready == 0 || most == 0 {
                continue;
            }
            let of_queue = (number, 0, 0)..=(number, u8::MAX, u64::MAX);
            let mut ids = Vec::new();
            for entry in self.ready.range(of_queue)?.take(most) {
                ids.push(entry?.0.value().2);
            }
            let first = leased.len();
            for id in ids {
                // What is more waits for the next call.
                if bytes > BATCH_BYTES_MAX {
                    break;
                }
                let job = self.lease(id, &want.queue, holder, now)?;
                bytes += job.payload.len();
                leased.push(job);
            }
            let begun = (leased.len() - first) as u64;
            if let (Some(rate), Some(record)) = (want.rate, self.books.change(&want.queue)) {
                record.paced_us = rate.paced(paced, now_us, begun);
            }
        }
        Ok(leased)
    }

    fn lease(&mut self, id: u64, queue: &QueueId, holder: &str, now: Timestamp) -> Done<Leased> {
        let mut job = self.listed(id)?;
        self.leave(id, &job)?;
        job.state = JobState::Running;
        job.at = millis(now + LEASE);
        job.attempts += 1;
        job.lease = LeaseId(job.lease.0 + 1);
        job.holder = Some(holder.to_string());
        self.hold(id, &job)?;
        self.books.moved(&job, JobState::Ready).map_err(broken)?;
        let lacking = || broken(QueueError::Corrupt(format!("job {id} has no payload")));
        let payload = self.payloads.get(id)?.ok_or_else(lacking)?;
        let payload = table::open("a payload", payload.value()).map_err(broken)?;
        Ok(Leased {
            queue: queue.clone(),
            id: JobId(id),
            lease: job.lease,
            until: time(job.at),
            attempt: job.attempts,
            payload: payload.to_vec(),
        })
    }

    /// Writes a job that a worker has.
    fn hold(&mut self, id: u64, job: &JobRecord) -> Done<()> {
        self.leases.insert((job.at, id), job.queue)?;
        if let Some(holder) = &job.holder {
            self.holders.insert((holder.as_str(), id), ())?;
        }
        self.jobs.insert(id, table::encode(job).as_slice())?;
        Ok(())
    }

    pub(super) fn settle(&mut self, said: &SayJob, now: Timestamp) -> Done<Settled> {
        let id = said.id.0;
        let Some(mut job) = self.job(id)? else {
            return Ok(Settled::Lost);
        };
        let is_held = job.state == JobState::Running && job.lease == said.lease;
        if !is_held || self.books.name(job.queue) != Some(&said.queue) {
            return Ok(Settled::Lost);
        }
        match &said.outcome {
            Outcome::Done => {
                self.books.ended(job.queue, true).map_err(broken)?;
                self.forget(id, &job)?;
                Ok(Settled::Kept(None))
            }
            Outcome::Extend { for_ms } => {
                self.leave(id, &job)?;
                job.at = millis(now + Duration::from_millis(*for_ms).min(LEASE_MAX));
                self.hold(id, &job)?;
                Ok(Settled::Kept(Some(time(job.at))))
            }
            Outcome::HandBack => {
                job.attempts = job.attempts.saturating_sub(1);
                self.back(id, job, None)?;
                Ok(Settled::Kept(None))
            }
            Outcome::Retry { error, after_ms } => {
                let asked = after_ms.map(Duration::from_millis);
                self.failed(id, job, error, asked, now)
            }
            Outcome::Discard { error } => {
                self.books.ended(job.queue, false).map_err(broken)?;
                self.die(id, job, error, now)?;
                Ok(Settled::Dead)
            }
        }
    }

    /// An attempt is over that was none of the good ones.
    fn failed(
        &mut self,
        id: u64,
        job: JobRecord,
        error: &str,
        asked: Option<Duration>,
        now: Timestamp,
    ) -> Done<Settled> {
        self.books.ended(job.queue, false).map_err(broken)?;
        match after_failure(job.attempts, job.attempts_max, asked, fastrand::f64()) {
            Next::Dead => {
                self.die(id, job, error, now)?;
                Ok(Settled::Dead)
            }
            Next::Wait(wait) => {
                let job = JobRecord {
                    error: Some(cut(error)),
                    ..job
                };
                self.back(id, job, Some(now + wait).filter(|due| *due > now))?;
                Ok(Settled::Kept(None))
            }
        }
    }

    /// A job that a worker had waits again.
    fn back(&mut self, id: u64, mut job: JobRecord, waits: Option<Timestamp>) -> Done<()> {
        self.leave(id, &job)?;
        job.holder = None;
        self.enter(id, &mut job, waits)?;
        self.books.moved(&job, JobState::Running).map_err(broken)
    }

    fn die(&mut self, id: u64, mut job: JobRecord, error: &str, now: Timestamp) -> Done<()> {
        self.leave(id, &job)?;
        if let Some(key) = &job.key {
            // A dead job keeps nobody from asking again.
            self.keys.remove((job.queue, key.as_str()))?;
        }
        let from = job.state;
        job.holder = None;
        job.error = Some(cut(error));
        job.state = JobState::Dead;
        job.at = millis(now);
        self.dead.insert((job.queue, job.at, id), ())?;
        self.jobs.insert(id, table::encode(&job).as_slice())?;
        self.books.moved(&job, from).map_err(broken)
    }

    /// Removes a job and all that is known of it.
    fn forget(&mut self, id: u64, job: &JobRecord) -> Done<()> {
        self.leave(id, job)?;
        if let Some(key) = job.key.as_ref().filter(|_| job.state != JobState::Dead) {
            self.keys.remove((job.queue, key.as_str()))?;
        }
        self.payloads.remove(id)?;
        self.jobs.remove(id)?;
        self.books.went(job).map_err(broken)
    }

    pub(super) fn holder_gone(&mut self, holder: &str, now: Timestamp) -> Done<u64> {
        let below = format!("{holder}/");
        let mut ids = Vec::new();
        for entry in self.holders.range((holder, 0)..=(holder, u64::MAX))? {
            ids.push(entry?.0.value().1);
        }
        for entry in self.holders.range((below.as_str(), 0)..)? {
            let (key, _) = entry?;
            let (name, id) = key.value();
            if !name.starts_with(&below) {
                break;
            }
            ids.push(id);
        }
        let n = ids.len() as u64;
        for id in ids {
            let job = self.listed(id)?;
            let error = format!("its worker {} is gone", job.holder.as_deref().unwrap_or(holder));
            self.failed(id, job, &error, Some(Duration::ZERO), now)?;
        }
        Ok(n)
    }

    /// Moves what is due; answers the next time that something is.
    pub(super) fn tick(&mut self, now: Timestamp) -> Done<Option<Timestamp>> {
        let until = millis(now);
        let mut left = TICK_MAX;
        let mut ids = Vec::new();
        for entry in self.leases.range((0, 0)..=(until, u64::MAX))?.take(left) {
            ids.push(entry?.0.value().1);
        }
        left -= ids.len();
        for id in std::mem::take(&mut ids) {
            let job = self.listed(id)?;
            let holder = job.holder.as_deref().unwrap_or("its worker");
            let error = format!("{holder} said nothing until its lease ended");
            self.failed(id, job, &error, Some(Duration::ZERO), now)?;
        }
        for entry in self.due.range((0, 0)..=(until, u64::MAX))?.take(left) {
            ids.push(entry?.0.value().1);
        }
        for id in ids {
            let mut job = self.listed(id)?;
            self.leave(id, &job)?;
            self.enter(id, &mut job, None)?;
            self.books.moved(&job, JobState::Scheduled).map_err(broken)?;
        }
        self.bury(now)?;
        let lease = self.leases.first()?.map(|(key, _)| key.value().0);
        let due = self.due.first()?.map(|(key, _)| key.value().0);
        Ok([lease, due].into_iter().flatten().min().map(time))
    }

    /// Removes dead letters that were kept long enough.
    fn bury(&mut self, now: Timestamp) -> Done<()> {
        let before = millis(now - DEAD_KEPT);
        let with_dead: Vec<_> = self.books.with_dead().collect();
        for number in with_dead {
            let mut ids = Vec::new();
            for entry in self
                .dead
                .range((number, 0, 0)..(number, before, 0))?
                .take(TICK_MAX)
            {
                ids.push(entry?.0.value().2);
            }
            for id in ids {
                let job = self.listed(id)?;
                self.forget(id, &job)?;
            }
        }
        Ok(())
    }
}

/// An error as it is kept.
fn cut(error: &str) -> String {
    error[..error.floor_char_boundary(ERROR_BYTES_MAX)].to_string()
}
