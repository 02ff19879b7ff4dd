//! What users do about a queue and its jobs.

use gilliam_model::{
    Timestamp,
    name::AppName,
    queue::{JobId, JobState, QueueId},
};
use redb::ReadableTable as _;

use super::{Done, QueueNumber, Work, broken, millis};

impl Work<'_> {
    pub(in crate::file) fn pause(&mut self, queue: &QueueId, paused: bool) -> Done<bool> {
        self.queue(queue)?;
        let record = self.books.change(queue).expect("it was just found");
        let was = std::mem::replace(&mut record.paused, paused);
        self.woke |= was && !paused;
        Ok(was != paused)
    }

    /// The jobs of a queue that are in this state.
    fn of_state(&self, number: QueueNumber, state: JobState) -> Done<Vec<u64>> {
        let mut ids = Vec::new();
        match state {
            JobState::Ready => {
                for entry in self.ready.range((number, 0, 0)..=(number, u8::MAX, u64::MAX))? {
                    ids.push(entry?.0.value().2);
                }
            }
            JobState::Dead => {
                for entry in self.dead.range((number, 0, 0)..=(number, u64::MAX, u64::MAX))? {
                    ids.push(entry?.0.value().2);
                }
            }
            JobState::Scheduled => {
                for entry in self.due.iter()? {
                    let (key, queue) = entry?;
                    ids.extend((queue.value() == number).then_some(key.value().1));
                }
            }
            JobState::Running => {
                for entry in self.leases.iter()? {
                    let (key, queue) = entry?;
                    ids.extend((queue.value() == number).then_some(key.value().1));
                }
            }
        }
        Ok(ids)
    }

    pub(in crate::file) fn purge(&mut self, queue: &QueueId, states: &[JobState]) -> Done<u64> {
        let Some(number) = self.books.get(queue).map(|record| record.number) else {
            return Ok(0);
        };
        let mut purged = 0;
        for state in states.iter().filter(|state| **state != JobState::Running) {
            for id in self.of_state(number, *state)? {
                let job = self.listed(id)?;
                self.forget(id, &job)?;
                purged += 1;
            }
        }
        Ok(purged)
    }

    pub(in crate::file) fn retry(&mut self, queue: &QueueId, id: Option<JobId>, now: Timestamp) -> Done<u64> {
        let Some(number) = self.books.get(queue).map(|record| record.number) else {
            return Ok(0);
        };
        let ids = match id {
            Some(id) => vec![id.0],
            None => self.of_state(number, JobState::Dead)?,
        };
        let mut retried = 0;
        for id in ids {
            let Some(mut job) = self.job(id)? else {
                continue;
            };
            if job.queue != number || job.state != JobState::Dead {
                continue;
            }
            if let Some(key) = job.key.clone() {
                // Another job of the key came meanwhile: this one goes on without.
                if self.keys.get((number, key.as_str()))?.is_some() {
                    job.key = None;
                } else {
                    self.keys.insert((number, key.as_str()), id)?;
                }
            }
            self.leave(id, &job)?;
            job.attempts = 0;
            job.at = millis(now);
            self.enter(id, &mut job, None)?;
            self.books.moved(&job, JobState::Dead).map_err(broken)?;
            retried += 1;
        }
        Ok(retried)
    }

    pub(in crate::file) fn remove(&mut self, app: &AppName) -> Done<()> {
        let of_app = self.books.of_app(app);
        let queues: Vec<_> = of_app.map(|(id, record)| (id.clone(), record.number)).collect();
        for (queue, number) in queues {
            for state in [
                JobState::Ready,
                JobState::Scheduled,
                JobState::Running,
                JobState::Dead,
            ] {
                for id in self.of_state(number, state)? {
                    let job = self.listed(id)?;
                    self.forget(id, &job)?;
                }
            }
            self.books.remove(&queue);
            self.queues.remove(queue.to_string().as_str())?;
        }
        Ok(())
    }
}
