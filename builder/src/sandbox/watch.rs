//! What a build uses, measured from outside: the memory of its processes and the size of its folders.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Folders within folders that are counted; more than any build nests.
const DEPTH_MAX: usize = 100;

/// Bytes of memory that a process and all below it hold for themselves.
///
/// A process that ends meanwhile counts as nothing.
pub(super) fn memory_of_tree(top: u32) -> u64 {
    below(top).into_iter().chain([top]).map(own_memory).sum()
}

/// The processes that a process started, and theirs.
pub(super) fn below(top: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for id in ids {
        if let Some(parent) = parent(id) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = children.remove(&top).unwrap_or_default();
    let mut next = 0;
    while let Some(id) = found.get(next) {
        let more = children.remove(id).unwrap_or_default();
        found.extend(more);
        next += 1;
    }
    found
}

fn parent(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, which may hold anything, ends at the last parenthesis.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}

/// Pages in memory that are not of files: a library that all share counts for nobody.
fn own_memory(id: u32) -> u64 {
    let read = || {
        let text = fs::read_to_string(format!("/proc/{id}/statm")).ok()?;
        let mut pages = text.split(' ').skip(1).map(|number| number.parse::<u64>());
        let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
        Some(resident.saturating_sub(shared))
    };
    read().unwrap_or(0) * rustix::param::page_size() as u64
}

/// What folders hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// Counts what is below the folders; stops counting at `entries_max` and answers what it has then.
///
/// Nests of folders deeper than are counted answer as too many entries: nothing must hide in them.
pub(crate) fn held(folders: &[PathBuf], entries_max: u64) -> Held {
    let mut all = Held { bytes: 0, entries: 0 };
    let mut waiting: Vec<(PathBuf, usize)> = folders.iter().map(|folder| (folder.clone(), 0)).collect();
    while let Some((folder, depth)) = waiting.pop() {
        if depth > DEPTH_MAX {
            all.entries = u64::MAX;
            return all;
        }
        // A folder that went away meanwhile holds nothing.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            all.entries += 1;
            if all.entries > entries_max {
                return all;
            }
            if metadata.is_dir() {
                waiting.push((entry.path(), depth + 1));
            }
            all.bytes += std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
        }
    }
    all
}

/// Room that is left where the folder is.
pub(super) fn room(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail * found.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_counted_without_following_links() {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(folder.path().join("a")).expect("folder");
        fs::write(folder.path().join("a/b"), [1; 10_000]).expect("file");
        std::os::unix::fs::symlink("/usr", folder.path().join("a/usr")).expect("link");
        let folders = [folder.path().to_path_buf()];
        let all = held(&folders, 100);
        assert_eq!(all.entries, 3);
        assert!((10_000..200_000).contains(&all.bytes), "{all:?}");
        assert_eq!(held(&folders, 1).entries, 2);
    }

    #[test]
    fn a_deep_nest_is_too_many_entries() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let deep: PathBuf = std::iter::repeat_n("d", DEPTH_MAX + 2).collect();
        fs::create_dir_all(folder.path().join(deep)).expect("folders");
        assert_eq!(held(&[folder.path().to_path_buf()], 1_000).entries, u64::MAX);
    }

    #[test]
    fn this_process_holds_memory() {
        assert!(memory_of_tree(std::process::id()) > 100_000);
        assert_eq!(memory_of_tree(u32::MAX), 0);
    }
}
