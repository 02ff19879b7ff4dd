//! The file: opened when it is first needed, read by one lane, written by another.
//!
//! Invariant: after a write that failed the file is opened anew before the next, so that what is not known to be
//! durable is never built on.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use gilliam_model::Timestamp;
use redb::{Database, Durability, ReadableTable as _, WriteTransaction};

use super::{
    KeyValueError, Settings,
    error::broken,
    read::{self, Read},
    table::{DATA, EXPIRES, LAYOUT, META, META_LAYOUT},
    work::{self, Request},
};
use crate::lane::Serve;

/// The file's name in the service's folder.
const FILE_NAME: &str = "keyvalue.redb";
/// Pages that redb keeps in memory for one service: a node may have hundreds.
const CACHE_BYTES_MAX: usize = 8 << 20;
/// Nothing expires.
const NEVER: u64 = u64::MAX;

/// The file of a service.
#[derive(Debug)]
pub(super) struct File {
    folder: PathBuf,
    open: Mutex<Option<Arc<Database>>>,
    /// When the first key expires, in milliseconds since 1970.
    next_expiry: AtomicU64,
}

impl File {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            open: Mutex::new(None),
            next_expiry: AtomicU64::new(0),
        }
    }

    /// The open file.
    pub(super) fn database(&self) -> Result<Arc<Database>, KeyValueError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*open {
            return Ok(database.clone());
        }
        let unavailable = |error: std::io::Error| KeyValueError::Unavailable(error.to_string());
        fs::create_dir_all(&self.folder).map_err(unavailable)?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES_MAX);
        let database = builder.create(self.folder.join(FILE_NAME)).map_err(broken)?;
        make(&database)?;
        let database = Arc::new(database);
        *open = Some(database.clone());
        Ok(database)
    }

    /// Closes it, once those that read are done.
    pub(super) fn close(&self) {
        drop(self.open.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(super) fn set_next_expiry(&self, at: Option<u64>) {
        self.next_expiry.store(at.unwrap_or(NEVER), Ordering::Relaxed);
    }

    /// Whether something in the file that is open may have expired.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        let is_open = || self.open.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.next_expiry.load(Ordering::Relaxed) <= millis(now) && is_open()
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

/// Makes the tables that are not there.
fn make(database: &Database) -> Result<(), KeyValueError> {
    let transaction = begin(database)?;
    let found = {
        transaction.open_table(DATA).map_err(broken)?;
        transaction.open_table(EXPIRES).map_err(broken)?;
        let mut meta = transaction.open_table(META).map_err(broken)?;
        let found = meta
            .get(META_LAYOUT)
            .map_err(broken)?
            .map(|layout| layout.value());
        if found.is_none() {
            meta.insert(META_LAYOUT, LAYOUT).map_err(broken)?;
        }
        found
    };
    match found {
        None => transaction.commit().map_err(broken),
        Some(LAYOUT) => transaction.abort().map_err(broken),
        Some(other) => Err(KeyValueError::Unavailable(format!(
            "it has format {other}; this gilliam knows {LAYOUT}"
        ))),
    }
}

pub(super) fn begin(database: &Database) -> Result<WriteTransaction, KeyValueError> {
    let mut transaction = database.begin_write().map_err(broken)?;
    transaction
        .set_durability(Durability::Immediate)
        .map_err(broken)?;
    // A file that was cut off is opened without a scan of it, and what a tenant wrote never passes for a page.
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// What reads.
#[derive(Debug)]
pub(super) struct Reader {
    file: Arc<File>,
}

impl Reader {
    pub(super) fn new(file: Arc<File>) -> Self {
        Self { file }
    }
}

impl Serve for Reader {
    type Request = Read;

    fn serve(&mut self, requests: Vec<Read>) {
        match self.file.database() {
            Ok(database) => read::answer(&database, requests, millis(Timestamp::now())),
            Err(error) => requests.into_iter().for_each(|request| request.refuse(&error)),
        }
    }
}

/// What writes.
#[derive(Debug)]
pub(super) struct Writer {
    file: Arc<File>,
    settings: Arc<Settings>,
}

impl Writer {
    pub(super) fn new(file: Arc<File>, settings: Arc<Settings>) -> Self {
        Self { file, settings }
    }
}

impl Serve for Writer {
    type Request = Request;

    fn serve(&mut self, requests: Vec<Request>) {
        let (closing, requests): (Vec<Request>, Vec<Request>) = requests
            .into_iter()
            .partition(|request| matches!(request, Request::Close { .. }));
        if !requests.is_empty() {
            let now_ms = millis(Timestamp::now());
            match self.file.database() {
                Ok(database) => match work::commit(&database, &self.settings, requests, now_ms) {
                    Ok(next_expiry) => self.file.set_next_expiry(next_expiry),
                    Err(error) => {
                        let path = self.file.folder.display();
                        tracing::error!(%path, "a write to a key-value service failed: {error}");
                        self.file.close();
                    }
                },
                Err(error) => requests.into_iter().for_each(|request| request.refuse(&error)),
            }
        }
        if !closing.is_empty() {
            self.file.close();
            self.file.set_next_expiry(None);
        }
        for request in closing {
            request.closed();
        }
    }
}
