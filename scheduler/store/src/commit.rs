//! What is committed: checks and writes, their limits, and how a commit fails.

use std::collections::BTreeSet;

use gilliam_model::code::Code;

use crate::Revision;

/// Most checks and writes together in one commit: below etcd's 128 per transaction (`--max-txn-ops`).
pub const COMMIT_OPERATIONS_MAX: usize = 120;
/// Most bytes of keys and values together in one commit: below etcd's 1.5 MiB per request
/// (`--max-request-bytes`).
pub const COMMIT_BYTES_MAX: usize = 1 << 20;
/// Longest key: names of an app, a process type and a node, and a number, fit three times over.
pub const KEY_BYTES_MAX: usize = 1 << 10;

/// What must be true of a key for a commit to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The key.
    pub key: String,
    /// What it must be.
    pub expect: Expect,
}

/// The state of a key that a check asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// There is no such key.
    Absent,
    /// It was last written at this revision.
    At(Revision),
}

impl Expect {
    /// The expectation that a key is still as it was read: `None` stands for a key that was not there.
    pub fn unchanged(revision: Option<Revision>) -> Self {
        revision.map_or(Self::Absent, Self::At)
    }

    pub(crate) fn holds(self, found: Option<Revision>) -> bool {
        self == Self::unchanged(found)
    }
}

impl Check {
    /// The check that `key` does not exist.
    pub fn absent(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            expect: Expect::Absent,
        }
    }

    /// The check that `key` was last written at `revision`.
    pub fn at(key: impl Into<String>, revision: Revision) -> Self {
        Self {
            key: key.into(),
            expect: Expect::At(revision),
        }
    }
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets its value.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes it; no error if it is not there.
    Delete {
        /// The key.
        key: String,
    },
}

impl Write {
    /// The key that changes.
    pub fn key(&self) -> &str {
        match self {
            Write::Put { key, .. } | Write::Delete { key } => key,
        }
    }

    /// The key that changes, and its value from then on.
    pub(crate) fn change(&self) -> (&str, Option<&[u8]>) {
        match self {
            Write::Put { key, value } => (key, Some(value)),
            Write::Delete { key } => (key, None),
        }
    }

    /// Bytes it counts against [`COMMIT_BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        match self {
            Write::Put { key, value } => key.len() + value.len(),
            Write::Delete { key } => key.len(),
        }
    }
}

/// A commit that was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A check did not hold; nothing happened. Read again and decide again.
    #[error("{key} was changed by someone else meanwhile")]
    Conflict {
        /// The key of the first check that did not hold.
        key: String,
    },
    /// It is beyond the limits; nothing happened.
    #[error(
        "a change of {operations} operations and {bytes} bytes is too large; at most {COMMIT_OPERATIONS_MAX} \
         operations and {COMMIT_BYTES_MAX} bytes are committed at once"
    )]
    TooLarge {
        /// Checks and writes in it.
        operations: usize,
        /// Bytes of keys and values in it.
        bytes: usize,
    },
    /// The store takes no writes; nothing happened.
    #[error("the store takes no writes: {reason}")]
    Unavailable {
        /// S10 when it is read-only after a failed write, S13 otherwise.
        code: Code,
        /// Why.
        reason: String,
    },
    /// Writing failed half-way: it will have happened, or not. It was not acknowledged and must not be. A
    /// store in a file is read-only from now on.
    #[error("it is not known whether the change was stored: {reason}")]
    OutcomeUnknown {
        /// What failed.
        reason: String,
    },
}

impl CommitError {
    /// The catalogue code.
    pub fn code(&self) -> Code {
        match self {
            CommitError::Conflict { .. } => Code::S12,
            CommitError::TooLarge { .. } => Code::A413,
            CommitError::Unavailable { code, .. } => *code,
            CommitError::OutcomeUnknown { .. } => Code::S10,
        }
    }
}

/// Refuses a commit beyond the limits, before any of it is looked at.
pub(crate) fn admit(checks: &[Check], writes: &[Write]) -> Result<(), CommitError> {
    let operations = checks.len() + writes.len();
    let bytes =
        checks.iter().map(|c| c.key.len()).sum::<usize>() + writes.iter().map(Write::bytes).sum::<usize>();
    if operations > COMMIT_OPERATIONS_MAX || bytes > COMMIT_BYTES_MAX {
        return Err(CommitError::TooLarge { operations, bytes });
    }
    let mut written = BTreeSet::new();
    for key in checks
        .iter()
        .map(|c| c.key.as_str())
        .chain(writes.iter().map(Write::key))
    {
        assert!(
            key.starts_with('/') && key.len() <= KEY_BYTES_MAX,
            "{key:?} is not a key"
        );
    }
    for write in writes {
        assert!(
            written.insert(write.key()),
            "{} is written twice in one commit",
            write.key()
        );
    }
    Ok(())
}
