//! By how much a transaction changes what is in queues.

use std::collections::BTreeMap;

use gilliam_model::queue::JobState;

use super::{
    engine::Turn,
    fault::Fault,
    row::{JobRow, QueueNumber, number_of},
};

/// What is in a queue, or by how much it changes: jobs of each state, bytes of payloads, jobs done, attempts
/// failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Change {
    states: [i64; 4],
    bytes: i64,
    done: i64,
    failed: i64,
}

/// Changes, by queue.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<QueueNumber, Change>);

impl Tally {
    fn of(&mut self, queue: QueueNumber) -> &mut Change {
        self.0.entry(queue).or_default()
    }

    /// Notes jobs that have come, with so many bytes together.
    pub(super) fn came(&mut self, queue: QueueNumber, state: JobState, jobs: i64, bytes: i64) {
        let change = self.of(queue);
        change.states[usize::from(number_of(state))] += jobs;
        change.bytes += bytes;
    }

    /// Notes jobs that have gone.
    pub(super) fn went(&mut self, queue: QueueNumber, state: JobState, jobs: i64, bytes: i64) {
        self.came(queue, state, -jobs, -bytes);
    }

    /// Notes a job whose state was another.
    pub(super) fn moved(&mut self, queue: QueueNumber, from: JobState, to: JobState, jobs: i64) {
        self.came(queue, from, -jobs, 0);
        self.came(queue, to, jobs, 0);
    }

    /// Notes an attempt that failed.
    pub(super) fn failed(&mut self, job: &JobRow) {
        self.of(job.queue).failed += 1;
    }

    /// Notes jobs that are done.
    pub(super) fn done(&mut self, queue: QueueNumber, jobs: i64) {
        self.of(queue).done += jobs;
    }

    pub(super) async fn write(mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        self.0.retain(|_, change| *change != Change::default());
        if self.0.is_empty() {
            return Ok(());
        }
        let queues: Vec<QueueNumber> = self.0.keys().copied().collect();
        let column = |of: fn(&Change) -> i64| self.0.values().map(of).collect::<Vec<i64>>();
        let columns = [
            column(|change| change.states[0]),
            column(|change| change.states[1]),
            column(|change| change.states[2]),
            column(|change| change.states[3]),
            column(|change| change.bytes),
            column(|change| change.done),
            column(|change| change.failed),
        ];
        let [ready, scheduled, running, dead, bytes, done, failed] = &columns;
        turn.query(
            "INSERT INTO tallies SELECT * FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[],
               $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])",
            &[&queues, ready, scheduled, running, dead, bytes, done, failed],
        )
        .await?;
        Ok(())
    }
}
