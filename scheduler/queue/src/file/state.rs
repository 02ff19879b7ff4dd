//! The queues themselves, in memory: what they are called, and how much is in them.
//!
//! Invariant: as of the last commit they are what `QUEUES` says; a group that fails leaves them wrong, and
//! then nothing is written any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gilliam_model::{
    name::AppName,
    queue::{BYTES_PER_APP_MAX, JOBS_PER_APP_MAX, JobState, QueueId},
};

use super::table::{JobRecord, QueueNumber, QueueRecord};
use crate::QueueError;

/// All queues.
#[derive(Debug, Default)]
pub(super) struct Books {
    queues: BTreeMap<QueueId, QueueRecord>,
    names: HashMap<QueueNumber, QueueId>,
    changed: BTreeSet<QueueId>,
    removed: Vec<QueueId>,
}

impl Books {
    pub(super) fn add(&mut self, id: QueueId, record: QueueRecord) {
        self.names.insert(record.number, id.clone());
        self.queues.insert(id, record);
    }

    /// Adds a queue that is to be written.
    pub(super) fn create(&mut self, id: &QueueId, number: QueueNumber) {
        let record = QueueRecord {
            number,
            ..QueueRecord::default()
        };
        self.add(id.clone(), record);
        self.changed.insert(id.clone());
    }

    pub(super) fn get(&self, id: &QueueId) -> Option<&QueueRecord> {
        self.queues.get(id)
    }

    pub(super) fn name(&self, number: QueueNumber) -> Option<&QueueId> {
        self.names.get(&number)
    }

    /// The record of a queue, which is then written with the group.
    pub(super) fn change(&mut self, id: &QueueId) -> Option<&mut QueueRecord> {
        let record = self.queues.get_mut(id)?;
        if !self.changed.contains(id) {
            self.changed.insert(id.clone());
        }
        Some(record)
    }

    fn counted(&mut self, number: QueueNumber) -> Result<&mut QueueRecord, QueueError> {
        let id = self.names.get(&number).cloned();
        let record = id.and_then(|id| self.change(&id));
        record.ok_or_else(|| QueueError::Corrupt(format!("a job is of queue {number}, which is not there")))
    }

    /// Counts a job that has come.
    pub(super) fn came(&mut self, job: &JobRecord) -> Result<(), QueueError> {
        let record = self.counted(job.queue)?;
        *record.count(job.state) += 1;
        record.bytes += job.bytes;
        Ok(())
    }

    /// Counts a job that has gone.
    pub(super) fn went(&mut self, job: &JobRecord) -> Result<(), QueueError> {
        let record = self.counted(job.queue)?;
        let count = record.count(job.state);
        *count = count.saturating_sub(1);
        record.bytes = record.bytes.saturating_sub(job.bytes);
        Ok(())
    }

    /// Counts a job whose state was another.
    pub(super) fn moved(&mut self, job: &JobRecord, from: JobState) -> Result<(), QueueError> {
        let record = self.counted(job.queue)?;
        let count = record.count(from);
        *count = count.saturating_sub(1);
        *record.count(job.state) += 1;
        Ok(())
    }

    /// Counts an attempt that is over.
    pub(super) fn ended(&mut self, number: QueueNumber, done: bool) -> Result<(), QueueError> {
        let record = self.counted(number)?;
        match done {
            true => record.done += 1,
            false => record.failed += 1,
        }
        Ok(())
    }

    /// Whether the app may have so much more.
    pub(super) fn room(&self, app: &AppName, jobs: u64, bytes: u64) -> Result<(), QueueError> {
        let (mut all_jobs, mut all_bytes) = (jobs, bytes);
        for (_, record) in self.of_app(app) {
            all_jobs += record.jobs();
            all_bytes += record.bytes;
        }
        let within = |what, found, max| match found <= max {
            true => Ok(()),
            false => Err(QueueError::Quota { what, found, max }),
        };
        within("jobs", all_jobs, JOBS_PER_APP_MAX)?;
        within("bytes of payloads", all_bytes, BYTES_PER_APP_MAX)
    }

    /// The queues of an app, by name.
    pub(super) fn of_app<'a>(
        &'a self,
        app: &'a AppName,
    ) -> impl Iterator<Item = (&'a QueueId, &'a QueueRecord)> {
        // Queues are ordered by their app first, and no name comes before this one.
        let first = QueueId {
            app: app.clone(),
            queue: "a".parse().expect("a name"),
        };
        self.queues
            .range(first..)
            .take_while(move |(id, _)| id.app == *app)
    }

    /// The queues that give out jobs.
    pub(super) fn giving(&self) -> Vec<(QueueId, bool)> {
        let giving = self.queues.iter().filter(|(_, record)| record.gives());
        giving.map(|(id, _)| (id.clone(), true)).collect()
    }

    /// Queues with dead letters.
    pub(super) fn with_dead(&self) -> impl Iterator<Item = QueueNumber> {
        let dead = self.queues.values().filter(|record| record.dead > 0);
        dead.map(|record| record.number)
    }

    /// Forgets a queue.
    pub(super) fn remove(&mut self, id: &QueueId) {
        if let Some(record) = self.queues.remove(id) {
            self.names.remove(&record.number);
        }
        self.changed.remove(id);
        self.removed.push(id.clone());
    }

    /// The queues that were forgotten since this was asked last.
    pub(super) fn take_removed(&mut self) -> Vec<QueueId> {
        std::mem::take(&mut self.removed)
    }

    /// What changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> Vec<(QueueId, QueueRecord)> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .filter_map(|id| Some((id.clone(), self.queues.get(&id)?.clone())))
            .collect()
    }
}
