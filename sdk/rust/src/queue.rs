//! Putting jobs into the app's queues.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use crate::{Error, http, path};

/// Jobs that go together, as many as the platform takes at once.
const TOGETHER: usize = 1_000;

/// A queue of this app.
pub fn queue(name: impl Into<String>) -> Queue {
    Queue { name: name.into() }
}

/// A queue of this app; see [`queue`]. It is there with its first job.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(crate) name: String,
}

/// What became of a job that was put.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Queued {
    /// The job that is in the queue.
    pub id: String,
    /// False when there was one of its key already.
    pub new: bool,
}

/// One of a batch.
#[derive(Serialize)]
struct One {
    payload: String,
}

#[derive(Deserialize)]
struct Batch {
    jobs: Vec<Queued>,
}

impl Queue {
    /// Puts a job, written as JSON: `queue.put(&email).delay(…).await?`. An answer means that it is durable.
    pub fn put(&self, payload: &(impl Serialize + ?Sized)) -> Put {
        self.put_payload(serde_json::to_vec(payload).map_err(Error::Content))
    }

    /// Puts a job of these bytes.
    pub fn put_bytes(&self, payload: impl Into<Vec<u8>>) -> Put {
        self.put_payload(Ok(payload.into()))
    }

    fn put_payload(&self, payload: Result<Vec<u8>, Error>) -> Put {
        let mut target = String::new();
        path::escape(&mut target, &self.name, false);
        Put {
            payload,
            target: format!("/{target}/jobs"),
        }
    }

    /// Puts many jobs; answers for each in its turn. All or none are put, or of more than 1,000 all or none of each
    /// thousand; payloads of more than 8 MiB do not go together.
    pub async fn put_all<T: Serialize>(
        &self,
        payloads: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Queued>, Error> {
        let mut payloads = payloads.into_iter();
        let mut target = path::of_key(&self.name);
        target.push_str("/batch");
        let mut queued = Vec::new();
        loop {
            let some = payloads.by_ref().take(TOGETHER).map(|payload| {
                let payload = BASE64.encode(serde_json::to_vec(&payload)?);
                Ok(One { payload })
            });
            let some = some.collect::<Result<Vec<One>, Error>>()?;
            if some.is_empty() {
                return Ok(queued);
            }
            let request = Queue::call(&target).json(&some)?;
            let batch: Batch = request.send().await?.ok().await?.json().await?;
            queued.extend(batch.jobs);
        }
    }

    /// A request of the queue's face in the platform.
    pub(crate) fn call(target: &str) -> http::Request {
        http::post(&format!("http://queues.internal{target}"))
    }
}

/// A job that is to be put: it is when this is awaited.
#[derive(Debug)]
#[must_use = "nothing is put until it is awaited"]
pub struct Put {
    payload: Result<Vec<u8>, Error>,
    target: String,
}

impl Put {
    fn with(mut self, name: &str, value: &str) -> Self {
        path::query(&mut self.target, name, value);
        self
    }

    /// Not before so much time has passed; at most 366 days.
    pub fn delay(self, time: Duration) -> Self {
        self.with("delay_ms", &time.as_millis().to_string())
    }

    /// While a job of this key waits or runs, another is not put: the answer names the one that is there.
    pub fn key(self, key: &str) -> Self {
        self.with("key", key)
    }

    /// A higher one goes first; 0 unless it is said.
    pub fn priority(self, priority: i8) -> Self {
        self.with("priority", &priority.to_string())
    }

    /// Attempts until it is a dead letter: 1 to 25, which it is unless it is said.
    pub fn attempts(self, attempts: u32) -> Self {
        self.with("attempts", &attempts.to_string())
    }
}

impl IntoFuture for Put {
    type Output = Result<Queued, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let request = Queue::call(&self.target).body(self.payload?);
            request.send().await?.ok().await?.json().await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_job_is_in_its_target() {
        let put = queue("emails").put(&7).key("a b").delay(Duration::from_secs(2));
        let put = put.priority(-1).attempts(3);
        assert_eq!(
            put.target,
            "/emails/jobs?key=a%20b&delay_ms=2000&priority=-1&attempts=3"
        );
        assert_eq!(put.payload.expect("JSON"), b"7");
    }
}
