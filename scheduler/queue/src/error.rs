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
    /// PostgreSQL, which keeps them, did not do it.
    #[error("the queues in {place}: {reason}")]
    Engine {
        /// Where it is.
        place: String,
        /// What it says.
        reason: String,
        /// What that means.
        trouble: Trouble,
    },
    /// The queues are being closed.
    #[error("the queues are being closed")]
    Closed,
}

/// What is wrong with PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It does not answer, or has no room for us now. Nothing was done.
    Away,
    /// The connection ended before the answer: it may be done.
    Unsure,
    /// It does not know us, or we do not trust it.
    Credentials,
    /// There is no such database.
    Database,
    /// We may not do what we must.
    Forbidden,
    /// Its disk is full.
    Full,
    /// A newer program made the tables.
    Newer,
    /// They are another cluster's.
    Foreign,
    /// The tables are not what we made.
    Broken,
}

impl Trouble {
    fn code(self) -> Code {
        match self {
            Trouble::Full | Trouble::Forbidden => Code::S10,
            Trouble::Broken => Code::S11,
            _ => Code::S13,
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Trouble::Away => {
                "nothing was done; look whether PostgreSQL runs and is reached from the server, and try again"
            }
            Trouble::Unsure => {
                "whether it was done is not known; look at the queue before trying again, or give jobs a key"
            }
            Trouble::Credentials => {
                "correct user, password or certificate in --queues (GILLIAM_QUEUES), and restart the server"
            }
            Trouble::Database => "make the database (createdb), or correct its name in --queues",
            Trouble::Forbidden => {
                "let the user of --queues write and make a schema: ALTER DATABASE … OWNER TO …"
            }
            Trouble::Full => "nothing was done; make room on PostgreSQL's disk, and try again",
            Trouble::Newer => "update this server",
            Trouble::Foreign => "give each cluster a database of its own",
            Trouble::Broken => "restore the schema gilliam_queue from a backup of the database",
        }
    }
}

impl QueueError {
    /// Its code.
    pub fn code(&self) -> Code {
        match self {
            QueueError::Job { .. } | QueueError::Batch { .. } => Code::A422,
            QueueError::Quota { .. } => Code::Q13,
            QueueError::ReadOnly(_) => Code::S10,
            QueueError::Corrupt(_) => Code::S11,
            QueueError::Engine { trouble, .. } => trouble.code(),
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
            QueueError::Engine { trouble, .. } => Some(trouble.hint()),
            QueueError::Closed => Some("try again"),
        }
    }
}
