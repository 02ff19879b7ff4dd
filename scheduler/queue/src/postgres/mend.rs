//! What users do about a queue and its jobs. What may concern millions of jobs is done part by part, each in a
//! transaction of its own, so that nobody waits for it long.

use std::collections::BTreeSet;

use gilliam_model::{
    Timestamp,
    name::AppName,
    queue::{JobId, JobState, QueueId},
};

use super::{
    engine::{Engine, Turn},
    fault::Fault,
    put::queues,
    row::{QueueNumber, count, millis, signed},
};
use crate::QueueError;

/// Jobs that one transaction changes.
const PART: i64 = 10_000;

pub(super) async fn pause(engine: &Engine, queue: &QueueId, paused: bool) -> Result<bool, Fault> {
    let since = engine.giving.moment();
    let mut turn = engine.begin().await?;
    let number = queues(&mut turn, &BTreeSet::from([queue])).await?[queue];
    let sql = "UPDATE queues SET paused = $2 WHERE number = $1 AND paused <> $2 RETURNING number";
    let changed = !turn.query(sql, &[&number, &paused]).await?.is_empty();
    if changed && !paused {
        turn.woke.insert(queue.clone());
    }
    turn.commit().await?;
    if paused {
        engine.giving.spent(queue, since.max(engine.giving.moment()));
    }
    Ok(changed)
}

/// The number of a queue, if it is there.
pub(super) async fn number(engine: &Engine, queue: &QueueId) -> Result<Option<QueueNumber>, Fault> {
    let (app, name) = (queue.app.as_str(), queue.queue.as_str());
    let sql = "SELECT number FROM queues WHERE app = $1 AND name = $2";
    let rows = engine.read(sql, &[&app, &name]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// A statement that removes jobs of queue $1 up to job $2, at most $3 of them.
macro_rules! remove {
    ($which:literal) => {
        concat!(
            "WITH found AS MATERIALIZED (SELECT id FROM jobs WHERE queue = $1 AND id <= $2 AND ",
            $which,
            " LIMIT $3 FOR UPDATE SKIP LOCKED),
             gone AS (DELETE FROM jobs j USING found WHERE j.id = found.id RETURNING j.bytes)
             SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM gone"
        )
    };
}

fn removing(state: JobState) -> &'static str {
    match state {
        JobState::Ready => remove!("state = 0 ORDER BY queue, rank, id"),
        JobState::Scheduled => remove!("state = 1 ORDER BY queue, state, at, id"),
        JobState::Running => remove!("state = 2 ORDER BY state, at, id"),
        JobState::Dead => remove!("state = 3 ORDER BY queue, state, at, id"),
    }
}

/// Removes one part of a queue's jobs; answers how many they were.
async fn remove_part(
    turn: &mut Turn<'_>,
    queue: QueueNumber,
    state: JobState,
    until: i64,
) -> Result<i64, Fault> {
    let rows = turn.query(removing(state), &[&queue, &until, &PART]).await?;
    let (jobs, bytes) = rows.first().map_or((0, 0), |row| (row.get(0), row.get(1)));
    turn.tally.went(queue, state, jobs, bytes);
    Ok(jobs)
}

pub(super) async fn purge(engine: &Engine, queue: &QueueId, states: &[JobState]) -> Result<u64, QueueError> {
    let Some(number) = engine.done(number(engine, queue)).await? else {
        return Ok(0);
    };
    // What comes from now on stays.
    let until = engine.done(last_job(engine)).await?;
    let mut purged = 0;
    for state in states.iter().filter(|state| **state != JobState::Running) {
        loop {
            let part = async {
                let mut turn = engine.begin().await?;
                let jobs = remove_part(&mut turn, number, *state, until).await?;
                turn.commit().await?;
                Ok(jobs)
            };
            let jobs = engine.done(part).await?;
            purged += count(jobs);
            if jobs < PART {
                break;
            }
        }
    }
    Ok(purged)
}

async fn last_job(engine: &Engine) -> Result<i64, Fault> {
    let rows = engine.read("SELECT last_value FROM job_ids", &[]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

pub(super) async fn retry(
    engine: &Engine,
    queue: &QueueId,
    id: Option<JobId>,
    now: Timestamp,
) -> Result<u64, QueueError> {
    let Some(number) = engine.done(number(engine, queue)).await? else {
        return Ok(0);
    };
    let mut retried = 0;
    loop {
        let jobs = engine.done(retry_part(engine, (queue, number), id, now)).await?;
        retried += count(jobs);
        if jobs < PART || id.is_some() {
            return Ok(retried);
        }
    }
}

/// Has jobs begin anew that died before `now`. One whose key another has meanwhile goes on without.
async fn retry_part(
    engine: &Engine,
    (queue, number): (&QueueId, QueueNumber),
    id: Option<JobId>,
    now: Timestamp,
) -> Result<i64, Fault> {
    let mut turn = engine.begin().await?;
    let id = id.map(|id| signed(id.0));
    let rows = turn
        .query(
            "WITH picked AS MATERIALIZED (
               SELECT id, key FROM jobs
               WHERE queue = $1 AND state = 3 AND CASE WHEN $2::bigint IS NULL THEN at <= $3 ELSE id = $2 END
               ORDER BY queue, state, at, id LIMIT $4 FOR UPDATE),
             keyed AS MATERIALIZED (
               SELECT id, CASE
                 WHEN row_number() OVER (PARTITION BY key ORDER BY id) > 1 THEN NULL
                 WHEN EXISTS (SELECT 1 FROM jobs o
                   WHERE o.queue = $1 AND o.key = p.key AND o.key IS NOT NULL AND o.state <> 3) THEN NULL
                 ELSE key END AS key FROM picked p),
             begun AS (
               UPDATE jobs j SET state = 0, attempts = 0, at = $3, key = keyed.key FROM keyed WHERE j.id = keyed.id
               RETURNING 1)
             SELECT count(*) FROM begun",
            &[&number, &id, &millis(now), &PART],
        )
        .await?;
    let jobs: i64 = rows.first().map_or(0, |row| row.get(0));
    turn.tally.moved(number, JobState::Dead, JobState::Ready, jobs);
    if jobs > 0 {
        turn.woke.insert(queue.clone());
    }
    turn.commit().await?;
    Ok(jobs)
}

pub(super) async fn remove(engine: &Engine, app: &AppName) -> Result<(), QueueError> {
    let name = app.as_str();
    let of_app = async {
        let rows = engine
            .read("SELECT number FROM queues WHERE app = $1", &[&name])
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect::<Vec<QueueNumber>>())
    };
    for queue in engine.done(of_app).await? {
        while engine.done(remove_some(engine, queue)).await? > 0 {}
        engine.done(remove_queue(engine, queue)).await?;
    }
    Ok(())
}

/// Removes a part of all of a queue's jobs; answers how many they were.
async fn remove_some(engine: &Engine, queue: QueueNumber) -> Result<i64, Fault> {
    let mut turn = engine.begin().await?;
    let mut jobs = 0;
    for state in JobState::ALL {
        jobs += remove_part(&mut turn, queue, state, i64::MAX).await?;
    }
    turn.commit().await?;
    Ok(jobs)
}

/// Removes a queue with what came into it meanwhile.
async fn remove_queue(engine: &Engine, queue: QueueNumber) -> Result<(), Fault> {
    let mut turn = engine.begin().await?;
    // Whoever puts waits from here on, and then makes another queue.
    turn.query("SELECT 1 FROM queues WHERE number = $1 FOR UPDATE", &[&queue])
        .await?;
    for state in JobState::ALL {
        while remove_part(&mut turn, queue, state, i64::MAX).await? > 0 {}
    }
    turn.tally = Default::default();
    turn.query("DELETE FROM tallies WHERE queue = $1", &[&queue])
        .await?;
    let gone = turn
        .query(
            "DELETE FROM queues WHERE number = $1 RETURNING app, name",
            &[&queue],
        )
        .await?;
    let engine = turn.engine;
    turn.commit().await?;
    for row in gone {
        let queue = super::row::queue_id(row.get(0), row.get(1))?;
        engine.giving.spent(&queue, engine.giving.moment());
    }
    Ok(())
}
