//! How a node comes into a cluster, once: a key of its own, and a certificate for it.
//!
//! In: a one-time token, and where control planes are. Out: an [`Identity`] in the data folder, with which the node
//! starts from then on. Later renewals come through here as well.
//!
//! Invariant: nothing is sent to a server that has not proved to be of the cluster that the token is for.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gilliam_client::{Client, ClientError, Trust};
use gilliam_model::{
    Timestamp,
    identity::node_dns,
    join::{Join, JoinToken, Renew},
    name::{NameError, NodeName},
    sync::PROTOCOL,
};
use rcgen::KeyPair;
use tokio::time::sleep;

use crate::{
    backoff,
    control::Control,
    entropy,
    identity::{self, Identity, IdentityError},
    lock::node_folder,
};

/// Wait before a renewal that failed is tried again; half of a certificate's life is there for it.
const RENEW_RETRY: Duration = Duration::from_secs(30);
/// Longest sleep before the clock is looked at again: a machine that slept finds its certificate older than it thought.
const RENEW_LOOK: Duration = Duration::from_secs(3_600);

/// Why a node is not of the cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Its name cannot be in a certificate.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No control plane took it.
    #[error(transparent)]
    Control(#[from] ClientError),
    /// Its identity cannot be made or kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its folder cannot be made.
    #[error("cannot use the data folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The key cannot be made.
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
    /// There is nobody to ask.
    #[error("no server is named")]
    NoServer,
}

/// Joins the cluster that `token` is for, at the first of `servers` that answers, and keeps the identity in `data`.
pub async fn join(
    servers: &[String],
    token: &JoinToken,
    name: &NodeName,
    version: &str,
    data: &Path,
) -> Result<Identity, JoinError> {
    node_dns(name)?;
    let folder = node_folder(data);
    fs::create_dir_all(&folder).map_err(|source| JoinError::Folder { path: folder, source })?;
    let key = KeyPair::generate()?;
    let join = Join {
        protocol: PROTOCOL,
        version: version.to_owned(),
        name: name.to_string(),
        request: identity::request(&key)?,
    };
    let mut last = JoinError::NoServer;
    for server in servers {
        let client = Client::trusting(server, &token.text(), Trust::Cluster(token.ca))?;
        match client.join(&join).await {
            Ok(joined) => {
                let now = Timestamp::now();
                return Ok(Identity::keep(data, name.clone(), &key, joined, now)?);
            }
            Err(error) if error.is_transient() => last = error.into(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last)
}

/// Keeps the certificate of `identity` good for as long as it is polled.
pub(crate) async fn keep_renewed(identity: Identity, control: Arc<Control>) {
    loop {
        let rest = identity.renew_in(Timestamp::now());
        if !rest.is_zero() {
            sleep(rest.min(RENEW_LOOK)).await;
            continue;
        }
        match renew(&identity, &control).await {
            Ok(()) => tracing::info!("the node's certificate is renewed"),
            Err(error) => {
                tracing::warn!(%error, "the node's certificate is not renewed; it is tried again");
                sleep(backoff::spread(RENEW_RETRY, entropy::jitter())).await;
            }
        }
    }
}

async fn renew(identity: &Identity, control: &Control) -> Result<(), String> {
    let request = identity.request().map_err(|e| e.to_string())?;
    let client = control.client().map_err(|e| e.to_string())?;
    let joined = client.renew(&identity.name(), &Renew { request }).await;
    let joined = joined.map_err(|e| e.to_string())?;
    identity
        .renew(joined, Timestamp::now())
        .map_err(|e| e.to_string())
}
