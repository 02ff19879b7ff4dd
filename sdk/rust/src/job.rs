//! Jobs as a handler sees them, and what it says of them.

use std::{error::Error as StdError, fmt, time::Duration};

use serde::de::DeserializeOwned;

use crate::{
    __private::{WitJob, WitJobError},
    executor::wait,
    logging,
};

/// One message of a queue.
///
/// It is delivered at least once: its `id` is the same each time, and worth remembering where doing a job twice would
/// do harm.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Job<T> {
    /// The same at every attempt.
    pub id: String,
    /// The queue it was sent to.
    pub queue: String,
    /// 1 at the first attempt.
    pub attempt: u32,
    /// What the sender sent.
    pub payload: T,
}

impl<T> Job<T> {
    /// A job to call a handler with in a test: the first attempt of the job `1` of the queue `test`.
    pub fn new(payload: T) -> Self {
        Self {
            id: "1".to_owned(),
            queue: "test".to_owned(),
            attempt: 1,
            payload,
        }
    }
}

/// A payload as it was sent, whatever it is: `Job<Raw>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raw(pub Vec<u8>);

/// What a handler can take: what serde reads from JSON, and [`Raw`].
pub trait Payload: Sized {
    /// Reads it.
    fn from_bytes(bytes: Vec<u8>) -> Result<Self, PayloadError>;
}

/// A payload that is not what the handler takes: such a job is discarded, for it never will be.
#[derive(Debug)]
pub struct PayloadError(serde_json::Error);

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the payload is not what the worker takes: {}", self.0)
    }
}

impl StdError for PayloadError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

impl<T: DeserializeOwned> Payload for T {
    fn from_bytes(bytes: Vec<u8>) -> Result<Self, PayloadError> {
        serde_json::from_slice(&bytes).map_err(PayloadError)
    }
}

impl Payload for Raw {
    fn from_bytes(bytes: Vec<u8>) -> Result<Self, PayloadError> {
        Ok(Raw(bytes))
    }
}

/// Why a job was not done, and what is to become of it.
///
/// Any error becomes one that is tried again, so `?` works in handlers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    pub(crate) fate: Fate,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Retry,
    RetryAfter(Duration),
    Discard,
}

impl JobError {
    /// Try again, when the queue's own rule says so. The reason is kept with the job.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self {
            fate: Fate::Retry,
            reason: reason.to_string(),
        }
    }

    /// Try again, not before so much time has passed.
    pub fn retry_after(time: Duration) -> Self {
        Self {
            fate: Fate::RetryAfter(time),
            reason: format!("to be tried again after {time:?}"),
        }
    }

    /// Never try again: the job goes among the dead letters, with this reason.
    pub fn discard(reason: impl fmt::Display) -> Self {
        Self {
            fate: Fate::Discard,
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

// As `anyhow::Error` it is no error itself, for then any error could not become one.
impl<E: StdError> From<E> for JobError {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !reason.contains(&text) {
                reason.push_str(": ");
                reason.push_str(&text);
            }
            source = cause.source();
        }
        JobError::retry(reason)
    }
}

impl From<JobError> for WitJobError {
    fn from(error: JobError) -> Self {
        match error.fate {
            Fate::Retry => WitJobError::Retry(error.reason),
            Fate::RetryAfter(time) => {
                WitJobError::RetryAfter(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
            }
            Fate::Discard => WitJobError::Discard(error.reason),
        }
    }
}

/// Runs a handler.
#[doc(hidden)]
pub fn run<T: Payload, E: Into<JobError>>(
    job: WitJob,
    handler: impl FnOnce(Job<T>) -> Result<(), E>,
) -> Result<(), WitJobError> {
    logging::log_to_stdio();
    let payload = T::from_bytes(job.payload).map_err(JobError::discard)?;
    let job = Job {
        id: job.id,
        queue: job.queue,
        attempt: job.attempt,
        payload,
    };
    handler(job).map_err(|error| error.into().into())
}

/// Runs an asynchronous handler.
#[doc(hidden)]
pub fn run_async<T: Payload, E: Into<JobError>, F: Future<Output = Result<(), E>>>(
    job: WitJob,
    handler: impl FnOnce(Job<T>) -> F,
) -> Result<(), WitJobError> {
    run(job, |job| wait(handler(job)))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Email {
        to: String,
    }

    fn job(payload: &str) -> WitJob {
        WitJob {
            id: "7".to_owned(),
            queue: "emails".to_owned(),
            payload: payload.as_bytes().to_vec(),
            attempt: 2,
        }
    }

    #[test]
    fn a_handler_gets_what_was_sent_as_its_type() {
        let done = run(job(r#"{"to":"ada"}"#), |job: Job<Email>| {
            assert_eq!(
                (job.id.as_str(), job.attempt, job.payload.to.as_str()),
                ("7", 2, "ada")
            );
            Ok::<(), JobError>(())
        });
        assert!(done.is_ok());
        let done = run_async(job("any bytes"), async |job: Job<Raw>| {
            assert_eq!(job.payload.0, b"any bytes");
            Ok::<(), JobError>(())
        });
        assert!(done.is_ok());
    }

    #[test]
    fn a_payload_that_will_never_fit_is_discarded() {
        let said = run(job("{}"), |_: Job<Email>| Ok::<(), JobError>(()));
        let Err(WitJobError::Discard(reason)) = said else {
            panic!("{said:?}");
        };
        assert!(reason.contains("missing field `to`"), "{reason}");
    }

    #[test]
    fn any_error_is_tried_again_and_others_as_they_say() {
        let said = run(job("1"), |_: Job<u32>| "x".parse::<u32>().map(drop));
        assert!(matches!(said, Err(WitJobError::Retry(reason)) if reason.contains("invalid digit")));
        let said = run(job("1"), |_: Job<u32>| {
            Err(JobError::retry_after(Duration::from_secs(2)))
        });
        assert!(matches!(said, Err(WitJobError::RetryAfter(2_000))));
        let said = run(job("1"), |_: Job<u32>| Err(JobError::discard("no such mailbox")));
        assert!(matches!(said, Err(WitJobError::Discard(reason)) if reason == "no such mailbox"));
    }
}
