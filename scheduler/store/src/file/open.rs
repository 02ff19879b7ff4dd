//! Making and opening the file.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use redb::Database;

use super::{
    table::{self, ENTRIES, META, META_LAYOUT, META_REVISION},
    tables::{Snapshot, Tables, begin},
};
use crate::{RangeError, Revision, StoreError, Write, format, keys};

/// The store's file in the data folder.
const FILE_NAME: &str = "store.redb";
/// Version of the tables in the file ([`table`]).
const LAYOUT: u64 = format::FORMAT;
/// Pages that redb keeps in memory: the whole of a usual store, and a bound for an unusual one (its default is 1 GiB).
const CACHE_BYTES_MAX: usize = 64 << 20;

/// Opens the file of the folder `data`, or makes both.
pub(super) fn open(data: &Path) -> Result<Tables, StoreError> {
    let path = data.join(FILE_NAME);
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| StoreError::Io { path, source }
    };
    make_folder(data).map_err(io(data))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600) // it holds configuration, which may be secret
        .open(&path)
        .map_err(io(&path))?;
    let database = builder()
        .create_file(file)
        .map_err(|error| refused(error, data, &path))?;
    // The file is durable only once its name is.
    sync_folder(data).map_err(io(data))?;
    establish(database, data, &path)
}

/// How the file is opened.
pub(super) fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES_MAX);
    builder
}

/// Makes a new file a store, and refuses one of a newer format.
pub(super) fn establish(database: Database, data: &Path, path: &Path) -> Result<Tables, StoreError> {
    if is_new(&database).map_err(|error| refused(error, data, path))? {
        return match make(&database) {
            Ok(revision) => Ok(Tables::new(database, revision)),
            Err(error) => Err(refused(error, data, path)),
        };
    }
    let corrupt = |reason: String| StoreError::Corrupt {
        path: path.into(),
        reason,
    };
    let unreadable = |error: RangeError| corrupt(error.to_string());
    let snapshot = Snapshot::new(&database).map_err(unreadable)?;
    let meta = snapshot.meta().map_err(unreadable)?;
    let number = |name: &str| {
        meta.get(name)
            .copied()
            .ok_or_else(|| corrupt(format!("it has no {name}")))
    };
    // First, for nothing else may be read as it is now in a newer layout.
    format::check_version(number(META_LAYOUT)?, data)?;
    let revision = Revision(number(META_REVISION)?);
    match snapshot.get(keys::FORMAT).map_err(unreadable)? {
        Some(entry) => format::check(&entry.value, data, path)?,
        None => return Err(corrupt(format!("it has no {}", keys::FORMAT))),
    }
    drop(snapshot);
    Ok(Tables::new(database, revision))
}

fn is_new(database: &Database) -> Result<bool, redb::Error> {
    use redb::ReadableDatabase as _;
    match database.begin_read()?.open_table(META) {
        Ok(_) => Ok(false),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn make(database: &Database) -> Result<Revision, redb::Error> {
    let revision = Revision(1);
    let transaction = begin(database)?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_LAYOUT, LAYOUT)?;
        meta.insert(META_REVISION, revision.0)?;
        let mut entries = transaction.open_table(ENTRIES)?;
        if let Write::Put { key, value } = format::put() {
            entries.insert(key.as_str(), table::encode(&key, revision, &value).as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(revision)
}

/// What an error of redb's means to who opens.
fn refused(error: impl Into<redb::Error>, data: &Path, path: &Path) -> StoreError {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { path: data.into() },
        // redb says so of a file that is not its own.
        redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => StoreError::Io {
            path: path.into(),
            source,
        },
        error => StoreError::Corrupt {
            path: path.into(),
            reason: error.to_string(),
        },
    }
}

/// Makes the folder and those above it, and their names durable.
fn make_folder(data: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> = data
        .ancestors()
        .take_while(|folder| !folder.exists())
        .map(Path::to_path_buf)
        .collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data)?;
    for folder in missing {
        match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent)?,
            _ => sync_folder(Path::new("."))?,
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
