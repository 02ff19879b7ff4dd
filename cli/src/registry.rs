//! Images in registries, spoken to from here with the user's own credentials: no server ever sees them, and none
//! connects to a host that a user names.
//!
//! In flow a reference (`registry.example.com/team/hello:v3`) and credentials, out flows an image layout on this
//! machine; or the other way round. `artifact` decides what a manifest is (pure), `credentials` finds who asks, `pull`
//! and `push` move blobs.
//!
//! Invariant: what is kept is bounded before it is read, and has the digest that refers to it.
//! Invariant: plain HTTP is spoken to this machine, or where the user asks for it.

mod artifact;
mod credentials;
mod failure;
mod pull;
mod push;

use std::time::Duration;

use gilliam_model::{digest::Digest, text::excerpt};
use oci_client::{
    Reference, RegistryOperation,
    client::{ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};
use reqwest::{
    Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};

use crate::failure::{CommandError, CommandResult};

pub(crate) use artifact::Artifact;
pub(crate) use failure::RegistryError;
pub(crate) use pull::{Pulled, archive};

/// Longest wait for a connection to a registry.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a registry.
const IDLE_MAX: Duration = Duration::from_secs(60);
const USER_AGENT: &str = concat!("gilliam/", env!("CARGO_PKG_VERSION"));

/// How a registry is spoken to.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Registry")]
pub(crate) struct RegistryFlags {
    /// Who asks the registry; by default whom docker's config.json or its credential helper names.
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Reads that user's password, or token, from the input.
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Speaks plain HTTP to the registry; one on this machine always is.
    #[arg(long)]
    insecure: bool,
}

/// One repository of a registry, and who asks.
pub(crate) struct Registry {
    reference: Reference,
    auth: RegistryAuth,
    oci: oci_client::Client,
    http: reqwest::Client,
    /// `https://HOST/v2/NAME`.
    base: String,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// What a repository is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    /// What its tag or digest names.
    Manifest,
    /// A blob.
    Blob(&'a Digest),
}

impl Registry {
    /// The repository that a reference names; nothing is sent yet.
    pub(crate) fn open(reference: &str, flags: &RegistryFlags) -> CommandResult<Self> {
        let reference: Reference = reference.parse().map_err(|error| {
            CommandError::usage(format!("{:?} names no image: {error}", excerpt(reference)))
                .hinted("an image in a registry is named HOST/NAME:TAG, or HOST/NAME@sha256:…")
        })?;
        let host = reference.resolve_registry().to_string();
        let auth = credentials::find(&host, flags)?;
        let is_plain = flags.insecure || is_here(&host);
        // The first one that is installed stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let failed =
            |error: &dyn std::fmt::Display| CommandError::failed(format!("cannot speak HTTP: {error}"));
        let oci = oci_client::Client::try_from(ClientConfig {
            protocol: match is_plain {
                true => ClientProtocol::Http,
                false => ClientProtocol::Https,
            },
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(IDLE_MAX),
            user_agent: USER_AGENT,
            ..ClientConfig::default()
        });
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(IDLE_MAX)
            .build();
        let scheme = if is_plain { "http" } else { "https" };
        Ok(Self {
            base: format!("{scheme}://{host}/v2/{}", reference.repository()),
            reference,
            auth,
            oci: oci.map_err(|error| failed(&error))?,
            http: http.map_err(|error| failed(&error))?,
        })
    }

    /// The reference, whole: `registry.example.com/team/hello:v3`.
    pub(crate) fn name(&self) -> String {
        self.reference.whole()
    }

    /// The digest that the reference asks for, if it names one.
    fn wanted(&self) -> Result<Option<Digest>, RegistryError> {
        let digest = self.reference.digest().map(str::parse).transpose();
        digest.map_err(|_| RegistryError::Algorithm {
            digest: excerpt(self.reference.digest().unwrap_or_default()),
        })
    }

    fn host(&self) -> &str {
        self.reference.resolve_registry()
    }

    /// Makes sure that the registry is there and lets this user in, as far as it says so in advance.
    async fn admit(&self, operation: RegistryOperation) -> Result<Option<HeaderValue>, RegistryError> {
        let token = self.oci.auth(&self.reference, &self.auth, operation).await;
        let token = token.map_err(|error| self.failed(error))?;
        let text = match (token, &self.auth) {
            (Some(token), _) => format!("Bearer {token}"),
            (None, RegistryAuth::Basic(name, password)) => credentials::basic(name, password),
            (None, _) => return Ok(None),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| RegistryError::Credentials {
            host: self.host().to_string(),
            reason: "the user's name or password cannot be sent".to_string(),
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Asks for a document or a blob; the answer is not read yet.
    async fn ask(&self, asked: Asked<'_>, by: Option<&HeaderValue>) -> Result<Response, RegistryError> {
        let path = match asked {
            Asked::Manifest => {
                let name = self
                    .reference
                    .digest()
                    .or(self.reference.tag())
                    .unwrap_or("latest");
                format!("{}/manifests/{name}", self.base)
            }
            Asked::Blob(digest) => format!("{}/blobs/{digest}", self.base),
        };
        let mut request = self.http.get(path);
        if matches!(asked, Asked::Manifest) {
            request = request.header(ACCEPT, artifact::ACCEPTED);
        }
        if let Some(by) = by {
            request = request.header(AUTHORIZATION, by);
        }
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(self.missing(asked)),
            status => Err(self.refused(status)),
        }
    }

    /// Reads an answer of at most `bytes_max` bytes.
    async fn read(
        &self,
        mut response: Response,
        what: &str,
        bytes_max: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(&error))? {
            if (bytes.len() + chunk.len()) as u64 > bytes_max {
                return Err(RegistryError::TooLarge {
                    what: what.to_string(),
                    max: bytes_max,
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn missing(&self, asked: Asked<'_>) -> RegistryError {
        match asked {
            Asked::Manifest => RegistryError::Missing {
                host: self.host().to_string(),
                name: self.name(),
            },
            Asked::Blob(digest) => RegistryError::MissingBlob {
                host: self.host().to_string(),
                digest: *digest,
            },
        }
    }
}

/// Whether a registry is on this machine: `localhost:5000`, `127.0.0.1:5000`, `[::1]:5000`.
fn is_here(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    let address = name.parse::<std::net::IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine() {
        for (host, want) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("registry.localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.8.8", true),
            ("[::1]:5000", true),
            ("localhost.example.com", false),
            ("ghcr.io", false),
            ("10.0.0.1:5000", false),
            ("[::2]:5000", false),
        ] {
            assert_eq!(is_here(host), want, "{host}");
        }
    }
}
