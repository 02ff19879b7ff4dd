//! Why a database did not do what it was asked.

use std::time::Duration;

use super::limits;

/// A statement, batch or transaction that was not done: nothing of it was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// SQLite refused the statement: its syntax, a name, a constraint.
    #[error("{0}")]
    Statement(String),
    /// A constraint of the database: a key that is there already, a reference to nothing.
    #[error("{0}")]
    Constraint(String),
    /// A statement that no app may make.
    #[error("{0} is not allowed")]
    Forbidden(&'static str),
    /// Parameters that do not fit the statement.
    #[error("{0}")]
    Params(String),
    /// One of the limits that are there for all.
    #[error("{0}")]
    TooLarge(String),
    /// The statement took too long.
    #[error("stopped after {} s", .0.as_secs_f32())]
    Deadline(Duration),
    /// Others had the database for too long, or too many wait for it.
    #[error("the database is busy: {0}")]
    Busy(&'static str),
    /// It is as large as it may be.
    #[error("the database has reached its quota of {0} bytes")]
    Quota(u64),
    /// The transaction has ended before.
    #[error("the transaction has ended: {0}")]
    Ended(&'static str),
    /// The node's memory for databases is used up.
    #[error("the statement needs more memory than the node has for databases")]
    Memory,
    /// The service was destroyed.
    #[error("the database was destroyed")]
    Gone,
    /// The caller went away.
    #[error("given up by the caller")]
    GivenUp,
    /// The disk is full.
    #[error("the node's disk is full")]
    DiskFull,
    /// The file is damaged.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// The disk, or SQLite itself.
    #[error("the database cannot be used: {0}")]
    Failed(String),
    /// One of a batch: its number, from 0, and what happened.
    #[error("statement {at} of the batch: {error}")]
    InBatch {
        /// Which one.
        at: usize,
        /// What happened.
        error: Box<SqlError>,
    },
}

impl SqlError {
    /// The way out, where there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            SqlError::Forbidden("a statement of transactions" | "SAVEPOINT") => {
                "send the statements as one batch, which is a transaction, or begin one through gilliam:sql"
                    .into()
            }
            SqlError::Forbidden("more than one statement at once") => {
                "send them as a batch: it is one transaction".into()
            }
            SqlError::Forbidden("a temporary table, index, view or trigger") => {
                "connections are shared: make a table, or use WITH".into()
            }
            SqlError::TooLarge(_) => "ask for less at once, with LIMIT and a condition on the key".into(),
            SqlError::Deadline(_) => {
                "add an index (EXPLAIN QUERY PLAN says what is scanned), or do less at once".into()
            }
            SqlError::Busy(_) => "try again; keep transactions short".into(),
            SqlError::Quota(_) => "delete rows, or raise quota under [services] in gilliam.toml".into(),
            SqlError::Ended(_) => format!(
                "begin another; a transaction has {} s",
                limits::TRANSACTION_MAX.as_secs()
            ),
            SqlError::Memory => "sort and group less at once; an index sorts without memory".into(),
            SqlError::InBatch { error, .. } => return error.hint(),
            _ => return None,
        })
    }

    /// The error without its place in a batch.
    pub fn cause(&self) -> &SqlError {
        match self {
            SqlError::InBatch { error, .. } => error.cause(),
            other => other,
        }
    }
}
