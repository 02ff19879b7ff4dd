//! The way to a bucket: whom to believe, who asks, how long to wait.
//!
//! In: a place. Out: an [`ObjectStore`] that has sent nothing yet.
//!
//! Invariant: nothing is sent before the server has proved to be the one that is meant, unless the operator wrote
//! `http://`; no redirect is followed.

use std::{fs, path::Path, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    client::{HttpClient, HttpConnector},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::{BlobsError, place::S3Place};

/// Longest wait for a connection: servers of one cluster and their bucket are near each other.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Longest silence in the middle of an answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Idle connections are dropped before the other side does: Amazon's wait some 20 s.
const POOL_IDLE: Duration = Duration::from_secs(15);
/// A request that failed is sent again so often within so long: who waits for it tries again too.
const RETRIES_MAX: usize = 2;
const RETRY_MAX: Duration = Duration::from_secs(10);
const BACKOFF: BackoffConfig = BackoffConfig {
    init_backoff: Duration::from_millis(100),
    max_backoff: Duration::from_secs(1),
    base: 2.0,
};
/// The variables that say who asks. What they say of anything else is not for gilliam.
pub const CREDENTIAL_VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// Makes HTTP clients with TLS settings of its own, so that no process-wide ones are needed.
#[derive(Debug)]
struct Connector(ClientConfig);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("gilliam/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_MAX)
            .read_timeout(SILENCE_MAX)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_backend_preconfigured(self.0.clone())
            .build();
        let client = client.map_err(|error| object_store::Error::Generic {
            store: "S3",
            source: Box::new(error),
        })?;
        Ok(HttpClient::new(client))
    }
}

/// The bucket of `place`.
pub(super) fn open(place: &S3Place) -> Result<Arc<dyn ObjectStore>, BlobsError> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&place.bucket)
        .with_region(&place.region)
        .with_retry(RetryConfig {
            backoff: BACKOFF,
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_MAX,
        })
        .with_http_connector(Connector(tls(place.ca.as_deref())?));
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    for name in CREDENTIAL_VARIABLES {
        let key = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>();
        if let (Ok(key), Some(value)) = (key, place.variables.get(name)) {
            builder = builder.with_config(key, value);
        }
    }
    let bucket = builder.build().map_err(|error| BlobsError::Settings {
        reason: error.to_string(),
    })?;
    Ok(Arc::new(bucket))
}

fn tls(ca: Option<&Path>) -> Result<ClientConfig, BlobsError> {
    let roots = match ca {
        None => RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => roots_in(path).map_err(|reason| BlobsError::Settings {
            reason: format!("the certificates in {} cannot be used: {reason}", path.display()),
        })?,
    };
    let settings = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has suites for the default versions");
    Ok(settings.with_root_certificates(roots).with_no_client_auth())
}

fn roots_in(path: &Path) -> Result<RootCertStore, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    match roots.is_empty() {
        true => Err("there are none in it".to_owned()),
        false => Ok(roots),
    }
}
