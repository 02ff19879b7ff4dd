//! The names of a blob service, and which file has the bytes of each: a table of redb.
//!
//! In flow names, out flow records. Blocks.
//!
//! Invariant: a name is in the index only with a file that is whole and on the disk.
//! Invariant: files are named by numbers, so no name of an object is ever a path.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

use super::{error::BlobError, limits};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const FILE: &str = "index.redb";
const DATA: &str = "data";

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Its file; another for each time that it is put.
    pub(super) file: u64,
    /// Bytes.
    pub bytes: u64,
    /// As its sender said; `application/octet-stream` when it did not.
    pub content_type: String,
    /// When it was put, in seconds since 1970.
    pub put_at: u64,
}

/// The index of a service that is open.
#[derive(Debug)]
pub(super) struct Index {
    database: Database,
    folder: PathBuf,
    pub(super) bytes: u64,
    pub(super) objects: u64,
    next_file: u64,
}

impl Index {
    /// Opens or makes it, counts what is there, and removes files that no name leads to.
    pub(super) fn open(folder: &Path) -> Result<Self, BlobError> {
        let data = folder.join(DATA);
        crate::folder::make(&data)?;
        let database = Database::create(folder.join(FILE))?;
        let write = database.begin_write()?;
        let (mut bytes, mut objects, mut known) = (0, 0, HashSet::new());
        {
            let table = write.open_table(OBJECTS)?;
            for entry in table.iter()? {
                let info = read(entry?.1.value())?;
                bytes += info.bytes;
                objects += 1;
                known.insert(info.file);
            }
        }
        write.commit()?;
        let mut next_file = 0;
        for entry in fs::read_dir(&data)? {
            let entry = entry?;
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u64>().ok());
            match number.filter(|number| known.contains(number)) {
                Some(number) => next_file = next_file.max(number + 1),
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok(Self {
            database,
            folder: folder.to_owned(),
            bytes,
            objects,
            next_file,
        })
    }

    /// Where a new object's bytes go.
    pub(super) fn new_file(&mut self) -> (u64, PathBuf) {
        let number = self.next_file;
        self.next_file += 1;
        (number, self.path(number))
    }

    pub(super) fn path(&self, file: u64) -> PathBuf {
        self.folder.join(DATA).join(file.to_string())
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Info>, BlobError> {
        let table = self.database.begin_read()?.open_table(OBJECTS)?;
        table.get(name)?.map(|found| read(found.value())).transpose()
    }

    /// Lets a name lead to a file that is on the disk. The file that it led to goes.
    pub(super) fn put(&mut self, name: &str, info: &Info) -> Result<(), BlobError> {
        let old = self.change(name, Some(info))?;
        self.bytes += info.bytes;
        self.objects += 1;
        self.forget(old);
        Ok(())
    }

    /// Removes a name and its file; whether it was there.
    pub(super) fn delete(&mut self, name: &str) -> Result<bool, BlobError> {
        let old = self.change(name, None)?;
        let was_there = old.is_some();
        self.forget(old);
        Ok(was_there)
    }

    fn change(&self, name: &str, info: Option<&Info>) -> Result<Option<Info>, BlobError> {
        let write = self.database.begin_write()?;
        let old = {
            let mut table = write.open_table(OBJECTS)?;
            let old = match info {
                Some(info) => {
                    let bytes = serde_json::to_vec(info).expect("numbers and text are JSON");
                    table.insert(name, bytes.as_slice())?.map(|old| read(old.value()))
                }
                None => table.remove(name)?.map(|old| read(old.value())),
            };
            old.transpose()?
        };
        write.commit()?;
        Ok(old)
    }

    fn forget(&mut self, old: Option<Info>) {
        let Some(old) = old else { return };
        self.bytes = self.bytes.saturating_sub(old.bytes);
        self.objects = self.objects.saturating_sub(1);
        // What stays is removed when the index is next opened.
        if let Err(error) = fs::remove_file(self.path(old.file)) {
            tracing::warn!(%error, "the file of a blob was not removed");
        }
    }

    /// Names that begin with `prefix`, those after `after`, in their order; whether there are more.
    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<(String, Info)>, bool), BlobError> {
        let table = self.database.begin_read()?.open_table(OBJECTS)?;
        let from = after.filter(|after| *after >= prefix).unwrap_or(prefix);
        let mut found = Vec::new();
        for entry in table.range(from..)? {
            let (name, info) = entry?;
            let name = name.value();
            if !name.starts_with(prefix) {
                break;
            }
            if after.is_some_and(|after| name <= after) {
                continue;
            }
            if found.len() == limit {
                return Ok((found, true));
            }
            found.push((name.to_owned(), read(info.value())?));
        }
        Ok((found, false))
    }
}

fn read(bytes: &[u8]) -> Result<Info, BlobError> {
    serde_json::from_slice(bytes).map_err(|error| BlobError::Failed(format!("a record is damaged: {error}")))
}

/// Whether a text can be the name of an object.
pub(super) fn check_name(name: &str) -> Result<(), BlobError> {
    let is_good = (1..=limits::NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if is_good { Ok(()) } else { Err(BlobError::Name) }
}
