//! The tar itself: the same entries give the same bytes.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, Write},
};

use gilliam_model::api::ARCHIVE_BYTES_MAX;
use tar::{Builder, EntryType, Header};

use super::{
    ArchiveError,
    entry::{Content, Entries, Entry},
    git::Objects,
    largest,
};

/// A tar consists of blocks of this size; a header is one.
const BLOCK_BYTES: u64 = 512;

/// Writes a temporary file with the entries, open at its beginning, and its length.
pub(super) fn write(
    entries: &Entries,
    mut objects: Option<&mut Objects>,
) -> Result<(File, u64), ArchiveError> {
    let expected: u64 = entries
        .iter()
        .map(|(_, entry)| BLOCK_BYTES + entry.bytes.next_multiple_of(BLOCK_BYTES))
        .sum();
    check_size(entries, expected)?;
    let mut tar = Builder::new(BufWriter::new(tempfile::tempfile().map_err(ArchiveError::Write)?));
    for (path, entry) in entries.iter() {
        match (&entry.content, objects.as_deref_mut()) {
            (Content::Folder(target), _) => append_link(&mut tar, path, target)?,
            (Content::File(file), _) => {
                let unreadable = |source| ArchiveError::Read {
                    path: file.clone(),
                    source,
                };
                let mut file = open(file).map_err(unreadable)?;
                append(&mut tar, path, entry, &mut file)?;
            }
            (Content::Object(id), Some(objects)) => {
                let appended = objects.read(id, |content, _| Ok(append(&mut tar, path, entry, content)));
                appended.map_err(|source| ArchiveError::Read {
                    path: path.into(),
                    source,
                })??;
            }
            (Content::Object(_), None) => {
                return Err(ArchiveError::Changed {
                    path: path.to_string(),
                });
            }
        }
    }
    let file = tar
        .into_inner()
        .and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error));
    let mut file = file.map_err(ArchiveError::Write)?;
    let bytes = file.stream_position().map_err(ArchiveError::Write)?;
    check_size(entries, bytes)?;
    file.rewind().map_err(ArchiveError::Write)?;
    Ok((file, bytes))
}

fn check_size(entries: &Entries, bytes: u64) -> Result<(), ArchiveError> {
    if bytes <= ARCHIVE_BYTES_MAX {
        return Ok(());
    }
    let (largest, largest_bytes) = largest(entries);
    Err(ArchiveError::TooLarge {
        bytes,
        largest,
        largest_bytes,
    })
}

/// Opens a file that may meanwhile have become another thing: never waits on a pipe, never follows a link.
fn open(path: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no longer a file")),
    }
}

/// A header without a time and an owner.
fn header(kind: EntryType, bytes: u64, is_executable: bool) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if is_executable { 0o755 } else { 0o644 });
    header.set_size(bytes);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append_link<W: Write>(tar: &mut Builder<W>, path: &str, target: &str) -> Result<(), ArchiveError> {
    let mut header = header(EntryType::Symlink, 0, false);
    tar.append_link(&mut header, path, target)
        .map_err(ArchiveError::Write)
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    path: &str,
    entry: &Entry,
    content: &mut dyn Read,
) -> Result<(), ArchiveError> {
    let mut header = header(EntryType::Regular, entry.bytes, entry.is_executable);
    let mut counted = Counted {
        content: content.take(entry.bytes),
        bytes: 0,
    };
    tar.append_data(&mut header, path, &mut counted)
        .map_err(ArchiveError::Write)?;
    let is_whole = counted.bytes == entry.bytes;
    // A longer file than was seen is as bad as a shorter one: it was read while it grew.
    counted.content.set_limit(1);
    let is_longer = counted.content.read(&mut [0; 1]).map_err(ArchiveError::Write)? > 0;
    if is_whole && !is_longer {
        Ok(())
    } else {
        Err(ArchiveError::Changed {
            path: path.to_string(),
        })
    }
}

/// Counts what was read of a file.
struct Counted<R> {
    content: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(buffer)?;
        self.bytes += n as u64;
        Ok(n)
    }
}
