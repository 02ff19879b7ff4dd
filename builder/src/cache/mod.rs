//! What builds of an app leave for its next ones: compiled dependencies, results, the times of files.
//!
//! In flow the folder of all caches and an app's key, out flow folders that a pack's builds may write
//! (`AppCache::pack`) and what only the builder itself writes (`results`, `times`). On disk:
//!
//! ```text
//! lock                 held for moments: by whoever opens, drops or evicts a cache
//! APP/lock             held by the build that uses it
//! APP/packs/PACK/      a build's `GILLIAM_CACHE`: the one part that a sandbox is shown
//! APP/results/         results of builds by what they were made of
//! APP/times            when each file of the project came, see `times`
//! APP/bytes            its size; the time of this file is that of the app's last build
//! .gone-*              on its way out
//! ```
//!
//! Invariant: a build is shown the cache of its own app and pack alone, one build at a time. What a build wrote
//! is never read here but to count it: no link of it is followed.
//! Invariant: a cache that cannot be used costs time, never a build.

mod evict;
mod results;
mod times;

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use cap_std::{ambient_authority, fs::Dir};

use crate::{sandbox, scratch};

pub(crate) use results::{Kept, Key};
pub(crate) use times::Times;

/// Largest key of an app: its name and a number.
const KEY_BYTES_MAX: usize = 128;
/// Bytes that a pack keeps of one app: half of what a build may write, so that the next one has room.
const PACK_BYTES_MAX: u64 = 2 << 30;
/// Files and folders that it keeps, likewise.
const PACK_ENTRIES_MAX: u64 = 200_000;
const LOCK: &str = "lock";
const PACKS: &str = "packs";
const BYTES: &str = "bytes";
/// Starts the names of what is on its way out; no key of an app does.
const GONE: &str = ".gone-";

/// Which cache a build uses.
#[derive(Debug, Clone, Copy)]
pub struct CacheRequest<'a> {
    /// The folder of all caches, made when there is none.
    pub folder: &'a Path,
    /// The app's key: what is destroyed and made again under its name has another.
    pub app: &'a str,
    /// Bytes of all caches together.
    pub bytes_max: u64,
    /// Whether what is there is dropped first.
    pub clean: bool,
}

/// The cache of one app, in use.
#[derive(Debug)]
pub(crate) struct AppCache {
    root: PathBuf,
    app: String,
    folder: PathBuf,
    /// Its folder as it was opened: a cache that is dropped meanwhile takes our files with it.
    own: Dir,
    bytes_max: u64,
    _lock: File,
}

impl AppCache {
    /// Opens an app's cache; none while another build uses it.
    pub(crate) fn open(request: &CacheRequest<'_>) -> io::Result<Option<Self>> {
        check(request.app)?;
        make(request.folder)?;
        // Absolute, because mounts of a sandbox are made from another working folder.
        let root = request.folder.canonicalize()?;
        let all = lock_file(&root)?;
        all.lock()?;
        let folder = root.join(request.app);
        let mut dropped = None;
        if request.clean && folder.exists() {
            dropped = Some(evict::put_away(&root, request.app)?);
        }
        make(&folder)?;
        let lock = lock_file(&folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        drop(all);
        dropped.iter().for_each(|gone| scratch::remove(gone));
        Ok(Some(Self {
            own: Dir::open_ambient_dir(&folder, ambient_authority())?,
            app: request.app.to_string(),
            root,
            folder,
            bytes_max: request.bytes_max,
            _lock: lock,
        }))
    }

    /// The folder that builds of this pack may write.
    pub(crate) fn pack(&self, pack: &str) -> io::Result<PathBuf> {
        check(pack)?;
        make(&self.folder.join(PACKS))?;
        let folder = self.folder.join(PACKS).join(pack);
        make(&folder)?;
        Ok(folder)
    }

    /// Drops what builds of this pack left.
    pub(crate) fn forget(&self, pack: &str) {
        scratch::remove(&self.folder.join(PACKS).join(pack));
    }

    /// Ends the use: what is too large goes, of this app first, then of those that were built longest ago.
    ///
    /// The answer names the packs whose caches went.
    pub(crate) fn finish(self) -> io::Result<Vec<String>> {
        let mut gone = Vec::new();
        let packs = fs::read_dir(self.folder.join(PACKS)).into_iter().flatten();
        for pack in packs.flatten() {
            let held = sandbox::held(&[pack.path()], PACK_ENTRIES_MAX);
            if held.bytes > PACK_BYTES_MAX || held.entries > PACK_ENTRIES_MAX {
                scratch::remove(&pack.path());
                gone.push(pack.file_name().to_string_lossy().into_owned());
            }
        }
        let held = sandbox::held(std::slice::from_ref(&self.folder), u64::MAX);
        self.own.write(BYTES, held.bytes.to_string())?;
        let Self {
            root, app, bytes_max, ..
        } = self;
        evict::evict(&root, &app, bytes_max)?;
        Ok(gone)
    }
}

/// A name that is a folder's, and no other folder's.
fn check(name: &str) -> io::Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > KEY_BYTES_MAX || name.starts_with('.') || !name.chars().all(known) {
        let wrong = format!("{name:?} cannot name a cache");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
    }
    Ok(())
}

/// Makes a folder that only this user can enter.
fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn lock_file(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(LOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(folder: &'a Path, app: &'a str) -> CacheRequest<'a> {
        CacheRequest {
            folder,
            app,
            bytes_max: 1 << 20,
            clean: false,
        }
    }

    #[test]
    fn a_cache_is_of_one_build_at_a_time() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let open = |app| AppCache::open(&request(folder.path(), app)).expect("open");
        let first = open("hello.1").expect("free");
        assert!(open("hello.1").is_none());
        assert!(open("other.1").is_some());
        fs::write(first.pack("rust").expect("folder").join("made"), "once").expect("file");
        assert_eq!(first.finish().expect("finish"), Vec::<String>::new());
        let again = open("hello.1").expect("free");
        assert!(again.pack("rust").expect("folder").join("made").exists());
        assert!(!again.pack("other").expect("folder").join("made").exists());
    }

    #[test]
    fn a_clean_build_starts_without_even_while_another_goes_on() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let first = AppCache::open(&request(folder.path(), "hello"))
            .expect("open")
            .expect("free");
        fs::write(first.pack("rust").expect("folder").join("made"), "once").expect("file");
        let clean = CacheRequest {
            clean: true,
            ..request(folder.path(), "hello")
        };
        let second = AppCache::open(&clean).expect("open").expect("a new one");
        assert!(!second.pack("rust").expect("folder").join("made").exists());
        // The first has no place for its files any more, and disturbs nobody.
        assert!(first.finish().is_err());
        second.finish().expect("finish");
    }

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for name in ["", ".", "..", "../x", "a/b", ".gone-1", "lock\n"] {
            assert!(check(name).is_err(), "{name:?}");
        }
        assert!(check("hello-2.1732222222000000").is_ok());
    }

    #[test]
    fn what_is_too_much_for_a_pack_goes_links_and_closed_folders_too() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let outside = tempfile::tempdir().expect("temporary folder");
        fs::write(outside.path().join("file"), "stays").expect("file");
        let cache = AppCache::open(&request(folder.path(), "hello"))
            .expect("open")
            .expect("free");
        let pack = cache.pack("rust").expect("folder");
        std::os::unix::fs::symlink(outside.path(), pack.join("link")).expect("link");
        // Deeper than is counted.
        let deep: PathBuf = std::iter::repeat_n("d", 200).collect();
        fs::create_dir_all(pack.join(deep)).expect("folders");
        assert_eq!(cache.finish().expect("finish"), ["rust"]);
        assert!(!pack.exists());
        assert!(outside.path().join("file").exists());
    }
}
