//! Components by digest, fetched from the control plane and kept on disk.
//!
//! Invariant: [`Blobs::verified`] gives only files whose content has just been hashed to the digest asked
//! for.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gilliam_client::ClientError;
use gilliam_model::{code::Code, digest::Digest};
use sha2::{Digest as _, Sha256};

use crate::{
    backoff,
    control::{Control, ControlError},
    entropy,
};

/// Wait before a fetch is tried again while the control plane is gone: doubling from the first to the last.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Why there is no blob.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("the content of {digest} is not what its digest says")]
    Mismatch { digest: Digest },
    #[error("cannot keep {digest} on this node's disk")]
    Disk {
        digest: Digest,
        #[source]
        source: io::Error,
    },
    #[error("cannot fetch {digest}: {source}")]
    Fetch { digest: Digest, source: ClientError },
}

impl BlobError {
    pub(crate) fn code(&self) -> Code {
        match self {
            BlobError::Mismatch { .. } => Code::R17,
            BlobError::Disk { .. } | BlobError::Fetch { .. } => Code::R99,
        }
    }
}

/// The blobs of a node.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
    control: Arc<Control>,
}

impl Blobs {
    /// Blobs in `folder`, which exists.
    pub(crate) fn new(folder: PathBuf, control: Arc<Control>) -> Self {
        Self { folder, control }
    }

    /// A file with the content of `digest`, of `bytes` bytes. Waits for the control plane for as long as it
    /// is gone.
    ///
    /// One caller at a time for a digest.
    pub(crate) async fn verified(&self, digest: &Digest, bytes: u64) -> Result<PathBuf, BlobError> {
        let disk = |source| BlobError::Disk {
            digest: *digest,
            source,
        };
        let path = self.folder.join(digest.hex());
        if path.exists() {
            if hash_of(&path).await.map_err(disk)? == *digest {
                return Ok(path);
            }
            tracing::warn!(%digest, "a blob on disk is damaged; it is fetched again");
            fs::remove_file(&path).map_err(disk)?;
        }
        let draft = self.folder.join(format!("{}.draft", digest.hex()));
        self.fetch(digest, bytes, &draft).await?;
        if hash_of(&draft).await.map_err(disk)? != *digest {
            let _ = fs::remove_file(&draft);
            return Err(BlobError::Mismatch { digest: *digest });
        }
        fs::rename(&draft, &path).map_err(disk)?;
        Ok(path)
    }

    /// Removes what is on disk for other digests than `wanted`.
    pub(crate) fn keep_only(&self, wanted: impl Fn(&str) -> bool) {
        remove_files(&self.folder, |name| !wanted(name));
    }

    async fn fetch(&self, digest: &Digest, bytes: u64, path: &Path) -> Result<(), BlobError> {
        let mut wait = RETRY_MIN;
        loop {
            let error = match self.try_fetch(digest, bytes, path).await {
                Ok(()) => return Ok(()),
                Err(ControlError::Client(ClientError::Write { source })) => {
                    return Err(BlobError::Disk {
                        digest: *digest,
                        source,
                    });
                }
                Err(ControlError::Client(source)) if !source.is_transient() => {
                    self.control.failed();
                    return Err(BlobError::Fetch {
                        digest: *digest,
                        source,
                    });
                }
                Err(error) => error,
            };
            self.control.failed();
            tracing::debug!(%digest, %error, "the fetch is tried again");
            tokio::time::sleep(backoff::spread(wait, entropy::jitter())).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn try_fetch(&self, digest: &Digest, bytes: u64, path: &Path) -> Result<(), ControlError> {
        let client = self.control.client()?;
        let write = |source| ControlError::Client(ClientError::Write { source });
        let mut file = tokio::fs::File::create(path).await.map_err(write)?;
        client.fetch_blob(digest, bytes, &mut file).await?;
        file.sync_all().await.map_err(write)?;
        Ok(())
    }
}

/// The sha256 digest of a file.
async fn hash_of(path: &Path) -> io::Result<Digest> {
    let path = path.to_owned();
    let hash = move || {
        let mut hasher = Sha256::new();
        io::copy(&mut fs::File::open(&path)?, &mut hasher)?;
        Ok(Digest::from_sha256(hasher.finalize().into()))
    };
    tokio::task::spawn_blocking(hash)
        .await
        .map_err(io::Error::other)?
}

/// Removes the files of a folder whose names `unwanted` accepts.
pub(crate) fn remove_files(folder: &Path, unwanted: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(&unwanted) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
