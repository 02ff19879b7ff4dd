//! Faults of a store, for tests and simulations: each operation may be delayed, refused, or done without an
//! answer.
//!
//! Invariant: a fault never does half of a commit, and never answers what did not happen: it is one of the
//! ways in which a real store fails.

use std::{fmt, pin::Pin};

use gilliam_model::code::Code;

use crate::{Check, CommitError, RangeError};

/// What is about to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A reading.
    Read,
    /// A commit.
    Commit,
}

/// What goes wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Nothing is read or written, and the caller is told so.
    Unavailable,
    /// A commit is done and its caller told that it is not known; a reading fails.
    Unanswered,
}

/// Decides about each operation of a store.
pub trait Faults: fmt::Debug + Send + Sync {
    /// Waits as long as the operation is to be delayed, and says what goes wrong with it then.
    fn before(&self, operation: Operation) -> Pin<Box<dyn Future<Output = Fault> + Send>>;

    /// Whether a check of a commit counts. No real store leaves one out: whoever does so wants to see that what
    /// hangs on it is noticed.
    fn heeds(&self, _: &Check) -> bool {
        true
    }
}

const REASON: &str = "a fault that was asked for";

/// How a commit that is refused ends.
pub(crate) fn unavailable() -> CommitError {
    CommitError::Unavailable {
        code: Code::S13,
        reason: REASON.to_string(),
    }
}

/// How a commit ends that was done and not answered.
pub(crate) fn unanswered() -> CommitError {
    CommitError::OutcomeUnknown {
        reason: REASON.to_string(),
    }
}

/// How a reading ends that fails.
pub(crate) fn unreadable() -> RangeError {
    RangeError::Unavailable {
        reason: REASON.to_string(),
    }
}
