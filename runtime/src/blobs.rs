//! Components by digest, fetched from the control planes and kept on disk.
//!
//! A release is told to many nodes at once. So each waits for a moment before it asks, the longer the more nodes there
//! are, asks any of the control planes, and another one when that is busy or has not got it.
//!
//! Invariant: [`Blobs::verified`] gives only files whose content has just been hashed to the digest asked
//! for.
//! Invariant: a blob is fetched once at a time, however many want it.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
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

/// Wait before a fetch is tried again while the control planes are gone or busy: doubling from the first to the last.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Before the first try each node waits up to this long for each node there is: a thousand of them spread over a
/// second, and few do not wait at all that anybody would notice.
const SPREAD_PER_NODE: Duration = Duration::from_millis(1);
const SPREAD_MAX: Duration = Duration::from_secs(2);
/// The log tells of a fetch that failed so often: some two seconds after it began.
const TOLD_AFTER: u32 = 5;
/// What a control plane says that has too much to do, here or there.
const BUSY: u16 = 429;

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
    /// Whether the disk has no room for it.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, BlobError::Disk { source, .. } if is_full(source))
    }

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
    /// Who is at a blob; the others wait.
    turns: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// How many nodes there are beside this one, as far as it knows.
    others: AtomicUsize,
}

impl Blobs {
    /// Blobs in `folder`, which exists.
    pub(crate) fn new(folder: PathBuf, control: Arc<Control>) -> Self {
        Self {
            folder,
            control,
            turns: Mutex::default(),
            others: AtomicUsize::new(0),
        }
    }

    /// Takes note of how many other nodes there are.
    pub(crate) fn set_others(&self, count: usize) {
        self.others.store(count, Relaxed);
    }

    /// A file with the content of `digest`, of `bytes` bytes. Waits for the control planes for as long as they
    /// are gone.
    pub(crate) async fn verified(&self, digest: &Digest, bytes: u64) -> Result<PathBuf, BlobError> {
        let turn = self.turn(digest);
        let _turn = turn.lock().await;
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
        let fetched = self.fetch(digest, bytes, &draft).await;
        let kept = fetched.and_then(|()| fs::rename(&draft, &path).map_err(disk));
        if kept.is_err() {
            // On a full disk above all.
            let _ = fs::remove_file(&draft);
        }
        kept.map(|()| path)
    }

    fn turn(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(*digest).or_default().clone()
    }

    async fn fetch(&self, digest: &Digest, bytes: u64, path: &Path) -> Result<(), BlobError> {
        tokio::time::sleep(spread(self.others.load(Relaxed), entropy::jitter())).await;
        let mut wait = RETRY_MIN;
        let (mut refusals, mut tries) = (0, 0);
        let mut attempt = self.control.any();
        loop {
            let way = self.control.next_after(attempt);
            attempt += 1;
            let error = match self.try_fetch(way, digest, bytes, path).await {
                Ok(()) => {
                    let found = hash_of(path).await;
                    let digest = *digest;
                    if found.map_err(|source| BlobError::Disk { digest, source })? == digest {
                        return Ok(());
                    }
                    refusals += 1;
                    if refusals >= self.control.count() {
                        return Err(BlobError::Mismatch { digest });
                    }
                    continue;
                }
                Err(ControlError::Client(ClientError::Write { source })) => {
                    return Err(BlobError::Disk {
                        digest: *digest,
                        source,
                    });
                }
                Err(ControlError::Client(source)) if !source.is_transient() => {
                    // Another one may know more.
                    refusals += 1;
                    if refusals >= self.control.count() {
                        let digest = *digest;
                        return Err(BlobError::Fetch { digest, source });
                    }
                    continue;
                }
                Err(error) => error,
            };
            self.control.failed_on(way);
            tries += 1;
            match tries == TOLD_AFTER {
                true => {
                    tracing::warn!(%digest, %error, "a component cannot be fetched; it is tried on and on")
                }
                false => tracing::debug!(%digest, %error, "the fetch is tried again"),
            }
            let mut wanted = backoff::spread(wait, entropy::jitter());
            if is_busy(&error) {
                // So are all the others that were told to come back.
                wanted = wait.mul_f64(0.5 + entropy::jitter());
            }
            tokio::time::sleep(wanted).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn try_fetch(
        &self,
        way: usize,
        digest: &Digest,
        bytes: u64,
        path: &Path,
    ) -> Result<(), ControlError> {
        let client = self.control.client_of(way)?;
        let write = |source| ControlError::Client(ClientError::Write { source });
        let mut file = tokio::fs::File::create(path).await.map_err(write)?;
        client.fetch_blob(digest, bytes, &mut file).await?;
        file.sync_all().await.map_err(write)?;
        Ok(())
    }
}

/// How long a node waits before it asks for what all of them were just told to run. `jitter` in 0 ..= 1.
fn spread(others: usize, jitter: f64) -> Duration {
    let others = u32::try_from(others).unwrap_or(u32::MAX);
    (SPREAD_PER_NODE.saturating_mul(others))
        .min(SPREAD_MAX)
        .mul_f64(jitter)
}

fn is_busy(error: &ControlError) -> bool {
    matches!(error, ControlError::Client(ClientError::Api { status: BUSY, .. }))
}

/// Whether an error says that the disk has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
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

#[cfg(test)]
pub(crate) mod tests;
