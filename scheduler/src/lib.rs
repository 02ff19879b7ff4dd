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
//! | one per deploy (`api/deploy`) | its build child | the child's output | store (image, release, app) |
//!
//! Invariant: every decision is a pure function of what was read, and every commit checks the revisions it
//! hangs on, so several control planes may run on one store.
//! Invariant: no guest, build or compilation runs in this process.

mod api;
mod archive;
mod build;
mod change;
mod control;
mod details;
mod lease;
mod logs;
mod observed;
mod peers;
mod probe;
mod publish;
mod refusal;
mod release;
mod report;
mod roster;
mod shared;
mod state;
mod stepped;
mod sweep;
mod token;

use std::{ffi::OsString, fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use gilliam_model::{
    Timestamp,
    api::NodeInfo,
    token::{Role, Token},
};
use gilliam_plan::Policy;
use gilliam_serve::{BindError, DrainOutcome, DrainSignal, Places, ServeConfig, Server};
use gilliam_store::{Check, CommitError, RangeError, Store, StoreError, keys, records};
use rustix::process::{Resource, getrlimit};

pub use crate::{
    observed::Now,
    stepped::{SteppedLoop, SteppedPlane, SteppedTurn},
};

use crate::shared::Shared;

/// Builds at once: a build uses a core and up to a gigabyte for a while, and nodes share the machine.
const BUILDS_MAX: usize = 2;
/// Silence after which a node is held lost: three missed syncs.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// What a control plane is told at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder: the store, `images` and `tmp`.
    pub data: PathBuf,
    /// Where the API listens; port 0 lets the system choose.
    pub api: SocketAddr,
    /// The build child: `--blobs DIR --archive FILE` is added.
    pub build_command: Vec<OsString>,
    /// The probe child: `--component FILE --scratch DIR` is added. Without one no release may let lanes be
    /// reused.
    pub probe_command: Vec<OsString>,
    /// Longest build.
    pub build_max: Duration,
    /// Builds at once.
    pub builds_max: usize,
    /// Silence after which a node is held lost.
    pub lost_after: Duration,
    /// Whether other control planes may run on the store: one of them plans at a time.
    pub shares_store: bool,
    /// How far nodes are promised, and whether slots move for the spread.
    pub policy: Policy,
}

/// A control plane that is bound and does not run yet.
#[derive(Debug)]
pub struct ControlPlane {
    server: Server,
    shared: Arc<Shared>,
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
    /// The system gives no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
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
    let shared = Arc::new(Shared::new(config, store, life));
    let folder = |path: PathBuf| move |source| StartError::Folder { path, source };
    let (tmp, images) = (shared.tmp(), shared.images());
    archive::empty(&tmp).map_err(folder(tmp))?;
    fs::create_dir_all(&images).map_err(folder(images))?;
    let (server, address) = gilliam_serve::bind(&ServeConfig {
        refusal: Some(refusal::unreadable),
        places: Some(Places::new(connections_max())),
        ..ServeConfig::new(shared.config.api)
    })?;
    Ok((ControlPlane { server, shared }, address))
}

/// Connections at once: half of the files that may be open, so that the store and builds find some.
fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / 2).unwrap_or(usize::MAX).max(1)
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
            build_max: build::BUILD_MAX,
            builds_max: BUILDS_MAX,
            lost_after: LOST_AFTER,
            shares_store: false,
            policy: Policy::default(),
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
        let control = tokio::spawn(control::run(self.shared, drain.clone()));
        let outcome = self.server.run_tower(api::router(api), drain).await;
        if let Err(error) = control.await {
            tracing::error!(%error, "the control loop had ended");
        }
        outcome
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
