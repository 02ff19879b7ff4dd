//! What workers say of their jobs, those of many nodes in one transaction.
//!
//! Invariant: a word counts only while the job runs under the lease that it names.

use std::collections::{BTreeMap, HashMap, HashSet};

use gilliam_model::{
    Timestamp,
    queue::{JobState, Outcome, SayJob},
};

use super::{
    engine::{Engine, Turn},
    fault::Fault,
    lane::{Answers, Ask},
    row::{Fate, JobRow, QueueNumber, fate, millis, signed, state},
};
use crate::Settled;

/// Words of a node.
#[derive(Debug)]
pub(super) struct SettleJobs {
    pub(super) said: Vec<SayJob>,
    pub(super) now: Timestamp,
}

impl Ask for SettleJobs {
    type Answer = Vec<Settled>;

    fn bytes(&self) -> usize {
        0
    }

    async fn together(engine: &Engine, asked: &[Self]) -> Result<Answers<Vec<Settled>>, Fault> {
        let said = || {
            asked
                .iter()
                .flat_map(|one| one.said.iter().map(|said| (said, one.now)))
        };
        let mut times: HashMap<u64, u32> = HashMap::new();
        said().for_each(|(said, _)| *times.entry(said.id.0).or_default() += 1);
        let is_simple = |said: &SayJob| said.outcome == Outcome::Done && times[&said.id.0] == 1;
        let mut turn = engine.begin().await?;
        let simple: Vec<&SayJob> = said()
            .map(|(said, _)| said)
            .filter(|said| is_simple(said))
            .collect();
        let done = done(&mut turn, simple).await?;
        let others: Vec<(&SayJob, Timestamp)> = said().filter(|(said, _)| !is_simple(said)).collect();
        let mut others = other(&mut turn, &others).await?.into_iter();
        turn.commit().await?;
        let settled = |said: &SayJob, others: &mut std::vec::IntoIter<Settled>| match is_simple(said) {
            true if done.contains(&signed(said.id.0)) => Settled::Kept(None),
            true => Settled::Lost,
            false => others.next().unwrap_or(Settled::Lost),
        };
        let answers = asked
            .iter()
            .map(|one| Ok(one.said.iter().map(|said| settled(said, &mut others)).collect()));
        Ok(answers.collect())
    }
}

/// Removes jobs that are done; answers those whose leases were theirs.
async fn done(turn: &mut Turn<'_>, mut said: Vec<&SayJob>) -> Result<HashSet<i64>, Fault> {
    if said.is_empty() {
        return Ok(HashSet::new());
    }
    // All transactions take their locks in this order.
    said.sort_by_key(|said| said.id);
    let ids: Vec<i64> = said.iter().map(|said| signed(said.id.0)).collect();
    let leases: Vec<i32> = said
        .iter()
        .map(|said| i32::try_from(said.lease.0).unwrap_or(0))
        .collect();
    let apps: Vec<&str> = said.iter().map(|said| said.queue.app.as_str()).collect();
    let names: Vec<&str> = said.iter().map(|said| said.queue.queue.as_str()).collect();
    let rows = turn
        .query(
            "DELETE FROM jobs j USING unnest($1::bigint[], $2::int[], $3::text[], $4::text[]) w (id, lease, app, name)
             WHERE j.id = w.id AND j.lease = w.lease AND j.state = 2
               AND EXISTS (SELECT 1 FROM queues q WHERE q.number = j.queue AND q.app = w.app AND q.name = w.name)
             RETURNING j.id, j.queue, j.bytes",
            &[&ids, &leases, &apps, &names],
        )
        .await?;
    for row in &rows {
        let (queue, bytes): (QueueNumber, i32) = (row.get(1), row.get(2));
        turn.tally.went(queue, JobState::Running, 1, bytes.into());
        turn.tally.done(queue, 1);
    }
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Does what is said of jobs one after another; answers for each in its turn.
async fn other(turn: &mut Turn<'_>, said: &[(&SayJob, Timestamp)]) -> Result<Vec<Settled>, Fault> {
    if said.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = said.iter().map(|(said, _)| signed(said.id.0)).collect();
    let rows = turn
        .query(
            "SELECT j.id, j.queue, q.app, q.name, j.lease, j.attempts, j.attempts_max, j.bytes, j.holder
             FROM jobs j JOIN queues q ON q.number = j.queue
             WHERE j.id = ANY($1) AND j.state = 2 ORDER BY j.id FOR UPDATE OF j",
            &[&ids],
        )
        .await?;
    let jobs: Result<Vec<JobRow>, Fault> = rows.iter().map(JobRow::read).collect();
    let mut held: HashMap<i64, JobRow> = jobs?.into_iter().map(|job| (job.id, job)).collect();
    let mut fates = Fates::default();
    let mut answers = Vec::with_capacity(said.len());
    for (said, now) in said {
        let job = held.get(&signed(said.id.0));
        let job = job.filter(|job| job.lease == said.lease && job.name == said.queue);
        let Some(job) = job else {
            answers.push(Settled::Lost);
            continue;
        };
        let (fate, settled) = fate(job, &said.outcome, *now, fastrand::f64());
        answers.push(settled);
        let goes_on = fates.note(turn, job, fate);
        if !goes_on {
            held.remove(&signed(said.id.0));
        }
    }
    fates.write(turn).await?;
    Ok(answers)
}

/// What becomes of jobs that the transaction has locked.
#[derive(Debug, Default)]
pub(super) struct Fates(BTreeMap<i64, Fate>);

impl Fates {
    /// Notes what becomes of a job; whether its worker goes on with it.
    pub(super) fn note(&mut self, turn: &mut Turn<'_>, job: &JobRow, fate: Fate) -> bool {
        let tally = &mut turn.tally;
        let goes_on = match &fate {
            Fate::Gone => {
                tally.went(job.queue, JobState::Running, 1, job.bytes.into());
                tally.done(job.queue, 1);
                false
            }
            Fate::Is { state, error, .. } => {
                tally.moved(job.queue, JobState::Running, *state, 1);
                if error.is_some() {
                    tally.failed(job);
                }
                if *state == JobState::Ready {
                    turn.woke.insert(job.name.clone());
                }
                *state == JobState::Running
            }
        };
        self.0.insert(job.id, fate);
        goes_on
    }

    pub(super) async fn write(self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let mut gone = Vec::new();
        let (mut ids, mut states, mut ats) = (Vec::new(), Vec::new(), Vec::new());
        let (mut attempts, mut errors) = (Vec::new(), Vec::new());
        for (id, fate) in self.0 {
            match fate {
                Fate::Gone => gone.push(id),
                Fate::Is {
                    state: is,
                    at,
                    attempts: n,
                    error,
                } => {
                    ids.push(id);
                    states.push(state(is));
                    ats.push(millis(at));
                    attempts.push(i32::try_from(n).unwrap_or(i32::MAX));
                    errors.push(error.map(String::into_bytes));
                }
            }
        }
        if !gone.is_empty() {
            turn.query("DELETE FROM jobs WHERE id = ANY($1)", &[&gone])
                .await?;
        }
        if ids.is_empty() {
            return Ok(());
        }
        turn.query(
            "UPDATE jobs j SET state = w.state, at = w.at, attempts = w.attempts, error = coalesce(w.error, j.error),
               holder = CASE WHEN w.state = 2 THEN j.holder END
             FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::int[], $5::bytea[])
               w (id, state, at, attempts, error)
             WHERE j.id = w.id",
            &[&ids, &states, &ats, &attempts, &errors],
        )
        .await?;
        Ok(())
    }
}

/// Ends the leases of jobs: each an attempt that failed, which may be made again at once.
pub(super) async fn end_leases(
    turn: &mut Turn<'_>,
    jobs: &[JobRow],
    error: impl Fn(&JobRow) -> String,
    now: Timestamp,
) -> Result<(), Fault> {
    let mut fates = Fates::default();
    for job in jobs {
        let failed = Outcome::Retry {
            error: error(job),
            after_ms: Some(0),
        };
        let (fate, _) = fate(job, &failed, now, 0.0);
        fates.note(turn, job, fate);
    }
    fates.write(turn).await
}
