//! Key-value: keys with values, in one file per service.
//!
//! In flow operations on keys, out flow their answers: of writes when they are durable, of reads as of the last
//! commit. Writes that wait while others are made durable go together with the next.
//!
//! A key may have a time after which it is gone: its own, or the service's. Each value has a version that no other
//! write of the service ever had, by which a write can be made to depend on what was read.

mod error;
mod file;
pub(crate) mod http;
mod limits;
mod read;
mod table;
mod work;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use gilliam_model::{Timestamp, service::Service};
use tokio::sync::oneshot;

pub use self::{
    error::KeyValueError,
    limits::{BATCH_BYTES_MAX, BATCH_MAX, KEY_BYTES_MAX, LIST_MAX, VALUE_BYTES_MAX},
};
use self::{
    file::{File, Reader, Writer},
    read::Read,
    work::Change,
};
use crate::{lane::Lane, services::Crew};

/// A value as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its version: of no other value of the service, at any time.
    pub version: u64,
    /// When it will be gone.
    pub expires: Option<Timestamp>,
}

/// How long a value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// As long as the service says.
    Default,
    /// Until it is overwritten or deleted.
    Ever,
    /// So many milliseconds.
    Millis(u64),
}

/// What must be so for a write to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Whatever there is.
    Always,
    /// The key is not there.
    Absent,
    /// The key is there.
    Present,
    /// The key has the value of this version.
    Version(u64),
}

/// What became of a write that depended on something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was done; the version of what is there now, 0 when that is nothing.
    Done(u64),
    /// It was not: this version is there, none when there is nothing.
    Unmet(Option<u64>),
}

/// A page of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys, in their order.
    pub keys: Vec<String>,
    /// The key after which the next page begins; none at the end.
    pub next: Option<String>,
}

/// How much is in a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Keys, with those that have expired and were not removed yet.
    pub keys: u64,
    /// Bytes as the quota counts them.
    pub bytes: u64,
}

/// What a service is configured to, as the newest binding says.
#[derive(Debug)]
pub(crate) struct Settings {
    quota_bytes_max: AtomicU64,
    /// 0 for ever.
    ttl_ms: AtomicU64,
}

/// One key-value service.
#[derive(Debug, Clone)]
pub struct KeyValue {
    reads: Lane<Reader>,
    writes: Lane<Writer>,
    settings: Arc<Settings>,
    file: Arc<File>,
}

impl Settings {
    fn quota_bytes_max(&self) -> u64 {
        self.quota_bytes_max.load(Ordering::Relaxed)
    }

    fn take(&self, service: &Service) {
        let quota = service.quota_bytes_max().unwrap_or(u64::MAX);
        self.quota_bytes_max.store(quota, Ordering::Relaxed);
        self.ttl_ms
            .store(service.ttl_ms().unwrap_or(0), Ordering::Relaxed);
    }

    /// When a value that is written now is gone, in milliseconds since 1970; 0 for never.
    fn expires(&self, ttl: Ttl, now_ms: u64) -> u64 {
        let ttl = match ttl {
            Ttl::Ever => 0,
            Ttl::Millis(ttl) => ttl.max(1),
            Ttl::Default => self.ttl_ms.load(Ordering::Relaxed),
        };
        match ttl {
            0 => 0,
            ttl => now_ms.saturating_add(ttl),
        }
    }
}

impl KeyValue {
    /// The service whose data is in a folder, which is made when something is written.
    pub(crate) fn new(folder: PathBuf, crew: &Crew) -> Self {
        let settings = Arc::new(Settings {
            quota_bytes_max: AtomicU64::new(u64::MAX),
            ttl_ms: AtomicU64::new(0),
        });
        let file = Arc::new(File::new(folder));
        Self {
            reads: Lane::new(Reader::new(file.clone()), &crew.readers),
            writes: Lane::new(Writer::new(file.clone(), settings.clone()), &crew.writers),
            settings,
            file,
        }
    }

    pub(crate) fn configure(&self, service: &Service) {
        self.settings.take(service);
    }

    /// The most bytes that it may hold.
    pub fn quota_bytes_max(&self) -> u64 {
        self.settings.quota_bytes_max()
    }

    /// The value of a key.
    pub async fn get(&self, key: &str) -> Result<Option<Value>, KeyValueError> {
        limits::check_key(key)?;
        let (answer, answered) = oneshot::channel();
        let key = key.to_string();
        self.reads.ask(key.len(), Read::Get { key, answer }).await;
        ended(answered).await
    }

    /// The values of some keys, in their order.
    pub async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Option<Value>>, KeyValueError> {
        limits::check_count(keys.len())?;
        keys.iter().try_for_each(|key| limits::check_key(key))?;
        let bytes = keys.iter().map(String::len).sum();
        let (answer, answered) = oneshot::channel();
        self.reads.ask(bytes, Read::GetMany { keys, answer }).await;
        ended(answered).await
    }

    /// Keys that begin with `prefix`, after the key `after`, at most `limit` and [`LIST_MAX`] of them.
    pub async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, KeyValueError> {
        let (answer, answered) = oneshot::channel();
        let read = Read::List {
            prefix: prefix.to_string(),
            after: after.map(str::to_string),
            limit: limit.clamp(1, LIST_MAX),
            answer,
        };
        self.reads.ask(prefix.len(), read).await;
        ended(answered).await
    }

    /// How much is in it.
    pub async fn usage(&self) -> Result<Usage, KeyValueError> {
        let (answer, answered) = oneshot::channel();
        self.reads.ask(0, Read::Usage { answer }).await;
        ended(answered).await
    }

    /// Sets a key.
    pub async fn set(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Ttl,
        when: When,
    ) -> Result<Written, KeyValueError> {
        limits::check_pair(key, &value)?;
        let key = key.to_string();
        let change = Change::Set {
            key,
            value,
            ttl,
            when,
        };
        self.change(change).await
    }

    /// Sets some keys, all of them or none.
    pub async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>, ttl: Ttl) -> Result<(), KeyValueError> {
        limits::check_count(pairs.len())?;
        pairs
            .iter()
            .try_for_each(|(key, value)| limits::check_pair(key, value))?;
        limits::check_bytes(pairs.iter().map(|(key, value)| key.len() + value.len()).sum())?;
        self.change(Change::SetMany { pairs, ttl }).await.map(drop)
    }

    /// Deletes a key; that there is none is no failure.
    pub async fn delete(&self, key: &str, when: When) -> Result<Written, KeyValueError> {
        limits::check_key(key)?;
        let key = key.to_string();
        self.change(Change::Delete { key, when }).await
    }

    /// Deletes some keys, all of them or none.
    pub async fn delete_many(&self, keys: Vec<String>) -> Result<(), KeyValueError> {
        limits::check_count(keys.len())?;
        keys.iter().try_for_each(|key| limits::check_key(key))?;
        self.change(Change::DeleteMany { keys }).await.map(drop)
    }

    /// Adds to the number that a key has as decimal text, 0 when it is not there; the number is the sum.
    ///
    /// A key that is there keeps the time at which it is gone.
    pub async fn increment(&self, key: &str, by: i64) -> Result<i64, KeyValueError> {
        limits::check_key(key)?;
        let (answer, answered) = oneshot::channel();
        let key = key.to_string();
        let bytes = key.len();
        let request = work::Request::Increment { key, by, answer };
        self.writes.ask(bytes, request).await;
        ended(answered).await
    }

    async fn change(&self, change: Change) -> Result<Written, KeyValueError> {
        let (answer, answered) = oneshot::channel();
        let bytes = change.bytes();
        let request = work::Request::Change { change, answer };
        self.writes.ask(bytes, request).await;
        ended(answered).await
    }

    /// Removes what has expired by `now`, if anything has. Does not wait.
    pub(crate) fn sweep(&self, now: Timestamp) {
        if self.file.has_expired(now) {
            self.writes.tell(work::Request::Sweep);
        }
    }

    /// Closes the file, so that its folder can be removed. What comes later opens it anew.
    pub(crate) async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        self.writes.ask(0, work::Request::Close { answer }).await;
        // An error says that the lane is gone, and with it the file.
        let _ = answered.await;
    }
}

async fn ended<T>(answered: oneshot::Receiver<Result<T, KeyValueError>>) -> Result<T, KeyValueError> {
    answered.await.unwrap_or(Err(KeyValueError::Closed))
}
