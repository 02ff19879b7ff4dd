//! Which compiled code is kept that nothing runs: for a rollback, which then starts at once.
//!
//! In flow a folder and what of it is in use, out flow the names of what else stays.

use std::{collections::HashSet, fs, path::Path};

/// Bytes of compiled code that are kept for rollbacks beyond what runs, where the disk is large: that of fifty
/// large components, or of thousands of small ones.
const UNUSED_BYTES_MAX: u64 = 2 << 30;
/// Share of the disk that they may have where it is small.
const UNUSED_DISK_DIVISOR: u64 = 10;
/// Bytes of unused compiled code that the folder's disk has room for.
pub(super) fn unused_bytes_max(folder: &Path) -> u64 {
    let Ok(disk) = rustix::fs::statvfs(folder) else {
        return UNUSED_BYTES_MAX;
    };
    let disk_bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
    UNUSED_BYTES_MAX.min(disk_bytes / UNUSED_DISK_DIVISOR)
}

/// Names of the newest files that `skip` does not accept, of so many bytes together.
pub(super) fn newest_files(folder: &Path, bytes_max: u64, skip: &impl Fn(&str) -> bool) -> HashSet<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return HashSet::new();
    };
    let mut files: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| !skip(name))?;
            let meta = entry.metadata().ok()?;
            Some((meta.modified().ok()?, name, meta.len()))
        })
        .collect();
    files.sort();
    let mut left = bytes_max;
    let fits = |(_, name, bytes)| {
        left = left.checked_sub(bytes)?;
        Some(name)
    };
    files.into_iter().rev().map_while(fits).collect()
}
