//! Whose data an etcd holds: the record that every cluster has in it, and the note of a data folder that says
//! which cluster it belongs to.
//!
//! Invariant: nothing is written into an etcd that holds what gilliam did not write, nor into one that is
//! empty where the data folder knows of a cluster: a control plane that begins anew ends every app on its
//! nodes.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};
use serde::{Deserialize, Serialize};

use super::{
    EtcdConfig,
    layout::Layout,
    members::{Failure, Members},
};
use crate::{StoreError, Write, format};

/// The note's file in a data folder.
const NOTE_NAME: &str = "cluster.json";
/// Bytes of randomness in the name of a cluster: enough that no two are alike.
const ID_BYTES: usize = 16;

/// The record at [`Layout::identity`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The cluster's name for machines, made once.
    pub(super) cluster: String,
    /// The version of keys and records.
    pub(super) format: u64,
    /// What is added to etcd's revisions.
    pub(super) base: u64,
}

impl Identity {
    pub(super) fn record(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers serialise")
    }
}

/// The note of a data folder.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    cluster: String,
}

/// How a cluster begins in an etcd that has none.
#[derive(Debug, Clone, Default)]
pub(super) struct Beginning {
    /// Its identity; a new one without it.
    pub(super) cluster: Option<String>,
    /// What is added to etcd's revisions.
    pub(super) base: u64,
}

/// Finds the cluster's record, or makes one in an etcd that holds nothing of the cluster if it may begin, and
/// notes it in the data folder.
pub(super) async fn establish(
    config: &EtcdConfig,
    members: &Members,
    layout: &Layout,
    beginning: Option<&Beginning>,
) -> Result<Identity, StoreError> {
    let note = config.data.as_deref().map(read_note).transpose()?.flatten();
    let identity = match find(config, members, layout).await? {
        Some(identity) => identity,
        None if note.is_some() => {
            return Err(other_cluster(config, "no data of this cluster".into(), note));
        }
        None => match beginning {
            Some(beginning) => make(config, members, layout, beginning).await?,
            None => {
                return Err(StoreError::Missing {
                    place: config.to_string(),
                });
            }
        },
    };
    if identity.format > format::FORMAT {
        return Err(StoreError::NewerFormatInEtcd {
            place: config.to_string(),
            found: identity.format,
            known: format::FORMAT,
        });
    }
    match (&config.data, note) {
        (Some(_), note @ Some(_)) if note.as_ref() != Some(&identity.cluster) => Err(other_cluster(
            config,
            format!("cluster {}", identity.cluster),
            note,
        )),
        (Some(data), None) => {
            write_note(data, &identity.cluster)?;
            Ok(identity)
        }
        _ => Ok(identity),
    }
}

fn other_cluster(config: &EtcdConfig, found: String, note: Option<String>) -> StoreError {
    StoreError::OtherCluster {
        place: config.to_string(),
        found,
        expected: note.unwrap_or_default(),
        path: config.data.as_deref().map(note_path).unwrap_or_default(),
    }
}

/// Reads the record; none when there is neither a record nor a key of the cluster.
async fn find(
    config: &EtcdConfig,
    members: &Members,
    layout: &Layout,
) -> Result<Option<Identity>, StoreError> {
    let (first, end) = layout.range("");
    let keys = GetOptions::new().with_range(end).with_limit(1).with_keys_only();
    let txn = Txn::new().and_then([TxnOp::get(layout.identity(), None), TxnOp::get(first, Some(keys))]);
    let answer = members
        .ask(|mut client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        })
        .await
        .map_err(|failure| refused(config, failure))?;
    let found: Vec<_> = answer
        .op_responses()
        .into_iter()
        .filter_map(|answer| match answer {
            etcd_client::TxnOpResponse::Get(mut answer) => Some(answer.take_kvs().pop()),
            _ => None,
        })
        .collect();
    let foreign = |reason: String| StoreError::Foreign {
        place: config.to_string(),
        reason,
    };
    match found.as_slice() {
        [Some(record), Some(_)] => serde_json::from_slice(record.value())
            .map(Some)
            .map_err(|error| foreign(format!("{}: {error}", layout.identity()))),
        [None, None] => Ok(None),
        [None, Some(key)] => Err(foreign(format!(
            "it has the key {} and no record at {}",
            String::from_utf8_lossy(key.key()),
            layout.identity()
        ))),
        _ => Err(foreign(format!(
            "it has a record at {} and no keys",
            layout.identity()
        ))),
    }
}

/// Makes the record and the format; when another control plane was faster, finds its.
async fn make(
    config: &EtcdConfig,
    members: &Members,
    layout: &Layout,
    beginning: &Beginning,
) -> Result<Identity, StoreError> {
    let cluster = match &beginning.cluster {
        Some(cluster) => cluster.clone(),
        None => new_id()?,
    };
    let identity = Identity {
        cluster,
        format: format::FORMAT,
        base: beginning.base,
    };
    let record = identity.record();
    let mut compares = vec![Compare::create_revision(layout.identity(), CompareOp::Equal, 0)];
    let mut ops = vec![TxnOp::put(layout.identity(), record, None)];
    if let Write::Put { key, value } = format::put() {
        compares.push(Compare::create_revision(
            layout.etcd_key(&key),
            CompareOp::Equal,
            0,
        ));
        ops.push(TxnOp::put(layout.etcd_key(&key), value, None));
    }
    let txn = Txn::new().when(compares).and_then(ops);
    let answer = members
        .change(|mut client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        })
        .await;
    match answer {
        Ok(answer) if answer.succeeded() => Ok(identity),
        // Another's, or this one that was not answered.
        Ok(_) | Err(Failure::Unknown(_)) => find(config, members, layout)
            .await?
            .ok_or_else(|| refused(config, Failure::Unreachable("the record was not stored".into()))),
        Err(failure) => Err(refused(config, failure)),
    }
}

fn refused(config: &EtcdConfig, failure: Failure) -> StoreError {
    let place = config.to_string();
    match failure {
        Failure::Refused(reason) => StoreError::Refused { place, reason },
        Failure::NoSpace => StoreError::Refused {
            place,
            reason: "its database is full (alarm NOSPACE)".into(),
        },
        Failure::Unreachable(reason) | Failure::Unknown(reason) => StoreError::Unreachable { place, reason },
        failure @ (Failure::Compacted | Failure::LongAnswer) => StoreError::Foreign {
            place,
            reason: format!("{failure:?}"),
        },
    }
}

fn new_id() -> Result<String, StoreError> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn note_path(data: &Path) -> PathBuf {
    data.join(NOTE_NAME)
}

fn read_note(data: &Path) -> Result<Option<String>, StoreError> {
    let path = note_path(data);
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice::<Note>(&bytes) {
            Ok(note) => Ok(Some(note.cluster)),
            Err(error) => Err(StoreError::Corrupt {
                path,
                reason: error.to_string(),
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Io { path, source }),
    }
}

/// Writes the note whole, under another name first.
fn write_note(data: &Path, cluster: &str) -> Result<(), StoreError> {
    let path = note_path(data);
    let new = path.with_extension("json.new");
    let note = Note {
        cluster: cluster.into(),
    };
    let bytes = serde_json::to_vec(&note).expect("a text serialises");
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(|source| StoreError::Io {
        path: path.clone(),
        source,
    })
}
