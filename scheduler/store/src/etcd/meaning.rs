//! What an error of etcd's says about what was asked: nothing was done, or nobody knows.
//!
//! Invariant: only what cannot have happened is [`Meaning::NotDone`]; an error that is not known is
//! [`Meaning::Unknown`].

use std::{error::Error, fmt, io};

/// What an error says about the call that it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing was done; another member, or this one a moment later, may do it.
    NotDone(String),
    /// It was done, or not, or still will be.
    Unknown(String),
    /// etcd's database is full; what was asked may have been done nevertheless, if it was what filled it.
    NoSpace,
    /// The revision that was asked for is no longer kept; nothing was done.
    Compacted,
    /// The answer is longer than what is taken as one message.
    LongAnswer,
    /// It will not be done however often it is asked; nothing was done.
    Refused(String),
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Meaning::NotDone(reason) | Meaning::Unknown(reason) | Meaning::Refused(reason) => reason,
            Meaning::NoSpace => "its database is full",
            Meaning::Compacted => "the revision is no longer kept",
            Meaning::LongAnswer => "its answer is too long",
        })
    }
}

/// Messages of etcd's (`api/v3rpc/rpctypes/error.go`, raft's `ErrProposalDropped`) of what was refused before
/// it was proposed, or before it was applied, and is worth asking again.
const NOT_DONE: &[&str] = &[
    "etcdserver: no leader",
    "etcdserver: too many requests",
    "etcdserver: not capable",
    "etcdserver: rpc not supported for learner",
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "raft proposal dropped",
];
/// Messages of what was refused and will be again.
const REFUSED: &[&str] = &[
    "etcdserver: request is too large",
    "etcdserver: too many operations in txn request",
    "etcdserver: permission denied",
    "etcdserver: user name is empty",
    "etcdserver: user name not found",
    "etcdserver: authentication failed, invalid user ID or password",
    "etcdserver: authentication is not enabled",
    "etcdserver: corrupt cluster",
];
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// tonic's message of an answer that is too long; no constant of its own has it.
const LONG_ANSWER: &str = "message length too large";

/// What `error` says.
pub(super) fn of(error: &etcd_client::Error) -> Meaning {
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            if was_never_connected(status) {
                return Meaning::NotDone("it cannot be connected to".into());
            }
            of_message(status.message())
        }
        etcd_client::Error::InvalidArgs(reason) => Meaning::Refused(reason.clone()),
        etcd_client::Error::InvalidUri(_) | etcd_client::Error::InvalidMetadataValue(_) => {
            Meaning::Refused(error.to_string())
        }
        etcd_client::Error::TransportError(cause) => Meaning::Refused(with_causes(cause)),
        other => Meaning::Unknown(other.to_string()),
    }
}

/// An error of [`etcd_client`]'s in full, for people.
pub(super) fn text(error: &etcd_client::Error) -> String {
    match error {
        etcd_client::Error::GRpcStatus(status) => match status.source() {
            Some(cause) => with_causes(cause),
            None => status.message().to_string(),
        },
        other => other.to_string(),
    }
}

fn of_message(message: &str) -> Meaning {
    let is_one_of = |known: &[&str]| known.iter().any(|known| message.starts_with(known));
    if is_one_of(NOT_DONE) {
        Meaning::NotDone(message.into())
    } else if is_one_of(REFUSED) {
        Meaning::Refused(message.into())
    } else if message.starts_with(NO_SPACE) {
        Meaning::NoSpace
    } else if message.starts_with(COMPACTED) {
        Meaning::Compacted
    } else if message.contains(LONG_ANSWER) {
        Meaning::LongAnswer
    } else {
        Meaning::Unknown(message.into())
    }
}

/// Whether the system refused the connection, so that nothing can have been sent over it.
fn was_never_connected(error: &(dyn Error + 'static)) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return matches!(
                io.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
            );
        }
        next = cause.source();
    }
    false
}

/// An error and what caused it, each once: some repeat their cause in their own words.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_have_happened_is_not_done() {
        for message in [
            "etcdserver: request timed out",
            "etcdserver: request timed out, possibly due to previous leader failure",
            "etcdserver: leader changed",
            "etcdserver: server stopped",
            "transport error",
            "connection reset",
            "",
        ] {
            assert_eq!(of_message(message), Meaning::Unknown(message.into()));
        }
        assert!(matches!(of_message("etcdserver: no leader"), Meaning::NotDone(_)));
        assert!(matches!(
            of_message("etcdserver: permission denied"),
            Meaning::Refused(_)
        ));
        assert_eq!(of_message(NO_SPACE), Meaning::NoSpace);
        assert_eq!(of_message(COMPACTED), Meaning::Compacted);
    }
}
