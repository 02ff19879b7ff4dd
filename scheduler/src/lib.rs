//! The control plane: takes what users ask, decides with `gilliam-plan`, keeps it in `gilliam-store`, tells
//! the nodes.
//!
//! ```text
//!   users ── HTTP ──► api ── commit ──► store ── changed ──► control ── plan, migration ──► store
//!                      │                                        │  ▲
//!                      │  reads observed, logs, planned         │  └── observed changed · tick · nudge
//!                      ▼                                        ▼
//!   nodes ── sync ──► observed (memory)                     publisher (memory) ── watch ──► sync's answer
//!   readers ── ask ──► details (memory) ── watch ──► sync's answer; the next sync's report ──► readers
//!   nodes ── logs ──► logs (memory) ── broadcast ──► followers
//! ```
//!
//! | long-lived task | wakes on | reads | writes |
//! |---|---|---|---|
//! | the server (`api`) | requests | store, observed, logs, publisher | store, observed, logs |
//! | the loop (`control`) | store, observed; tick; nudge | store, observed | store, publisher, planned |
//! | one per deploy (`api/deploy`) | its build child | the child's output | blobs, store (image, release, app) |
//!
//! Invariant: every decision is a pure function of what was read, and every commit checks the revisions it
//! hangs on, so several control planes may run on one store.
//! Invariant: no guest, build or compilation runs in this process.

mod api;
mod archive;
mod attach;
mod authority;
mod blobs;
mod build;
mod build_cache;
mod change;
mod control;
mod crons;
mod details;
mod git;
mod homes;
mod images;
mod lease;
mod logs;
mod mirror;
mod observed;
mod peers;
mod policy;
mod probe;
mod publish;
mod questions;
mod queues;
mod refusal;
mod release;
mod remarks;
mod report;
mod roster;
mod runs;
mod services;
mod shared;
mod snapshot;
mod state;
mod stepped;
mod sweep;
mod token;
mod uses;

use std::{ffi::OsString, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use gilliam_model::{
    Timestamp,
    api::{ApiError, NodeInfo},
    cron::CRON_INTERVAL_S_MIN,
    digest::Digest,
    join::MadeJoinToken,
    token::{Role, Token},
};
pub use gilliam_plan::Rebalance;
pub use gilliam_queue::{OpenError as QueuesError, PostgresConfig, PostgresUrlError, Queues};
use gilliam_serve::{BindError, DrainOutcome, DrainSignal, Places, ServeConfig, Server};
use gilliam_store::{Check, CommitError, RangeError, Store, StoreError, keys, records};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use crate::{
    authority::AuthorityError,
    blobs::{AwsVariables, Blobs, BlobsError, BlobsPlace, BlobsPlaceError, CREDENTIAL_VARIABLES, S3Place},
    observed::Now,
    policy::{PolicyChange, PolicyError},
    queues::{ClusterOfQueuesError, queues_on_postgres},
    stepped::{SteppedLoop, SteppedPlane, SteppedTurn},
};

use crate::{authority::Authority, shared::Shared};

/// Builds at once: a build uses a core and up to a gigabyte for a while, and nodes share the machine.
const BUILDS_MAX: usize = 2;
/// Blobs on their way to nodes at once: some fill any link, more only make each of them slower, and nodes time out.
const BLOB_STREAMS_MAX: usize = 32;
/// Silence after which a node is held lost: three missed syncs.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// Shortest silence after which a node may be held lost: below it a pause of its kernel, or of the server's, moves
/// what it runs.
pub const LOST_AFTER_MIN: Duration = Duration::from_secs(1);
/// Longest: beyond it nobody waits for what a dead machine ran.
pub const LOST_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Connections below which a control plane says that it takes few: a node holds one, as does each user.
const CONNECTIONS_FEW: usize = 1_024;

/// What a control plane is told at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder: the store, `images`, `git` and `tmp`.
    pub data: PathBuf,
    /// Where the API listens; port 0 lets the system choose.
    pub api: SocketAddr,
    /// The build child: `--blobs DIR --archive FILE`, and `--cache DIR --app KEY [--clean]`, are added.
    pub build_command: Vec<OsString>,
    /// The probe child: `--component FILE --scratch DIR` is added. Without one no release may let lanes be
    /// reused.
    pub probe_command: Vec<OsString>,
    /// The child that runs git: a role and what that needs are added. Without one nobody can push.
    pub git_command: Vec<OsString>,
    /// Longest build.
    pub build_max: Duration,
    /// Builds at once.
    pub builds_max: usize,
    /// Blobs on their way to nodes at once.
    pub blob_streams_max: usize,
    /// Silence after which a node is held lost.
    pub lost_after: Duration,
    /// Least seconds between two due times of a cron.
    pub cron_interval_s_min: u64,
    /// Whether other control planes may run on the store: one of them plans at a time.
    pub shares_store: bool,
    /// The blobs of images; those in `images` of the data folder when none are named.
    pub blobs: Option<Blobs>,
    /// The queues of apps; none where several control planes share no place for them.
    pub queues: Option<Queues>,
}

/// A control plane that is bound and does not run yet.
#[derive(Debug)]
pub struct ControlPlane {
    server: Server,
    keeper: Option<Keeper>,
    shared: Arc<Shared>,
}

/// What a control plane of a cluster is told beside its [`Config`].
#[derive(Debug, Clone)]
pub struct Secure {
    /// `HOST:PORT` at which nodes and users reach it.
    pub advertise: Vec<String>,
    /// How long the certificates of nodes and control planes are good for.
    pub certificate_life: Duration,
}

/// The cluster that a control plane is of.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The digest of its CA's certificate, by which clients know it.
    pub ca: Digest,
    /// Whether this is its first control plane.
    pub is_new: bool,
}

/// The certificate that a control plane shows, and what it is renewed with.
#[derive(Debug)]
struct Keeper {
    shown: Arc<authority::Shown>,
    hosts: Vec<String>,
}

/// What the process that holds a control plane may ask of it; clones share it.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// A control plane that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API's address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A folder cannot be made or emptied.
    #[error("the folder {} cannot be prepared", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Images cannot be kept.
    #[error(transparent)]
    Blobs(#[from] BlobsError),
    /// The system gives no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The cluster's CA cannot be had.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl StartError {
    /// The way out, for people.
    pub fn hint(&self) -> Option<String> {
        match self {
            StartError::Store(error) => Some(error.hint()),
            StartError::Bind(error) => error.hint().map(str::to_string),
            StartError::Folder { .. } => {
                Some("check that it is writable and that the disk is not full".to_string())
            }
            StartError::Authority(_) => Some("is the store there, and that of this cluster?".to_string()),
            StartError::Blobs(error) => error.hint().map(str::to_string),
            StartError::Random(_) => None,
        }
    }
}

/// A token that could not be issued or looked up.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The system gives no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The store did not take it.
    #[error("the token could not be stored")]
    Store(#[source] CommitError),
    /// The store could not be read.
    #[error("the tokens could not be read")]
    Read(#[source] RangeError),
}

/// Opens the store in the data folder and binds the API. Must be called within a tokio runtime.
pub fn bind(config: Config) -> Result<(ControlPlane, SocketAddr), StartError> {
    let store = Store::open(&config.data)?;
    bind_on(config, store)
}

/// The same on a store that is open already.
pub fn bind_on(config: Config, store: Store) -> Result<(ControlPlane, SocketAddr), StartError> {
    let life = shared::life(Timestamp::now()).map_err(StartError::Random)?;
    let shared = Shared::new(with_blobs(config)?, store, life);
    serve(shared, None)
}

/// Binds a control plane of a cluster: over TLS, for nodes that join with a token. The first one on a store makes the
/// cluster's CA.
pub async fn bind_secure(
    config: Config,
    store: Store,
    secure: Secure,
) -> Result<(ControlPlane, SocketAddr, Cluster), StartError> {
    let life = shared::life(Timestamp::now()).map_err(StartError::Random)?;
    let (authority, is_new) = Authority::of(&store, secure.certificate_life).await?;
    let mut hosts: Vec<String> = secure.advertise.iter().map(|at| host_of(at).to_owned()).collect();
    hosts.push("localhost".to_owned());
    hosts.push("127.0.0.1".to_owned());
    let shown = authority::Shown::new(&authority, &hosts)?;
    let cluster = Cluster {
        ca: authority.digest,
        is_new,
    };
    let mut shared = Shared::new(with_blobs(config)?, store, life);
    shared.servers = secure
        .advertise
        .iter()
        .map(|at| format!("https://{at}"))
        .collect();
    shared.authority = Some(Arc::new(authority));
    let (plane, address) = serve(shared, Some(Keeper { shown, hosts }))?;
    Ok((plane, address, cluster))
}

fn with_blobs(mut config: Config) -> Result<Config, StartError> {
    if config.blobs.is_none() {
        config.blobs = Some(Blobs::own(&config.data)?);
    }
    Ok(config)
}

/// The host of `HOST:PORT`, without the brackets of an IPv6 address.
fn host_of(at: &str) -> &str {
    let host = at.rsplit_once(':').map_or(at, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn serve(shared: Shared, keeper: Option<Keeper>) -> Result<(ControlPlane, SocketAddr), StartError> {
    let shared = Arc::new(shared);
    let tls = match (&shared.authority, &keeper) {
        (Some(authority), Some(keeper)) => Some(authority::settings(authority, keeper.shown.clone())?),
        _ => None,
    };
    let folder = |path: PathBuf| move |source| StartError::Folder { path, source };
    let tmp = shared.tmp();
    archive::empty(&tmp).map_err(folder(tmp))?;
    let repositories = shared.git.folder();
    git::repository::prepare(repositories).map_err(folder(repositories.to_path_buf()))?;
    let (server, address) = gilliam_serve::bind(&ServeConfig {
        refusal: Some(refusal::unreadable),
        tls,
        places: Some(Places::new(connections_max())),
        ..ServeConfig::new(shared.config.api)
    })?;
    let plane = ControlPlane {
        server,
        keeper,
        shared,
    };
    Ok((plane, address))
}

/// Connections at once: half of the files that may be open, so that the store and builds find some. As many may be
/// open as the system lets this process have.
fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = usize::try_from(files / 2).unwrap_or(usize::MAX).max(1);
    if connections < CONNECTIONS_FEW {
        tracing::warn!(
            files,
            connections,
            "few connections are taken, and each node needs one: raise the hard limit of open files (ulimit -Hn)"
        );
    }
    connections
}

// === impl Config ===

impl Config {
    /// The defaults, for a data folder, an address and a build command.
    pub fn new(data: PathBuf, api: SocketAddr, build_command: Vec<OsString>) -> Self {
        Self {
            data,
            api,
            build_command,
            probe_command: Vec::new(),
            git_command: Vec::new(),
            build_max: build::BUILD_MAX,
            builds_max: BUILDS_MAX,
            blob_streams_max: BLOB_STREAMS_MAX,
            lost_after: LOST_AFTER,
            cron_interval_s_min: CRON_INTERVAL_S_MIN,
            shares_store: false,
            blobs: None,
            queues: None,
        }
    }
}

// === impl ControlPlane ===

impl ControlPlane {
    /// A handle to it.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: self.shared.clone(),
        }
    }

    /// Answers requests and decides until `drain` is asked for and what is in flight is finished, or its
    /// grace passed.
    ///
    /// Requests that are held open (syncs, followed logs, deploys) end at once when the drain is asked for.
    pub async fn run(self, drain: DrainSignal) -> DrainOutcome {
        let api = api::Api {
            shared: self.shared.clone(),
            drain: drain.clone(),
        };
        let renewing = keep_certified(self.shared.clone(), self.keeper);
        tokio::spawn(api::sweep_repositories(self.shared.clone()));
        let queues = tokio::spawn(queues::keep(self.shared.clone(), drain.clone()));
        let control = tokio::spawn(control::run(self.shared, drain.clone()));
        let outcome = tokio::select! {
            outcome = self.server.run_tower(api::router(api), drain) => outcome,
            () = renewing => unreachable!("certificates are renewed for ever"),
        };
        if let Err(error) = control.await {
            tracing::error!(%error, "the control loop had ended");
        }
        if let Err(error) = queues.await {
            tracing::error!(%error, "the keeping of queues had ended");
        }
        outcome
    }
}

/// Replaces the certificate that a control plane shows, each time half of its life is over.
async fn keep_certified(shared: Arc<Shared>, keeper: Option<Keeper>) {
    let (Some(authority), Some(Keeper { shown, hosts })) = (&shared.authority, keeper) else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(authority.life / 2).await;
        if let Err(error) = shown.renew(authority, &hosts) {
            tracing::error!(%error, "the certificate of this control plane is not renewed");
        }
    }
}

// === impl Handle ===

impl Handle {
    /// Makes a token for `name`; only its hash is kept.
    pub async fn issue_token(&self, name: &str, role: Role) -> Result<String, TokenError> {
        let (text, token) = token::make(name, role, Timestamp::now()).map_err(TokenError::Random)?;
        let checks = [Check::absent(keys::token(&token.id))];
        let writes = [records::put_token(&token)];
        self.shared
            .store
            .commit(&checks, &writes)
            .await
            .map_err(TokenError::Store)?;
        Ok(text)
    }

    /// Makes a token with which one node may join within `ttl`.
    pub async fn invite(&self, author: &str, ttl: Duration) -> Result<MadeJoinToken, ApiError> {
        let made = api::invite(&self.shared, author, ttl.as_secs()).await;
        made.map_err(refusal::Refusal::into_error)
    }

    /// The token that `text` proves to hold, if it is good.
    pub async fn verify_token(&self, text: &str) -> Result<Option<Token>, TokenError> {
        api::auth::verify(&self.shared.store, text)
            .await
            .map_err(TokenError::Read)
    }

    /// Every node that the control plane knows.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.shared
            .nodes()
            .values()
            .map(observed::NodeView::info)
            .collect()
    }
}
