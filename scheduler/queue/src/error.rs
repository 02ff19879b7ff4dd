//! What can go wrong with queues.

use std::path::PathBuf;

use gilliam_model::{code::Code, queue::NewJobError};

/// Queues that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be used.
    #[error("cannot open the queues in {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("the queues in {path} have format {found}; this gilliam knows {known}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// Ours.
        known: u64,
    },
}

/// An operation that was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// A job that is none.
    #[error("job {number} of the call: {error}")]
    Job {
        /// Its place in the call, from 1.
        number: usize,
        /// What is wrong with it.
        error: NewJobError,
    },
    /// Too much at once.
    #[error("the call has {found} {what}; at most {max} go together")]
    Batch {
        /// `jobs` or `bytes`.
        what: &'static str,
        /// How many.
        found: usize,
        /// The most.
        max: usize,
    },
    /// The app has as much as it may.
    #[error("the app's queues hold {found} {what}, and may hold {max}")]
    Quota {
        /// `jobs` or `bytes of payloads`.
        what: &'static str,
        /// What there would be.
        found: u64,
        /// The most.
        max: u64,
    },
    /// Nothing is written any more.
    #[error("the queues are read-only since a write failed: {0}")]
    ReadOnly(String),
    /// What is kept cannot be read.
    #[error("the queues are damaged: {0}")]
    Corrupt(String),
    /// The queues are being closed.
    #[error("the queues are being closed")]
    Closed,
}

impl QueueError {
    /// Its code.
    pub fn code(&self) -> Code {
        match self {
            QueueError::Job { .. } | QueueError::Batch { .. } => Code::A422,
            QueueError::Quota { .. } => Code::Q13,
            QueueError::ReadOnly(_) => Code::S10,
            QueueError::Corrupt(_) => Code::S11,
            QueueError::Closed => Code::S13,
        }
    }

    /// The way out.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            QueueError::Job { .. } => Some("nothing of the call was put; mend the job, or leave it out"),
            QueueError::Batch { .. } => Some("put them in several calls"),
            QueueError::Quota { .. } => {
                Some("let workers catch up (gilliam scale), or purge what nobody needs")
            }
            QueueError::ReadOnly(_) => Some("mend the disk and start the server again"),
            QueueError::Corrupt(_) => None,
            QueueError::Closed => Some("try again"),
        }
    }
}
