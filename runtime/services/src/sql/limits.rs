//! Every limit of a database, each with its reason.

use std::time::Duration;

/// Bytes of the text of one statement: a generated schema fits; parsing it takes some milliseconds.
pub const SQL_BYTES_MAX: usize = 256 << 10;
/// Bytes of one string, blob or row: a photograph belongs into a blob service. It also bounds what one instruction of
/// SQLite's machine can do, during which nobody can stop it.
pub const VALUE_BYTES_MAX: usize = 2 << 20;
/// Bytes of an answer, as the host holds it: below what a guest's host memory may be beyond its limit.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Rows of an answer: more are for paging.
pub const ANSWER_ROWS_MAX: usize = 100_000;
/// Columns of a table, an index, an answer.
pub const COLUMNS_MAX: i32 = 500;
/// Depth of an expression, and of the parser's stack.
pub const EXPRESSION_DEPTH_MAX: i32 = 200;
/// Terms of a compound select: code that is made for each is bounded.
pub const COMPOUND_TERMS_MAX: i32 = 100;
/// Instructions of one prepared statement, so that a small text does not become a large program.
pub const INSTRUCTIONS_MAX: i32 = 250_000;
/// Parameters of one statement: a bulk insert of 1,000 rows of 8 columns.
pub const PARAMS_MAX: usize = 8_000;
/// Arguments of a function.
pub const FUNCTION_ARGUMENTS_MAX: i32 = 64;
/// Bytes of a pattern of LIKE and GLOB: matching costs the product of text and pattern, and cannot be stopped.
pub const PATTERN_BYTES_MAX: i32 = 256;
/// Depth of triggers that trigger others.
pub const TRIGGER_DEPTH_MAX: i32 = 16;
/// Statements of one batch.
pub const BATCH_STATEMENTS_MAX: usize = 1_000;

/// How long a statement may take: it holds a thread, and in a write everybody else.
pub const STATEMENT_MAX: Duration = Duration::from_secs(10);
/// How long a batch may take.
pub const BATCH_MAX: Duration = Duration::from_secs(20);
/// How long a transaction may stay open: meanwhile nobody else can write.
pub const TRANSACTION_MAX: Duration = Duration::from_secs(10);
/// How long a call waits for its turn before it is refused as busy.
pub const TURN_MAX: Duration = Duration::from_secs(5);
/// Calls of one database that may wait for their turn.
pub const WAITING_MAX: usize = 256;
/// Readers of one database at once, beside its one writer.
pub const READERS_MAX: usize = 3;
/// Threads for all databases of a node: SQLite computes on them, and waits for the disk.
pub const THREADS_MAX: usize = 16;
/// How long a thread without work stays.
pub const THREAD_IDLE_MAX: Duration = Duration::from_secs(10);
/// How long a database without calls keeps its connections.
pub const CONNECTIONS_IDLE_MAX: Duration = Duration::from_secs(60);

/// Instructions between two looks at the deadline: some tens of microseconds.
pub const INSTRUCTIONS_PER_LOOK: i32 = 2_000;
/// Prepared statements that a connection keeps.
pub const PREPARED_MAX: usize = 64;
/// Bytes of pages that a connection keeps.
pub const PAGE_CACHE_BYTES_MAX: usize = 4 << 20;
/// Bytes of memory that SQLite may have for all databases of a node: pages, prepared statements, and what a statement
/// sorts or keeps besides, since nothing of that goes to files.
pub const HEAP_BYTES_MAX: usize = 384 << 20;
/// A statement that found that memory used up is begun again so many times: who used it up has met the same end.
pub const HEAP_RETRIES_MAX: u32 = 3;
/// Bytes of a page of a new database.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes of the write-ahead log above which a writer first waits until it is taken into the database.
pub const LOG_BYTES_MAX: u64 = 64 << 20;
/// The smallest quota: an empty database with a table or two.
pub const QUOTA_BYTES_MIN: u64 = 64 << 10;
