//! The schema: made by the first server that comes, and looked at by all.

use tokio_postgres::Client;

use super::{engine::Engine, fault::Fault};
use crate::error::Trouble;

/// Version of the tables.
const LAYOUT: i32 = 1;
/// Servers that come at the same time make it one after another: a number of ours that no other program locks.
const LOCK: i64 = 0x6769_6c6c_6961_6d01;

/// Makes the tables, if they are not there; an error says that they are not ours.
pub(super) async fn establish(engine: &Engine, client: &mut Client) -> Result<(), Fault> {
    let transaction = client.transaction().await?;
    transaction
        .query("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    let found = transaction
        .query_one("SELECT to_regclass('gilliam_queue.layout') IS NOT NULL", &[])
        .await?;
    if !found.get::<_, bool>(0) {
        transaction
            .batch_execute("CREATE SCHEMA IF NOT EXISTS gilliam_queue; SET LOCAL search_path = gilliam_queue")
            .await?;
        transaction.batch_execute(include_str!("schema.sql")).await?;
        transaction
            .execute(
                "INSERT INTO layout (number, cluster) VALUES ($1, $2)",
                &[&LAYOUT, &engine.config.cluster],
            )
            .await?;
    }
    let row = transaction
        .query_one(
            "SELECT number, cluster, current_setting('fsync') = 'on' FROM gilliam_queue.layout",
            &[],
        )
        .await?;
    transaction.commit().await?;
    let (layout, cluster): (i32, Option<String>) = (row.get(0), row.get(1));
    if layout > LAYOUT {
        let reason = format!("their tables have layout {layout}; this gilliam knows {LAYOUT}");
        return Err(engine.trouble(Trouble::Newer, reason).into());
    }
    if engine.config.cluster.is_some() && cluster.is_some() && engine.config.cluster != cluster {
        return Err(engine
            .trouble(Trouble::Foreign, "they are those of another cluster")
            .into());
    }
    if !row.get::<_, bool>(2) {
        tracing::warn!(
            "{} has fsync = off: what is acknowledged is lost in a power cut",
            engine.config
        );
    }
    Ok(())
}
