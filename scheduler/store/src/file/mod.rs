//! The key space in a file, by redb: B-trees, copied on write, committed in two phases.
//!
//! One thread writes ([`writer`]); it takes the requests that wait, does them in one transaction and answers
//! each once that is durable, so that the cost of `fsync` is shared. Readings run beside it, on threads for
//! blocking work, and see whole commits only.

mod open;
mod table;
mod tables;
mod writer;

#[cfg(test)]
mod crash;

use std::{path::Path, sync::Arc, thread::JoinHandle};

use gilliam_model::code::Code;
use tokio::{
    sync::{mpsc, oneshot},
    task,
};

use crate::{
    Check, CommitError, Entry, RangeError, Revision, StoreError, Write, changes::Changes,
    file::tables::Tables, keys,
};

pub(crate) use open::{FolderLock, lock_folder};
pub(crate) use tables::FileScan;

/// Commits that may wait for the writer; one more waits in its caller. Several groups, so that the writer
/// never idles.
const REQUESTS_WAITING_MAX: usize = 256;

/// Entries in a file.
#[derive(Debug)]
pub(crate) struct FileSpace {
    tables: Arc<Tables>,
    /// Always there until drop.
    requests: Option<mpsc::Sender<Request>>,
    /// Always there until drop.
    writer: Option<JoinHandle<()>>,
    /// The last field: it ends after the file is closed.
    _lock: FolderLock,
}

/// A commit on its way to the writer.
#[derive(Debug)]
struct Request {
    checks: Vec<Check>,
    writes: Vec<Write>,
    answer: oneshot::Sender<Result<Revision, CommitError>>,
}

impl FileSpace {
    /// Opens the store of the folder `data`, or makes it.
    pub(crate) fn open(data: &Path) -> Result<Self, StoreError> {
        let space = Self::open_to_fill(data)?;
        match space.tables.get(keys::IMPORTING) {
            Ok((_, None)) => Ok(space),
            Ok((_, Some(_))) => Err(StoreError::Unfinished {
                place: data.display().to_string(),
            }),
            Err(error) => Err(StoreError::Corrupt {
                path: data.into(),
                reason: error.to_string(),
            }),
        }
    }

    /// Opens the store of the folder `data` if there is one.
    pub(crate) fn open_existing(data: &Path) -> Result<Self, StoreError> {
        if open::is_there(data) {
            return Self::open(data);
        }
        Err(StoreError::Missing {
            place: data.display().to_string(),
        })
    }

    /// The same for an import, which may have been begun before.
    pub(crate) fn open_to_fill(data: &Path) -> Result<Self, StoreError> {
        let (lock, tables) = open::open(data)?;
        Self::start(lock, tables).map_err(|source| StoreError::Io {
            path: data.into(),
            source,
        })
    }

    fn start(lock: FolderLock, tables: Tables) -> std::io::Result<Self> {
        let tables = Arc::new(tables);
        let (requests, incoming) = mpsc::channel(REQUESTS_WAITING_MAX);
        let own = Arc::clone(&tables);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer::run(&own, incoming))?;
        Ok(Self {
            tables,
            requests: Some(requests),
            writer: Some(writer),
            _lock: lock,
        })
    }

    pub(crate) async fn ranges(&self, prefixes: &[&str]) -> Result<(Revision, Vec<Vec<Entry>>), RangeError> {
        let prefixes: Vec<String> = prefixes.iter().map(|prefix| (*prefix).to_string()).collect();
        self.read(move |tables| tables.ranges(&prefixes)).await
    }

    pub(crate) async fn get(&self, key: &str) -> Result<(Revision, Option<Entry>), RangeError> {
        let key = key.to_string();
        self.read(move |tables| tables.get(&key)).await
    }

    pub(crate) async fn commit(&self, checks: &[Check], writes: &[Write]) -> Result<Revision, CommitError> {
        let ended = || CommitError::Unavailable {
            code: Code::S10,
            reason: self.read_only().unwrap_or_else(|| "its writer ended".into()),
        };
        let (answer, answered) = oneshot::channel();
        let request = Request {
            checks: checks.to_vec(),
            writes: writes.to_vec(),
            answer,
        };
        let requests = self.requests.as_ref().ok_or_else(ended)?;
        requests.send(request).await.map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| {
            Err(CommitError::OutcomeUnknown {
                reason: "the writer ended".into(),
            })
        })
    }

    /// Reads everything, as of now.
    pub(crate) fn scan(&self) -> Result<(Revision, FileScan), RangeError> {
        self.tables.scan()
    }

    /// Makes the revisions that follow later than `floor`; before anything else is committed.
    pub(crate) fn raise(&self, floor: Revision) -> Result<(), CommitError> {
        self.tables
            .raise(floor)
            .map_err(|error| CommitError::Unavailable {
                code: Code::S10,
                reason: error.to_string(),
            })
    }

    pub(crate) fn changes(&self) -> &Changes {
        self.tables.changes()
    }

    pub(crate) fn read_only(&self) -> Option<String> {
        let ended = self.requests.as_ref().is_none_or(mpsc::Sender::is_closed);
        self.tables
            .failure()
            .or_else(|| ended.then(|| "its writer ended".to_string()))
    }

    async fn read<T, F>(&self, reading: F) -> Result<T, RangeError>
    where
        T: Send + 'static,
        F: FnOnce(&Tables) -> Result<T, RangeError> + Send + 'static,
    {
        let tables = Arc::clone(&self.tables);
        match task::spawn_blocking(move || reading(&tables)).await {
            Ok(answer) => answer,
            Err(error) => Err(RangeError::Unavailable {
                reason: error.to_string(),
            }),
        }
    }
}

impl Drop for FileSpace {
    /// Closes the file: the writer finishes what was sent to it. Takes as long as one commit.
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}
