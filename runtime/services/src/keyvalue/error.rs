//! What can go wrong with keys and values.

use gilliam_model::{code::Code, quantity::Unit};

use super::limits::{BATCH_BYTES_MAX, BATCH_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// An operation that was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// An empty key.
    #[error("the key is empty")]
    NoKey,
    /// A key too long.
    #[error("the key has {bytes} bytes; at most {KEY_BYTES_MAX} are kept")]
    LongKey {
        /// Its length.
        bytes: usize,
    },
    /// A value too large.
    #[error("the value has {bytes} bytes; at most {VALUE_BYTES_MAX} are kept")]
    LargeValue {
        /// Its size.
        bytes: usize,
    },
    /// Too many keys in one call.
    #[error("the call has {count} keys; at most {BATCH_MAX} go together")]
    ManyKeys {
        /// How many.
        count: usize,
    },
    /// Too many bytes in one call, or in its answer.
    #[error("the call has, or asks for, {bytes} bytes; at most {BATCH_BYTES_MAX} go together")]
    LargeBatch {
        /// How many.
        bytes: usize,
    },
    /// The service has as much as it may.
    #[error("the service would hold {}, and may hold {}", Unit::Bytes.show(*.bytes), Unit::Bytes.show(*.max))]
    Quota {
        /// What there would be.
        bytes: u64,
        /// The most.
        max: u64,
    },
    /// A value that is to be counted up and is no number.
    #[error("the value of {key:?} is not a whole number of 64 bits")]
    NotANumber {
        /// The key.
        key: String,
    },
    /// A sum that 64 bits do not hold.
    #[error("the sum of {key:?} and {by} does not fit into 64 bits")]
    Overflow {
        /// The key.
        key: String,
        /// What was to be added.
        by: i64,
    },
    /// The file cannot be read or written.
    #[error("the data of the service cannot be used: {0}")]
    Unavailable(String),
    /// What is in the file makes no sense.
    #[error("the data of the service is damaged: {0}")]
    Corrupt(String),
    /// The service is being closed.
    #[error("the service is being closed")]
    Closed,
}

impl KeyValueError {
    /// Its code.
    pub fn code(&self) -> Code {
        match self {
            KeyValueError::NoKey
            | KeyValueError::LongKey { .. }
            | KeyValueError::NotANumber { .. }
            | KeyValueError::Overflow { .. } => Code::A422,
            KeyValueError::LargeValue { .. }
            | KeyValueError::ManyKeys { .. }
            | KeyValueError::LargeBatch { .. } => Code::A413,
            KeyValueError::Quota { .. } => Code::S20,
            KeyValueError::Unavailable(_) | KeyValueError::Closed => Code::S22,
            KeyValueError::Corrupt(_) => Code::S11,
        }
    }

    /// The way out.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            KeyValueError::LargeValue { .. } => Some("keep large things in a blob service"),
            KeyValueError::ManyKeys { .. } | KeyValueError::LargeBatch { .. } => {
                Some("do it in several calls")
            }
            KeyValueError::Quota { .. } => {
                Some("delete keys, give them a ttl, or raise the quota in gilliam.toml and deploy")
            }
            KeyValueError::Unavailable(_) | KeyValueError::Closed => Some("try again"),
            KeyValueError::NoKey
            | KeyValueError::LongKey { .. }
            | KeyValueError::NotANumber { .. }
            | KeyValueError::Overflow { .. }
            | KeyValueError::Corrupt(_) => None,
        }
    }
}

/// A failure of the file.
pub(super) fn broken(error: impl Into<redb::Error>) -> KeyValueError {
    match error.into() {
        redb::Error::Corrupted(reason) => KeyValueError::Corrupt(reason),
        other => KeyValueError::Unavailable(other.to_string()),
    }
}
