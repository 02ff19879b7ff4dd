//! What a volume holds: bytes and entries, counted with each change.
//!
//! Invariant: the count is never below what is on the disk by more than what happened to a file that no process of the
//! node has open any more.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Weak,
};

use cap_std::fs::MetadataExt as _;

use super::limits::{BLOCK_BYTES, ENTRIES_MAX, OPENED_PER_LOOK};

/// What is in a volume.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    bytes: u64,
    entries: u64,
    /// Files that are open, by inode: a file that is removed keeps its room until the last of these is closed.
    open: HashMap<u64, Vec<Weak<File>>>,
    /// Files that were removed while they were open.
    ghosts: HashMap<u64, Ghost>,
    opened: u32,
}

#[derive(Debug)]
struct Ghost {
    handles: Vec<Weak<File>>,
    bytes: u64,
}

/// What a file of this length counts for.
pub(super) fn cost(length: u64) -> u64 {
    length.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX)
}

/// An entry, as far as it counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) inode: u64,
    /// Of a file; others count for a block.
    pub(super) length: u64,
    pub(super) is_file: bool,
    pub(super) is_dir: bool,
}

impl From<&fs::Metadata> for Entry {
    fn from(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            is_file: metadata.is_file(),
            is_dir: metadata.is_dir(),
        }
    }
}

impl From<cap_std::fs::Metadata> for Entry {
    fn from(metadata: cap_std::fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            is_file: metadata.is_file(),
            is_dir: metadata.is_dir(),
        }
    }
}

impl Entry {
    fn cost(&self) -> u64 {
        match self.is_file {
            true => cost(self.length),
            false => BLOCK_BYTES,
        }
    }
}

impl Ledger {
    /// Counts what is in a folder, without following any link.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let mut ledger = Self::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                ledger.entries += 1;
                ledger.bytes = ledger.bytes.saturating_add(Entry::from(&metadata).cost());
                if metadata.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        Ok(ledger)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether there is room for so much more.
    pub(super) fn room(&mut self, bytes: u64, entries: u64, quota_bytes: u64) -> io::Result<()> {
        let fits = |ledger: &Self| {
            let total = ledger.bytes.saturating_add(bytes);
            (bytes == 0 || total <= quota_bytes) && (entries == 0 || ledger.entries + entries <= ENTRIES_MAX)
        };
        if !fits(self) {
            self.forget_closed();
        }
        match fits(self) {
            true => Ok(()),
            false => Err(rustix::io::Errno::NOSPC.into()),
        }
    }

    /// An entry was made.
    pub(super) fn made(&mut self, entry: Entry) {
        // Its number was that of a file that is gone for good by now.
        if let Some(ghost) = self.ghosts.remove(&entry.inode) {
            self.bytes = self.bytes.saturating_sub(ghost.bytes);
        }
        self.open.remove(&entry.inode);
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(entry.cost());
    }

    /// A file was opened.
    pub(super) fn opened(&mut self, inode: u64, handle: Weak<File>) {
        self.opened += 1;
        if self.opened >= OPENED_PER_LOOK {
            self.opened = 0;
            self.forget_closed();
        }
        let handles = self.open.entry(inode).or_default();
        handles.retain(|handle| handle.strong_count() > 0);
        handles.push(handle);
    }

    /// A file has another length.
    pub(super) fn resized(&mut self, inode: u64, before: u64, after: u64) {
        let change = |bytes: u64| bytes.saturating_sub(cost(before)).saturating_add(cost(after));
        self.bytes = change(self.bytes);
        if let Some(ghost) = self.ghosts.get_mut(&inode) {
            ghost.bytes = change(ghost.bytes);
        }
    }

    /// An entry was removed, or another took its place.
    pub(super) fn removed(&mut self, entry: Entry) {
        self.entries = self.entries.saturating_sub(1);
        let bytes = entry.cost();
        let mut handles = match entry.is_file {
            true => self.open.remove(&entry.inode).unwrap_or_default(),
            false => Vec::new(),
        };
        handles.retain(|handle| handle.strong_count() > 0);
        if handles.is_empty() {
            self.bytes = self.bytes.saturating_sub(bytes);
        } else {
            self.ghosts.insert(entry.inode, Ghost { handles, bytes });
        }
    }

    /// Gives back the room of removed files that nobody has open any more.
    fn forget_closed(&mut self) {
        let is_open = |handles: &[Weak<File>]| handles.iter().any(|handle| handle.strong_count() > 0);
        self.open.retain(|_, handles| is_open(handles));
        let bytes = &mut self.bytes;
        self.ghosts.retain(|_, ghost| {
            let stays = is_open(&ghost.handles);
            if !stays {
                *bytes = bytes.saturating_sub(ghost.bytes);
            }
            stays
        });
    }
}
