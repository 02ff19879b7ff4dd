//! What the API and the control loop share: the store, and everything that is only in memory.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use gilliam_model::{
    Timestamp,
    api::Blocked,
    app::App,
    name::{AppName, NodeName},
};
use gilliam_store::{Revision, Store, records, records::Stored};
use tokio::sync::{Semaphore, watch};

use crate::{
    Config,
    attach::Attachments,
    authority::Authority,
    blobs::Blobs,
    details::Details,
    git::Git,
    logs::Logs,
    observed::{NodeView, Now, Observed},
    peers::Peers,
    publish::Publisher,
    questions::Questions,
    queues::{Held, Holders},
    refusal::Refusal,
    state::State,
};

/// Requests in progress at once that are not held open on purpose: each may hold a body of
/// [`BODY_BYTES_MAX`].
///
/// [`BODY_BYTES_MAX`]: crate::api::extract::BODY_BYTES_MAX
const REQUESTS_MAX: usize = 256;
/// Log readers that follow at once: each holds a connection and a bounded queue.
const FOLLOWERS_MAX: usize = 256;
/// Deploys at once, building or waiting for it: each holds an archive on disk.
const DEPLOYS_MAX: usize = 16;
/// Locks over which the changes of apps are spread.
const LOCKS_COUNT: usize = 64;

/// One life of the control plane.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    /// What was pushed to this server.
    pub(crate) git: Git,
    pub(crate) observed: Observed,
    /// The nodes that have jobs.
    pub(crate) holders: Holders,
    /// Queues whose jobs wait for their terms.
    pub(crate) held: Held,
    /// The runs whose standard streams users hold.
    pub(crate) attachments: Arc<Attachments>,
    /// Who waits for details of single instances.
    pub(crate) details: Details,
    /// Who waits for what nodes say of services.
    pub(crate) questions: Questions,
    pub(crate) logs: Logs,
    pub(crate) publisher: Publisher,
    /// Which nodes take requests of other nodes.
    pub(crate) peers: Peers,
    /// What the last plan could not place.
    pub(crate) planned: Mutex<Arc<Planned>>,
    /// Asks the control loop for a turn that nothing in the store or of the nodes calls for.
    pub(crate) nudges: watch::Sender<u64>,
    /// The state as the last turn read it; none before the first.
    pub(crate) known: Mutex<Option<Arc<State>>>,
    /// The revision up to which turns have followed the store.
    pub(crate) followed: AtomicU64,
    /// The cluster's CA; none for a platform of one machine.
    pub(crate) authority: Option<Arc<Authority>>,
    /// Where nodes reach this control plane.
    pub(crate) servers: Vec<String>,
    /// Names this life ([`gilliam_model::sync::SyncResponse::control`]).
    pub(crate) life: String,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) followers: Arc<Semaphore>,
    pub(crate) deploys: Arc<Semaphore>,
    pub(crate) builds: Arc<Semaphore>,
    pub(crate) blob_streams: Arc<Semaphore>,
    /// Changes of one app wait for each other here instead of meeting in a conflict.
    changes: Vec<tokio::sync::Mutex<()>>,
}

/// What the last plan reported.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    /// The revision of the store it was made from.
    pub(crate) revision: Revision,
    /// Slots without a node, by app.
    pub(crate) blocked: BTreeMap<AppName, Vec<Blocked>>,
}

impl Shared {
    pub(crate) fn new(config: Config, store: Store, life: String) -> Self {
        Self::at(config, store, life, Now::read())
    }

    /// A life that begins `now`.
    pub(crate) fn at(config: Config, store: Store, life: String, now: Now) -> Self {
        Self {
            observed: Observed::new(config.lost_after, now),
            attachments: Arc::default(),
            details: Details::default(),
            questions: Questions::default(),
            holders: Holders::default(),
            held: Held::default(),
            builds: Arc::new(Semaphore::new(config.builds_max)),
            blob_streams: Arc::new(Semaphore::new(config.blob_streams_max)),
            blobs: config.blobs.clone().unwrap_or_else(Blobs::none),
            git: Git::in_data(&config.data),
            config,
            store,
            logs: Logs::default(),
            publisher: Publisher::default(),
            peers: Peers::default(),
            planned: Mutex::default(),
            known: Mutex::default(),
            followed: AtomicU64::new(0),
            authority: None,
            servers: Vec::new(),
            nudges: watch::Sender::new(0),
            life,
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            deploys: Arc::new(Semaphore::new(DEPLOYS_MAX)),
            changes: (0..LOCKS_COUNT).map(|_| tokio::sync::Mutex::default()).collect(),
        }
    }

    /// Every node at this moment.
    pub(crate) fn nodes(&self) -> BTreeMap<NodeName, NodeView> {
        self.observed.view(Now::read())
    }

    /// The app `name`, or the refusal that it is not there.
    pub(crate) async fn app(&self, name: &AppName) -> Result<Stored<App>, Refusal> {
        records::load_app(&self.store, name)
            .await?
            .ok_or_else(|| Refusal::no_app(name.as_str()))
    }

    pub(crate) fn planned(&self) -> Arc<Planned> {
        self.planned.lock().expect("no holder panics").clone()
    }

    /// The state as the last turn read it.
    pub(crate) fn known(&self) -> Option<Arc<State>> {
        self.known.lock().expect("no holder panics").clone()
    }

    /// The revision up to which turns have followed the store.
    pub(crate) fn followed(&self) -> Revision {
        Revision(self.followed.load(Ordering::Acquire))
    }

    /// Asks the control loop for a turn.
    pub(crate) fn nudge(&self) {
        self.nudges.send_modify(|n| *n += 1);
    }

    /// Keeps other changes of `app` through this control plane waiting.
    ///
    /// It saves work only: what keeps changes apart is the check of the app's revision in each commit.
    pub(crate) async fn lock(&self, app: &AppName) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        app.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % (LOCKS_COUNT as u64)).expect("below the count");
        self.changes[index].lock().await
    }

    /// Where archives are on their way.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.config.data.join("tmp")
    }
}

/// A name for a life that begins now, told apart from every other by 64 random bits.
pub(crate) fn life(now: Timestamp) -> Result<String, getrandom::Error> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random)?;
    Ok(format!("{}-{:016x}", now.as_second(), u64::from_le_bytes(random)))
}
