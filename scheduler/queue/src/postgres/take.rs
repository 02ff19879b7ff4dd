//! Taking jobs: each goes to one worker, however many servers take at once (`SKIP LOCKED`).

use std::collections::{BTreeMap, BTreeSet};

use gilliam_model::{
    Timestamp,
    queue::{BATCH_BYTES_MAX, JobId, JobState, LEASE, LeaseId, Leased, QueueId},
};
use tokio_postgres::Row;

use super::{
    engine::{Engine, Turn},
    fault::Fault,
    giving::Moment,
    lane::{Answers, Ask},
    row::{QueueNumber, count, millis, signed, time},
};
use crate::Want;

/// What a worker asks for.
#[derive(Debug)]
pub(super) struct TakeJobs {
    pub(super) wants: Vec<Want>,
    pub(super) holder: String,
    pub(super) now: Timestamp,
}

impl Ask for TakeJobs {
    type Answer = Vec<Leased>;

    fn bytes(&self) -> usize {
        // What they bring is known when they are done.
        BATCH_BYTES_MAX
    }

    async fn together(engine: &Engine, asked: &[Self]) -> Result<Answers<Vec<Leased>>, Fault> {
        let since = engine.giving.moment();
        let mut turn = engine.begin().await?;
        let mut limits = Limits::lock(&mut turn, asked).await?;
        let mut spent = Spent::default();
        let mut answers = Vec::with_capacity(asked.len());
        for one in asked {
            answers.push(Ok(take(&mut turn, one, &mut limits, &mut spent).await?));
        }
        limits.write(&mut turn).await?;
        turn.commit().await?;
        spent.note(engine, since);
        Ok(answers)
    }
}

/// Queues that gave all that they had.
#[derive(Debug, Default)]
struct Spent(BTreeSet<QueueId>);

impl Spent {
    fn note(self, engine: &Engine, since: Moment) {
        for queue in self.0 {
            engine.giving.spent(&queue, since);
        }
    }
}

/// How many jobs may still be taken from queues of which not all may run, or begin, at once. Whoever takes from such
/// a queue has it alone until the end of the transaction.
#[derive(Debug, Default)]
struct Limits(BTreeMap<QueueId, Limited>);

#[derive(Debug)]
struct Limited {
    number: QueueNumber,
    running: u64,
    paced_us: u64,
    was_paced: bool,
}

impl Limits {
    async fn lock(turn: &mut Turn<'_>, asked: &[TakeJobs]) -> Result<Self, Fault> {
        let wants = asked.iter().flat_map(|one| &one.wants);
        let limited = wants.filter(|want| want.running_max.is_some() || want.rate.is_some());
        // In the order of their names, so that of two transactions one waits for the other.
        let limited: BTreeSet<&QueueId> = limited.map(|want| &want.queue).collect();
        let mut limits = BTreeMap::new();
        for queue in limited {
            let (app, name) = (queue.app.as_str(), queue.queue.as_str());
            let locked = turn
                .query(
                    "SELECT number, paced_us FROM queues WHERE app = $1 AND name = $2 FOR NO KEY UPDATE",
                    &[&app, &name],
                )
                .await?;
            let Some(row) = locked.first() else {
                continue;
            };
            let number: QueueNumber = row.get(0);
            let sql = "SELECT coalesce(sum(running), 0)::bigint FROM tallies WHERE queue = $1";
            let running = turn.query(sql, &[&number]).await?;
            let limited = Limited {
                number,
                running: running.first().map_or(0, |row| count(row.get(0))),
                paced_us: count(row.get(1)),
                was_paced: false,
            };
            limits.insert(queue.clone(), limited);
        }
        Ok(Self(limits))
    }

    /// How many of a queue may be taken at `now`.
    fn room(&self, want: &Want, now: Timestamp) -> u64 {
        let Some(limited) = self.0.get(&want.queue) else {
            return u64::MAX;
        };
        let running = want.running_max.map(|max| max.saturating_sub(limited.running));
        let rate = want.rate.map(|rate| rate.allows(limited.paced_us, micros(now)));
        running.unwrap_or(u64::MAX).min(rate.unwrap_or(u64::MAX))
    }

    fn taken(&mut self, want: &Want, jobs: u64, now: Timestamp) {
        if let Some(limited) = self.0.get_mut(&want.queue) {
            limited.running += jobs;
            if let Some(rate) = want.rate.filter(|_| jobs > 0) {
                limited.paced_us = rate.paced(limited.paced_us, micros(now), jobs);
                limited.was_paced = true;
            }
        }
    }

    async fn write(self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        for limited in self.0.into_values().filter(|limited| limited.was_paced) {
            let paced_us = signed(limited.paced_us);
            let sql = "UPDATE queues SET paced_us = $2 WHERE number = $1";
            turn.query(sql, &[&limited.number, &paced_us]).await?;
        }
        Ok(())
    }
}

fn micros(time: Timestamp) -> u64 {
    count(time.as_microsecond())
}

async fn take(
    turn: &mut Turn<'_>,
    asked: &TakeJobs,
    limits: &mut Limits,
    spent: &mut Spent,
) -> Result<Vec<Leased>, Fault> {
    let (mut leased, mut bytes) = (Vec::new(), 0);
    for want in &asked.wants {
        let room = usize::try_from(limits.room(want, asked.now)).unwrap_or(usize::MAX);
        let most = room.min(want.jobs);
        // What is more waits for the next call.
        if most == 0 || bytes > BATCH_BYTES_MAX {
            continue;
        }
        let left = BATCH_BYTES_MAX - bytes.min(BATCH_BYTES_MAX);
        let rows = lease(turn, &want.queue, most, left, asked).await?;
        let given: Vec<Leased> = rows.iter().map(|row| leased_of(row, &want.queue)).collect();
        let of_given: usize = given.iter().map(|job| job.payload.len()).sum();
        bytes += of_given;
        limits.taken(want, given.len() as u64, asked.now);
        let is_cut = of_given > left;
        if let Some(row) = rows.first() {
            let number = row.get::<_, QueueNumber>("queue");
            turn.tally.moved(
                number,
                JobState::Ready,
                JobState::Running,
                signed(given.len() as u64),
            );
        }
        let is_spent = match rows.first() {
            None => true,
            Some(_) if is_cut => false,
            Some(_) if given.len() < most => true,
            Some(row) => has_none(turn, row.get("queue")).await?,
        };
        if is_spent {
            spent.0.insert(want.queue.clone());
        }
        leased.extend(given);
    }
    Ok(leased)
}

async fn lease(
    turn: &mut Turn<'_>,
    queue: &QueueId,
    most: usize,
    bytes: usize,
    asked: &TakeJobs,
) -> Result<Vec<Row>, Fault> {
    let until = millis(asked.now + LEASE);
    let (app, name) = (queue.app.as_str(), queue.queue.as_str());
    let (most, bytes) = (signed(most as u64), signed(bytes as u64));
    let mut rows = turn
        .query(
            "WITH picked AS MATERIALIZED (
               SELECT j.id, j.rank, j.bytes FROM jobs j
               WHERE j.queue = (SELECT number FROM queues WHERE app = $1 AND name = $2 AND NOT paused) AND j.state = 0
               ORDER BY j.queue, j.rank, j.id LIMIT $3 FOR UPDATE OF j SKIP LOCKED),
             fits AS MATERIALIZED (
               SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY rank, id) - bytes AS before FROM picked) p
               WHERE before <= $4)
             UPDATE jobs j SET state = 2, at = $5, attempts = attempts + 1, lease = lease + 1, holder = $6
             FROM fits WHERE j.id = fits.id
             RETURNING j.queue, j.id, j.rank, j.lease, j.at, j.attempts, j.payload",
            &[&app, &name, &most, &bytes, &until, &asked.holder],
        )
        .await?;
    rows.sort_by_key(|row| (row.get::<_, i16>("rank"), row.get::<_, i64>("id")));
    Ok(rows)
}

fn leased_of(row: &Row, queue: &QueueId) -> Leased {
    let number = |name| u32::try_from(row.get::<_, i32>(name)).unwrap_or(0);
    Leased {
        queue: queue.clone(),
        id: JobId(count(row.get("id"))),
        lease: LeaseId(number("lease")),
        until: time(row.get("at")),
        attempt: number("attempts"),
        payload: row.get("payload"),
    }
}

/// Whether a queue has nothing more to take.
async fn has_none(turn: &mut Turn<'_>, queue: QueueNumber) -> Result<bool, Fault> {
    let rows = turn
        .query(
            "SELECT 1 FROM jobs WHERE queue = $1 AND state = 0 ORDER BY queue, rank, id LIMIT 1",
            &[&queue],
        )
        .await?;
    Ok(rows.is_empty())
}
