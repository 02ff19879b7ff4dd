//! Blobs: objects by name, streamed in and out, in files of their own.
//!
//! In flow names and bytes, out flow the same. An object is put whole or not at all: its bytes go to a new file, that
//! is synced, and then one commit of the index lets the name lead to it. Who reads an object meanwhile reads the old
//! one to its end.
//!
//! Invariant: acknowledged = durable: bytes and name.
//! Invariant: a name is a key and never a path (`index.rs`).
//! Invariant: what is being sent counts towards the quota before it is written.

mod error;
pub mod http;
mod index;
pub mod limits;

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use self::index::{Index, check_name};
pub use self::{error::BlobError, index::Info};

/// A blob service. Cheap to clone, and the same for all clones. Its calls must be made within a tokio runtime.
#[derive(Debug, Clone)]
pub struct Blobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    quota_bytes: AtomicU64,
    /// Bytes of objects that are there, and of those on their way.
    kept: AtomicU64,
    coming: AtomicU64,
    /// None before the first use.
    index: Mutex<Option<Index>>,
    is_closed: AtomicBool,
    at_once: Semaphore,
}

/// How much is in a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobUsage {
    /// Bytes of its objects.
    pub bytes: u64,
    /// Objects.
    pub objects: u64,
    /// What it may have.
    pub quota_bytes: u64,
}

/// An object that is open: it stays as it is whatever becomes of its name.
#[derive(Debug)]
pub struct Object {
    /// What is known of it.
    pub info: Info,
    file: Arc<File>,
    of: Blobs,
}

/// Some objects of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Names and what is known of them, in the order of the names.
    pub objects: Vec<(String, Info)>,
    /// Whether there are more after these.
    pub has_more: bool,
}

impl Blobs {
    /// A handle; the folder is made by the first use. There must be one handle for a folder, and its clones.
    pub fn new(folder: PathBuf, quota_bytes: u64) -> Self {
        Self(Arc::new(Inner {
            folder,
            quota_bytes: AtomicU64::new(quota_bytes),
            kept: AtomicU64::new(0),
            coming: AtomicU64::new(0),
            index: Mutex::new(None),
            is_closed: AtomicBool::new(false),
            at_once: Semaphore::new(limits::AT_ONCE_MAX),
        }))
    }

    /// It may have so many bytes from now on. What it has already it keeps.
    pub fn set_quota(&self, bytes: u64) {
        self.0.quota_bytes.store(bytes, Relaxed);
    }

    /// Refuses everything from now on, and closes its index.
    pub async fn close(&self) {
        self.0.is_closed.store(true, Relaxed);
        let inner = self.0.clone();
        let close = move || drop(inner.index.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = tokio::task::spawn_blocking(close).await;
    }

    /// How much is in it.
    pub async fn usage(&self) -> Result<BlobUsage, BlobError> {
        let quota_bytes = self.0.quota_bytes.load(Relaxed);
        let usage = move |index: &mut Index| {
            Ok(BlobUsage {
                bytes: index.bytes,
                objects: index.objects,
                quota_bytes,
            })
        };
        self.indexed(usage).await
    }

    /// Puts an object, whole or not at all.
    pub async fn put<B>(&self, name: &str, content_type: &str, body: B) -> Result<Info, BlobError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        check_name(name)?;
        if content_type.len() > limits::TYPE_BYTES_MAX {
            return Err(BlobError::Type);
        }
        let (number, path) = self.indexed(|index| Ok(index.new_file())).await?;
        let mut incoming = Incoming {
            of: self.0.clone(),
            path,
            bytes: 0,
            is_kept: false,
        };
        self.receive(&mut incoming, body).await?;
        let info = Info {
            file: number,
            bytes: incoming.bytes,
            content_type: content_type.to_owned(),
            put_at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |now| now.as_secs()),
        };
        let (name, record) = (name.to_owned(), info.clone());
        let keep = move |index: &mut Index| {
            let mut incoming = incoming;
            // One that takes the place of another is no object more.
            if index.objects >= limits::OBJECTS_MAX && index.get(&name)?.is_none() {
                return Err(BlobError::Objects);
            }
            index.put(&name, &record)?;
            incoming.is_kept = true;
            Ok(())
        };
        self.indexed(keep).await?;
        Ok(info)
    }

    /// Writes a body into its file and syncs that.
    async fn receive<B>(&self, incoming: &mut Incoming, mut body: B) -> Result<(), BlobError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let path = incoming.path.clone();
        let open = move || {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
        };
        let file = Arc::new(self.blocking(open).await??);
        let broken = |why: String| BlobError::Broken(why);
        loop {
            let frame = tokio::time::timeout(limits::SILENCE_MAX, body.frame()).await;
            let Some(frame) = frame.map_err(|_| broken("its sender was silent".to_owned()))? else {
                break;
            };
            let frame = frame.map_err(|error| broken(error.to_string()))?;
            let Ok(piece) = frame.into_data() else { continue };
            incoming.grow(piece.len() as u64)?;
            let file = file.clone();
            self.blocking(move || (&*file).write_all(&piece)).await??;
        }
        let folder = incoming.path.parent().map(std::path::Path::to_owned);
        let sync = move || -> std::io::Result<()> {
            file.sync_all()?;
            // Its name in the folder is on the disk only when that is.
            folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        Ok(self.blocking(sync).await??)
    }

    /// Opens an object; none when there is none of the name.
    pub async fn get(&self, name: &str) -> Result<Option<Object>, BlobError> {
        check_name(name)?;
        let (name, of) = (name.to_owned(), self.clone());
        let open = move |index: &mut Index| {
            let Some(info) = index.get(&name)? else {
                return Ok(None);
            };
            let file = Arc::new(File::open(index.path(info.file))?);
            Ok(Some(Object { info, file, of }))
        };
        self.indexed(open).await
    }

    /// Removes an object; whether it was there.
    pub async fn delete(&self, name: &str) -> Result<bool, BlobError> {
        check_name(name)?;
        let name = name.to_owned();
        self.indexed(move |index| index.delete(&name)).await
    }

    /// Objects whose names begin with `prefix`, those after `after`.
    pub async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, BlobError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let limit = limit.clamp(1, limits::LISTED_MAX);
        let list = move |index: &mut Index| {
            let (objects, has_more) = index.list(&prefix, after.as_deref(), limit)?;
            Ok(Page { objects, has_more })
        };
        self.indexed(list).await
    }

    /// Does something with the index, which is opened at first.
    async fn indexed<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Index) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let inner = self.0.clone();
        let work = move || {
            let mut index = inner.index.lock().unwrap_or_else(PoisonError::into_inner);
            if inner.is_closed.load(Relaxed) {
                return Err(BlobError::Gone);
            }
            if index.is_none() {
                *index = Some(Index::open(&inner.folder)?);
            }
            let index = index.as_mut().expect("it was opened just now");
            let done = work(index);
            inner.kept.store(index.bytes, Relaxed);
            done
        };
        self.blocking(work).await?
    }

    /// Does what waits for the disk on a thread for that: a few at once.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlobError> {
        let _place = self.0.at_once.acquire().await.map_err(|_| BlobError::Gone)?;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| BlobError::Failed(error.to_string()))
    }
}

impl Object {
    /// Bytes of it from `from` on: a piece, shorter at the end, empty beyond it.
    pub async fn read(&self, from: u64) -> Result<Bytes, BlobError> {
        let file = self.file.clone();
        let read = move || -> std::io::Result<Bytes> {
            let mut piece = vec![0; limits::PIECE_BYTES];
            let count = file.read_at(&mut piece, from)?;
            piece.truncate(count);
            Ok(piece.into())
        };
        Ok(self.of.blocking(read).await??)
    }
}

/// A file that is being written: it goes unless it is kept.
struct Incoming {
    of: Arc<Inner>,
    path: PathBuf,
    bytes: u64,
    is_kept: bool,
}

impl Incoming {
    /// Counts bytes before they are written.
    fn grow(&mut self, bytes: u64) -> Result<(), BlobError> {
        let quota = self.of.quota_bytes.load(Relaxed);
        let kept = self.of.kept.load(Relaxed);
        let coming = self.of.coming.fetch_add(bytes, Relaxed) + bytes;
        self.bytes += bytes;
        match kept.saturating_add(coming) > quota {
            true => Err(BlobError::Quota(quota)),
            false => Ok(()),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.of.coming.fetch_sub(self.bytes, Relaxed);
        // What stays is removed when the index is next opened.
        if !self.is_kept
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let path = std::mem::take(&mut self.path);
            runtime.spawn_blocking(move || std::fs::remove_file(path));
        }
    }
}
