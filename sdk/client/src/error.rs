//! How a call fails, so that callers can branch.

use std::io;

use gilliam_model::api::ApiError;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base URL cannot be used.
    #[error("{url:?} is not the address of a gilliam: {reason}")]
    Url {
        /// As given.
        url: String,
        /// The rule it breaks.
        reason: String,
    },
    /// The token holds characters that no header can carry.
    #[error("the token holds characters that no request can carry")]
    Token,
    /// Nothing answers there, or the connection broke before an answer.
    #[error("no gilliam answers at {url}")]
    Unreachable {
        /// The base URL.
        url: String,
        /// The transport's reason.
        #[source]
        source: reqwest::Error,
    },
    /// Whoever answers there is not the server that is meant, or takes us for nobody it knows.
    #[error("what answers at {url} is not to be trusted: {reason}")]
    Untrusted {
        /// The base URL.
        url: String,
        /// What TLS says.
        reason: String,
    },
    /// Something is there, but it did not answer in time.
    #[error("gilliam at {url} did not answer in time")]
    Timeout {
        /// The base URL.
        url: String,
    },
    /// The API refused the call.
    #[error("{}", error.message)]
    Api {
        /// The HTTP status.
        status: u16,
        /// What it says.
        error: ApiError,
    },
    /// The answer is not one of the API's: another program listens there, or versions differ.
    #[error("{url} does not answer like gilliam: {reason}")]
    Protocol {
        /// The base URL.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The connection broke in the middle of an answer.
    #[error("the connection to {url} broke in the middle of an answer")]
    Interrupted {
        /// The base URL.
        url: String,
        /// The transport's reason; none when the answer ended too early.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// A blob could not be written where the caller wants it.
    #[error("could not write the blob")]
    Write {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ClientError {
    /// The API's own error, when it is one.
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            ClientError::Api { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether nothing was sent: no connection came about.
    pub fn is_unsent(&self) -> bool {
        matches!(self, ClientError::Unreachable { source, .. } if source.is_connect())
    }

    /// Whether the same call may succeed later: the control plane is away or busy.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Unreachable { .. }
            | ClientError::Untrusted { .. }
            | ClientError::Timeout { .. }
            | ClientError::Interrupted { .. } => true,
            ClientError::Api { status, .. } => matches!(status, 429 | 500 | 502..=504),
            _ => false,
        }
    }
}
