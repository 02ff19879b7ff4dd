//! SQL: a database of SQLite per service, one file, shared by all instances of an app on its home node.
//!
//! In flow statements, batches and transactions of guests, and the account of who pays for them; out flow answers.
//! One connection writes and a few read beside it; SQLite works on threads of its own (`threads.rs`), so that no thread
//! of guests or of the ingress waits for the disk. `guard.rs` says what a statement may do, `limits.rs` how much.
//!
//! Invariant: acknowledged = durable: an answer to a write follows the sync of the write-ahead log.
//! Invariant: a transaction that is not committed is rolled back: when it is dropped, when its time is over, when a
//! statement of it fails so that SQLite gave it up, when the node dies.
//! Invariant: what is not a guest's is never in a database: no error, no statement reaches another file.

mod connection;
mod error;
mod functions;
mod guard;
pub mod http;
mod json;
pub mod limits;
mod pool;
mod threads;
mod transaction;
mod value;

use std::{path::PathBuf, sync::Arc, time::Duration};

use self::{
    connection::{Access, Connection, Outcome, Room, Watch},
    pool::Pool,
};
pub use self::{
    error::SqlError,
    threads::SqlThreads,
    transaction::Transaction,
    value::{Answer, Params, Statement, Value},
};

/// Pays for CPU time that the host spends for a guest.
pub trait Payer: Send + Sync {
    /// Is charged so much.
    fn charge(&self, cpu: Duration);
}

/// What a database is made with.
#[derive(Debug, Clone)]
pub struct SqlOptions {
    /// The folder that its files are in; it is made when it is not there.
    pub folder: PathBuf,
    /// Bytes that it may have.
    pub quota_bytes: u64,
    /// How long a statement may take: [`limits::STATEMENT_MAX`].
    pub statement_max: Duration,
    /// How long a transaction may stay open: [`limits::TRANSACTION_MAX`].
    pub transaction_max: Duration,
}

impl SqlOptions {
    /// With the limits that all have.
    pub fn new(folder: PathBuf, quota_bytes: u64) -> Self {
        Self {
            folder,
            quota_bytes,
            statement_max: limits::STATEMENT_MAX,
            transaction_max: limits::TRANSACTION_MAX,
        }
    }
}

/// How large a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlUsage {
    /// Bytes of its pages.
    pub bytes: u64,
    /// Bytes of those that nothing is in: what can be written before it grows.
    pub free_bytes: u64,
    /// What it may have.
    pub quota_bytes: u64,
}

/// A database. Cheap to clone, and the same for all clones. Its calls must be made within a tokio runtime.
#[derive(Debug, Clone)]
pub struct Sql {
    pool: Arc<Pool>,
}

/// A guest that nobody charges: an operator at the command line.
#[derive(Debug)]
pub struct Nobody;

impl Payer for Nobody {
    fn charge(&self, _: Duration) {}
}

impl Sql {
    /// A handle; the file is opened, or made, by the first call. There must be one handle for a folder, and its clones.
    pub fn new(options: SqlOptions, threads: SqlThreads) -> Self {
        Self {
            pool: Arc::new(Pool::new(options, threads)),
        }
    }

    /// Runs one statement, by itself a transaction. One that only reads goes on beside others.
    pub async fn query(&self, payer: &Arc<dyn Payer>, statement: Statement) -> Result<Answer, SqlError> {
        let mut answers = self.all(payer, vec![statement], Kind::Query).await?;
        answers.pop().ok_or(SqlError::GivenUp)
    }

    /// Runs statements in one transaction: all of them or none.
    pub async fn batch(
        &self,
        payer: &Arc<dyn Payer>,
        batch: Vec<Statement>,
    ) -> Result<Vec<Answer>, SqlError> {
        if batch.len() > limits::BATCH_STATEMENTS_MAX {
            return Err(SqlError::TooLarge(format!(
                "the batch has {} statements; at most {}",
                batch.len(),
                limits::BATCH_STATEMENTS_MAX
            )));
        }
        self.all(payer, batch, Kind::Batch).await
    }

    /// Begins a transaction that writes: it has the database's one writer until it ends.
    pub async fn begin(&self, payer: &Arc<dyn Payer>) -> Result<Transaction, SqlError> {
        let turn = self.pool.turn(Access::Write).await?;
        Transaction::begin(self.pool.clone(), turn, payer.clone()).await
    }

    /// How large it is.
    pub async fn usage(&self) -> Result<SqlUsage, SqlError> {
        let quota_bytes = self.pool.quota_bytes();
        let turn = self.pool.turn(Access::Read).await?;
        let nobody: Arc<dyn Payer> = Arc::new(Nobody);
        let work = move |connection: &mut Connection| connection.pages();
        let watch = Watch::new(limits::STATEMENT_MAX);
        let (page, pages, free) = self.pool.work(turn, &nobody, watch, work).await?;
        Ok(SqlUsage {
            bytes: pages * page,
            free_bytes: free * page,
            quota_bytes,
        })
    }

    /// It may have so many bytes from now on. What it has already it keeps.
    pub fn set_quota(&self, bytes: u64) {
        self.pool.set_quota(bytes);
    }

    /// Closes the files if nobody has used them for a while.
    pub fn sweep(&self) {
        self.pool.close_idle();
    }

    /// Refuses everything from now on, and closes the files once nobody uses them.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn all(
        &self,
        payer: &Arc<dyn Payer>,
        statements: Vec<Statement>,
        kind: Kind,
    ) -> Result<Vec<Answer>, SqlError> {
        let statements = Arc::new(statements);
        let mut access = match statements
            .iter()
            .all(|statement| looks_like_a_read(&statement.sql))
        {
            true => Access::Read,
            false => Access::Write,
        };
        let mut retries = 0;
        loop {
            let turn = self.pool.turn(access).await?;
            let span = match kind {
                Kind::Query => self.pool.options().statement_max,
                Kind::Batch => limits::BATCH_MAX,
            };
            let batch = statements.clone();
            let work = move |connection: &mut Connection| run_all(connection, &batch, kind);
            match self.pool.work(turn, payer, Watch::new(span), work).await {
                Ok(Some(answers)) => return Ok(answers),
                Ok(None) => access = Access::Write,
                Err(error) if *error.cause() == SqlError::Memory && retries < limits::HEAP_RETRIES_MAX => {
                    retries += 1
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What statements are part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Query,
    Batch,
}

/// Runs statements, all or none; none where one writes that looked like a read.
fn run_all(
    connection: &mut Connection,
    statements: &[Statement],
    kind: Kind,
) -> Result<Option<Vec<Answer>>, SqlError> {
    let mut room = Room::default();
    if kind == Kind::Query {
        let answers = statements
            .iter()
            .map(|statement| connection.run(statement, &mut room));
        return finished(answers.collect());
    }
    connection.begin()?;
    let mut answers = Vec::with_capacity(statements.len());
    for (at, statement) in statements.iter().enumerate() {
        let outcome = match connection.run(statement, &mut room) {
            // An `OR ROLLBACK` ends the transaction without an error of the next statement.
            Ok(_) if !connection.is_in_transaction() => Err(SqlError::Ended("a statement rolled it back")),
            outcome => outcome,
        };
        match outcome {
            Ok(Outcome::Done(answer)) => answers.push(Outcome::Done(answer)),
            Ok(Outcome::Writes) => {
                connection.roll_back();
                return Ok(None);
            }
            Err(error) => {
                connection.roll_back();
                let error = Box::new(error);
                return Err(SqlError::InBatch { at, error });
            }
        }
    }
    connection.commit()?;
    finished(Ok(answers))
}

fn finished(outcomes: Result<Vec<Outcome>, SqlError>) -> Result<Option<Vec<Answer>>, SqlError> {
    let answers = outcomes?.into_iter().map(|outcome| match outcome {
        Outcome::Done(answer) => Some(answer),
        Outcome::Writes => None,
    });
    Ok(answers.collect())
}

/// Whether a statement probably only reads. What looks so and does not is found by the connection that was to read.
fn looks_like_a_read(sql: &str) -> bool {
    let word: String = sql
        .trim_start()
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .take("EXPLAIN".len() + 1)
        .collect();
    ["SELECT", "WITH", "VALUES", "EXPLAIN"]
        .iter()
        .any(|read| word.eq_ignore_ascii_case(read))
}
