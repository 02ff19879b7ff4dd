//! Volumes: a directory per service, in which guests have files, within a number of bytes and of entries.
//!
//! In flow the changes that guests make, each through here; reading goes past. Every function waits for the disk:
//! call them where that is allowed.
//!
//! How the quota holds: whatever makes a volume grow takes its lock, looks at what the file has, and is refused when
//! there is no room. Sizes count as they appear, so that holes of sparse files count too, rounded up to blocks;
//! a file that was removed counts until it is closed. What is not counted: the blocks of directories with many
//! entries, and the file system's own.
//!
//! Invariant: no path leads out of the volume: names are resolved below an open directory (`openat2` with
//! `RESOLVE_BENEATH`), links included.
//! Invariant: no file of a volume has two names, so that what is counted is there once.

mod ledger;
pub mod limits;

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, OpenOptions, ReadDir};
use rustix::io::Errno;

use self::ledger::{Entry, Ledger, cost};

/// A volume. Cheap to clone, and the same for all clones.
#[derive(Debug, Clone)]
pub struct Volume(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    quota_bytes: AtomicU64,
    /// None before the first use.
    ledger: Mutex<Option<Ledger>>,
}

/// How large a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Bytes of its files, in blocks.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// What it may have.
    pub quota_bytes: u64,
}

/// How to open a name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Make a file where there is none.
    pub create: bool,
    /// Fail where there is one.
    pub exclusive: bool,
    /// Empty it.
    pub truncate: bool,
    /// Follow a link that is the last part of the name.
    pub follow: bool,
}

/// Where to write.
#[derive(Debug, Clone, Copy)]
pub enum At {
    /// From this byte on.
    Offset(u64),
    /// At the end.
    End,
}

impl Volume {
    /// A handle; the folder is made, and counted, by the first use. There must be one handle for a folder, and its
    /// clones.
    pub fn new(folder: PathBuf, quota_bytes: u64) -> Self {
        Self(Arc::new(Inner {
            folder,
            quota_bytes: AtomicU64::new(quota_bytes),
            ledger: Mutex::new(None),
        }))
    }

    /// It may have so many bytes from now on. What it has already it keeps.
    pub fn set_quota(&self, bytes: u64) {
        self.0.quota_bytes.store(bytes, Relaxed);
    }

    /// Whether it is the same volume.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The directory itself.
    pub fn root(&self) -> io::Result<File> {
        let _counted = self.ledger()?;
        File::open(&self.0.folder)
    }

    /// How large it is.
    pub fn usage(&self) -> io::Result<VolumeUsage> {
        let counted = self.ledger()?;
        let ledger = counted.ledger();
        Ok(VolumeUsage {
            bytes: ledger.bytes(),
            entries: ledger.entries(),
            quota_bytes: self.0.quota_bytes.load(Relaxed),
        })
    }

    /// Opens a name below a directory. `keep` makes of the file what will hold it, and says how to find out whether it
    /// still does.
    pub fn open<T>(
        &self,
        dir: &File,
        path: &str,
        how: Open,
        keep: impl FnOnce(File) -> (T, Option<Weak<File>>),
    ) -> io::Result<T> {
        let dir = below(dir)?;
        let mut counted = self.ledger()?;
        let quota = self.0.quota_bytes.load(Relaxed);
        let ledger = counted.ledger_mut();
        let mut is_new = false;
        if how.create {
            let there = match how.follow {
                true => dir.metadata(path),
                false => dir.symlink_metadata(path),
            };
            is_new = there.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
            if is_new {
                self.0.check_length(&dir, path)?;
                ledger.room(0, 1, quota)?;
            }
        }
        let mut options = OpenOptions::new();
        options
            .read(how.read)
            .write(how.write || how.create || how.truncate)
            .create(how.create && !how.exclusive)
            .create_new(how.create && how.exclusive)
            .follow(if how.follow {
                FollowSymlinks::Yes
            } else {
                FollowSymlinks::No
            });
        let file = dir.open_with(path, &options)?.into_std();
        let entry = entry_of(&file)?;
        if is_new {
            ledger.made(entry);
        }
        if how.truncate && entry.is_file {
            file.set_len(0)?;
            ledger.resized(entry.inode, entry.length, 0);
        }
        let (kept, handle) = keep(file);
        if let (true, Some(handle)) = (entry.is_file, handle) {
            ledger.opened(entry.inode, handle);
        }
        Ok(kept)
    }

    /// Writes bytes into a file; says where they end.
    pub fn write(&self, file: &File, bytes: &[u8], at: At) -> io::Result<u64> {
        let mut counted = self.ledger()?;
        let ledger = counted.ledger_mut();
        let entry = entry_of(file)?;
        let before = entry.length;
        let start = match at {
            At::Offset(start) => start,
            At::End => before,
        };
        let end = start.checked_add(bytes.len() as u64).ok_or(Errno::FBIG)?;
        let after = end.max(before);
        ledger.room(cost(after) - cost(before), 0, self.0.quota_bytes.load(Relaxed))?;
        let written = file.write_all_at(bytes, start);
        let after = match written {
            Ok(()) => after,
            Err(_) => file.metadata()?.len(),
        };
        ledger.resized(entry.inode, before, after);
        written.map(|()| end)
    }

    /// Gives a file another length.
    pub fn set_size(&self, file: &File, size: u64) -> io::Result<()> {
        let mut counted = self.ledger()?;
        let ledger = counted.ledger_mut();
        let entry = entry_of(file)?;
        let growth = cost(size).saturating_sub(cost(entry.length));
        ledger.room(growth, 0, self.0.quota_bytes.load(Relaxed))?;
        file.set_len(size)?;
        ledger.resized(entry.inode, entry.length, size);
        Ok(())
    }

    /// Makes a directory.
    pub fn create_dir(&self, dir: &File, path: &str) -> io::Result<()> {
        self.make(dir, path, |dir| dir.create_dir(path))
    }

    /// Makes a symbolic link, which leads nowhere outside of the volume whatever it says.
    pub fn symlink(&self, dir: &File, target: &str, path: &str) -> io::Result<()> {
        self.make(dir, path, |dir| dir.symlink(target, path))
    }

    fn make(&self, dir: &File, path: &str, make: impl FnOnce(&Dir) -> io::Result<()>) -> io::Result<()> {
        let dir = below(dir)?;
        let mut counted = self.ledger()?;
        let ledger = counted.ledger_mut();
        self.0.check_length(&dir, path)?;
        ledger.room(limits::BLOCK_BYTES, 1, self.0.quota_bytes.load(Relaxed))?;
        make(&dir)?;
        ledger.made(look(&dir, path)?);
        Ok(())
    }

    /// Removes a file or a link.
    pub fn remove_file(&self, dir: &File, path: &str) -> io::Result<()> {
        self.remove(dir, path, |dir| dir.remove_file(path))
    }

    /// Removes a directory that is empty.
    pub fn remove_dir(&self, dir: &File, path: &str) -> io::Result<()> {
        self.remove(dir, path, |dir| dir.remove_dir(path))
    }

    fn remove(&self, dir: &File, path: &str, remove: impl FnOnce(&Dir) -> io::Result<()>) -> io::Result<()> {
        let dir = below(dir)?;
        let mut counted = self.ledger()?;
        let entry = look(&dir, path)?;
        remove(&dir)?;
        counted.ledger_mut().removed(entry);
        Ok(())
    }

    /// Gives an entry another name, within the volume.
    pub fn rename(&self, dir: &File, path: &str, to_dir: &File, to: &str) -> io::Result<()> {
        let (dir, to_dir) = (below(dir)?, below(to_dir)?);
        let mut counted = self.ledger()?;
        let moved = look(&dir, path)?;
        let replaced = match look(&to_dir, to) {
            Ok(entry) => Some(entry),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let length = self.0.check_length(&to_dir, to)?;
        if moved.is_dir {
            let below = self.0.longest_below(&dir.open_dir(path)?)?;
            if length + below > limits::PATH_BYTES_MAX {
                return Err(Errno::NAMETOOLONG.into());
            }
        }
        dir.rename(path, &to_dir, to)?;
        if let Some(replaced) = replaced.filter(|replaced| replaced.inode != moved.inode) {
            counted.ledger_mut().removed(replaced);
        }
        Ok(())
    }

    /// What is in a directory; looked up as it is asked for.
    pub fn entries(&self, dir: &File) -> io::Result<Entries> {
        Ok(Entries(below(dir)?.entries()?))
    }

    /// The lock on what is counted; counts it at first.
    fn ledger(&self) -> io::Result<Counted<'_>> {
        let mut ledger = self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if ledger.is_none() {
            crate::folder::make(&self.0.folder)?;
            *ledger = Some(Ledger::of(&self.0.folder)?);
        }
        Ok(Counted(ledger))
    }
}

/// The entries of a directory.
#[derive(Debug)]
pub struct Entries(ReadDir);

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// None of these.
    Other,
}

impl Iterator for Entries {
    type Item = io::Result<(String, Kind)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = match self.0.next()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        let kind = entry.file_type().map(|kind| match () {
            () if kind.is_file() => Kind::File,
            () if kind.is_dir() => Kind::Directory,
            () if kind.is_symlink() => Kind::Link,
            () => Kind::Other,
        });
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| io::Error::from(Errno::ILSEQ));
        Some(kind.and_then(|kind| Ok((name?, kind))))
    }
}

/// A ledger that is there.
struct Counted<'a>(MutexGuard<'a, Option<Ledger>>);

impl Counted<'_> {
    fn ledger(&self) -> &Ledger {
        self.0.as_ref().expect("it was counted before it was locked")
    }

    fn ledger_mut(&mut self) -> &mut Ledger {
        self.0.as_mut().expect("it was counted before it was locked")
    }
}

impl Inner {
    /// Bytes of the path of a name within the volume, if it is not too long.
    fn check_length(&self, dir: &Dir, path: &str) -> io::Result<usize> {
        let length = self.path_within(dir)?.as_os_str().len() + 1 + path.len();
        match length > limits::PATH_BYTES_MAX {
            true => Err(Errno::NAMETOOLONG.into()),
            false => Ok(length),
        }
    }

    /// Where a directory is now, from the volume's own.
    fn path_within(&self, dir: &Dir) -> io::Result<PathBuf> {
        let path = path_of(dir)?;
        let folder = self.folder.canonicalize()?;
        let within = path.strip_prefix(&folder).map_err(|_| Errno::NOENT)?;
        Ok(within.to_owned())
    }

    /// Bytes of the longest path below a directory, from there.
    fn longest_below(&self, dir: &Dir) -> io::Result<usize> {
        let root = path_of(dir)?;
        let mut folders = vec![root.clone()];
        let mut longest = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let path = entry.path();
                longest = longest.max(path.as_os_str().len() - root.as_os_str().len());
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                }
            }
        }
        Ok(longest)
    }
}

/// A directory to resolve names below.
fn below(dir: &File) -> io::Result<Dir> {
    Ok(Dir::from_std_file(dir.try_clone()?))
}

/// What an open file is.
fn entry_of(file: &File) -> io::Result<Entry> {
    Ok(Entry::from(&file.metadata()?))
}

/// Where the kernel says that an open directory is.
fn path_of(dir: &Dir) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()))
}

/// An entry itself, not what it leads to.
fn look(dir: &Dir, path: &str) -> io::Result<Entry> {
    Ok(dir.symlink_metadata(path)?.into())
}
