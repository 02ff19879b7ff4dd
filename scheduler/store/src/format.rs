//! The version of what is stored, and why a store cannot be opened.

use std::{
    io,
    path::{Path, PathBuf},
};

use gilliam_model::code::Code;
use serde::{Deserialize, Serialize};

use crate::{Write, keys};

/// The version of keys and records that this build reads and writes.
pub(crate) const FORMAT: u64 = 1;

/// The value of [`keys::FORMAT`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Format {
    version: u64,
}

/// A store that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the data folder {} is in use by another gilliam", path.display())]
    InUse {
        /// The data folder.
        path: PathBuf,
    },
    /// It was written by a newer gilliam.
    #[error(
        "the data folder {} has format {found}; this gilliam knows formats up to {known}",
        path.display()
    )]
    NewerFormat {
        /// The format it has.
        found: u64,
        /// The newest format that this build knows.
        known: u64,
        /// The data folder.
        path: PathBuf,
    },
    /// What is there is not a store, or a damaged one.
    #[error("the store {} is damaged: {reason}", path.display())]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// No member of etcd answers, or none that has a leader.
    #[error("the store {place} cannot be reached: {reason}")]
    Unreachable {
        /// Its URL.
        place: String,
        /// What the members said.
        reason: String,
    },
    /// etcd does not let this user in, or not where the data is.
    #[error("the store {place} cannot be used: {reason}")]
    Refused {
        /// Its URL.
        place: String,
        /// What etcd said.
        reason: String,
    },
    /// etcd holds the data of another cluster than the data folder's, or none.
    #[error(
        "the store {place} holds {found}; the data folder {} belongs to cluster {expected}",
        path.display()
    )]
    OtherCluster {
        /// Its URL.
        place: String,
        /// What it holds.
        found: String,
        /// The cluster that the data folder belongs to.
        expected: String,
        /// The data folder's record of that.
        path: PathBuf,
    },
    /// There are keys that no gilliam wrote, or only a part of its keys.
    #[error("the store {place} is damaged, or not gilliam's: {reason}")]
    Foreign {
        /// Its URL.
        place: String,
        /// How it shows.
        reason: String,
    },
    /// A store in etcd that was written by a newer gilliam.
    #[error("the store {place} has format {found}; this gilliam knows formats up to {known}")]
    NewerFormatInEtcd {
        /// Its URL.
        place: String,
        /// The format it has.
        found: u64,
        /// The newest format that this build knows.
        known: u64,
    },
    /// There is none.
    #[error("there is no store in {place}")]
    Missing {
        /// Its URL, or its folder.
        place: String,
    },
    /// An import into it was not finished.
    #[error("the store {place} holds a part of an import that was not finished")]
    Unfinished {
        /// Its URL, or its file.
        place: String,
    },
    /// The system gives no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// A file operation failed.
    #[error("the store {} cannot be opened", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// The catalogue code.
    pub fn code(&self) -> Code {
        match self {
            StoreError::Corrupt { .. } | StoreError::Foreign { .. } => Code::S11,
            _ => Code::S13,
        }
    }

    /// The way out, for people.
    pub fn hint(&self) -> String {
        if let StoreError::Unreachable { reason, .. } | StoreError::Refused { reason, .. } = self
            && let Some(hint) = of_certificates(reason)
        {
            return hint.into();
        }
        match self {
            StoreError::InUse { .. } => {
                "stop the other one first, or choose another folder with --data".into()
            }
            StoreError::NewerFormat { .. } => {
                "run the newer gilliam, or choose another folder with --data".into()
            }
            StoreError::Corrupt { path, .. } => {
                format!(
                    "restore {} from a backup, or move it away to begin anew",
                    path.display()
                )
            }
            StoreError::Unreachable { .. } => {
                "check that most members of etcd run, and that addresses, certificates and firewalls are \
                 right: etcdctl endpoint health asks each"
                    .into()
            }
            StoreError::Refused { .. } => {
                "check the user, the password and the role: it needs readwrite on the prefix /gilliam/CLUSTER"
                    .into()
            }
            StoreError::OtherCluster { path, .. } => format!(
                "name the etcd, or the cluster in it (etcd://HOST/CLUSTER), that the folder belongs to; if \
                 the folder is to join this one, remove {}",
                path.display()
            ),
            StoreError::Foreign { .. } => {
                "name another cluster in it (etcd://HOST/CLUSTER), or restore this one from a backup".into()
            }
            StoreError::NewerFormatInEtcd { .. } => "run the newer gilliam".into(),
            StoreError::Missing { .. } => {
                "name the folder with --data, or the etcd and its cluster with --store".into()
            }
            StoreError::Unfinished { .. } => "import it again with gilliam store import --replace".into(),
            StoreError::Random(_) => "try again".into(),
            StoreError::Io { .. } => {
                "check that the folder exists, is writable and that the disk is not full".into()
            }
        }
    }
}

/// What to do about a TLS that does not come about, if that is what members said.
fn of_certificates(reason: &str) -> Option<&'static str> {
    // What rustls says of a member's certificate, and what is left of a member's alert about ours.
    const KNOWN: [(&[&str], &str); 4] = [
        (
            &["invalid peer certificate: UnknownIssuer"],
            "a member's certificate is signed by another authority: name its certificate with --store-ca",
        ),
        (
            &["invalid peer certificate: certificate expired"],
            "a member's certificate is over, or this machine's clock is wrong: renew the certificate",
        ),
        (
            &["invalid peer certificate: certificate not valid for name"],
            "name the members in --store by hosts that their certificates are for",
        ),
        (
            &[
                "received fatal alert",
                "operation was canceled",
                "transport error",
            ],
            "a member takes connections and ends them: it may speak TLS (--store-ca), or take only clients with a \
             certificate of its authority that is not over (--store-cert and --store-key)",
        ),
    ];
    let says = |texts: &[&str]| texts.iter().any(|text| reason.contains(text));
    KNOWN.iter().find(|(texts, _)| says(texts)).map(|(_, hint)| *hint)
}

/// The write that makes a new store one of this format.
pub(crate) fn put() -> Write {
    let value = serde_json::to_vec(&Format { version: FORMAT }).expect("a number serialises");
    Write::Put {
        key: keys::FORMAT.to_string(),
        value,
    }
}

/// Refuses the format record `value` of the store in `data` if this build does not know it.
pub(crate) fn check(value: &[u8], data: &Path, file: &Path) -> Result<(), StoreError> {
    match serde_json::from_slice::<Format>(value) {
        Ok(Format { version }) => check_version(version, data),
        Err(error) => Err(StoreError::Corrupt {
            path: file.into(),
            reason: format!("{}: {error}", keys::FORMAT),
        }),
    }
}

/// Refuses format `found` of the store in `data` if it is newer than this build's.
pub(crate) fn check_version(found: u64, data: &Path) -> Result<(), StoreError> {
    if found > FORMAT {
        return Err(StoreError::NewerFormat {
            found,
            known: FORMAT,
            path: data.into(),
        });
    }
    Ok(())
}
