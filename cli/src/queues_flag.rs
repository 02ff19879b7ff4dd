//! Where a control plane keeps jobs: a flag that `up` and `server` have alike.
//!
//! In: the flag, a variable. Out: queues that are open, or none where several servers name no place for them.
//!
//! Invariant: the URL holds a password, and no message shows it.

use std::path::Path;

use gilliam_scheduler::{PostgresConfig, PostgresUrlError, Queues, queues_on_postgres};
use gilliam_store::Store;

use crate::{
    failure::{CommandError, CommandResult},
    home::Environment,
};

/// Where jobs are kept.
#[derive(Clone, Default, clap::Args)]
#[command(next_help_heading = "Queues")]
pub(crate) struct QueuesFlags {
    /// Keeps jobs in PostgreSQL: `postgres://USER:PASSWORD@HOST[:PORT]/DATABASE[?sslmode=MODE&sslrootcert=FILE]`.
    ///
    /// Without it: in a file in the data folder, but where the state is in etcd there are no queues. All servers of a
    /// cluster name the same. GILLIAM_QUEUES is taken when the flag is not given, and is seen by fewer people.
    #[arg(id = "queues", long = "queues", value_name = "URL")]
    url: Option<String>,
}

impl std::fmt::Debug for QueuesFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = self.url.as_ref().map(|_| "…");
        f.debug_struct("QueuesFlags").field("url", &url).finish()
    }
}

impl QueuesFlags {
    /// The PostgreSQL that is named; none when jobs are in the data folder.
    pub(crate) fn postgres(&self, environment: &Environment) -> CommandResult<Option<PostgresConfig>> {
        let named = self.url.as_ref().or(environment.queues.as_ref());
        let refused = |error: PostgresUrlError| CommandError::usage(error.to_string()).hinted(error.hint());
        named.map(|url| url.parse().map_err(refused)).transpose()
    }

    /// Opens the queues of the control plane on `store` whose data folder is `data`. Of a store that several
    /// share none of them could keep the queues alone.
    pub(crate) async fn open(
        postgres: Option<PostgresConfig>,
        store: &Store,
        is_shared: bool,
        data: &Path,
    ) -> CommandResult<Option<Queues>> {
        match postgres {
            Some(config) => Ok(Some(queues_on_postgres(store, config).await?)),
            None if is_shared => Ok(None),
            None => Ok(Some(Queues::open(data)?)),
        }
    }
}
