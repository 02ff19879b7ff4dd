//! The key space in etcd: for platforms of many machines.
//!
//! In: the same checks and writes. Out: the same readings, of which each is linearizable, and one watch for
//! everyone who waits for changes or follows them.
//!
//! ```text
//!   ranges, get ──► read ───┐                            ┌── health: is the member well?
//!   commit ──────► commit ──┼──► members ──► one member ◄┤
//!   opening ─────► identity ┘    (next one on silence)   └── watch ──► Changes ──► changed, since
//! ```
//!
//! | task | wakes on | reads | writes |
//! |---|---|---|---|
//! | `health` | every two seconds | a member's status | whose turn it is, what is known of etcd |
//! | `watch` | events, another turn | etcd's events | `Changes` |
//!
//! Invariant: a commit whose answer is missing is of unknown outcome, and is not repeated.
//! Invariant: nothing is decided upon a reading that a lagging member may have answered (serializable).
//! Invariant: every commit writes the head of the cluster, last: what the watch has told up to there is all there
//! is, however far behind its member may be.

mod commit;
mod config;
mod health;
mod identity;
mod layout;
mod meaning;
mod members;
mod read;
mod watch;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use config::{EtcdConfig, EtcdUrlError, Password};
pub(crate) use read::EtcdScan;
use tokio::{
    task::{JoinHandle, spawn},
    time::timeout,
};

use self::{
    health::Health,
    identity::{Beginning, Identity},
    layout::Layout,
    members::{Members, Pem},
};
use crate::{
    Check, CommitError, Entry, RangeError, Revision, Since, StoreError, Write,
    changes::Changes,
    file::{FolderLock, lock_folder},
    keys,
    transfer::Arrival,
};

/// Longest wait for the watch to tell of what is committed: it lags by milliseconds, or by as long as it takes
/// to notice that a member is silent. Everything is read anew then.
const TOLD_MAX: Duration = Duration::from_secs(2);

/// Entries in etcd.
#[derive(Debug)]
pub(crate) struct EtcdSpace {
    members: Arc<Members>,
    layout: Layout,
    identity: Identity,
    health: Arc<Health>,
    changes: Arc<Changes>,
    /// They end with the space.
    tasks: Vec<JoinHandle<()>>,
    /// The lock of the data folder, if there is one.
    _lock: Option<FolderLock>,
}

impl EtcdSpace {
    /// Opens the store of a cluster, or makes it in an etcd that has none. Must be called within a runtime.
    pub(crate) async fn open(config: EtcdConfig) -> Result<Self, StoreError> {
        Self::open_whole(config, Some(Beginning::default())).await
    }

    /// Opens the store of a cluster that is there.
    pub(crate) async fn open_existing(config: EtcdConfig) -> Result<Self, StoreError> {
        Self::open_whole(config, None).await
    }

    async fn open_whole(config: EtcdConfig, beginning: Option<Beginning>) -> Result<Self, StoreError> {
        let place = config.to_string();
        let space = Self::begin(config, beginning).await?;
        match space.get(keys::IMPORTING).await {
            Ok((_, None)) => Ok(space),
            Ok((_, Some(_))) => Err(StoreError::Unfinished { place }),
            Err(error) => Err(StoreError::Unreachable {
                place,
                reason: error.to_string(),
            }),
        }
    }

    /// The same for an import, which may have been begun before.
    pub(crate) async fn open_to_fill(config: EtcdConfig, arrival: Arrival) -> Result<Self, StoreError> {
        let beginning = Beginning {
            cluster: arrival.cluster,
            base: arrival.floor.0,
        };
        Self::begin(config, Some(beginning)).await
    }

    async fn begin(config: EtcdConfig, beginning: Option<Beginning>) -> Result<Self, StoreError> {
        let lock = config.data.as_deref().map(lock_folder).transpose()?;
        let members = Arc::new(Members::new(&config, read_pem(&config)?));
        let layout = Layout::new(&config.cluster, 0);
        let identity = identity::establish(&config, &members, &layout, beginning.as_ref()).await?;
        let layout = layout.with_base(identity.base);
        let (revision, _) = read::get(&members, &layout, keys::FORMAT)
            .await
            .map_err(|error| StoreError::Unreachable {
                place: config.to_string(),
                reason: error.to_string(),
            })?;
        let changes = Arc::new(Changes::after(revision));
        let health = Arc::new(Health::default());
        let from = layout.etcd_revision(revision).unwrap_or(1);
        let tasks = vec![
            spawn(health::run(members.clone(), health.clone())),
            spawn(watch::run(members.clone(), layout.clone(), changes.clone(), from)),
        ];
        Ok(Self {
            members,
            layout,
            identity,
            health,
            changes,
            tasks,
            _lock: lock,
        })
    }

    pub(crate) async fn ranges(&self, prefixes: &[&str]) -> Result<(Revision, Vec<Vec<Entry>>), RangeError> {
        read::ranges(&self.members, &self.layout, prefixes).await
    }

    pub(crate) async fn get(&self, key: &str) -> Result<(Revision, Option<Entry>), RangeError> {
        read::get(&self.members, &self.layout, key).await
    }

    pub(crate) async fn commit(&self, checks: &[Check], writes: &[Write]) -> Result<Revision, CommitError> {
        let (members, layout, health) = (self.members.clone(), self.layout.clone(), self.health.clone());
        let (checks, writes) = (checks.to_vec(), writes.to_vec());
        // In a task of its own, so that a caller who goes away does not stop it half-way.
        let committing =
            spawn(async move { commit::commit(&members, &layout, &health, &checks, &writes).await });
        committing.await.unwrap_or_else(|error| {
            Err(CommitError::OutcomeUnknown {
                reason: error.to_string(),
            })
        })
    }

    /// What changed after `after`: the head says how far that goes, the watch tells of it.
    pub(crate) async fn since(&self, prefixes: &[&str], after: Revision) -> Result<Since, RangeError> {
        let (committed, now) = read::head(&self.members, &self.layout).await?;
        match committed {
            Some(committed) if after <= now && committed <= after => Ok(Since::Known {
                revision: after,
                changes: Vec::new(),
            }),
            Some(committed) if after <= now => match timeout(TOLD_MAX, self.changes.told(committed)).await {
                Ok(()) => Ok(self.changes.since(prefixes, after)),
                Err(_) => Ok(Since::Forgotten),
            },
            // The store was set back, or was last written by what writes no head.
            _ => Ok(Since::Forgotten),
        }
    }

    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The cluster's name for machines.
    pub(crate) fn cluster(&self) -> &str {
        &self.identity.cluster
    }

    /// Makes all revisions from the next opening on later than `floor`.
    pub(crate) async fn raise(&self, floor: Revision) -> Result<(), CommitError> {
        if self.identity.base >= floor.0 {
            return Ok(());
        }
        let raised = Identity {
            base: floor.0,
            ..self.identity.clone()
        };
        commit::put_identity(&self.members, &self.layout, &self.health, &raised).await
    }

    /// Reads everything, as of now.
    pub(crate) async fn scan(&self) -> Result<(Revision, EtcdScan), RangeError> {
        let (revision, scan) = read::scan(&self.members, &self.layout).await?;
        Ok((self.layout.revision(revision), scan))
    }

    /// The next entries of a scan; none when all are read.
    pub(crate) async fn next_page(&self, scan: &mut EtcdScan) -> Result<Vec<Entry>, RangeError> {
        read::next_page(&self.members, &self.layout, scan).await
    }

    pub(crate) fn read_only(&self) -> Option<String> {
        self.health.read_only()
    }
}

impl Drop for EtcdSpace {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Reads the files that the configuration names.
fn read_pem(config: &EtcdConfig) -> Result<Pem, StoreError> {
    let read = |path: &PathBuf| read_file(path);
    let identity = config.identity.as_ref();
    Ok(Pem {
        ca: config.ca.as_ref().map(read).transpose()?,
        identity: identity
            .map(|(certificate, key)| Ok::<_, StoreError>((read(certificate)?, read(key)?)))
            .transpose()?,
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|source| StoreError::Io {
        path: path.into(),
        source,
    })
}
