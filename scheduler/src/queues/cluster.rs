//! Whose queues those in a PostgreSQL are: a random id in the store, which the tables remember too.
//!
//! A server removes the queues of apps that its cluster does not have. On the tables of another cluster it
//! would remove all of them, so it does not touch those.
//!
//! Invariant: the id is made once and never replaced.

use gilliam_queue::{PostgresConfig, Queues};
use gilliam_store::{Check, CommitError, RangeError, Store, keys, records};
use serde::{Deserialize, Serialize};

/// The record that holds the id.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ClusterOfQueues {
    id: String,
}

/// Queues whose cluster cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum ClusterOfQueuesError {
    /// The id cannot be read.
    #[error("cannot read whose the queues are")]
    Read(#[from] RangeError),
    /// The id cannot be written.
    #[error("cannot note whose the queues are")]
    Write(#[from] CommitError),
}

/// The queues in the PostgreSQL at `config` of the cluster whose state is in `store`.
pub async fn queues_on_postgres(
    store: &Store,
    config: PostgresConfig,
) -> Result<Queues, ClusterOfQueuesError> {
    Ok(Queues::postgres(config.of_cluster(cluster(store).await?)))
}

async fn cluster(store: &Store) -> Result<String, ClusterOfQueuesError> {
    let noted = || records::load::<ClusterOfQueues>(store, keys::QUEUES);
    if let Some(noted) = noted().await? {
        return Ok(noted.value.id);
    }
    let id = format!("{:032x}", fastrand::u128(..));
    let record = records::put(keys::QUEUES.to_owned(), &ClusterOfQueues { id: id.clone() });
    match store.commit(&[Check::absent(keys::QUEUES)], &[record]).await {
        Ok(_) => Ok(id),
        Err(error) => match noted().await? {
            // Another server was faster.
            Some(noted) => Ok(noted.value.id),
            None => Err(error.into()),
        },
    }
}
