//! Why something that was asked for did not happen.

use std::fmt;

use serde::Deserialize;

/// Why something that was asked for did not happen.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// There was no answer.
    Unreachable(String),
    /// The platform or the service refused.
    Refused {
        /// The status of its answer.
        status: u16,
        /// Its code: `Q13`, `N04`; `docs/errors.md` of the platform lists them. Empty when the answer has none.
        code: String,
        /// What is wrong.
        message: String,
        /// The way out, when it says one.
        hint: Option<String>,
    },
    /// What was sent or came back is not of the type that is wanted.
    Content(serde_json::Error),
}

/// The body of a refusal, as the platform and its services write it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    code: String,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// The status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The code of a refusal, such as `Q13`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Error::Refused { code, .. } => Some(code.as_str()).filter(|code| !code.is_empty()),
            _ => None,
        }
    }

    pub(crate) fn refused(status: u16, body: &[u8]) -> Self {
        let said: Said = serde_json::from_slice(body).unwrap_or_default();
        let message = match said.message.is_empty() {
            true => String::from_utf8_lossy(body).trim().to_owned(),
            false => said.message,
        };
        Error::Refused {
            status,
            code: said.code,
            message,
            hint: said.hint,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreachable(why) => write!(f, "no answer: {why}"),
            Error::Refused {
                status,
                code,
                message,
                hint,
            } => {
                match code.is_empty() {
                    true => write!(f, "{status}: {message}")?,
                    false => write!(f, "{code}: {message}")?,
                }
                hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
            }
            Error::Content(error) => write!(f, "not what is wanted: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Content(error) => Some(error),
            _ => None,
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::Content(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_its_code_and_the_way_out() {
        let body = br#"{"code":"Q13","message":"too many jobs","hint":"purge some"}"#;
        let error = Error::refused(429, body);
        assert_eq!(error.to_string(), "Q13: too many jobs (purge some)");
        assert_eq!((error.status(), error.code()), (Some(429), Some("Q13")));
        let error = Error::refused(502, b"bad gateway\n");
        assert_eq!(error.to_string(), "502: bad gateway");
        assert_eq!(error.code(), None);
    }
}
