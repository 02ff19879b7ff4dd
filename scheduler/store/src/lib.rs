//! The revisioned key space that holds what users asked for and what the planner decided.
//!
//! In: keys with the values they should have, guarded by what their writer read. Out: the values under a
//! prefix at one revision, and a wake-up when they change. [`records`] gives the keys their types.
//!
//! ```text
//! range(prefix) → (Revision, entries)          commit(checks, writes) → Revision
//! changed(prefix, after) → Revision            since(prefixes, after) → (Revision, changes) | Forgotten
//! ```
//!
//! Three key spaces implement that face: one in memory, one in a file ([`Store::open`]) whose writer is one
//! thread that commits waiting requests together, and one in etcd ([`Store::open_etcd`]), whose limits are
//! those of a commit.
//!
//! Invariant: what `commit` acknowledged is durable, and all of it or none of it happened.
//! Invariant: revisions strictly grow, over restarts too; every commit that changes a key has its own. In
//! etcd those of others lie between.
//! Invariant: what nodes observe (instance states, load) is never stored here.
//! Invariant: after a write to a file failed, nothing is written any more until the store is opened again: a
//! failed `fsync` that is repeated may report a success that never happened.

mod changes;
mod commit;
mod etcd;
pub mod faults;
mod file;
mod format;
pub mod keys;
mod memory;
mod range;
pub mod records;
mod scan;
pub mod transfer;

use std::{path::Path, sync::Arc};

pub use commit::{COMMIT_BYTES_MAX, COMMIT_OPERATIONS_MAX, Check, CommitError, Expect, KEY_BYTES_MAX, Write};
pub use etcd::{EtcdConfig, EtcdUrlError, Password};
use faults::{Fault, Faults, Operation};
pub use format::StoreError;
pub use range::{Changed, Entry, RangeError, Revision, Since};
use scan::Scan;
use transfer::Arrival;

/// A handle to a key space; clones share it.
///
/// The file, if there is one, is closed when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    space: Arc<Space>,
    faults: Option<Arc<dyn Faults>>,
}

#[derive(Debug)]
enum Space {
    Memory(memory::Memory),
    File(file::FileSpace),
    Etcd(etcd::EtcdSpace),
}

impl Store {
    /// Makes an empty store that lives as long as its handles.
    pub fn memory() -> Self {
        Self {
            space: Arc::new(Space::Memory(memory::Memory::new())),
            faults: None,
        }
    }

    /// Opens the store in the folder `data`, or makes it there.
    ///
    /// Blocks on file operations: meant for the start of a process. Errors: [`StoreError`]; in every one of
    /// them the folder is as it was before.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            space: Arc::new(Space::File(file::FileSpace::open(data)?)),
            faults: None,
        })
    }

    /// A handle to the same store whose operations go wrong as `faults` says: for tests and simulations.
    pub fn with_faults(&self, faults: Arc<dyn Faults>) -> Self {
        Self {
            space: self.space.clone(),
            faults: Some(faults),
        }
    }

    /// Opens the store in the folder `data`, which must be there.
    pub fn open_existing(data: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            space: Arc::new(Space::File(file::FileSpace::open_existing(data)?)),
            faults: None,
        })
    }

    /// The same for an import, which may have been begun before.
    pub(crate) fn open_to_fill(data: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            space: Arc::new(Space::File(file::FileSpace::open_to_fill(data)?)),
            faults: None,
        })
    }

    /// Opens the store of a cluster in etcd, or makes it there. Must be called within a tokio runtime.
    ///
    /// Errors: [`StoreError`], within the deadline of `config`; in every one of them etcd is as it was
    /// before.
    pub async fn open_etcd(config: EtcdConfig) -> Result<Self, StoreError> {
        Ok(Self {
            space: Arc::new(Space::Etcd(etcd::EtcdSpace::open(config).await?)),
            faults: None,
        })
    }

    /// Opens the store of a cluster in etcd, which must be there.
    pub async fn open_existing_etcd(config: EtcdConfig) -> Result<Self, StoreError> {
        Ok(Self {
            space: Arc::new(Space::Etcd(etcd::EtcdSpace::open_existing(config).await?)),
            faults: None,
        })
    }

    /// The same for an import, which may have been begun before.
    pub(crate) async fn open_etcd_to_fill(config: EtcdConfig, arrival: Arrival) -> Result<Self, StoreError> {
        Ok(Self {
            space: Arc::new(Space::Etcd(etcd::EtcdSpace::open_to_fill(config, arrival).await?)),
            faults: None,
        })
    }

    /// The cluster's name for machines; none of a store that has never been in etcd.
    pub(crate) fn cluster(&self) -> Option<String> {
        match &*self.space {
            Space::Memory(_) | Space::File(_) => None,
            Space::Etcd(etcd) => Some(etcd.cluster().to_string()),
        }
    }

    /// Reads everything, page by page, as of one revision.
    pub(crate) async fn scan(&self) -> Result<Scan, RangeError> {
        Scan::new(self.space.clone()).await
    }

    /// Makes all revisions from the next opening on later than `floor`.
    pub(crate) async fn raise(&self, floor: Revision) -> Result<(), CommitError> {
        match &*self.space {
            Space::Memory(_) => Ok(()),
            Space::File(file) => file.raise(floor),
            Space::Etcd(etcd) => etcd.raise(floor).await,
        }
    }

    /// Reads every entry whose key begins with `prefix`, in the order of keys, at one revision.
    pub async fn range(&self, prefix: &str) -> Result<(Revision, Vec<Entry>), RangeError> {
        let (revision, mut entries) = self.ranges(&[prefix]).await?;
        Ok((revision, entries.pop().unwrap_or_default()))
    }

    /// Reads several prefixes at one revision; one list of entries for each.
    pub async fn ranges(&self, prefixes: &[&str]) -> Result<(Revision, Vec<Vec<Entry>>), RangeError> {
        self.disturb_reading().await?;
        match &*self.space {
            Space::Memory(memory) => Ok(memory.ranges(prefixes)),
            Space::File(file) => file.ranges(prefixes).await,
            Space::Etcd(etcd) => etcd.ranges(prefixes).await,
        }
    }

    /// Reads one key.
    pub async fn get(&self, key: &str) -> Result<(Revision, Option<Entry>), RangeError> {
        self.disturb_reading().await?;
        match &*self.space {
            Space::Memory(memory) => Ok(memory.get(key)),
            Space::File(file) => file.get(key).await,
            Space::Etcd(etcd) => etcd.get(key).await,
        }
    }

    /// Does all of `writes` if every one of `checks` holds, else nothing; returns once that is durable.
    ///
    /// Without writes it answers the revision at which the checks held. A caller that drops the future does
    /// not stop a commit that has begun. Errors: [`CommitError`].
    ///
    /// # Panics
    /// When a key is not a path (`/…`), is longer than [`KEY_BYTES_MAX`], or is written twice: those are bugs
    /// of the caller that no user's input can reach.
    pub async fn commit(&self, checks: &[Check], writes: &[Write]) -> Result<Revision, CommitError> {
        commit::admit(checks, writes)?;
        let fault = self.disturb(Operation::Commit).await;
        if fault == Fault::Unavailable {
            return Err(faults::unavailable());
        }
        let heeded: Vec<Check>;
        let checks = match &self.faults {
            Some(faults) => {
                heeded = checks
                    .iter()
                    .filter(|check| faults.heeds(check))
                    .cloned()
                    .collect();
                &heeded[..]
            }
            None => checks,
        };
        let committed = match &*self.space {
            Space::Memory(memory) => memory.commit(checks, writes),
            Space::File(file) => file.commit(checks, writes).await,
            Space::Etcd(etcd) => etcd.commit(checks, writes).await,
        };
        match fault {
            Fault::Unanswered if !writes.is_empty() => Err(faults::unanswered()),
            _ => committed,
        }
    }

    /// Waits until a key under `prefix` has changed after revision `after`; returns the revision of a change.
    ///
    /// Only a wake-up: read the state again, and wait next from the revision of that reading. It may return
    /// without a change when `after` is so old that the changes since are no longer known. It waits for ever
    /// on a store that has become read-only. In etcd a change may be told some moments after it is stored.
    pub async fn changed(&self, prefix: &str, after: Revision) -> Revision {
        match &*self.space {
            Space::Memory(memory) => memory.changes().changed(prefix, after).await,
            Space::File(file) => file.changes().changed(prefix, after).await,
            Space::Etcd(etcd) => etcd.changes().changed(prefix, after).await,
        }
    }

    /// What changed under `prefixes` after revision `after`: as if all of them were read anew, for the price
    /// of what changed. Every commit that was acknowledged before the call is in it.
    ///
    /// `after` is the revision of a reading, or of an answer of this. [`Since::Forgotten`] is always a
    /// possible answer: to a revision from long ago, from before the store was opened, or from a store that
    /// was set back since.
    pub async fn since(&self, prefixes: &[&str], after: Revision) -> Result<Since, RangeError> {
        self.disturb_reading().await?;
        match &*self.space {
            Space::Memory(memory) => Ok(memory.changes().since(prefixes, after)),
            Space::File(file) => Ok(file.changes().since(prefixes, after)),
            Space::Etcd(etcd) => etcd.since(prefixes, after).await,
        }
    }

    async fn disturb(&self, operation: Operation) -> Fault {
        match &self.faults {
            Some(faults) => faults.before(operation).await,
            None => Fault::None,
        }
    }

    async fn disturb_reading(&self) -> Result<(), RangeError> {
        match self.disturb(Operation::Read).await {
            Fault::None => Ok(()),
            Fault::Unavailable | Fault::Unanswered => Err(faults::unreadable()),
        }
    }

    /// Why the store takes no more writes, if it does not: a write failed (S10); or etcd is full or gone,
    /// which may pass.
    pub fn read_only(&self) -> Option<String> {
        match &*self.space {
            Space::Memory(_) => None,
            Space::File(file) => file.read_only(),
            Space::Etcd(etcd) => etcd.read_only(),
        }
    }
}
