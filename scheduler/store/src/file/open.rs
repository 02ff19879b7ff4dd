//! Making and opening the file.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
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
/// What the file is called until it is whole: redb cannot open what a crash left of a file that it was
/// making.
const NEW_FILE_NAME: &str = "store.redb.new";
/// Locked by who has the store open, before anything else is touched; never removed.
const LOCK_NAME: &str = "lock";
/// Version of the tables in the file ([`table`]).
const LAYOUT: u64 = format::FORMAT;
/// Pages that redb keeps in memory: the whole of a usual store, and a bound for an unusual one (its default
/// is 1 GiB).
const CACHE_BYTES_MAX: usize = 64 << 20;

/// The right to have a data folder's store open; ends when dropped, or with the process.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

/// Opens the file of the folder `data`, or makes both.
pub(super) fn open(data: &Path) -> Result<(FolderLock, Tables), StoreError> {
    let path = data.join(FILE_NAME);
    let lock = lock_folder(data)?;
    if !path.try_exists().map_err(io_at(&path))? {
        make(data, &path)?;
    }
    Ok((lock, open_whole(data, &path)?))
}

/// Whether there is a store in the folder `data`, or a file that takes its place.
pub(super) fn is_there(data: &Path) -> bool {
    data.join(FILE_NAME).exists()
}

/// Makes the folder, if it is not there, and takes its lock.
pub(crate) fn lock_folder(data: &Path) -> Result<FolderLock, StoreError> {
    make_folder(data).map_err(io_at(data))?;
    lock(data)
}

/// Opens the file of a store that was made. One without content is damaged, for [`make`] gives the name to a
/// whole one: taken for a new store it would end every app.
fn open_whole(data: &Path, path: &Path) -> Result<Tables, StoreError> {
    let corrupt = |reason: &str| StoreError::Corrupt {
        path: path.into(),
        reason: reason.into(),
    };
    if fs::metadata(path).map_err(io_at(path))?.len() == 0 {
        return Err(corrupt("it is empty"));
    }
    // redb checks with assertions what it finds in a file that was cut off.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = database(data, path)?;
        if is_new(&database).map_err(|error| refused(error, data, path))? {
            return Err(corrupt("it has no tables"));
        }
        establish(database, data, path)
    }));
    opened.unwrap_or_else(|_| Err(corrupt("it cannot be made sense of")))
}

fn lock(data: &Path) -> Result<FolderLock, StoreError> {
    let path = data.join(LOCK_NAME);
    let file = private_file(&path).map_err(io_at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: data.into() }),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { path, source }),
    }
}

/// Makes an empty store: whole under another name first, then by its own.
fn make(data: &Path, path: &Path) -> Result<(), StoreError> {
    let new = data.join(NEW_FILE_NAME);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at(&new)(error)),
        _ => {}
    }
    drop(establish(database(data, &new)?, data, &new)?);
    fs::rename(&new, path).map_err(io_at(path))?;
    sync_folder(data).map_err(io_at(data))
}

fn database(data: &Path, path: &Path) -> Result<Database, StoreError> {
    let file = private_file(path).map_err(io_at(path))?;
    builder()
        .create_file(file)
        .map_err(|error| refused(error, data, path))
}

/// Opens a file for its owner only, or makes it: the store holds configuration, which may be secret.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_path_buf();
    move |source| StoreError::Io {
        path: path.clone(),
        source,
    }
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
        return match fill(&database) {
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

fn fill(database: &Database) -> Result<Revision, redb::Error> {
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
        redb::Error::Io(source) if !is_of_content(&source) => StoreError::Io {
            path: path.into(),
            source,
        },
        error => StoreError::Corrupt {
            path: path.into(),
            reason: error.to_string(),
        },
    }
}

/// Whether redb says so of a file that is not its own, or is too short.
fn is_of_content(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
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
