//! Everything a store holds, to a file and back: to move between a folder and etcd, and for backups.
//!
//! In: an open store, or a file. Out: a file, or a store that holds what the file does. One page or one
//! commit is in memory at a time.
//!
//! Invariant: a store is whole or refused: one that is being filled has [`keys::IMPORTING`] from the first
//! commit to the last, and no control plane opens it.
//! Invariant: revisions after an import are later than any that was made before it, for nodes refuse an
//! assignment that is older than theirs.

mod lines;

use std::{io, path::Path};

pub use lines::{Head, Summary};
use lines::{Reader, Writer};

use crate::{
    COMMIT_BYTES_MAX, CommitError, EtcdConfig, RangeError, Revision, Store, StoreError, Write, format, keys,
};

/// What an import adds to the revision of the export: more changes than were made between the export and the
/// loss that it makes good.
const REVISION_LEAP: u64 = 1_000_000_000;
/// Writes in one commit of an import.
const WRITES_MAX: usize = 100;

/// What an opening for an import needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The cluster that arrives, if it has a name.
    pub(crate) cluster: Option<String>,
    /// The revision from which on it is changed.
    pub(crate) floor: Revision,
}

/// A transfer that was not made.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] StoreError),
    /// The store cannot be read.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The store did not take what was written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The file is not what an export wrote.
    #[error("the file is damaged at line {line}: {reason}")]
    Damaged {
        /// The line.
        line: u64,
        /// How it shows.
        reason: String,
    },
    /// The file was written by a newer gilliam.
    #[error("the file has format {found}, which this gilliam does not know")]
    Newer {
        /// The format it has.
        found: u64,
    },
    /// The store holds something.
    #[error("the store holds {key}, and more perhaps")]
    NotEmpty {
        /// A key in it.
        key: String,
    },
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(io::Error),
    /// The file cannot be written.
    #[error("the file cannot be written: {0}")]
    Write(io::Error),
}

impl TransferError {
    /// The way out, for people.
    pub fn hint(&self) -> String {
        match self {
            TransferError::Open(error) => error.hint(),
            TransferError::Range(_) | TransferError::Commit(_) => "try again when the store is well".into(),
            TransferError::Damaged { .. } => "take another export; nothing was changed".into(),
            TransferError::Newer { .. } => "run the newer gilliam".into(),
            TransferError::NotEmpty { .. } => {
                "name an empty store, or replace all it holds with --replace, once it is exported".into()
            }
            TransferError::Read(_) | TransferError::Write(_) => {
                "check that it exists, that you may use it and that the disk is not full".into()
            }
        }
    }
}

/// Writes all of `store`, as of one revision.
pub async fn export(store: &Store, out: impl io::Write) -> Result<(Head, Summary), TransferError> {
    let mut scan = store.scan().await?;
    let head = Head::new(format::FORMAT, store.cluster(), scan.revision());
    let mut writer = Writer::new(out, &head).map_err(TransferError::Write)?;
    loop {
        let page = scan.next().await?;
        if page.is_empty() {
            break;
        }
        for entry in page {
            writer
                .entry(&entry.key, entry.value)
                .map_err(TransferError::Write)?;
        }
    }
    Ok((head, writer.end().map_err(TransferError::Write)?))
}

/// Reads a whole file and checks its digest.
pub fn verify(input: impl io::BufRead) -> Result<(Head, Summary), TransferError> {
    let (head, mut reader) = Reader::new(input)?;
    while reader.entry()?.is_some() {}
    Ok((head, reader.summary()))
}

/// Opens the store of a data folder to be filled.
pub fn open_folder(data: &Path) -> Result<Store, TransferError> {
    Ok(Store::open_to_fill(data)?)
}

/// Opens a store in etcd to be filled with what `head` announces.
pub async fn open_etcd(config: EtcdConfig, head: &Head) -> Result<Store, TransferError> {
    let arrival = Arrival {
        cluster: head.cluster.clone(),
        floor: floor(head),
    };
    Ok(Store::open_etcd_to_fill(config, arrival).await?)
}

/// Fills `store` with a file that was verified; what it holds is replaced, or is the reason of a refusal.
pub async fn import(store: &Store, input: impl io::BufRead, replace: bool) -> Result<Summary, TransferError> {
    let (head, mut reader) = Reader::new(input)?;
    if !replace {
        refuse_full(store).await?;
    }
    store.raise(floor(&head)).await?;
    let begin = Write::Put {
        key: keys::IMPORTING.into(),
        value: Vec::new(),
    };
    store.commit(&[], &[begin]).await?;
    clear(store).await?;
    let mut batch = Batch::default();
    while let Some((key, value)) = reader.entry()? {
        if key == keys::FORMAT || key == keys::IMPORTING {
            continue;
        }
        batch.add(store, Write::Put { key, value }).await?;
    }
    // The end of the file was reached, so the digest is that of what was written.
    let end = Write::Delete {
        key: keys::IMPORTING.into(),
    };
    batch.add(store, end).await?;
    store.commit(&[], &batch.writes).await?;
    Ok(reader.summary())
}

async fn refuse_full(store: &Store) -> Result<(), TransferError> {
    let mut scan = store.scan().await?;
    let page = scan.next().await?;
    match page.into_iter().find(|entry| entry.key != keys::FORMAT) {
        None => Ok(()),
        Some(entry) if entry.key == keys::IMPORTING => Err(TransferError::NotEmpty {
            key: "a part of an earlier import".into(),
        }),
        Some(entry) => Err(TransferError::NotEmpty { key: entry.key }),
    }
}

/// Removes every key but the two that make it a store that is being filled.
async fn clear(store: &Store) -> Result<(), TransferError> {
    let mut scan = store.scan().await?;
    loop {
        let page = scan.next().await?;
        if page.is_empty() {
            return Ok(());
        }
        let keep = [keys::FORMAT, keys::IMPORTING];
        let gone: Vec<Write> = page
            .into_iter()
            .filter(|entry| !keep.contains(&entry.key.as_str()))
            .map(|entry| Write::Delete { key: entry.key })
            .collect();
        for writes in gone.chunks(WRITES_MAX) {
            store.commit(&[], writes).await?;
        }
    }
}

/// Writes that go into one commit.
#[derive(Debug, Default)]
struct Batch {
    writes: Vec<Write>,
    bytes: usize,
}

impl Batch {
    /// Adds a write, after those before it are stored if it does not fit beside them.
    async fn add(&mut self, store: &Store, write: Write) -> Result<(), CommitError> {
        let is_full = self.writes.len() == WRITES_MAX || self.bytes + write.bytes() > COMMIT_BYTES_MAX;
        if is_full && !self.writes.is_empty() {
            store.commit(&[], &self.writes).await?;
            *self = Self::default();
        }
        self.bytes += write.bytes();
        self.writes.push(write);
        Ok(())
    }
}

/// The revision from which on what `head` announces is changed.
fn floor(head: &Head) -> Revision {
    Revision(head.revision.0.saturating_add(REVISION_LEAP))
}
