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
            StoreError::Corrupt { .. } => Code::S11,
            StoreError::InUse { .. } | StoreError::NewerFormat { .. } | StoreError::Io { .. } => Code::S13,
        }
    }

    /// The way out, for people.
    pub fn hint(&self) -> String {
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
            StoreError::Io { .. } => {
                "check that the folder exists, is writable and that the disk is not full".into()
            }
        }
    }
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
