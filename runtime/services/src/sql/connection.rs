//! One connection to a database: opened with every limit set, and one statement run on it.
//!
//! In flow statements of apps, out flow answers. Blocks: it runs on the threads of `threads.rs` alone.
//!
//! Invariant: a statement of an app is prepared under the guard (`guard.rs`), within every limit, and stops soon after
//! its deadline or once nobody waits for it.
//! Invariant: outside of a transaction of the platform the connection is in none.

use std::{
    cell::Cell,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rusqlite::{
    Connection as Sqlite, ErrorCode, OpenFlags,
    config::DbConfig,
    hooks::{AuthContext, Authorization},
    limits::Limit,
};

use super::{
    error::SqlError,
    functions, guard, limits,
    value::{Answer, Params, Statement, Value},
};

/// Whether a connection may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// What a running statement is watched for.
#[derive(Debug)]
pub(super) struct Watch {
    /// When it is to end.
    pub(super) deadline: Instant,
    /// How long that is from its begin.
    pub(super) span: Duration,
    /// Set when nobody waits for it any more.
    pub(super) given_up: AtomicBool,
}

impl Watch {
    pub(super) fn new(span: Duration) -> Self {
        Self {
            deadline: Instant::now() + span,
            span,
            given_up: AtomicBool::new(false),
        }
    }

    pub(super) fn until(deadline: Instant, span: Duration) -> Self {
        Self {
            deadline,
            span,
            given_up: AtomicBool::new(false),
        }
    }

    fn is_over(&self) -> bool {
        self.given_up.load(Relaxed) || Instant::now() >= self.deadline
    }
}

/// What the hooks of SQLite, which outlive every statement, share with whoever runs one.
#[derive(Debug, Default)]
struct Hooked {
    /// What runs now.
    watch: Mutex<Option<Arc<Watch>>>,
    /// What the guard refused.
    refused: Mutex<Option<&'static str>>,
    /// The platform prepares a statement of its own.
    is_own: AtomicBool,
}

/// A connection, in no transaction but the platform's.
#[derive(Debug)]
pub(super) struct Connection {
    sqlite: Sqlite,
    hooked: Arc<Hooked>,
    access: Access,
    quota_bytes: Cell<u64>,
}

/// What came of a statement on a connection that only reads.
#[derive(Debug)]
pub(super) enum Outcome {
    Done(Answer),
    /// It writes: nothing was done.
    Writes,
}

/// Room for what is answered at once.
#[derive(Debug)]
pub(super) struct Room {
    rows: usize,
    bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            rows: limits::ANSWER_ROWS_MAX,
            bytes: limits::ANSWER_BYTES_MAX,
        }
    }
}

impl Room {
    fn take(&mut self, rows: usize, bytes: usize) -> Result<(), SqlError> {
        match (self.rows.checked_sub(rows), self.bytes.checked_sub(bytes)) {
            (Some(rows), Some(bytes)) => {
                *self = Self { rows, bytes };
                Ok(())
            }
            _ => Err(SqlError::TooLarge(format!(
                "the answer has more than {} rows or {} MiB",
                limits::ANSWER_ROWS_MAX,
                limits::ANSWER_BYTES_MAX >> 20
            ))),
        }
    }
}

impl Connection {
    /// Opens the file. One that writes makes it where there is none; one that reads needs it.
    pub(super) fn open(path: &Path, access: Access, quota_bytes: u64) -> Result<Self, SqlError> {
        let write = match access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        let flags = write | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let sqlite = Sqlite::open_with_flags(path, flags).map_err(failed)?;
        let mut this = Self {
            sqlite,
            hooked: Arc::default(),
            access,
            quota_bytes: Cell::new(0),
        };
        this.set_up().map_err(failed)?;
        this.set_quota(quota_bytes)?;
        Ok(this)
    }

    fn set_up(&mut self) -> rusqlite::Result<()> {
        let sqlite = &self.sqlite;
        sqlite.busy_timeout(limits::TURN_MAX)?;
        for (config, on) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
        ] {
            sqlite.set_db_config(config, on)?;
        }
        let heap = limits::HEAP_BYTES_MAX;
        let cache_kib = limits::PAGE_CACHE_BYTES_MAX / 1024;
        // Of the whole process, and the same each time. From the soft limit on pages make room for others.
        sqlite.execute_batch(&format!(
            "PRAGMA hard_heap_limit = {heap}; PRAGMA soft_heap_limit = {}; PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -{cache_kib}; PRAGMA mmap_size = 0; PRAGMA threads = 0; PRAGMA cell_size_check = ON",
            heap / 2
        ))?;
        if self.access == Access::Write {
            let (page, log) = (limits::PAGE_BYTES, limits::LOG_BYTES_MAX);
            // The file of a database is written first by this: pages and encoding are for ever.
            sqlite.execute_batch(&format!(
                "PRAGMA page_size = {page}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 PRAGMA journal_size_limit = {log}; PRAGMA recursive_triggers = ON"
            ))?;
        }
        functions::register(sqlite)?;
        sqlite.set_prepared_statement_cache_capacity(limits::PREPARED_MAX);
        self.set_limits()?;
        self.set_hooks()
    }

    /// The database has at most so many bytes from now on, or as many as it has when those are more.
    pub(super) fn set_quota(&self, quota_bytes: u64) -> Result<(), SqlError> {
        if self.access == Access::Read || self.quota_bytes.get() == quota_bytes {
            return Ok(());
        }
        let (page_bytes, ..) = self.pages()?;
        let pages = (quota_bytes / page_bytes.max(1)).max(1);
        self.own(&format!("PRAGMA max_page_count = {pages}"))?;
        self.quota_bytes.set(quota_bytes);
        Ok(())
    }

    fn set_limits(&self) -> rusqlite::Result<()> {
        let int = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        for (limit, value) in [
            (Limit::SQLITE_LIMIT_LENGTH, int(limits::VALUE_BYTES_MAX)),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, int(limits::SQL_BYTES_MAX)),
            (Limit::SQLITE_LIMIT_COLUMN, limits::COLUMNS_MAX),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, limits::EXPRESSION_DEPTH_MAX),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, limits::COMPOUND_TERMS_MAX),
            (Limit::SQLITE_LIMIT_VDBE_OP, limits::INSTRUCTIONS_MAX),
            (Limit::SQLITE_LIMIT_FUNCTION_ARG, limits::FUNCTION_ARGUMENTS_MAX),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, limits::PATTERN_BYTES_MAX),
            (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, int(limits::PARAMS_MAX)),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, limits::TRIGGER_DEPTH_MAX),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            self.sqlite.set_limit(limit, value)?;
        }
        Ok(())
    }

    fn set_hooks(&mut self) -> rusqlite::Result<()> {
        let hooked = self.hooked.clone();
        self.sqlite.authorizer(Some(move |context: AuthContext<'_>| {
            if hooked.is_own.load(Relaxed) {
                return Authorization::Allow;
            }
            match guard::check(&context) {
                Ok(()) => Authorization::Allow,
                Err(what) => {
                    *lock(&hooked.refused) = Some(what);
                    Authorization::Deny
                }
            }
        }))?;
        let hooked = self.hooked.clone();
        self.sqlite.progress_handler(
            limits::INSTRUCTIONS_PER_LOOK,
            Some(move || lock(&hooked.watch).as_ref().is_some_and(|watch| watch.is_over())),
        )
    }

    /// Runs a statement of the platform.
    fn own(&self, sql: &str) -> Result<(), SqlError> {
        self.hooked.is_own.store(true, Relaxed);
        let result = self.sqlite.execute_batch(sql);
        self.hooked.is_own.store(false, Relaxed);
        result.map_err(|error| self.error(&error))
    }

    /// Begins a transaction, which has the database to itself if the connection writes.
    pub(super) fn begin(&self) -> Result<(), SqlError> {
        self.own(match self.access {
            Access::Read => "BEGIN",
            Access::Write => "BEGIN IMMEDIATE",
        })
    }

    /// Ends a transaction: what it did is on the disk.
    pub(super) fn commit(&self) -> Result<(), SqlError> {
        self.own("COMMIT").inspect_err(|_| self.roll_back())
    }

    /// Ends a transaction, if there is one: nothing of it was done.
    pub(super) fn roll_back(&self) {
        // Not within the deadline, which may be why.
        *lock(&self.hooked.watch) = None;
        if !self.sqlite.is_autocommit()
            && let Err(error) = self.own("ROLLBACK")
        {
            tracing::error!(%error, "a transaction was not rolled back");
        }
    }

    pub(super) fn access(&self) -> Access {
        self.access
    }

    /// Whether a transaction is open.
    pub(super) fn is_in_transaction(&self) -> bool {
        !self.sqlite.is_autocommit()
    }

    /// What runs from now on is stopped when `watch` says so.
    pub(super) fn watched(&self, watch: Arc<Watch>) {
        *lock(&self.hooked.watch) = Some(watch);
    }

    /// Runs one statement. Its answer takes of the room that there is for answers.
    pub(super) fn run(&self, statement: &Statement, room: &mut Room) -> Result<Outcome, SqlError> {
        check_text(&statement.sql)?;
        lock(&self.hooked.refused).take();
        let changes_before = self.sqlite.total_changes();
        let mut prepared = self.prepare(&statement.sql)?;
        let is_read = prepared.readonly();
        if self.access == Access::Read && !is_read {
            return Ok(Outcome::Writes);
        }
        // Nothing but spaces and comments.
        if prepared.expanded_sql().is_none() {
            return Err(SqlError::Statement("no statement".to_owned()));
        }
        bind(&mut prepared, &statement.params)?;
        let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
        let width = columns.len();
        let mut answer = Answer {
            columns,
            ..Answer::default()
        };
        let mut rows = prepared.raw_query();
        while let Some(row) = rows.next().map_err(|error| self.error(&error))? {
            // A statement that answers nothing has a single step.
            if width == 0 {
                continue;
            }
            let mut values = Vec::with_capacity(width);
            for n in 0..width {
                let value = Value::of(row.get_ref(n).map_err(|error| self.error(&error))?);
                room.take(0, value.bytes())?;
                values.push(value);
            }
            room.take(1, size_of::<Vec<Value>>())?;
            answer.rows.push(values);
        }
        drop(rows);
        if self.sqlite.total_changes() != changes_before {
            answer.changes = self.sqlite.changes();
            answer.last_insert_id = Some(self.sqlite.last_insert_rowid());
        }
        Ok(Outcome::Done(answer))
    }

    fn prepare(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>, SqlError> {
        self.sqlite.prepare_cached(sql).map_err(|error| match error {
            rusqlite::Error::MultipleStatement => SqlError::Forbidden("more than one statement at once"),
            error => self.error(&error),
        })
    }

    /// Bytes of a page, the number of pages, and that of those that nothing is in.
    pub(super) fn pages(&self) -> Result<(u64, u64, u64), SqlError> {
        let ask = |pragma: &str| -> rusqlite::Result<u64> {
            let number: i64 = self.sqlite.query_row(pragma, [], |row| row.get(0))?;
            Ok(number.unsigned_abs())
        };
        let asked = || -> rusqlite::Result<(u64, u64, u64)> {
            Ok((
                ask("PRAGMA page_size")?,
                ask("PRAGMA page_count")?,
                ask("PRAGMA freelist_count")?,
            ))
        };
        asked().map_err(|error| self.error(&error))
    }

    /// Takes what is in the write-ahead log into the database and empties the log.
    pub(super) fn empty_log(&self) -> Result<(), SqlError> {
        self.own("PRAGMA wal_checkpoint(TRUNCATE)")
    }

    /// What SQLite's word means here.
    fn error(&self, error: &rusqlite::Error) -> SqlError {
        if let Some(what) = lock(&self.hooked.refused).take() {
            return SqlError::Forbidden(what);
        }
        let text = message(error);
        let watch = lock(&self.hooked.watch).clone();
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => match watch {
                Some(watch) if !watch.given_up.load(Relaxed) => SqlError::Deadline(watch.span),
                _ => SqlError::GivenUp,
            },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqlError::Busy("it is locked"),
            Some(ErrorCode::TooBig) => SqlError::TooLarge(format!(
                "a string, blob or row has more than {} MiB, or the statement is too large",
                limits::VALUE_BYTES_MAX >> 20
            )),
            Some(ErrorCode::OutOfMemory) => SqlError::Memory,
            Some(ErrorCode::ConstraintViolation) => SqlError::Constraint(text),
            Some(ErrorCode::DiskFull) if self.is_at_quota() => SqlError::Quota(self.quota_bytes.get()),
            Some(ErrorCode::DiskFull) => SqlError::DiskFull,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => SqlError::Corrupt(text),
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::InternalMalfunction
                | ErrorCode::ApiMisuse
                | ErrorCode::ReadOnly,
            ) => SqlError::Failed(text),
            _ => SqlError::Statement(text),
        }
    }

    /// Whether the database has about as many pages as it may have. After a transaction that was rolled back it has
    /// fewer again, so the answer errs towards the quota as long as the disk has room.
    fn is_at_quota(&self) -> bool {
        let Some(path) = self.sqlite.path() else {
            return true;
        };
        rustix::fs::statvfs(path).map_or(true, |disk| disk.f_bavail * disk.f_frsize > DISK_ROOM_BYTES)
    }
}

/// With more than this free the disk was not what was full.
const DISK_ROOM_BYTES: u64 = 1 << 20;
/// Semicolons in one statement: whether another one follows is found by preparing what follows each.
const SEMICOLONS_MAX: usize = 500;

fn check_text(sql: &str) -> Result<(), SqlError> {
    if sql.len() > limits::SQL_BYTES_MAX {
        return Err(SqlError::TooLarge(format!(
            "the statement has {} bytes; at most {}",
            sql.len(),
            limits::SQL_BYTES_MAX
        )));
    }
    if sql.bytes().filter(|byte| *byte == b';').count() > SEMICOLONS_MAX {
        return Err(SqlError::TooLarge(format!(
            "the statement has more than {SEMICOLONS_MAX} semicolons; give texts as parameters"
        )));
    }
    if sql.contains('\0') {
        return Err(SqlError::Statement("the statement has a zero byte in it".into()));
    }
    Ok(())
}

fn bind(prepared: &mut rusqlite::CachedStatement<'_>, params: &Params) -> Result<(), SqlError> {
    let wanted = prepared.parameter_count();
    let wrong = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::TooBig) => SqlError::TooLarge(format!(
            "a parameter has more than {} MiB",
            limits::VALUE_BYTES_MAX >> 20
        )),
        _ => SqlError::Params(message(&error)),
    };
    match params {
        Params::Positional(values) => {
            if values.len() != wanted {
                return Err(SqlError::Params(format!(
                    "the statement has {wanted} parameters, {} were given",
                    values.len()
                )));
            }
            for (n, value) in values.iter().enumerate() {
                prepared.raw_bind_parameter(n + 1, value).map_err(wrong)?;
            }
        }
        Params::Named(values) => {
            for n in 1..=wanted {
                let name = prepared.parameter_name(n).map(str::to_owned);
                let name = name.ok_or_else(|| SqlError::Params(format!("parameter {n} has no name")))?;
                let value = values
                    .iter()
                    .find(|(given, _)| *given == name || *given == name[1..])
                    .ok_or_else(|| SqlError::Params(format!("parameter {name} was not given")))?;
                prepared.raw_bind_parameter(n, &value.1).map_err(wrong)?;
            }
            if values.len() > wanted {
                return Err(SqlError::Params(format!(
                    "the statement has {wanted} parameters, {} were given",
                    values.len()
                )));
            }
        }
    }
    Ok(())
}

/// SQLite's text, without the statement that rusqlite prints behind it.
fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        rusqlite::Error::SqlInputError { msg, offset, .. } if *offset > 0 => {
            format!("{msg} (at byte {offset})")
        }
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

/// An error before there is a connection to ask.
fn failed(error: rusqlite::Error) -> SqlError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => SqlError::Corrupt(message(&error)),
        Some(ErrorCode::DiskFull) => SqlError::DiskFull,
        Some(ErrorCode::OutOfMemory) => SqlError::Memory,
        _ => SqlError::Failed(message(&error)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
