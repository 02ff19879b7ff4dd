//! Blobs of a bucket that nodes asked for lately, as files: of those least recently used some go when there are too
//! many.
//!
//! In: digests, and a way to read what is not here. Out: files that stay while they are held. How recently a file was
//! used is its time of modification, so it survives a restart.
//!
//! Invariant: those who want the same blob at once share one reading of it, which goes on when they leave; at most
//! [`READS_MAX`] are under way.
//! Invariant: a file is given out only after its content was hashed to its digest in this life.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use gilliam_model::digest::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, watch};

use super::{BlobsError, objects::Objects};

/// Bytes of blobs that are kept where the disk is large: those of sixty of the largest components.
const BYTES_MAX: u64 = 4 << 30;
/// Share of the disk that they may have where it is small.
const DISK_DIVISOR: u64 = 10;
/// Readings of the bucket at once: some tens of megabytes each, and together enough for any link.
const READS_MAX: usize = 8;

/// The cache of a control plane.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    objects: Objects,
    bytes_max: u64,
    state: Mutex<State>,
    reads: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<Digest, Kept>,
    reading: HashMap<Digest, watch::Receiver<Outcome>>,
}

/// How a reading ended; none while it is under way.
type Outcome = Option<Result<(), Arc<BlobsError>>>;

/// A file of the cache.
#[derive(Debug)]
struct Kept {
    bytes: u64,
    used: SystemTime,
    /// Whether its content was hashed in this life.
    is_verified: bool,
    /// Who holds it.
    holders: usize,
}

/// A file that stays while this is held.
#[derive(Debug)]
pub(crate) struct Held {
    cache: Arc<Cache>,
    digest: Digest,
}

impl Held {
    pub(super) fn path(&self) -> PathBuf {
        self.cache.path(&self.digest)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(kept) = self.cache.state().files.get_mut(&self.digest) {
            kept.holders = kept.holders.saturating_sub(1);
        }
    }
}

impl Cache {
    /// The cache in `folder`, as an earlier life left it.
    pub(super) fn open(folder: PathBuf, objects: Objects) -> io::Result<Arc<Self>> {
        let bytes_max = match rustix::fs::statvfs(&folder) {
            Ok(disk) => BYTES_MAX.min(disk.f_blocks.saturating_mul(disk.f_frsize) / DISK_DIVISOR),
            Err(_) => BYTES_MAX,
        };
        Self::with_limit(folder, objects, bytes_max)
    }

    fn with_limit(folder: PathBuf, objects: Objects, bytes_max: u64) -> io::Result<Arc<Self>> {
        let mut state = State::default();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (name, meta) = (entry.file_name(), entry.metadata()?);
            match name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok()) {
                Some(digest) => {
                    let kept = Kept {
                        bytes: meta.len(),
                        used: meta.modified()?,
                        is_verified: false,
                        holders: 0,
                    };
                    state.files.insert(digest, kept);
                }
                None => fs::remove_file(entry.path())?,
            }
        }
        let cache = Arc::new(Self {
            folder,
            objects,
            bytes_max,
            state: Mutex::new(state),
            reads: Semaphore::new(READS_MAX),
        });
        cache.shrink(bytes_max, None);
        Ok(cache)
    }

    /// The blob from here, or read from the bucket.
    pub(super) async fn get(self: &Arc<Self>, digest: &Digest) -> Result<Held, Arc<BlobsError>> {
        loop {
            if let Some(held) = self.hold(digest).await {
                return Ok(held);
            }
            let mut reading = self.reading(digest);
            let ended = reading
                .wait_for(Option::is_some)
                .await
                .map(|outcome| outcome.clone());
            if let Ok(Some(Err(error))) = ended {
                return Err(error);
            }
        }
    }

    /// Takes over a file with the content of `digest`, which was just hashed.
    pub(super) fn adopt(&self, digest: &Digest, file: &Path, bytes: u64) -> io::Result<()> {
        fs::rename(file, self.path(digest))?;
        self.add(digest, bytes);
        self.shrink(self.bytes_max, Some(digest));
        Ok(())
    }

    /// The file, if it is here and whole, as one that was just used.
    async fn hold(self: &Arc<Self>, digest: &Digest) -> Option<Held> {
        let (held, is_verified) = {
            let mut state = self.state();
            let kept = state.files.get_mut(digest)?;
            kept.holders += 1;
            kept.used = SystemTime::now();
            let held = Held {
                cache: self.clone(),
                digest: *digest,
            };
            (held, kept.is_verified)
        };
        let path = held.path();
        let wanted = *digest;
        let check = move || {
            // What is remembered of it after a restart; without it, it goes a little early.
            let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
            is_verified || hash_of(&path).is_ok_and(|found| found == wanted)
        };
        let is_whole = tokio::task::spawn_blocking(check).await.unwrap_or(false);
        if is_whole {
            if let Some(kept) = self.state().files.get_mut(digest) {
                kept.is_verified = true;
            }
            return Some(held);
        }
        tracing::warn!(%digest, "a blob in the cache is damaged; it is read again");
        self.remove(digest);
        None
    }

    /// The reading of a blob that is under way, or one that begins now.
    fn reading(self: &Arc<Self>, digest: &Digest) -> watch::Receiver<Outcome> {
        let mut state = self.state();
        if let Some(reading) = state.reading.get(digest) {
            return reading.clone();
        }
        let (end, reading) = watch::channel(None);
        if state.files.contains_key(digest) {
            // It came while this was looking.
            end.send_replace(Some(Ok(())));
            return reading;
        }
        state.reading.insert(*digest, reading.clone());
        let (cache, digest) = (self.clone(), *digest);
        tokio::spawn(async move {
            let outcome = cache.read(&digest).await;
            cache.state().reading.remove(&digest);
            end.send_replace(Some(outcome.map_err(Arc::new)));
        });
        reading
    }

    async fn read(&self, digest: &Digest) -> Result<(), BlobsError> {
        let _turn = self.reads.acquire().await.expect("the semaphore is never closed");
        let draft = self.folder.join(format!("{}.draft", digest.hex()));
        let mut outcome = self.objects.copy_to(digest, &draft).await;
        if outcome.as_ref().is_err_and(BlobsError::is_full) {
            self.shrink(0, None);
            outcome = self.objects.copy_to(digest, &draft).await;
        }
        let taken = outcome.and_then(|bytes| {
            self.adopt(digest, &draft, bytes)
                .map_err(|source| BlobsError::Local {
                    path: draft.clone(),
                    source,
                })
        });
        if taken.is_err() {
            let _ = fs::remove_file(&draft);
        }
        taken
    }

    fn add(&self, digest: &Digest, bytes: u64) {
        let kept = Kept {
            bytes,
            used: SystemTime::now(),
            is_verified: true,
            holders: 0,
        };
        let mut state = self.state();
        let holders = state.files.get(digest).map_or(0, |before| before.holders);
        state.files.insert(*digest, Kept { holders, ..kept });
    }

    /// Takes out a damaged file.
    fn remove(&self, digest: &Digest) {
        // A holder counts down what is not there any more.
        self.state().files.remove(digest);
        let _ = fs::remove_file(self.path(digest));
    }

    /// Removes files that nobody holds, those least recently used first, until the rest has at most `bytes_max`. What
    /// has just come stays: it is waited for, however large it is.
    fn shrink(&self, bytes_max: u64, newest: Option<&Digest>) {
        let mut state = self.state();
        let mut bytes: u64 = state.files.values().map(|kept| kept.bytes).sum();
        let mut free: Vec<(SystemTime, Digest)> = state
            .files
            .iter()
            .filter(|(digest, kept)| kept.holders == 0 && Some(*digest) != newest)
            .map(|(digest, kept)| (kept.used, *digest))
            .collect();
        free.sort();
        for (_, digest) in free {
            if bytes <= bytes_max {
                break;
            }
            let kept = state.files.remove(&digest).expect("it was listed");
            bytes -= kept.bytes;
            let _ = fs::remove_file(self.path(&digest));
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

fn hash_of(path: &Path) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(Digest::from_sha256(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::{ObjectStoreExt as _, PutPayload, memory::InMemory, path::Path as Key};
    use tempfile::TempDir;

    use super::*;

    /// Bytes of each blob.
    const SIZE: u64 = 40;

    /// A bucket of ten blobs, and their digests.
    async fn bucket() -> (Objects, Vec<Digest>) {
        let store = Arc::new(InMemory::new());
        let mut digests = Vec::new();
        for n in 0..10_u8 {
            let content = vec![n; usize::try_from(SIZE).expect("few")];
            let digest = Digest::from_sha256(Sha256::digest(&content).into());
            let key = Key::from(format!("blobs/sha256/{}", digest.hex()));
            store.put(&key, PutPayload::from(content)).await.expect("put");
            digests.push(digest);
        }
        (Objects::new(store, "", "a bucket".to_owned()), digests)
    }

    fn open(folder: &TempDir, objects: &Objects, blobs: u64) -> Arc<Cache> {
        let opened = Cache::with_limit(folder.path().to_path_buf(), objects.clone(), blobs * SIZE);
        opened.expect("a cache")
    }

    fn left(folder: &TempDir, digests: &[Digest]) -> Vec<usize> {
        let is_here = |n: &usize| folder.path().join(digests[*n].hex()).exists();
        (0..digests.len()).filter(is_here).collect()
    }

    #[tokio::test]
    async fn what_was_used_longest_ago_goes_first_and_what_is_held_never() {
        let (folder, (objects, digests)) = (tempfile::tempdir().expect("folder"), bucket().await);
        let cache = open(&folder, &objects, 3);
        let held = cache.get(&digests[0]).await.expect("read");
        for n in [1, 2, 1, 3] {
            cache.get(&digests[n]).await.expect("read");
        }
        assert_eq!(left(&folder, &digests), [0, 1, 3]);
        assert_eq!(fs::read(held.path()).expect("held"), [0; 40]);
        drop(held);
        cache.get(&digests[4]).await.expect("read");
        assert_eq!(left(&folder, &digests), [1, 3, 4]);
        let absent = Digest::from_sha256([9; 32]);
        let error = cache.get(&absent).await.expect_err("not in the bucket");
        assert!(matches!(*error, BlobsError::Missing { .. }), "{error}");
        assert_eq!(
            fs::read_dir(folder.path()).expect("folder").count(),
            3,
            "nothing of it stays"
        );
    }

    #[tokio::test]
    async fn the_next_life_goes_on_with_what_was_used_last() {
        let (folder, (objects, digests)) = (tempfile::tempdir().expect("folder"), bucket().await);
        let cache = open(&folder, &objects, 5);
        for digest in &digests[..5] {
            cache.get(digest).await.expect("read");
        }
        for (n, age) in [(0, 1), (1, 50), (2, 40), (3, 30), (4, 20)] {
            let file = fs::File::open(folder.path().join(digests[n].hex())).expect("file");
            file.set_modified(SystemTime::now() - Duration::from_secs(age))
                .expect("time");
        }
        fs::write(folder.path().join("0000.draft"), "half").expect("draft");
        let cache = open(&folder, &objects, 3);
        assert_eq!(left(&folder, &digests), [0, 3, 4]);
        assert!(!folder.path().join("0000.draft").exists());
        // A life that may keep one keeps what is asked for.
        drop(cache);
        let cache = open(&folder, &objects, 1);
        let held = cache.get(&digests[7]).await.expect("read");
        assert_eq!(left(&folder, &digests), [7]);
        drop(held);
        // One that is larger than all that may be kept is given all the same.
        drop(cache);
        let cache = open(&folder, &objects, 0);
        cache.get(&digests[8]).await.expect("read");
    }
}
