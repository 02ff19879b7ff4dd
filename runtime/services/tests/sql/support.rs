//! A database in a folder of its own, and short ways to ask it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gilliam_services::sql::{Answer, Payer, Sql, SqlError, SqlOptions, SqlThreads, Statement, Value};

/// Counts what it is charged.
#[derive(Debug, Default)]
pub(crate) struct Purse(AtomicU64);

impl Purse {
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }
}

impl Payer for Purse {
    fn charge(&self, cpu: Duration) {
        self.0
            .fetch_add(u64::try_from(cpu.as_nanos()).expect("short"), Relaxed);
    }
}

pub(crate) struct Database {
    pub(crate) sql: Sql,
    pub(crate) purse: Arc<Purse>,
    pub(crate) payer: Arc<dyn Payer>,
    pub(crate) folder: tempfile::TempDir,
}

impl Database {
    pub(crate) fn new() -> Self {
        Self::with_quota(16 << 20)
    }

    pub(crate) fn with_quota(quota_bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let mut options = SqlOptions::new(folder.path().join("shop/db"), quota_bytes);
        options.statement_max = Duration::from_secs(2);
        options.transaction_max = Duration::from_secs(2);
        let purse = Arc::new(Purse::default());
        Self {
            sql: Sql::new(options, SqlThreads::new(4)),
            payer: purse.clone(),
            purse,
            folder,
        }
    }

    pub(crate) async fn try_query(&self, sql: &str, params: Vec<Value>) -> Result<Answer, SqlError> {
        self.sql.query(&self.payer, Statement::new(sql, params)).await
    }

    #[track_caller]
    pub(crate) fn query(&self, sql: &str) -> impl Future<Output = Answer> {
        let asked = self.try_query(sql, Vec::new());
        async move { asked.await.expect(sql) }
    }

    /// The first value of the first row.
    pub(crate) async fn one(&self, sql: &str) -> Value {
        self.query(sql).await.rows[0][0].clone()
    }

    pub(crate) async fn error(&self, sql: &str) -> SqlError {
        self.try_query(sql, Vec::new()).await.expect_err(sql)
    }
}
