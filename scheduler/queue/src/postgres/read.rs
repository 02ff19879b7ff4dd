//! Reading: queues and jobs as of now.

use std::collections::BTreeSet;

use gilliam_model::{
    name::AppName,
    queue::{JobId, JobInfo, JobState, QueueCounts, QueueId, QueueInfo},
};

use super::{
    engine::Engine,
    fault::Fault,
    mend::number,
    row::{corrupt, count, info, signed, time},
};

pub(super) async fn list(engine: &Engine, app: &AppName) -> Result<Vec<QueueInfo>, Fault> {
    let rows = engine
        .read(
            "SELECT q.name, q.paused, coalesce(sum(t.ready), 0)::bigint, coalesce(sum(t.scheduled), 0)::bigint,
               coalesce(sum(t.running), 0)::bigint, coalesce(sum(t.dead), 0)::bigint,
               coalesce(sum(t.done), 0)::bigint, coalesce(sum(t.failed), 0)::bigint,
               (SELECT j.created FROM jobs j WHERE j.queue = q.number AND j.state = 0
                ORDER BY j.queue, j.rank, j.id LIMIT 1)
             FROM queues q LEFT JOIN tallies t ON t.queue = q.number WHERE q.app = $1
             GROUP BY q.number, q.name, q.paused ORDER BY q.name",
            &[&app.as_str()],
        )
        .await?;
    let queue = |row: &tokio_postgres::Row| {
        let name: &str = row.get(0);
        let sum = |column: usize| count(row.get(column));
        Ok(QueueInfo {
            name: name
                .parse()
                .map_err(|_| corrupt(format!("a queue has the name {name:?}")))?,
            paused: row.get(1),
            counts: QueueCounts {
                ready: sum(2),
                scheduled: sum(3),
                running: sum(4),
                dead: sum(5),
            },
            done: sum(6),
            failed: sum(7),
            oldest: row.get::<_, Option<i64>>(8).map(time),
        })
    };
    rows.iter().map(queue).collect()
}

pub(super) async fn apps(engine: &Engine) -> Result<BTreeSet<AppName>, Fault> {
    let rows = engine.read("SELECT DISTINCT app FROM queues", &[]).await?;
    let app = |row: &tokio_postgres::Row| {
        let name: &str = row.get(0);
        name.parse()
            .map_err(|_| corrupt(format!("an app has the name {name:?}")))
    };
    rows.iter().map(app).collect()
}

/// A statement that gives what is known of jobs of queue $1, at most $2 of them.
macro_rules! listing {
    ($which:literal) => {
        concat!(
            "SELECT id, state, attempts, attempts_max, rank, key, bytes, created, at, error FROM jobs
             WHERE queue = $1 AND ",
            $which,
            " LIMIT $2"
        )
    };
}

pub(super) async fn jobs(
    engine: &Engine,
    queue: &QueueId,
    state: JobState,
    most: usize,
) -> Result<Vec<JobInfo>, Fault> {
    let Some(number) = number(engine, queue).await? else {
        return Ok(Vec::new());
    };
    let sql = match state {
        JobState::Ready => listing!("state = 0 ORDER BY queue, rank, id"),
        JobState::Scheduled => listing!("state = 1 ORDER BY queue, state, at, id"),
        JobState::Running => listing!("state = 2 ORDER BY state, at, id"),
        JobState::Dead => listing!("state = 3 ORDER BY queue, state, at, id"),
    };
    let rows = engine.read(sql, &[&number, &signed(most as u64)]).await?;
    rows.iter().map(info).collect()
}

pub(super) async fn job(
    engine: &Engine,
    queue: &QueueId,
    id: JobId,
) -> Result<Option<(JobInfo, Vec<u8>)>, Fault> {
    let rows = engine
        .read(
            "SELECT j.* FROM jobs j JOIN queues q ON q.number = j.queue
             WHERE j.id = $1 AND q.app = $2 AND q.name = $3",
            &[&signed(id.0), &queue.app.as_str(), &queue.queue.as_str()],
        )
        .await?;
    let found = rows.first().map(|row| Ok((info(row)?, row.get("payload"))));
    found.transpose()
}
