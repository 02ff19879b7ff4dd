//! Which apps lose their cache when all together are too large.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{BYTES, GONE, lock_file};
use crate::scratch;

/// A cache that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Idle {
    app: String,
    bytes: u64,
    used: SystemTime,
}

/// Those that go: built longest ago first, until the rest fits; `own`, just built, goes last.
fn choose(mut caches: Vec<Idle>, own: &str, bytes_max: u64) -> Vec<String> {
    caches.sort_by(|a, b| (a.app == own, a.used, &a.app).cmp(&(b.app == own, b.used, &b.app)));
    let mut bytes: u64 = caches.iter().map(|cache| cache.bytes).sum();
    let mut gone = Vec::new();
    for cache in caches {
        if bytes <= bytes_max {
            break;
        }
        bytes -= cache.bytes;
        gone.push(cache.app);
    }
    gone
}

/// Puts away what is too much, and removes it with all that was put away before.
pub(super) fn evict(root: &Path, own: &str, bytes_max: u64) -> io::Result<()> {
    let all = lock_file(root)?;
    all.lock()?;
    let mut caches = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let Ok(app) = entry.file_name().into_string() else {
            continue;
        };
        // Without its size it is new, and somebody builds in it, or was stopped.
        if let (false, Ok(metadata)) = (app.starts_with(GONE), fs::metadata(entry.path().join(BYTES))) {
            let text = fs::read_to_string(entry.path().join(BYTES)).unwrap_or_default();
            caches.push(Idle {
                app,
                bytes: text.parse().unwrap_or(u64::MAX / 1_024),
                used: metadata.modified()?,
            });
        }
    }
    for app in choose(caches, own, bytes_max) {
        // One in use stays: its build evicts when it ends.
        if lock_file(&root.join(&app))?.try_lock().is_ok() {
            put_away(root, &app)?;
        }
    }
    let gone: Vec<PathBuf> = fs::read_dir(root)?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(GONE))
        .map(|entry| entry.path())
        .collect();
    drop(all);
    gone.iter().for_each(|folder| scratch::remove(folder));
    Ok(())
}

/// Gives a cache a name that nobody looks for, which is quick; the caller holds the lock of all.
pub(super) fn put_away(root: &Path, app: &str) -> io::Result<PathBuf> {
    let place = tempfile::Builder::new().prefix(GONE).tempdir_in(root)?.keep();
    fs::rename(root.join(app), place.join(app))?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn those_built_longest_ago_go_first_and_ones_own_last() {
        let idle = |app: &str, bytes, used| Idle {
            app: app.to_string(),
            bytes,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(used),
        };
        let caches = || vec![idle("own", 60, 1), idle("new", 30, 9), idle("old", 20, 2)];
        for (bytes_max, want) in [
            (110, &[][..]),
            (109, &["old"]),
            (90, &["old"]),
            (89, &["old", "new"]),
            (59, &["old", "new", "own"]),
        ] {
            assert_eq!(choose(caches(), "own", bytes_max), want, "{bytes_max}");
        }
    }

    #[test]
    fn what_is_in_use_stays() {
        let root = tempfile::tempdir().expect("temporary folder");
        for app in ["used", "idle"] {
            fs::create_dir(root.path().join(app)).expect("folder");
            fs::write(root.path().join(app).join(BYTES), "100").expect("size");
        }
        let held = lock_file(&root.path().join("used")).expect("lock");
        held.lock().expect("lock");
        evict(root.path(), "none", 0).expect("evict");
        assert!(root.path().join("used").exists());
        assert!(!root.path().join("idle").exists());
    }
}
