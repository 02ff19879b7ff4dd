//! Connections to PostgreSQL, and transactions on them.
//!
//! In flow statements; out flow rows, and once a transaction is committed what others are to know of it. The first
//! connection makes the schema.
//!
//! Invariant: a connection whose transaction was not committed is closed, not used again.
//! Invariant: while PostgreSQL is away it is asked again after pauses that grow; who asks meanwhile is
//! refused at once.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gilliam_model::queue::QueueId;
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_postgres::{Client, Row, Statement, types::ToSql};

use super::{PostgresConfig, fault::Fault, giving::Giving, schema, tally::Tally, tls::Tls};
use crate::{QueueError, error::Trouble};

/// Connections of one server at once: PostgreSQL takes 100 unless it is told otherwise, and several servers
/// share it.
const CONNECTIONS_MAX: usize = 16;
/// Time for one operation: beyond it the server is as good as away. Leases last six times as long.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pauses between two attempts to reach a server that is away.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What each connection is told first. All statements go by the indexes that were made for them: what the planner
/// believes of tables that are empty now and full a minute later does not count.
const SETTINGS: &str = "
    SET search_path = gilliam_queue;
    SET enable_seqscan = off; SET enable_bitmapscan = off;
    SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET jit = off; SET plan_cache_mode = force_generic_plan;
    SET lock_timeout = '5s'; SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '30s';
    SET client_min_messages = warning;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// PostgreSQL, as all operations use it.
pub(super) struct Engine {
    pub(super) config: PostgresConfig,
    pub(super) giving: Giving,
    tls: Result<Tls, String>,
    schema: OnceCell<()>,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
    away: Mutex<Option<Away>>,
}

/// That the server could not be reached.
#[derive(Debug, Clone)]
struct Away {
    /// When it is tried again.
    until: Instant,
    pause: Duration,
    why: QueueError,
}

/// A connection and the statements that it knows.
pub(super) struct Connection {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    permit: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(&self.config).finish()
    }
}

impl Engine {
    pub(super) fn new(config: PostgresConfig) -> Self {
        Self {
            tls: Tls::new(&config.verify),
            config,
            giving: Giving::default(),
            schema: OnceCell::new(),
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            idle: Mutex::default(),
            away: Mutex::default(),
        }
    }

    pub(super) fn trouble(&self, trouble: Trouble, reason: impl fmt::Display) -> QueueError {
        QueueError::Engine {
            place: self.config.to_string(),
            reason: reason.to_string(),
            trouble,
        }
    }

    /// Waits for an operation, within its time.
    pub(super) async fn within<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let late = || format!("no answer within {} s", DEADLINE.as_secs());
        let done = timeout(DEADLINE, work).await;
        done.unwrap_or_else(|_| Err(Fault::Refused(self.trouble(Trouble::Unsure, late()))))
    }

    /// The same; what went wrong is said for people.
    pub(super) async fn done<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, QueueError> {
        self.within(work).await.map_err(|fault| fault.said(self))
    }

    /// A new connection, beside those of operations.
    pub(super) async fn connect(
        &self,
    ) -> Result<
        (
            Client,
            tokio_postgres::Connection<tokio_postgres::Socket, super::tls::Stream<tokio_postgres::Socket>>,
        ),
        Fault,
    > {
        let tls = self.tls.clone();
        let tls = tls.map_err(|reason| Fault::Refused(self.trouble(Trouble::Credentials, reason)))?;
        Ok(self.config.server.connect(tls).await?)
    }

    async fn open(&self) -> Result<Connection, Fault> {
        let (mut client, connection) = self.connect().await?;
        // It ends with the client, whose calls tell what went wrong.
        tokio::spawn(async move { drop(connection.await) });
        let made = self
            .schema
            .get_or_try_init(|| schema::establish(self, &mut client));
        made.await?;
        client.batch_execute(SETTINGS).await?;
        Ok(Connection {
            client,
            statements: HashMap::new(),
            permit: None,
        })
    }

    /// A connection that is free, or a new one.
    async fn connection(&self) -> Result<Connection, Fault> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| Fault::Refused(QueueError::Closed))?;
        let idle = |engine: &Self| {
            let mut idle = engine.idle.lock().unwrap_or_else(PoisonError::into_inner);
            std::iter::from_fn(|| idle.pop()).find(|connection| !connection.client.is_closed())
        };
        if let Some(connection) = idle(self) {
            return Ok(connection.with(permit));
        }
        if let Some(why) = self.known_away() {
            return Err(Fault::Refused(why));
        }
        let opened = timeout(DEADLINE, self.open()).await;
        let late = || Fault::Refused(self.trouble(Trouble::Away, "it does not answer"));
        match opened.unwrap_or_else(|_| Err(late())) {
            Ok(connection) => {
                *self.away() = None;
                Ok(connection.with(permit))
            }
            Err(fault) => {
                let why = fault.said(self);
                self.note_away(why.clone());
                Err(Fault::Refused(why))
            }
        }
    }

    fn away(&self) -> std::sync::MutexGuard<'_, Option<Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the server is not tried now.
    fn known_away(&self) -> Option<QueueError> {
        let away = self.away();
        let away = away.as_ref().filter(|away| Instant::now() < away.until);
        away.map(|away| away.why.clone())
    }

    fn note_away(&self, why: QueueError) {
        let mut away = self.away();
        let pause = away
            .as_ref()
            .map_or(PAUSE_MIN, |away| (away.pause * 2).min(PAUSE_MAX));
        if away.is_none() {
            tracing::warn!("{why}");
        }
        let until = Instant::now() + pause;
        *away = Some(Away { until, pause, why });
    }

    fn free(&self, mut connection: Connection) {
        connection.permit = None;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(connection);
    }

    /// Rows of one statement that changes nothing.
    pub(super) async fn read(&self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        let mut connection = self.connection().await?;
        let rows = connection.query(sql, params).await?;
        self.free(connection);
        Ok(rows)
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Turn<'_>, Fault> {
        let connection = self.connection().await?;
        connection.client.batch_execute("BEGIN").await?;
        Ok(Turn {
            engine: self,
            connection,
            tally: Tally::default(),
            woke: BTreeSet::new(),
        })
    }
}

impl Connection {
    fn with(self, permit: OwnedSemaphorePermit) -> Self {
        Self {
            permit: Some(permit),
            ..self
        }
    }

    async fn query(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement = match self.statements.get(sql) {
            Some(statement) => statement,
            None => {
                let statement = self.client.prepare(sql).await?;
                self.statements.entry(sql).or_insert(statement)
            }
        };
        self.client.query(statement, params).await
    }
}

/// A transaction.
pub(super) struct Turn<'e> {
    pub(super) engine: &'e Engine,
    connection: Connection,
    /// By how much it changes what is in queues.
    pub(super) tally: Tally,
    /// Queues that have jobs to take once it is committed.
    pub(super) woke: BTreeSet<QueueId>,
}

impl Turn<'_> {
    pub(super) async fn query(&mut self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        Ok(self.connection.query(sql, params).await?)
    }

    /// Commits: when it answers, all is durable, and whoever waits for jobs knows of them.
    pub(super) async fn commit(mut self) -> Result<(), Fault> {
        let tally = std::mem::take(&mut self.tally);
        tally.write(&mut self).await?;
        let Turn {
            engine,
            connection,
            woke,
            ..
        } = self;
        if let Err(error) = connection.client.batch_execute("COMMIT").await {
            return Err(match error.as_db_error() {
                Some(_) => Fault::Sql(error),
                None => Fault::Unsure(error),
            });
        }
        engine.free(connection);
        engine.giving.woke(woke);
        Ok(())
    }
}
