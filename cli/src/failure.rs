//! How a command ends when it does not do what was asked: what is printed, and the exit code.

use std::{fmt, io};

use gilliam_client::ClientError;
use gilliam_model::{api::ApiError, code::Code, name::NameError};

/// What a command returns; it has printed its data by then.
pub(crate) type CommandResult<T = ()> = Result<T, CommandError>;

/// Who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Refused or failed: exit code 1.
    Failed,
    /// The arguments make no sense: exit code 2.
    Usage,
    /// What was run ended with this exit code, and all is said of it.
    Exit(u8),
    /// The reader of our output went away: it has all it wants, exit code 0.
    BrokenPipe,
}

/// A failed command: `error: MESSAGE`, then `hint: HINT`.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) kind: Kind,
    /// What went wrong: the thing and the value.
    pub(crate) message: String,
    /// The way out.
    pub(crate) hint: Option<String>,
}

impl CommandError {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Usage,
            message: message.into(),
            hint: None,
        }
    }

    /// The end of what was run, which is told of already.
    pub(crate) fn exit(code: u8) -> Self {
        Self {
            kind: Kind::Exit(code),
            message: String::new(),
            hint: None,
        }
    }

    pub(crate) fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error that a server answered with.
    pub(crate) fn refused(error: &ApiError) -> Self {
        Self {
            kind: Kind::Failed,
            message: with_code(error),
            hint: error.hint.clone(),
        }
    }

    /// A file operation that failed.
    pub(crate) fn file(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::failed(format!("{what}: {error}"))
    }
}

/// The message, with the code unless the status of the answer says as much.
fn with_code(error: &ApiError) -> String {
    match error.code {
        Code::A400 | Code::A401 | Code::A404 | Code::A409 | Code::A413 | Code::A422 => error.message.clone(),
        code => format!("{} ({code})", error.message),
    }
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Api { error, .. } => {
                let refused = Self::refused(error);
                match error.code {
                    // The server's own hint is for those who write requests.
                    Code::A401 => refused.hinted(
                        "gilliam up writes a valid token for this machine; for another cluster set GILLIAM_TOKEN",
                    ),
                    _ => refused,
                }
            }
            ClientError::Unreachable { .. } => {
                Self::failed(error.to_string()).hinted("is gilliam up running?")
            }
            ClientError::Untrusted { .. } => Self::failed(error.to_string()).hinted(
                "check the address and the digest of the CA: the cluster's control plane prints both as it starts",
            ),
            ClientError::Timeout { .. } => Self::failed(error.to_string())
                .hinted("the machine may be overloaded; gilliam status shows more"),
            ClientError::Protocol { .. } => Self::failed(error.to_string())
                .hinted("another program may listen there; gilliam clusters shows the addresses"),
            ClientError::Interrupted { .. } => Self::failed(error.to_string())
                .hinted("what was asked may have happened; gilliam releases and gilliam ps show it"),
            ClientError::Token => {
                Self::failed(error.to_string()).hinted("check GILLIAM_TOKEN and credentials.json")
            }
            ClientError::Url { .. } | ClientError::Write { .. } => Self::failed(error.to_string()),
        }
    }
}

impl From<NameError> for CommandError {
    fn from(error: NameError) -> Self {
        let failed = Self::failed(error.to_string());
        match error.kind {
            "app" => failed.hinted("app names have lower-case letters, digits and dashes, such as guestbook"),
            "process" => failed.hinted("process types are named in the Procfile, such as web or worker"),
            _ => failed,
        }
    }
}

/// What a command writes goes to a terminal, a file or a pipe.
impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self {
                kind: Kind::BrokenPipe,
                message: String::new(),
                hint: None,
            },
            _ => Self::failed(format!("cannot write the output: {error}")),
        }
    }
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}
