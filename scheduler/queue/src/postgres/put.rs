//! Putting jobs, those of many callers in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gilliam_model::{
    Timestamp,
    name::AppName,
    queue::{ATTEMPTS_MAX, BYTES_PER_APP_MAX, JOBS_PER_APP_MAX, JobId, JobState, NewJob, QueueId},
};

use super::{
    engine::{Engine, Turn},
    fault::Fault,
    lane::{Answers, Ask},
    row::{QueueNumber, corrupt, count, millis, queue_id, rank, signed, state},
};
use crate::{Put, QueueError};

/// Times that the job of a key may be gone when it is looked for: others take and do it meanwhile.
const KEY_ROUNDS_MAX: usize = 8;

/// Jobs for a queue.
#[derive(Debug)]
pub(super) struct PutJobs {
    pub(super) queue: QueueId,
    pub(super) jobs: Vec<NewJob>,
    pub(super) now: Timestamp,
}

/// A job on its way, and what became of it.
struct Coming<'a> {
    id: i64,
    queue: QueueNumber,
    name: &'a QueueId,
    job: &'a NewJob,
    now: Timestamp,
    put: Option<Put>,
}

impl Ask for PutJobs {
    type Answer = Vec<Put>;

    fn bytes(&self) -> usize {
        self.jobs.iter().map(|job| job.payload.len()).sum()
    }

    async fn together(engine: &Engine, asked: &[Self]) -> Result<Answers<Vec<Put>>, Fault> {
        let mut turn = engine.begin().await?;
        let refused = refused(&mut turn, asked).await?;
        let welcome = || {
            asked
                .iter()
                .zip(&refused)
                .filter(|(_, refused)| refused.is_none())
        };
        let names = welcome()
            .filter(|(one, _)| !one.jobs.is_empty())
            .map(|(one, _)| &one.queue);
        let queues = queues(&mut turn, &names.collect()).await?;
        let jobs = welcome().map(|(one, _)| one.jobs.len()).sum();
        let mut ids = ids(&mut turn, jobs).await?.into_iter();
        let mut coming = Vec::with_capacity(jobs);
        for (one, _) in welcome() {
            for job in &one.jobs {
                coming.push(Coming {
                    id: ids.next().ok_or_else(|| corrupt("too few ids"))?,
                    queue: queues[&one.queue],
                    name: &one.queue,
                    job,
                    now: one.now,
                    put: None,
                });
            }
        }
        insert(&mut turn, &mut coming).await?;
        let mut puts = coming.into_iter().filter_map(|one| one.put);
        let answers = asked.iter().zip(refused).map(|(one, refused)| match refused {
            Some(error) => Err(error),
            None => Ok(puts.by_ref().take(one.jobs.len()).collect()),
        });
        let answers = answers.collect();
        turn.commit().await?;
        Ok(answers)
    }
}

/// Which of the operations are refused, for their apps have as much as they may.
async fn refused(turn: &mut Turn<'_>, asked: &[PutJobs]) -> Result<Vec<Option<QueueError>>, Fault> {
    let apps: BTreeSet<&AppName> = asked.iter().map(|one| &one.queue.app).collect();
    let names: Vec<&str> = apps.iter().map(|app| app.as_str()).collect();
    let rows = turn
        .query(
            "SELECT q.app, sum(t.ready + t.scheduled + t.running + t.dead)::bigint, sum(t.bytes)::bigint
             FROM queues q, tallies t WHERE q.app = ANY($1) AND t.queue = q.number GROUP BY q.app",
            &[&names],
        )
        .await?;
    let mut held: HashMap<&str, (u64, u64)> = HashMap::new();
    for row in &rows {
        held.insert(row.get(0), (count(row.get(1)), count(row.get(2))));
    }
    let within = |what, found, max| match found <= max {
        true => Ok(()),
        false => Err(QueueError::Quota { what, found, max }),
    };
    let refused = asked.iter().map(|one| {
        let (jobs, bytes) = held.entry(one.queue.app.as_str()).or_default();
        let (all, all_bytes) = (*jobs + one.jobs.len() as u64, *bytes + one.bytes() as u64);
        let fits = within("jobs", all, JOBS_PER_APP_MAX)
            .and_then(|()| within("bytes of payloads", all_bytes, BYTES_PER_APP_MAX));
        if fits.is_ok() {
            (*jobs, *bytes) = (all, all_bytes);
        }
        fits.err()
    });
    Ok(refused.collect())
}

/// The numbers of queues, which are made if they are not there; none goes before the transaction ends.
pub(super) async fn queues(
    turn: &mut Turn<'_>,
    names: &BTreeSet<&QueueId>,
) -> Result<HashMap<QueueId, QueueNumber>, Fault> {
    let mut numbers = HashMap::new();
    if names.is_empty() {
        return Ok(numbers);
    }
    let apps: Vec<&str> = names.iter().map(|id| id.app.as_str()).collect();
    let queues: Vec<&str> = names.iter().map(|id| id.queue.as_str()).collect();
    loop {
        let rows = turn
            .query(
                "SELECT q.number, q.app, q.name FROM unnest($1::text[], $2::text[]) w (app, name)
                 JOIN queues q ON q.app = w.app AND q.name = w.name ORDER BY q.number FOR KEY SHARE OF q",
                &[&apps, &queues],
            )
            .await?;
        for row in rows {
            numbers.insert(queue_id(row.get(1), row.get(2))?, row.get(0));
        }
        if numbers.len() == names.len() {
            return Ok(numbers);
        }
        turn.query(
            "INSERT INTO queues (app, name) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING",
            &[&apps, &queues],
        )
        .await?;
    }
}

async fn ids(turn: &mut Turn<'_>, n: usize) -> Result<Vec<i64>, Fault> {
    if n == 0 {
        return Ok(Vec::new());
    }
    let n = i32::try_from(n).map_err(|_| corrupt("too many jobs"))?;
    let sql = "SELECT nextval('job_ids') FROM generate_series(1, $1)";
    let rows = turn.query(sql, &[&n]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Writes jobs, and finds those that are there already for each that is not written.
async fn insert(turn: &mut Turn<'_>, coming: &mut [Coming<'_>]) -> Result<(), Fault> {
    for _ in 0..KEY_ROUNDS_MAX {
        let mut open: Vec<&mut Coming<'_>> = coming.iter_mut().filter(|one| one.put.is_none()).collect();
        if open.is_empty() {
            return Ok(());
        }
        // Of two transactions with the same keys one waits for the other, and not each for the other.
        open.sort_by_key(|one| (one.queue, one.job.key.clone(), one.id));
        let new = insert_new(turn, &open).await?;
        for one in &mut open {
            if new.contains(&one.id) {
                one.put = Some(Put::New(JobId(count(one.id))));
                count_in(turn, one);
            }
        }
        open.retain(|one| one.put.is_none());
        let there = there(turn, &open).await?;
        for one in open {
            let key = one.job.key.as_deref().unwrap_or_default().as_bytes();
            one.put = there
                .get(&(one.queue, key.to_vec()))
                .map(|id| Put::Exists(JobId(count(*id))));
        }
    }
    Err(corrupt("the job of a key comes and goes all the time"))
}

fn waits(one: &Coming<'_>) -> Option<Timestamp> {
    one.job.not_before.filter(|due| millis(*due) > millis(one.now))
}

fn count_in(turn: &mut Turn<'_>, one: &Coming<'_>) {
    let is = waits(one).map_or(JobState::Ready, |_| JobState::Scheduled);
    turn.tally
        .came(one.queue, is, 1, signed(one.job.payload.len() as u64));
    if is == JobState::Ready && !turn.woke.contains(one.name) {
        turn.woke.insert(one.name.clone());
    }
}

async fn insert_new(turn: &mut Turn<'_>, open: &[&mut Coming<'_>]) -> Result<BTreeSet<i64>, Fault> {
    let (mut ids, mut queues, mut states, mut ranks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut ats, mut created, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut keys, mut payloads) = (Vec::new(), Vec::new());
    for one in open {
        let due = waits(one);
        ids.push(one.id);
        queues.push(one.queue);
        states.push(state(due.map_or(JobState::Ready, |_| JobState::Scheduled)));
        ranks.push(rank(one.job.priority));
        ats.push(millis(due.unwrap_or(one.now)));
        created.push(millis(one.now));
        attempts.push(i32::try_from(one.job.attempts_max.unwrap_or(ATTEMPTS_MAX)).unwrap_or(i32::MAX));
        keys.push(one.job.key.as_ref().map(|key| key.as_bytes()));
        payloads.push(one.job.payload.as_slice());
    }
    let rows = turn
        .query(
            "INSERT INTO jobs (id, queue, state, rank, at, created, attempts_max, key, payload, bytes)
             SELECT *, octet_length(payload) FROM unnest($1::bigint[], $2::int[], $3::smallint[], $4::smallint[],
               $5::bigint[], $6::bigint[], $7::int[], $8::bytea[], $9::bytea[])
               w (id, queue, state, rank, at, created, attempts_max, key, payload)
             ON CONFLICT (queue, key) WHERE key IS NOT NULL AND state <> 3 DO NOTHING RETURNING id",
            &[
                &ids, &queues, &states, &ranks, &ats, &created, &attempts, &keys, &payloads,
            ],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The jobs that have the keys of these.
async fn there(
    turn: &mut Turn<'_>,
    open: &[&mut Coming<'_>],
) -> Result<BTreeMap<(QueueNumber, Vec<u8>), i64>, Fault> {
    if open.is_empty() {
        return Ok(BTreeMap::new());
    }
    let queues: Vec<QueueNumber> = open.iter().map(|one| one.queue).collect();
    let keys: Vec<_> = open
        .iter()
        .map(|one| one.job.key.as_ref().map(|key| key.as_bytes()))
        .collect();
    let rows = turn
        .query(
            "SELECT j.queue, j.key, j.id FROM unnest($1::int[], $2::bytea[]) w (queue, key)
             JOIN jobs j ON j.queue = w.queue AND j.key = w.key AND j.key IS NOT NULL AND j.state <> 3",
            &[&queues, &keys],
        )
        .await?;
    let found = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2)));
    Ok(found.collect())
}
