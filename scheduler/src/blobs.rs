//! The blobs of images, where every control plane of the cluster finds them: in a folder or in a bucket.
//!
//! ```text
//!   build child ── seals ──► layout ── keep ──► the place (folder, bucket) ◄── the other control planes
//!                                                   │ file
//!                        nodes, users, probes ◄── (cache of a bucket)
//! ```
//!
//! In: layouts that builds have sealed, digests. Out: files, verified by whoever gets them. Where the place is the
//! data folder's own `images`, builds seal right there. `place` reads what an operator names, `objects` writes and
//! reads, `cache` keeps what a bucket was asked for, `identity` keeps control planes with places of their own apart.
//!
//! Invariant: a release is acknowledged after all of its blobs are durable in the place.
//! Invariant: a build knows nothing of the place: no credential and no address reaches it.

mod cache;
mod error;
mod identity;
mod objects;
mod place;
mod s3;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use gilliam_model::digest::Digest;
use gilliam_store::Store;
use object_store::{local::LocalFileSystem, memory::InMemory};
use tokio::sync::OnceCell;

pub use error::BlobsError;
pub use place::{AwsVariables, BlobsPlace, BlobsPlaceError, S3Place};
pub use s3::CREDENTIAL_VARIABLES;

use cache::{Cache, Held};
use error::{chain, failed};
use identity::Identity;
use objects::Objects;

/// The blobs of a cluster; clones share everything.
#[derive(Debug, Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    objects: Objects,
    adopts: bool,
    /// Known once this is the cluster's place for sure.
    identity: OnceCell<Identity>,
}

#[derive(Debug)]
enum Kind {
    /// The data folder's own: builds seal right here.
    Own(PathBuf),
    /// Another folder.
    Folder(PathBuf),
    /// A bucket, with what was read of it lately.
    Bucket(Arc<Cache>),
    /// Nothing can be here.
    Nowhere,
}

/// Where a build seals: a layout that goes with this unless it is the place itself.
#[derive(Debug)]
pub(crate) struct Sealing {
    pub(crate) layout: PathBuf,
    is_temporary: bool,
}

/// A blob as a file, which stays while this is held.
#[derive(Debug)]
pub(crate) enum BlobFile {
    /// Of a folder, from which nothing goes.
    Path(PathBuf),
    /// Of the cache.
    Held(Held),
}

// === impl Blobs ===

impl Blobs {
    /// The blobs in `place`, of the cluster whose state is in `store`, for a control plane whose data folder is `data`.
    ///
    /// `adopts`: this place is taken for the cluster's although another one was.
    pub async fn of(
        store: &Store,
        place: &BlobsPlace,
        data: &Path,
        adopts: bool,
    ) -> Result<Self, BlobsError> {
        let blobs = Self::open(place, data, adopts)?;
        blobs.check(store).await?;
        Ok(blobs)
    }

    /// The blobs in `place`; nothing is asked of a bucket yet.
    fn open(place: &BlobsPlace, data: &Path, adopts: bool) -> Result<Self, BlobsError> {
        let (kind, store, prefix) = match place {
            BlobsPlace::Folder(path) => {
                let folder = |source| BlobsError::Folder {
                    path: path.clone(),
                    source,
                };
                private_folder(path).map_err(folder)?;
                let path = fs::canonicalize(path).map_err(folder)?;
                let store = LocalFileSystem::new_with_prefix(&path)
                    .map_err(|error| failed(&place.to_string(), error))?
                    .with_fsync(true);
                let own = fs::canonicalize(own_folder(data));
                let kind = match own.is_ok_and(|own| own == path) {
                    true => Kind::Own(path),
                    false => Kind::Folder(path),
                };
                (kind, Arc::new(store) as _, "")
            }
            BlobsPlace::S3(bucket) => {
                let path = data.join("cache");
                let local = |source| BlobsError::Folder {
                    path: path.clone(),
                    source,
                };
                private_folder(&path).map_err(local)?;
                let store = s3::open(bucket)?;
                let objects = Objects::new(store.clone(), &bucket.prefix, place.to_string());
                let cache = Cache::open(path.clone(), objects).map_err(local)?;
                (Kind::Bucket(cache), store, bucket.prefix.as_str())
            }
        };
        let objects = Objects::new(store, prefix, place.to_string());
        Ok(Self::with(kind, objects, adopts))
    }

    /// Those of a control plane that is told of no other place.
    pub(crate) fn own(data: &Path) -> Result<Self, BlobsError> {
        Self::open(&BlobsPlace::Folder(own_folder(data)), data, false)
    }

    /// None at all, for a control plane that no node fetches from.
    pub(crate) fn none() -> Self {
        let objects = Objects::new(Arc::new(InMemory::new()), "", "nowhere".to_owned());
        Self::with(Kind::Nowhere, objects, false)
    }

    fn with(kind: Kind, objects: Objects, adopts: bool) -> Self {
        let inner = Inner {
            kind,
            objects,
            adopts,
            identity: OnceCell::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Checks at start that this is the place of the cluster whose state is in `store`, and can be written.
    ///
    /// Where the cluster has a place that does not answer now, or whose disk is full, what runs must not suffer from
    /// it: deploys are refused until it is as it should be.
    async fn check(&self, store: &Store) -> Result<(), BlobsError> {
        let Err(error) = self.established(store).await else {
            return Ok(());
        };
        let passes = matches!(
            error,
            BlobsError::Unavailable { .. }
                | BlobsError::Full { .. }
                | BlobsError::Read(_)
                | BlobsError::Write(_)
        );
        let is_known = async || {
            matches!(self.inner.kind, Kind::Own(_))
                || gilliam_store::records::load::<Identity>(store, gilliam_store::keys::BLOBS)
                    .await
                    .is_ok_and(|noted| noted.is_some())
        };
        match passes && is_known().await {
            true => {
                tracing::error!(
                    error = chain(&error),
                    "deploys are refused until images can be kept"
                );
                Ok(())
            }
            false => Err(error),
        }
    }

    /// Makes sure, before work is done for it, that an image could be kept now.
    pub(crate) async fn ready(&self, store: &Store) -> Result<(), BlobsError> {
        let known = self.established(store).await?;
        match self.inner.kind {
            Kind::Own(_) | Kind::Nowhere => Ok(()),
            Kind::Folder(_) | Kind::Bucket(_) => self.is_there(known).await,
        }
    }

    async fn established(&self, store: &Store) -> Result<&Identity, BlobsError> {
        let establish = || self.establish(store, self.inner.adopts);
        self.inner.identity.get_or_try_init(establish).await
    }

    /// Makes sure that the place is there: a folder that is not mounted looks like an empty one.
    async fn is_there(&self, known: &Identity) -> Result<(), BlobsError> {
        match self.identity().await? {
            Some(found) if found == *known => Ok(()),
            Some(_) => Err(self.unavailable("other images are there now")),
            None => Err(self.unavailable("its mark is gone: it is empty, or not mounted")),
        }
    }

    /// Where the next build is to seal its image; `tmp` is for what lasts as long as a deploy.
    pub(crate) fn sealing(&self, tmp: &Path) -> Sealing {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        match &self.inner.kind {
            Kind::Own(folder) => Sealing {
                layout: folder.clone(),
                is_temporary: false,
            },
            _ => Sealing {
                layout: tmp.join(format!("image-{}", NEXT.fetch_add(1, Relaxed))),
                is_temporary: true,
            },
        }
    }

    /// Makes what was sealed durable in the place; the blob `image` last, so that whoever finds it finds all of it.
    pub(crate) async fn keep(&self, sealing: &Sealing, image: &Digest) -> Result<(), BlobsError> {
        if !sealing.is_temporary {
            return Ok(());
        }
        let mut blobs = blobs_in(&sealing.layout)?;
        blobs.sort_by_key(|(digest, _)| digest == image);
        for (digest, path) in &blobs {
            self.inner.objects.put(digest, path).await?;
        }
        // A folder that is not mounted any more takes files as well.
        if let Some(known) = self.inner.identity.get() {
            self.is_there(known).await?;
        }
        if let Kind::Bucket(cache) = &self.inner.kind {
            for (digest, path) in &blobs {
                // Nodes ask for it next. Without it here they wait for the bucket.
                let bytes = fs::metadata(path).map(|meta| meta.len());
                if let Err(error) = bytes.and_then(|bytes| cache.adopt(digest, path, bytes)) {
                    tracing::warn!(%error, %digest, "a blob is not in the cache");
                }
            }
        }
        Ok(())
    }

    /// Whether a blob is in the place.
    pub(crate) async fn has(&self, digest: &Digest) -> Result<bool, BlobsError> {
        self.inner.objects.has(digest).await
    }

    /// A blob as a file.
    pub(crate) async fn file(&self, digest: &Digest) -> Result<BlobFile, BlobsError> {
        let missing = BlobsError::Missing { digest: *digest };
        match &self.inner.kind {
            Kind::Own(folder) | Kind::Folder(folder) => {
                let path = folder.join("blobs/sha256").join(digest.hex());
                match tokio::fs::try_exists(&path).await {
                    Ok(true) => Ok(BlobFile::Path(path)),
                    Ok(false) => Err(self.why_missing(missing).await),
                    Err(error) => Err(self.unavailable(&error.to_string())),
                }
            }
            Kind::Bucket(cache) => match cache.get(digest).await {
                Ok(held) => Ok(BlobFile::Held(held)),
                Err(error) => match &*error {
                    BlobsError::Missing { .. } => Err(self.why_missing(missing).await),
                    BlobsError::Damaged { digest } => Err(BlobsError::Damaged { digest: *digest }),
                    error => Err(self.unavailable(&chain(error))),
                },
            },
            Kind::Nowhere => Err(missing),
        }
    }

    /// A blob may be missing because all of them are.
    async fn why_missing(&self, missing: BlobsError) -> BlobsError {
        match (&self.inner.kind, self.inner.identity.get()) {
            (Kind::Folder(_) | Kind::Bucket(_), Some(known)) => {
                self.is_there(known).await.err().unwrap_or(missing)
            }
            _ => missing,
        }
    }

    fn objects(&self) -> &Objects {
        &self.inner.objects
    }

    fn place(&self) -> &str {
        &self.inner.objects.place
    }

    fn unavailable(&self, reason: &str) -> BlobsError {
        BlobsError::Unavailable {
            place: self.place().to_owned(),
            reason: reason.to_owned(),
        }
    }
}

// === impl BlobFile ===

impl BlobFile {
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            BlobFile::Path(path) => path.clone(),
            BlobFile::Held(held) => held.path(),
        }
    }
}

// === impl Sealing ===

impl Drop for Sealing {
    fn drop(&mut self) {
        if self.is_temporary
            && let Err(error) = fs::remove_dir_all(&self.layout)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.layout.display(), %error, "cannot remove what a build left");
        }
    }
}

/// Where a control plane keeps blobs that is told of no other place.
fn own_folder(data: &Path) -> PathBuf {
    data.join("images")
}

fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The blobs of a layout, with their files.
fn blobs_in(layout: &Path) -> Result<Vec<(Digest, PathBuf)>, BlobsError> {
    let folder = layout.join("blobs/sha256");
    let local = |source| BlobsError::Local {
        path: folder.clone(),
        source,
    };
    let mut blobs = Vec::new();
    for entry in fs::read_dir(&folder).map_err(local)? {
        let entry = entry.map_err(local)?;
        let name = entry.file_name();
        let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
        if let Some(digest) = digest {
            blobs.push((digest, entry.path()));
        }
    }
    Ok(blobs)
}
