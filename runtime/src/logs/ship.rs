//! Hands log lines to the control planes, and keeps them while one is gone.

use std::{sync::Arc, time::Duration};

use gilliam_client::ClientError;
use gilliam_model::{
    name::NodeName,
    sync::{LOG_BATCH_LINES_MAX, LogBatch},
};

use super::{Batch, Logs};
use crate::{backoff, control::Control, entropy};

/// Lines gather this long before they go out together: `logs -f` still looks immediate.
const GATHER: Duration = Duration::from_millis(50);
/// Wait after a failed call.
const RETRY: Duration = Duration::from_millis(500);

/// Ships lines to every control plane for as long as it is polled. Dropping it loses nothing that could not be
/// sent again.
pub(crate) async fn ship(logs: Arc<Logs>, control: Arc<Control>, node: NodeName) {
    let ships = (0..control.count()).map(|way| ship_to(way, &logs, &control, &node));
    futures::future::join_all(ships).await;
}

async fn ship_to(way: usize, logs: &Logs, control: &Control, node: &NodeName) {
    let mut open = logs.ways[way].open.subscribe();
    loop {
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        let batch = logs.batch(way, LOG_BATCH_LINES_MAX);
        if batch.is_empty() {
            logs.ways[way].written.notified().await;
            tokio::time::sleep(GATHER).await;
            continue;
        }
        if !send(control, node, batch).await {
            // The next to answer may be another life, which is found out by the sync: what went to it before would
            // go again.
            logs.hold(way);
            tokio::time::sleep(backoff::spread(RETRY, entropy::jitter())).await;
        }
    }
}

/// Sends a batch; tells whether the next one may go at once.
async fn send(control: &Control, node: &NodeName, mut batch: Batch) -> bool {
    let lines = std::mem::take(&mut batch.lines);
    let client = match control.client_of(batch.way) {
        Ok(client) => client,
        Err(error) => {
            tracing::debug!(%error, "log lines are kept");
            return false;
        }
    };
    match client.post_logs(node, &LogBatch { lines }).await {
        Ok(()) => batch.arrived(),
        // The lines themselves are at fault: sent again they would block all that follow.
        Err(ClientError::Api {
            status: 400 | 413 | 422,
            error,
        }) => {
            tracing::warn!(message = error.message, "the control plane refused log lines");
            batch.arrived();
        }
        Err(error) => {
            tracing::debug!(%error, "log lines are kept");
            control.failed_on(batch.way);
            return false;
        }
    }
    true
}
