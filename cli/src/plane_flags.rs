//! What a control plane is made of: flags that `up` and `server` have alike.
//!
//! In: flags, variables, a data folder. Out: a store that is open, and what the control plane on it is told at start.
//!
//! Invariant: flags are read before anything is opened, and a place of images is used only once the store says that
//! it is its own.

use std::{net::SocketAddr, os::unix::fs::DirBuilderExt as _, path::PathBuf, time::Duration};

use gilliam_scheduler::Config;
use gilliam_store::Store;

use crate::{
    args::cron_interval,
    blobs_flag::BlobsFlags,
    builds_flag::BuildsFlags,
    context::Context,
    failure::{CommandError, CommandResult},
    policy_flags::PolicyFlags,
    program,
    queues_flag::QueuesFlags,
    store_flag::StoreFlags,
};

/// Where a control plane keeps what, how it places, and how it builds.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PlaneFlags {
    #[command(flatten)]
    pub(crate) store: StoreFlags,
    #[command(flatten)]
    blobs: BlobsFlags,
    #[command(flatten)]
    queues: QueuesFlags,
    #[command(flatten)]
    policy: PolicyFlags,
    #[command(flatten)]
    builds: BuildsFlags,
    /// Least time between two due times of a cron, from 1s to 1h: an app that has one which is due more often is not
    /// released.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = cron_interval)]
    cron_interval_min: Duration,
}

impl PlaneFlags {
    /// Opens the store of a control plane whose data folder is `data` and whose API listens on `api`.
    pub(crate) async fn open(
        &self,
        context: &Context<'_>,
        data: Option<PathBuf>,
        api: SocketAddr,
    ) -> CommandResult<(Config, Store)> {
        let environment = &context.environment;
        let place = self.blobs.place(environment)?;
        let queues = self.queues.postgres(environment)?;
        let data = data_folder(data.or_else(|| environment.data.clone()))?;
        self.builds.warn(context.ui);
        let store = self.store.open(environment, &data).await?;
        let blobs = self.blobs.open(place, &store, &data).await?;
        self.policy.change().apply(&store).await?;
        let build = self.builds.command(environment, &data);
        let is_shared = self.store.etcd(environment)?.is_some();
        let queues = QueuesFlags::open(queues, &store, is_shared, &data).await?;
        let config = Config {
            blobs: Some(blobs),
            queues,
            probe_command: vec![program::path().into(), "internal".into(), "probe".into()],
            cron_interval_s_min: self.cron_interval_min.as_secs(),
            git_command: self.builds.git_command(),
            ..Config::new(data, api, build)
        };
        Ok((config, store))
    }
}

/// The data folder, made readable by its owner only: it holds configuration, which may be secret.
fn data_folder(data: Option<PathBuf>) -> CommandResult<PathBuf> {
    let data = data.ok_or_else(|| {
        CommandError::failed("there is no home folder to keep data in")
            .hinted("name a folder with --data DIR")
    })?;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data);
    made.and_then(|()| std::fs::canonicalize(&data))
        .map_err(|e| CommandError::file(format!("cannot use the data folder {}", data.display()), &e))
}
