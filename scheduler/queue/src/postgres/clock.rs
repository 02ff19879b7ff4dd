//! What time brings, and workers that are gone.

use std::collections::BTreeSet;

use gilliam_model::{
    Timestamp,
    queue::{DEAD_KEPT, JobState},
};

use super::{
    engine::{Engine, Turn},
    fault::Fault,
    row::{JobRow, QueueNumber, count, millis, queue_id, time},
    settle::end_leases,
};

/// Jobs that one tick moves: what is left is done in the next, after others had their turn.
const TICK_MAX: i64 = 10_000;

/// Does what is due; answers the next time that something is.
pub(super) async fn tick(engine: &Engine, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
    let since = engine.giving.moment();
    let mut turn = engine.begin().await?;
    late(&mut turn, now).await?;
    due(&mut turn, now).await?;
    bury(&mut turn, now).await?;
    sum_up(&mut turn).await?;
    let next = turn
        .query(
            "SELECT least((SELECT at FROM jobs WHERE state = 1 ORDER BY state, at, id LIMIT 1),
                          (SELECT at FROM jobs WHERE state = 2 ORDER BY state, at, id LIMIT 1))",
            &[],
        )
        .await?;
    let giving = turn
        .query(
            "SELECT q.app, q.name FROM tallies t JOIN queues q ON q.number = t.queue WHERE NOT q.paused
             GROUP BY q.app, q.name HAVING sum(t.ready) > 0",
            &[],
        )
        .await?;
    let giving: Result<BTreeSet<_>, Fault> = giving
        .iter()
        .map(|row| queue_id(row.get(0), row.get(1)))
        .collect();
    let giving = giving?;
    turn.commit().await?;
    engine.giving.seen(giving, since);
    Ok(next
        .first()
        .and_then(|row| row.get::<_, Option<i64>>(0))
        .map(time))
}

/// Ends leases whose time is over.
async fn late(turn: &mut Turn<'_>, now: Timestamp) -> Result<(), Fault> {
    let rows = turn
        .query(
            "SELECT j.id, j.queue, q.app, q.name, j.lease, j.attempts, j.attempts_max, j.bytes, j.holder
             FROM jobs j JOIN queues q ON q.number = j.queue
             WHERE j.state = 2 AND j.at <= $1 ORDER BY j.state, j.at, j.id LIMIT $2 FOR UPDATE OF j SKIP LOCKED",
            &[&millis(now), &TICK_MAX],
        )
        .await?;
    let jobs: Result<Vec<JobRow>, Fault> = rows.iter().map(JobRow::read).collect();
    let silent = |job: &JobRow| format!("{} said nothing until its lease ended", job.holder);
    end_leases(turn, &jobs?, silent, now).await
}

/// Moves jobs whose time has come.
async fn due(turn: &mut Turn<'_>, now: Timestamp) -> Result<(), Fault> {
    let rows = turn
        .query(
            "WITH due AS MATERIALIZED (
               SELECT id FROM jobs WHERE state = 1 AND at <= $1 ORDER BY state, at, id LIMIT $2 FOR UPDATE SKIP LOCKED),
             moved AS (UPDATE jobs j SET state = 0 FROM due WHERE j.id = due.id RETURNING j.queue)
             SELECT q.number, q.app, q.name, count(*) FROM moved m JOIN queues q ON q.number = m.queue
             GROUP BY q.number, q.app, q.name",
            &[&millis(now), &TICK_MAX],
        )
        .await?;
    for row in rows {
        let number: QueueNumber = row.get(0);
        turn.tally
            .moved(number, JobState::Scheduled, JobState::Ready, row.get(3));
        turn.woke.insert(queue_id(row.get(1), row.get(2))?);
    }
    Ok(())
}

/// Removes dead letters that were kept long enough.
async fn bury(turn: &mut Turn<'_>, now: Timestamp) -> Result<(), Fault> {
    let rows = turn
        .query(
            "WITH old AS MATERIALIZED (
               SELECT id FROM jobs WHERE state = 3 AND at < $1 ORDER BY state, at, id LIMIT $2 FOR UPDATE SKIP LOCKED),
             gone AS (DELETE FROM jobs j USING old WHERE j.id = old.id RETURNING j.queue, j.bytes)
             SELECT queue, count(*), sum(bytes)::bigint FROM gone GROUP BY queue",
            &[&millis(now - DEAD_KEPT), &TICK_MAX],
        )
        .await?;
    for row in rows {
        turn.tally
            .went(row.get(0), JobState::Dead, row.get(1), row.get(2));
    }
    Ok(())
}

/// Makes one tally of each queue's many, once there are many; those of queues that are gone go.
async fn sum_up(turn: &mut Turn<'_>) -> Result<(), Fault> {
    turn.query(
        "WITH found AS (
           SELECT ctid FROM tallies
           WHERE (SELECT count(*) FROM tallies) > 64 + 2 * (SELECT count(*) FROM queues) FOR UPDATE SKIP LOCKED),
         old AS (DELETE FROM tallies t USING found WHERE t.ctid = found.ctid RETURNING t.*)
         INSERT INTO tallies SELECT queue, sum(ready), sum(scheduled), sum(running), sum(dead), sum(bytes), sum(done),
           sum(failed) FROM old WHERE queue IN (SELECT number FROM queues) GROUP BY queue",
        &[],
    )
    .await?;
    Ok(())
}

/// Ends the leases of holders that are gone.
pub(super) async fn holder_gone(engine: &Engine, holder: &str, now: Timestamp) -> Result<u64, Fault> {
    let mut turn = engine.begin().await?;
    let below = format!("{holder}/");
    let rows = turn
        .query(
            "SELECT j.id, j.queue, q.app, q.name, j.lease, j.attempts, j.attempts_max, j.bytes, j.holder
             FROM jobs j JOIN queues q ON q.number = j.queue
             WHERE j.state = 2 AND (j.holder = $1 OR starts_with(j.holder, $2)) ORDER BY j.id FOR UPDATE OF j",
            &[&holder, &below],
        )
        .await?;
    let jobs: Result<Vec<JobRow>, Fault> = rows.iter().map(JobRow::read).collect();
    let jobs = jobs?;
    end_leases(
        &mut turn,
        &jobs,
        |job| format!("its worker {} is gone", job.holder),
        now,
    )
    .await?;
    turn.commit().await?;
    Ok(count(i64::try_from(jobs.len()).unwrap_or(i64::MAX)))
}
