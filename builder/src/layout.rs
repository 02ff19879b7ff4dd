//! The OCI image layout: blobs by digest, an index of images, on disk.
//!
//! In flow blobs, out flow files that are whole or absent: each is written beside its place, synced, renamed,
//! and its folder synced. Several builds and readers may use one layout at once.
//!
//! Invariant: what stands under a digest has that digest; a reader checks it all the same, for disks decay.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use gilliam_model::digest::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

/// Media type of an image's manifest (OCI image-spec 1.1, "Image Manifest").
pub const MEDIA_TYPE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of `index.json`.
const MEDIA_TYPE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The layout's mark and version (OCI image-spec 1.1, "oci-layout file").
const LAYOUT_MARK: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// Bytes of `index.json`: about 200 for each image, so 80,000 images.
const INDEX_BYTES_MAX: u64 = 16 << 20;

/// One image layout.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
    /// Held shared while blobs may be staged here; see [`Layout::open`].
    _staging: File,
}

/// A blob that is written and synced, but not in its place yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Staged {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    file: NamedTempFile,
}

/// What refers to a blob (OCI image-spec, "Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: String,
    /// Kept as they are: other tools may have written some.
    manifests: Vec<serde_json::Value>,
}

/// Why the layout could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The operating system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `index.json` is not an index.
    #[error("{} is not an image index", .path.display())]
    Index {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// No such blob.
    #[error("no blob {digest}")]
    Missing {
        /// The digest.
        digest: Digest,
    },
    /// A blob that is larger than the reader takes.
    #[error("blob {digest} has more than {max} bytes")]
    TooLarge {
        /// The digest.
        digest: Digest,
        /// What is taken.
        max: u64,
    },
    /// A blob that changed on disk.
    #[error("blob {digest} has changed on disk: its content is {found}")]
    Changed {
        /// The digest that it stands under.
        digest: Digest,
        /// The digest that it has.
        found: Digest,
    },
}

/// The digest of some bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// Where a blob stands in the layout at `root`.
pub fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs/sha256").join(digest.hex())
}

/// Reads a blob of at most `bytes_max` bytes from the layout at `root`, and checks its digest.
pub fn read_blob(root: &Path, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, LayoutError> {
    let path = blob_path(root, digest);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LayoutError::Missing { digest: *digest },
        _ => LayoutError::Io {
            action: "read",
            path: path.clone(),
            source,
        },
    };
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(failed)?;
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(LayoutError::TooLarge {
            digest: *digest,
            max: bytes_max,
        });
    }
    match digest_of(&bytes) {
        found if found == *digest => Ok(bytes),
        found => Err(LayoutError::Changed {
            digest: *digest,
            found,
        }),
    }
}

impl Layout {
    /// Opens the layout at `root`, and makes it when there is none.
    ///
    /// A build that was killed leaves its staged blobs behind. Whoever finds that nobody else is at work
    /// removes them.
    pub fn open(root: &Path) -> Result<Self, LayoutError> {
        let staging = root.join(".staging");
        for folder in [root.join("blobs/sha256"), staging.clone()] {
            fs::create_dir_all(&folder).map_err(|source| io_error("make", &folder, source))?;
        }
        let lock = open_lock(&root.join(".staging.lock"))?;
        match lock.try_lock() {
            Ok(()) => {
                remove_files(&staging)?;
                lock.unlock()
                    .map_err(|source| io_error("unlock", &staging, source))?;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &staging, source)),
        }
        lock.lock_shared()
            .map_err(|source| io_error("lock", &staging, source))?;
        let layout = Self {
            root: root.to_path_buf(),
            _staging: lock,
        };
        let mark = root.join("oci-layout");
        if !mark.exists() {
            layout
                .write(LAYOUT_MARK)?
                .0
                .persist(&mark)
                .map_err(|error| io_error("write", &mark, error.error))?;
            sync_folder(root)?;
        }
        Ok(layout)
    }

    /// Writes a blob beside its place.
    pub fn stage(&self, bytes: &[u8]) -> Result<Staged, LayoutError> {
        let (file, size) = self.write(bytes)?;
        Ok(Staged {
            digest: digest_of(bytes),
            size,
            file,
        })
    }

    /// Moves staged blobs to their places. A blob that is there already is kept, unless it has decayed.
    pub fn commit(&self, blobs: Vec<Staged>) -> Result<(), LayoutError> {
        for Staged { digest, size, file } in blobs {
            if read_blob(&self.root, &digest, size).is_ok() {
                continue;
            }
            let path = blob_path(&self.root, &digest);
            file.persist(&path)
                .map_err(|error| io_error("write", &path, error.error))?;
        }
        sync_folder(&self.root.join("blobs/sha256"))
    }

    /// Lists an image in `index.json`, once.
    pub fn list(&self, image: &Descriptor) -> Result<(), LayoutError> {
        // Held until the end: builds that list at the same time would lose each other's images.
        let lock = open_lock(&self.root.join(".index.lock"))?;
        let path = self.root.join("index.json");
        lock.lock().map_err(|source| io_error("lock", &path, source))?;
        let mut index = read_index(&path)?;
        let digest = image.digest.to_string();
        if index
            .manifests
            .iter()
            .any(|listed| listed["digest"] == digest.as_str())
        {
            return Ok(());
        }
        index
            .manifests
            .push(serde_json::to_value(image).expect("a descriptor is plain data"));
        let text = serde_json::to_vec(&index).expect("an index is plain data");
        self.write(&text)?
            .0
            .persist(&path)
            .map_err(|error| io_error("write", &path, error.error))?;
        sync_folder(&self.root)
    }

    fn write(&self, bytes: &[u8]) -> Result<(NamedTempFile, u64), LayoutError> {
        let folder = self.root.join(".staging");
        let write = || {
            let mut file = NamedTempFile::new_in(&folder)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        let file = write().map_err(|source| io_error("write in", &folder, source))?;
        Ok((file, bytes.len() as u64))
    }
}

fn read_index(path: &Path) -> Result<Index, LayoutError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Index {
                schema_version: 2,
                media_type: MEDIA_TYPE_INDEX.to_string(),
                manifests: Vec::new(),
            });
        }
        Err(source) => return Err(io_error("read", path, source)),
    };
    let mut text = Vec::new();
    file.take(INDEX_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|source| io_error("read", path, source))?;
    serde_json::from_slice(&text).map_err(|source| LayoutError::Index {
        path: path.to_path_buf(),
        source,
    })
}

fn open_lock(path: &Path) -> Result<File, LayoutError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options
        .open(path)
        .map_err(|source| io_error("open", path, source))
}

fn remove_files(folder: &Path) -> Result<(), LayoutError> {
    let remove = || fs::read_dir(folder)?.try_for_each(|entry| fs::remove_file(entry?.path()));
    remove().map_err(|source| io_error("clean", folder, source))
}

/// A rename is durable once its folder is.
fn sync_folder(folder: &Path) -> Result<(), LayoutError> {
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(|source| io_error("sync", folder, source))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> LayoutError {
    LayoutError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}
