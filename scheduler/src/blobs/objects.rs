//! Blobs as objects of a folder or a bucket: `blobs/sha256/HEX` below the prefix, like those of an OCI layout.
//!
//! In: files and digests. Out: objects that are whole or absent, and files that are whole or an error.
//!
//! Invariant: what is written under a digest was hashed to it on its way; what is there already is replaced only when
//! its content is another.

use std::{path::Path as FilePath, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{TryStreamExt as _, stream::BoxStream};
use gilliam_model::digest::Digest;
use object_store::{ObjectStore, ObjectStoreExt as _, buffered::BufWriter, path::Path};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};

use super::error::{BlobsError, failed, failed_io};

/// Bytes of a part of an upload, held in memory; smaller blobs go as one. S3 takes parts of 5 MiB and more.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once.
const PARTS_MAX: usize = 2;
/// Bytes read from a file at once.
const CHUNK_BYTES: usize = 256 << 10;

type Chunks = BoxStream<'static, object_store::Result<Bytes>>;

/// The objects of one place.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    pub(super) store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The place, for messages.
    pub(super) place: String,
}

impl Objects {
    pub(super) fn new(store: Arc<dyn ObjectStore>, prefix: &str, place: String) -> Self {
        Self {
            store,
            prefix: Path::from(prefix),
            place,
        }
    }

    /// An object beside the blobs.
    pub(super) fn named(&self, name: &'static str) -> Path {
        self.prefix.clone().join(name)
    }

    fn blob(&self, digest: &Digest) -> Path {
        self.prefix
            .clone()
            .join("blobs")
            .join("sha256")
            .join(digest.hex())
    }

    fn failed(&self, error: object_store::Error) -> BlobsError {
        failed(&self.place, error)
    }

    /// Whether the blob is here, with the content that it should have.
    pub(super) async fn holds(&self, digest: &Digest) -> Result<bool, BlobsError> {
        let mut chunks = match self.read(digest).await {
            Ok(chunks) => chunks,
            Err(BlobsError::Missing { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut hasher = Sha256::new();
        while let Some(chunk) = chunks.try_next().await.map_err(|error| self.failed(error))? {
            hasher.update(&chunk);
        }
        let is_whole = Digest::from_sha256(hasher.finalize().into()) == *digest;
        if !is_whole {
            tracing::warn!(%digest, place = self.place, "a blob is damaged");
        }
        Ok(is_whole)
    }

    /// Whether something is here under the digest.
    pub(super) async fn has(&self, digest: &Digest) -> Result<bool, BlobsError> {
        match self.store.head(&self.blob(digest)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Writes the blob in `file`, unless it is here.
    pub(super) async fn put(&self, digest: &Digest, file: &FilePath) -> Result<(), BlobsError> {
        if self.holds(digest).await? {
            return Ok(());
        }
        let mut writer = BufWriter::with_capacity(self.store.clone(), self.blob(digest), PART_BYTES)
            .with_max_concurrency(PARTS_MAX);
        let copied = self.copy(digest, file, &mut writer).await;
        match copied {
            Ok(()) => writer
                .shutdown()
                .await
                .map_err(|error| failed_io(&self.place, error)),
            Err(error) => {
                // What was sent of it is no object; a bucket's owner may have it swept.
                let _ = writer.abort().await;
                Err(error)
            }
        }
    }

    async fn copy(&self, digest: &Digest, file: &FilePath, writer: &mut BufWriter) -> Result<(), BlobsError> {
        let local = |source| BlobsError::Local {
            path: file.to_path_buf(),
            source,
        };
        let mut source = File::open(file).await.map_err(local)?;
        let mut hasher = Sha256::new();
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
            if source.read_buf(&mut chunk).await.map_err(local)? == 0 {
                break;
            }
            hasher.update(&chunk);
            writer
                .put(chunk.freeze())
                .await
                .map_err(|error| self.failed(error))?;
        }
        match Digest::from_sha256(hasher.finalize().into()) == *digest {
            true => Ok(()),
            false => Err(BlobsError::Damaged { digest: *digest }),
        }
    }

    /// Copies the blob into a new file, and checks its content. Gives the bytes that it has.
    pub(super) async fn copy_to(&self, digest: &Digest, path: &FilePath) -> Result<u64, BlobsError> {
        let local = |source| BlobsError::Local {
            path: path.to_path_buf(),
            source,
        };
        let mut file = File::create(path).await.map_err(local)?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        let mut chunks = self.read(digest).await?;
        while let Some(chunk) = chunks.try_next().await.map_err(|error| self.failed(error))? {
            hasher.update(&chunk);
            bytes += chunk.len() as u64;
            file.write_all(&chunk).await.map_err(local)?;
        }
        file.flush().await.map_err(local)?;
        match Digest::from_sha256(hasher.finalize().into()) == *digest {
            true => Ok(bytes),
            false => Err(BlobsError::Damaged { digest: *digest }),
        }
    }

    async fn read(&self, digest: &Digest) -> Result<Chunks, BlobsError> {
        match self.store.get(&self.blob(digest)).await {
            Ok(found) => Ok(found.into_stream()),
            Err(object_store::Error::NotFound { .. }) => Err(BlobsError::Missing { digest: *digest }),
            Err(error) => Err(self.failed(error)),
        }
    }
}
