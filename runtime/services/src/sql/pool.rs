//! The connections of one database, and whose turn it is.
//!
//! In flow calls, out flow connections on a thread: one writer at a time, a few readers beside it.
//!
//! Invariant: a connection that was given out comes back before the next call has its place, even if the
//! caller is gone.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    Payer, SqlOptions,
    connection::{Access, Connection, Watch},
    error::SqlError,
    limits,
    threads::SqlThreads,
};

/// The file of a database, in its folder.
const FILE: &str = "db.sqlite";

/// A database's connections.
#[derive(Debug)]
pub(super) struct Pool {
    options: SqlOptions,
    threads: SqlThreads,
    writer: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    waiting: AtomicUsize,
    quota_bytes: AtomicU64,
    is_closed: AtomicBool,
    kept: Mutex<Kept>,
}

/// Connections that nobody uses.
#[derive(Debug, Default)]
struct Kept {
    writer: Option<Connection>,
    readers: Vec<Connection>,
    /// When one was last used.
    used: Option<Instant>,
}

/// The right to use a connection.
#[derive(Debug)]
pub(super) struct Turn {
    access: Access,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(options: SqlOptions, threads: SqlThreads) -> Self {
        let quota_bytes = AtomicU64::new(options.quota_bytes.max(limits::QUOTA_BYTES_MIN));
        Self {
            options,
            threads,
            quota_bytes,
            is_closed: AtomicBool::new(false),
            writer: Arc::new(Semaphore::new(1)),
            readers: Arc::new(Semaphore::new(limits::READERS_MAX)),
            waiting: AtomicUsize::new(0),
            kept: Mutex::default(),
        }
    }

    pub(super) fn options(&self) -> &SqlOptions {
        &self.options
    }

    pub(super) fn threads(&self) -> &SqlThreads {
        &self.threads
    }

    /// Waits for a turn, not for ever.
    pub(super) async fn turn(&self, access: Access) -> Result<Turn, SqlError> {
        let places = match access {
            Access::Read => &self.readers,
            Access::Write => &self.writer,
        };
        let permit = match places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _place = Waiting::take(&self.waiting)?;
                tokio::time::timeout(limits::TURN_MAX, places.clone().acquire_owned())
                    .await
                    .map_err(|_| SqlError::Busy("others had it all the time that a call waits for"))?
                    .map_err(|_| SqlError::GivenUp)?
            }
        };
        if self.is_closed.load(Relaxed) {
            return Err(SqlError::Gone);
        }
        Ok(Turn {
            access,
            _permit: permit,
        })
    }

    /// Does something with a connection, on a thread for that. When the caller is gone it is stopped.
    pub(super) async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        turn: Turn,
        payer: &Arc<dyn Payer>,
        watch: Watch,
        work: impl FnOnce(&mut Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let watch = Arc::new(watch);
        let _given_up = GivenUp(watch.clone());
        let (answer, answered) = oneshot::channel();
        let (pool, payer) = (self.clone(), payer.clone());
        self.threads.run(Box::new(move || {
            let result = metered(&*payer, || {
                let mut connection = pool.take(turn.access)?;
                connection.watched(watch);
                let result = work(&mut connection);
                pool.put_back(connection);
                result
            });
            drop(turn);
            // Nobody hears it when the caller is gone.
            let _ = answer.send(result);
        }));
        answered
            .await
            .unwrap_or_else(|_| Err(SqlError::Failed("its thread ended".to_owned())))
    }

    /// A connection that is kept, or a new one.
    pub(super) fn take(&self, access: Access) -> Result<Connection, SqlError> {
        let kept = {
            let mut kept = self.kept();
            match access {
                Access::Write => kept.writer.take(),
                Access::Read => kept.readers.pop(),
            }
        };
        let path = self.file();
        if let Some(connection) = kept {
            if access == Access::Write {
                connection.set_quota(self.quota_bytes())?;
                self.tend_log(&connection)?;
            }
            return Ok(connection);
        }
        if access == Access::Read && !path.exists() {
            // Made by a writer alone; it is not needed for longer.
            drop(self.open(Access::Write)?);
        }
        self.open(access)
    }

    fn open(&self, access: Access) -> Result<Connection, SqlError> {
        let folder = &self.options.folder;
        crate::folder::make(folder)
            .map_err(|error| SqlError::Failed(format!("its folder cannot be made: {error}")))?;
        Connection::open(&self.file(), access, self.quota_bytes())
    }

    pub(super) fn file(&self) -> PathBuf {
        self.options.folder.join(FILE)
    }

    /// Keeps a connection for the next one. A transaction that is still open is rolled back.
    pub(super) fn put_back(&self, connection: Connection) {
        connection.roll_back();
        if connection.is_in_transaction() {
            return;
        }
        let mut kept = self.kept();
        kept.used = Some(Instant::now());
        match connection.access() {
            Access::Write => kept.writer = Some(connection),
            Access::Read => kept.readers.push(connection),
        }
    }

    /// Closes the connections that are kept if none was used for a while.
    pub(super) fn close_idle(&self) {
        let idle = {
            let mut kept = self.kept();
            match kept.used {
                Some(at) if at.elapsed() >= limits::CONNECTIONS_IDLE_MAX => std::mem::take(&mut *kept),
                _ => return,
            }
        };
        // The last one takes the log into the database.
        self.threads.run(Box::new(move || drop(idle)));
    }

    /// Gives no more turns, waits for those that were given, and closes all connections.
    pub(super) async fn close(&self) {
        self.is_closed.store(true, Relaxed);
        let readers = u32::try_from(limits::READERS_MAX).unwrap_or(u32::MAX);
        let all = (
            self.writer.acquire().await,
            self.readers.acquire_many(readers).await,
        );
        let kept = std::mem::take(&mut *self.kept());
        let (closed, is_closed) = oneshot::channel();
        self.threads.run(Box::new(move || {
            drop(kept);
            let _ = closed.send(());
        }));
        let _ = is_closed.await;
        drop(all);
    }

    pub(super) fn quota_bytes(&self) -> u64 {
        self.quota_bytes.load(Relaxed)
    }

    pub(super) fn set_quota(&self, bytes: u64) {
        self.quota_bytes
            .store(bytes.max(limits::QUOTA_BYTES_MIN), Relaxed);
    }

    /// The log grows while readers hold on to what is in it: then whoever writes waits for them, once.
    fn tend_log(&self, connection: &Connection) -> Result<(), SqlError> {
        let log = self.options.folder.join(format!("{FILE}-wal"));
        let bytes = std::fs::metadata(log).map_or(0, |log| log.len());
        if bytes <= limits::LOG_BYTES_MAX {
            return Ok(());
        }
        connection.empty_log()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Charges somebody for what this thread does.
pub(super) fn metered<T>(payer: &dyn Payer, work: impl FnOnce() -> T) -> T {
    /// Charges also when the work panics.
    struct Meter<'a>(&'a dyn Payer, Duration);
    impl Drop for Meter<'_> {
        fn drop(&mut self) {
            self.0.charge(thread_cpu().saturating_sub(self.1));
        }
    }
    let _meter = Meter(payer, thread_cpu());
    work()
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (secs, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(secs.unwrap_or(0), nanos.unwrap_or(0))
}

/// Stops what nobody waits for any more.
pub(super) struct GivenUp(pub(super) Arc<Watch>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.given_up.store(true, Relaxed);
    }
}

/// A place among those that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, SqlError> {
        let taken = waiting.try_update(Relaxed, Relaxed, |n| (n < limits::WAITING_MAX).then_some(n + 1));
        taken
            .map(|_| Self(waiting))
            .map_err(|_| SqlError::Busy("too many calls wait for it"))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
