//! Keeping the tables small: what jobs that are done leave behind is swept before it slows takes down.
//!
//! PostgreSQL's own autovacuum looks once a minute, in which a busy queue leaves a million dead rows that
//! every take has to step over. So the servers look themselves, and one of them sweeps.

use std::{sync::Arc, time::Duration};

use super::{engine::Engine, fault::Fault};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Dead rows that are worth a sweep, besides a tenth of those that live: sweeping goes through all of each index.
const DEAD_ROWS: i64 = 20_000;
/// Time for one sweep: of the most that an app may hold it takes minutes.
const SWEEP_MAX: Duration = Duration::from_secs(1_800);
/// Only one server sweeps at a time: a number of ours that no other program locks.
const LOCK: i64 = 0x6769_6c6c_6961_6d02;

/// Sweeps when it is worth it, until it is ended.
pub(super) async fn keep(engine: Arc<Engine>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(fault) = look(&engine).await {
            tracing::debug!("the tables of queues are not swept: {}", fault.said(&engine));
        }
    }
}

async fn look(engine: &Engine) -> Result<(), Fault> {
    let rows = engine
        .read(
            "SELECT n_dead_tup > $1 + n_live_tup / 10 FROM pg_stat_all_tables
             WHERE relid = to_regclass('gilliam_queue.jobs') OR relid = to_regclass('gilliam_queue.tallies')",
            &[&DEAD_ROWS],
        )
        .await?;
    if rows.iter().any(|row| row.get(0)) {
        sweep(engine).await?;
    }
    Ok(())
}

async fn sweep(engine: &Engine) -> Result<(), Fault> {
    let (client, connection) = engine.connect().await?;
    tokio::spawn(async move { drop(connection.await) });
    let locked = client
        .query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK])
        .await?;
    if !locked.get::<_, bool>(0) {
        return Ok(());
    }
    let swept = async {
        client
            .batch_execute("VACUUM (SKIP_LOCKED) gilliam_queue.jobs")
            .await?;
        client
            .batch_execute("VACUUM (SKIP_LOCKED) gilliam_queue.tallies")
            .await
    };
    match tokio::time::timeout(SWEEP_MAX, swept).await {
        Ok(swept) => Ok(swept?),
        Err(_) => Ok(()),
    }
}
