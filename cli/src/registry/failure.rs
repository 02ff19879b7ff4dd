//! What goes wrong between here and a registry, with the way out of it.

use gilliam_builder::layout::LayoutError;
use gilliam_model::{digest::Digest, text::excerpt};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use reqwest::StatusCode;

use super::Registry;
use crate::{amounts, failure::CommandError};

/// Why an image did not come or go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error("cannot reach the registry {host}: {reason}")]
    Unreachable { host: String, reason: String },
    #[error("{host} does not let {} do this with {name}", .user.as_deref().unwrap_or("anybody"))]
    Denied {
        host: String,
        name: String,
        user: Option<String>,
    },
    #[error("{host} takes no credentials of {}: {reason}", .user.as_deref().unwrap_or("nobody"))]
    NotAuthenticated {
        host: String,
        user: Option<String>,
        reason: String,
    },
    #[error("the credentials for {host} cannot be used: {reason}")]
    Credentials { host: String, reason: String },
    #[error("{host} has no {name}")]
    Missing { host: String, name: String },
    #[error("{host} lacks the blob {digest} of this image")]
    MissingBlob { host: String, digest: Digest },
    #[error("{host} answers {status}{reason}")]
    Status {
        host: String,
        status: u16,
        reason: String,
    },
    #[error("{host} does not speak as a registry: {reason}")]
    Protocol { host: String, reason: String },
    #[error("{what} has more than {}", amounts::bytes(*.max))]
    TooLarge { what: String, max: u64 },
    #[error("{what} is {found}, not {wanted}")]
    Damaged {
        what: String,
        wanted: Digest,
        found: Digest,
    },
    #[error("{digest} is no sha256 digest")]
    Algorithm { digest: String },
    #[error("{name} is {what}, not an image of gilliam")]
    Foreign { name: String, what: String },
    #[error("the image has format {version}, which this gilliam does not know")]
    Newer { version: u64 },
    #[error("{name} cannot be read: {reason}")]
    Malformed { name: String, reason: String },
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl RegistryError {
    /// The way out.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            RegistryError::Unreachable { host, .. } => {
                format!("is {host} its name? one that speaks plain HTTP needs --insecure")
            }
            RegistryError::Denied { host, user: None, .. }
            | RegistryError::NotAuthenticated { host, user: None, .. } => {
                format!("docker login {host}, or pass --username NAME --password-stdin")
            }
            RegistryError::Denied { .. } => "the registry's owner decides who may; is the name right?".to_string(),
            RegistryError::NotAuthenticated { host, .. } => {
                format!("check the password: docker login {host}, or --username NAME --password-stdin")
            }
            RegistryError::Missing { .. } => "check the name and the tag; a registry may also hide what you may \
                                              not read"
                .to_string(),
            RegistryError::MissingBlob { .. } | RegistryError::Damaged { .. } => {
                "push the image to it again: gilliam image push".to_string()
            }
            RegistryError::Status { status: 429, .. } => {
                "wait a while; with credentials registries allow more".to_string()
            }
            RegistryError::Status { status: 500.., .. } => "try again later; nothing was kept".to_string(),
            RegistryError::Protocol { .. } => "is there a registry at this address?".to_string(),
            RegistryError::Foreign { .. } => {
                "gilliam image push makes one; a single WebAssembly component is taken by gilliam deploy --image"
                    .to_string()
            }
            RegistryError::Newer { .. } => "update gilliam".to_string(),
            _ => return None,
        };
        Some(hint)
    }
}

impl From<RegistryError> for CommandError {
    fn from(error: RegistryError) -> Self {
        let mut message = error.to_string();
        if let RegistryError::Layout(error) = &error
            && let Some(source) = std::error::Error::source(error)
        {
            message = format!("{message}: {source}");
        }
        let failed = Self::failed(message);
        match error.hint() {
            Some(hint) => failed.hinted(hint),
            None => failed,
        }
    }
}

impl Registry {
    /// An error of the connection.
    pub(super) fn broken(&self, error: &reqwest::Error) -> RegistryError {
        let mut reason = error.to_string();
        let mut cause = std::error::Error::source(error);
        // The innermost says what it is: a name that is not known, a certificate.
        while let Some(next) = cause {
            reason = next.to_string();
            cause = next.source();
        }
        RegistryError::Unreachable {
            host: self.host().to_string(),
            reason,
        }
    }

    /// An answer that is none.
    pub(super) fn refused(&self, status: StatusCode) -> RegistryError {
        let (host, name) = (self.host().to_string(), self.reference.repository().to_string());
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied {
                host,
                name,
                user: self.user(),
            },
            status => RegistryError::Status {
                host,
                status: status.as_u16(),
                reason: String::new(),
            },
        }
    }

    /// What the registry's client says.
    pub(super) fn failed(&self, error: OciDistributionError) -> RegistryError {
        let host = self.host().to_string();
        match error {
            OciDistributionError::RequestError(error) => match error.status() {
                Some(status) => self.refused(status),
                None => self.broken(&error),
            },
            OciDistributionError::UnauthorizedError { .. } => self.refused(StatusCode::UNAUTHORIZED),
            OciDistributionError::AuthenticationFailure(reason) => RegistryError::NotAuthenticated {
                host,
                user: self.user(),
                reason: excerpt(reason.trim()),
            },
            OciDistributionError::ServerError { code, message, .. } => RegistryError::Status {
                host,
                status: code,
                reason: said(&message),
            },
            OciDistributionError::RegistryError { envelope, .. } => {
                let first = envelope.errors.into_iter().next();
                match first {
                    Some(error)
                        if matches!(error.code, OciErrorCode::Unauthorized | OciErrorCode::Denied) =>
                    {
                        self.refused(StatusCode::FORBIDDEN)
                    }
                    first => RegistryError::Protocol {
                        host,
                        reason: first.map_or_else(
                            || "an empty error".to_string(),
                            |error| excerpt(&format!("{:?} {}", error.code, error.message)),
                        ),
                    },
                }
            }
            error => RegistryError::Protocol {
                host,
                reason: excerpt(&error.to_string()),
            },
        }
    }

    fn user(&self) -> Option<String> {
        match &self.auth {
            oci_client::secrets::RegistryAuth::Basic(name, _) => Some(name.clone()),
            _ => None,
        }
    }
}

fn said(message: &str) -> String {
    match message.trim() {
        "" => String::new(),
        message => format!(": {}", excerpt(message)),
    }
}
