//! What is read: revisions and entries.

use std::fmt;

use gilliam_model::code::Code;
use serde::{Deserialize, Serialize};

/// A point in the store's history: 0 is the empty store, and each commit that changes a key makes a later
/// one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision of the commit that wrote it last: what a [`Check`](crate::Check) compares.
    pub revision: Revision,
}

/// A key that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It was written.
    Put(Entry),
    /// It was deleted.
    Deleted(String),
}

/// What changed after a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// All of it.
    Known {
        /// The revision that the changes lead to: the newest there was when it was asked for.
        revision: Revision,
        /// The keys that changed, each as it is at that revision, in the order of keys.
        changes: Vec<Changed>,
    },
    /// Some of it is no longer known: everything is to be read anew.
    Forgotten,
}

/// A reading that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// A stored value is not what was written; nothing of the reading is answered.
    #[error("the stored value of {key} is damaged: {reason}")]
    Corrupt {
        /// Its key.
        key: String,
        /// How it shows.
        reason: String,
    },
    /// The file could not be read.
    #[error("the store cannot be read: {reason}")]
    Unavailable {
        /// What failed.
        reason: String,
    },
}

impl RangeError {
    /// The catalogue code.
    pub fn code(&self) -> Code {
        match self {
            RangeError::Corrupt { .. } => Code::S11,
            RangeError::Unavailable { .. } => Code::S13,
        }
    }
}
