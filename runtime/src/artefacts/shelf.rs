//! What stays on disk of components that nothing runs: for a rollback, and for what comes back, which then starts at
//! once.
//!
//! In: which components are in use. Out: files that are gone, those least recently used first, when the rest would have
//! too many bytes. A component goes with all of its files. When it was used last is the time of modification of its
//! blob, which says nothing else, so it survives a restart; compiled code without a blob counts from when it was made.
//!
//! Invariant: nothing is removed of a component that is in use, whatever the disk has left.
//! Invariant: the times of compiled code are left alone: by them it is known not to have changed.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Bytes of blobs and compiled code of what nothing runs, where the disk is large: those of fifty large components, or
/// of thousands of small ones.
const UNUSED_BYTES_MAX: u64 = 4 << 30;
/// Share of the disk that they may have where it is small.
const UNUSED_DISK_DIVISOR: u64 = 10;
/// Length of a digest in the name of a file.
const HEX_CHARS: usize = 64;
/// How what is on its way ends.
const DRAFT: &str = ".draft";

/// The folders of blobs and of compiled code.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) blobs: PathBuf,
    pub(super) code: PathBuf,
    unused_bytes_max: u64,
}

/// A component's files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    used: SystemTime,
    bytes: u64,
    files: Vec<PathBuf>,
}

impl Shelf {
    /// With a limit for what nothing runs; without one it is by the size of the disk.
    pub(super) fn new(blobs: PathBuf, code: PathBuf, limit: Option<u64>) -> Self {
        let unused_bytes_max = limit.unwrap_or_else(|| default_limit(&blobs));
        Self {
            blobs,
            code,
            unused_bytes_max,
        }
    }

    /// Takes note that components, named by the hex digits of their digests, are used at this moment.
    pub(super) fn used<'a>(&self, components: impl IntoIterator<Item = &'a str>) {
        for hex in components {
            // One that is not there has nothing to remember; one that cannot be noted goes a little early.
            let _ =
                fs::File::open(self.blobs.join(hex)).and_then(|file| file.set_modified(SystemTime::now()));
        }
    }

    /// Removes what is too much of what is not `in_use`. Gives the bytes that are free now.
    pub(super) fn tidy(&self, in_use: &HashSet<String>) -> u64 {
        self.shrink(in_use, self.unused_bytes_max)
    }

    /// Removes all that is not `in_use`: the disk is full. Gives the bytes that are free now.
    pub(super) fn clear(&self, in_use: &HashSet<String>) -> u64 {
        self.shrink(in_use, 0)
    }

    fn shrink(&self, in_use: &HashSet<String>, bytes_max: u64) -> u64 {
        let kept = self.unused(in_use);
        let mut freed = 0;
        for component in surplus(kept.into_values().collect(), bytes_max) {
            freed += component.bytes;
            for file in component.files {
                let _ = fs::remove_file(file);
            }
        }
        freed
    }

    /// Every component on disk that is not `in_use`.
    fn unused(&self, in_use: &HashSet<String>) -> HashMap<String, Kept> {
        let mut found: HashMap<String, Kept> = HashMap::new();
        let (code, blobs) = (entries(&self.code), entries(&self.blobs));
        let code = code.filter(|(name, _, _)| name.ends_with(".cwasm"));
        for (is_blob, (name, path, meta)) in code.map(|f| (false, f)).chain(blobs.map(|f| (true, f))) {
            let Some(hex) = name.get(..HEX_CHARS).filter(|hex| !in_use.contains(*hex)) else {
                continue;
            };
            // A draft of what nobody wants is nothing to keep.
            if name.ends_with(DRAFT) {
                let _ = fs::remove_file(path);
                continue;
            }
            let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let kept = found.entry(hex.to_owned()).or_insert_with(|| Kept {
                used: modified,
                bytes: 0,
                files: Vec::new(),
            });
            kept.used = if is_blob {
                modified
            } else {
                kept.used.max(modified)
            };
            kept.bytes += meta.len();
            kept.files.push(path);
        }
        found
    }
}

/// Of these, what is to go so that the rest has at most `bytes_max`: those least recently used.
fn surplus(mut kept: Vec<Kept>, bytes_max: u64) -> Vec<Kept> {
    kept.sort_by(|a, b| (b.used, &b.files).cmp(&(a.used, &a.files)));
    let mut bytes = 0_u64;
    let stays = |component: &Kept| {
        bytes = bytes.saturating_add(component.bytes);
        bytes <= bytes_max
    };
    let stay = kept.iter().map(stays).take_while(|stays| *stays).count();
    kept.split_off(stay)
}

fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf, fs::Metadata)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((name, entry.path(), entry.metadata().ok()?))
    })
}

fn default_limit(folder: &Path) -> u64 {
    let Ok(disk) = rustix::fs::statvfs(folder) else {
        return UNUSED_BYTES_MAX;
    };
    let disk_bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
    UNUSED_BYTES_MAX.min(disk_bytes / UNUSED_DISK_DIVISOR)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn hex(byte: u8) -> String {
        format!("{byte:02x}").repeat(HEX_CHARS / 2)
    }

    /// A shelf of components 0 .. count with 100 bytes each, used in that order.
    fn shelf(folder: &Path, count: u8, limit: u64) -> Shelf {
        let (blobs, code) = (folder.join("blobs"), folder.join("code"));
        fs::create_dir_all(&blobs).expect("folder");
        fs::create_dir_all(&code).expect("folder");
        for byte in 0..count {
            fs::write(blobs.join(hex(byte)), [0; 40]).expect("blob");
            fs::write(code.join(format!("{}-quick.cwasm", hex(byte))), [0; 30]).expect("code");
            fs::write(code.join(format!("{}-full.cwasm", hex(byte))), [0; 30]).expect("code");
            let age = Duration::from_secs(1_000 - u64::from(byte));
            let blob = fs::File::open(blobs.join(hex(byte))).expect("blob");
            blob.set_modified(SystemTime::now() - age).expect("time");
        }
        Shelf::new(blobs, code, Some(limit))
    }

    fn left(shelf: &Shelf) -> Vec<u8> {
        let has_all = |byte: &u8| {
            let files = [
                shelf.blobs.join(hex(*byte)),
                shelf.code.join(format!("{}-quick.cwasm", hex(*byte))),
                shelf.code.join(format!("{}-full.cwasm", hex(*byte))),
            ];
            let there = files.iter().filter(|file| file.exists()).count();
            assert!(there == 0 || there == 3, "{byte}: {there} of its files");
            there == 3
        };
        (0..20).filter(has_all).collect()
    }

    fn set(bytes: &[u8]) -> HashSet<String> {
        bytes.iter().map(|byte| hex(*byte)).collect()
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_what_is_in_use_never() {
        let folder = tempfile::tempdir().expect("folder");
        let shelf = shelf(folder.path(), 10, 350);
        // Used, not made, last.
        shelf.used([hex(2).as_str(), hex(19).as_str()]);
        assert_eq!(shelf.tidy(&set(&[0])), 600);
        assert_eq!(left(&shelf), [0, 2, 8, 9]);
        assert_eq!(shelf.tidy(&set(&[0])), 0, "what is left has room");
        // What is not in use any more counts.
        assert_eq!(shelf.tidy(&set(&[])), 100);
        assert_eq!(left(&shelf), [2, 8, 9]);
        assert_eq!(shelf.clear(&set(&[8])), 200);
        assert_eq!(left(&shelf), [8]);
    }

    #[test]
    fn the_order_survives_a_restart_and_a_limit_of_none_keeps_what_runs() {
        let folder = tempfile::tempdir().expect("folder");
        shelf(folder.path(), 4, 1_000).used([hex(0).as_str()]);
        let again = Shelf::new(folder.path().join("blobs"), folder.path().join("code"), Some(200));
        again.tidy(&set(&[]));
        assert_eq!(left(&again), [0, 3]);
        let none = Shelf::new(folder.path().join("blobs"), folder.path().join("code"), Some(0));
        none.tidy(&set(&[3]));
        assert_eq!(left(&none), [3]);
    }

    #[test]
    fn drafts_of_what_is_wanted_stay() {
        let folder = tempfile::tempdir().expect("folder");
        let shelf = shelf(folder.path(), 0, 1_000);
        let draft = |byte| shelf.blobs.join(format!("{}{DRAFT}", hex(byte)));
        for byte in [1, 2] {
            fs::write(draft(byte), "half").expect("draft");
        }
        shelf.tidy(&set(&[1]));
        assert!(draft(1).exists() && !draft(2).exists());
    }

    proptest! {
        #[test]
        fn what_stays_fits_and_was_used_after_all_that_goes(
            sizes in prop::collection::vec((0_u64..100, 0_u64..50), 0..30),
            bytes_max in 0_u64..2_000,
        ) {
            let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let kept: Vec<Kept> = sizes
                .iter()
                .enumerate()
                .map(|(n, (bytes, used))| Kept {
                    used: at(*used),
                    bytes: *bytes,
                    files: vec![PathBuf::from(n.to_string())],
                })
                .collect();
            let gone = surplus(kept.clone(), bytes_max);
            let stays: Vec<&Kept> = kept.iter().filter(|kept| !gone.contains(kept)).collect();
            prop_assert!(stays.iter().map(|kept| kept.bytes).sum::<u64>() <= bytes_max);
            let oldest = stays.iter().map(|kept| kept.used).min();
            prop_assert!(gone.iter().all(|gone| oldest.is_none_or(|oldest| gone.used <= oldest)));
            // No more goes than must: the next one would not fit.
            if let Some(next) = gone.first() {
                let bytes: u64 = stays.iter().map(|kept| kept.bytes).sum();
                prop_assert!(bytes + next.bytes > bytes_max);
            }
        }
    }
}
