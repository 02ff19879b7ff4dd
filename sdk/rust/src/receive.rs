//! Taking jobs in a program of one's own loop.

use std::{collections::VecDeque, marker::PhantomData, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;

use crate::{
    Error, Job, JobError, Payload, Queue,
    executor::{either, wait},
    job::Fate,
    path, stop,
};

/// Bytes of a reason that are kept with a job.
const REASON_BYTES_MAX: usize = 1 << 10;
/// How long one call waits for jobs.
const WAIT: Duration = Duration::from_secs(20);

impl Queue {
    /// The jobs of the queue, one after another, for a program with a loop:
    ///
    /// ```no_run
    /// # fn send(_: &str) -> Result<(), gilliam::JobError> { Ok(()) }
    /// fn main() -> Result<(), gilliam::Error> {
    ///     for job in gilliam::queue("emails").receive::<String>() {
    ///         let job = job?;
    ///         let sent = send(&job.job().payload);
    ///         job.settle(sent)?;
    ///     }
    ///     Ok(()) // the platform asked it to end
    /// }
    /// ```
    ///
    /// It waits without using CPU, and ends when the platform asks the program to. A job that is not settled comes
    /// again when its lease ends, 60 s after it was taken unless it is [extended](Received::extend).
    pub fn receive<T: Payload>(&self) -> Receiver<T> {
        Receiver {
            queue: self.clone(),
            taken: VecDeque::new(),
            payload: PhantomData,
        }
    }
}

/// The jobs of a queue; see [`Queue::receive`].
#[derive(Debug)]
pub struct Receiver<T> {
    queue: Queue,
    taken: VecDeque<TakenJob>,
    payload: PhantomData<fn() -> T>,
}

#[derive(Debug, Deserialize)]
struct Taken {
    jobs: VecDeque<TakenJob>,
}

#[derive(Debug, Deserialize)]
struct TakenJob {
    id: String,
    lease: u64,
    attempt: u32,
    payload: String,
}

impl<T: Payload> Receiver<T> {
    /// The next job; none when the platform has asked the program to end.
    ///
    /// A job whose payload is not of the type is discarded, and the next one is taken.
    pub async fn next_job(&mut self) -> Result<Option<Received<T>>, Error> {
        loop {
            while let Some(taken) = self.taken.pop_front() {
                let lease = Lease {
                    queue: self.queue.clone(),
                    id: taken.id.clone(),
                    lease: taken.lease,
                };
                let payload = BASE64.decode(&taken.payload).unwrap_or_default();
                match T::from_bytes(payload) {
                    Ok(payload) => {
                        let job = Job {
                            id: taken.id,
                            queue: self.queue.name.clone(),
                            attempt: taken.attempt,
                            payload,
                        };
                        return Ok(Some(Received { job, lease }));
                    }
                    Err(error) => lease.say(Err(JobError::discard(error))).await?,
                }
            }
            if stop::is_stopping() {
                return Ok(None);
            }
            match either(stop::stopping(), self.take_some()).await {
                Ok(()) => return Ok(None),
                Err(taken) => self.taken = taken?.jobs,
            }
        }
    }

    async fn take_some(&self) -> Result<Taken, Error> {
        let mut target = path::of_key(&self.queue.name);
        target.push_str("/take");
        path::query(&mut target, "max", "1");
        path::query(&mut target, "wait_ms", &WAIT.as_millis().to_string());
        Queue::call(&target).send().await?.ok().await?.json().await
    }
}

impl<T: Payload> Iterator for Receiver<T> {
    type Item = Result<Received<T>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        wait(self.next_job()).transpose()
    }
}

/// A job that this program has until its lease ends.
#[derive(Debug)]
#[must_use = "a job that is not settled comes again when its lease ends"]
pub struct Received<T> {
    job: Job<T>,
    lease: Lease,
}

#[derive(Debug)]
struct Lease {
    queue: Queue,
    id: String,
    lease: u64,
}

impl<T> Received<T> {
    /// The job.
    pub fn job(&self) -> &Job<T> {
        &self.job
    }

    /// Says what became of it: `Ok` that it is done, `Err` what is to become of it.
    ///
    /// Refused with `Q11` when the lease has passed on: somebody else has the job.
    pub fn settle(self, outcome: Result<(), JobError>) -> Result<(), Error> {
        wait(self.settle_async(outcome))
    }

    /// [`Received::settle`], for asynchronous programs.
    pub async fn settle_async(self, outcome: Result<(), JobError>) -> Result<(), Error> {
        self.lease.say(outcome).await
    }

    /// Keeps the job for so long from now; at most twelve hours.
    pub async fn extend(&self, time: Duration) -> Result<(), Error> {
        let mut target = self.lease.target("extend");
        path::query(&mut target, "for_ms", &time.as_millis().to_string());
        Queue::call(&target).send().await?.ok().await?;
        Ok(())
    }
}

impl Lease {
    fn target(&self, word: &str) -> String {
        let mut target = path::of_key(&self.queue.name);
        target.push_str("/jobs");
        target.push_str(&path::of_key(&self.id));
        target.push('/');
        target.push_str(word);
        path::query(&mut target, "lease", &self.lease.to_string());
        target
    }

    async fn say(&self, outcome: Result<(), JobError>) -> Result<(), Error> {
        let (target, reason) = self.word(outcome);
        Queue::call(&target).body(reason).send().await?.ok().await?;
        Ok(())
    }

    fn word(&self, outcome: Result<(), JobError>) -> (String, String) {
        let Err(mut error) = outcome else {
            return (self.target("done"), String::new());
        };
        error
            .reason
            .truncate(error.reason.floor_char_boundary(REASON_BYTES_MAX));
        match error.fate {
            Fate::Retry => (self.target("retry"), error.reason),
            Fate::RetryAfter(time) => {
                let mut target = self.target("retry");
                path::query(&mut target, "after_ms", &time.as_millis().to_string());
                (target, error.reason)
            }
            Fate::Discard => (self.target("discard"), error.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_the_job_and_its_lease() {
        let lease = Lease {
            queue: crate::queue("emails"),
            id: "18".to_owned(),
            lease: 2,
        };
        let word = |outcome| lease.word(outcome);
        assert_eq!(
            word(Ok(())),
            ("/emails/jobs/18/done?lease=2".to_owned(), String::new())
        );
        let (target, reason) = word(Err(JobError::retry_after(Duration::from_millis(70))));
        assert_eq!(target, "/emails/jobs/18/retry?lease=2&after_ms=70");
        assert_eq!(reason, "to be tried again after 70ms");
        let (target, reason) = word(Err(JobError::discard("no such mailbox")));
        assert_eq!(
            (target.as_str(), reason.as_str()),
            ("/emails/jobs/18/discard?lease=2", "no such mailbox")
        );
    }
}
