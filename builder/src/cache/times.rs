//! When each file of a project came: tools that compile what is newer than their last result then compile what
//! has changed, though every deploy unpacks all anew.
//!
//! In flow the files of the deploy before and of this one, out flows a time for each: that of the deploy which
//! brought it in its present form.
//!
//! Invariant: what changed is newer than everything that builds of this app made before, also when the clock was
//! set back.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::AppCache;
use crate::tree::{Sum, Tree};

const TIMES: &str = "times";
/// Between what builds made and what comes after: file systems may keep whole seconds.
const AFTER: u64 = 2;

/// The files of one deploy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Times {
    /// When the last build ended, in seconds.
    ended: u64,
    /// Seconds, by the first half of each file's sum.
    files: BTreeMap<String, u64>,
}

impl Times {
    /// Those of a deploy after this one, with a time for each file's place.
    fn next(&self, tree: &Tree, now: u64) -> (Self, Vec<(PathBuf, u64)>) {
        let new = now.max(self.ended + AFTER);
        let mut next = Self {
            ended: new,
            files: BTreeMap::new(),
        };
        let mut places = Vec::new();
        for (path, sum) in tree.files() {
            let name = half(&sum);
            let time = self.files.get(&name).copied().unwrap_or(new);
            next.files.insert(name, time);
            places.push((path.to_path_buf(), time));
        }
        (next, places)
    }

    /// Notes that a build has ended.
    pub(crate) fn end(&mut self, now: SystemTime) {
        self.ended = self.ended.max(seconds(now));
    }
}

impl AppCache {
    /// The times of this deploy's files.
    pub(crate) fn times(&self, tree: &Tree, now: SystemTime) -> (Times, Vec<(PathBuf, SystemTime)>) {
        let read = self.own.read(TIMES).ok();
        let before: Times = read
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let (times, places) = before.next(tree, seconds(now));
        let of = |(path, time)| (path, SystemTime::UNIX_EPOCH + Duration::from_secs(time));
        (times, places.into_iter().map(of).collect())
    }

    /// Keeps them for the next deploy.
    pub(crate) fn keep_times(&self, times: &Times) -> io::Result<()> {
        self.own.write(TIMES, serde_json::to_vec(times)?)
    }
}

fn half(sum: &Sum) -> String {
    sum[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cap_std::{ambient_authority, fs::Dir};

    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("file");
        }
        let dir = Dir::open_ambient_dir(folder.path(), ambient_authority()).expect("folder");
        Tree::of(&dir).expect("tree")
    }

    /// The times that a deploy's files get, in the order of their names.
    fn deploy(times: &mut Times, files: &[(&str, &str)], now: u64) -> Vec<u64> {
        let (next, places) = times.next(&tree(files), now);
        *times = next;
        places.into_iter().map(|(_, time)| time).collect()
    }

    #[test]
    fn what_did_not_change_keeps_its_time() {
        let mut times = Times::default();
        assert_eq!(
            deploy(&mut times, &[("a", "1"), ("b", "1")], 1_000),
            [1_000, 1_000]
        );
        assert_eq!(
            deploy(&mut times, &[("a", "1"), ("b", "2")], 2_000),
            [1_000, 2_000]
        );
        // What is as it once was has changed all the same.
        assert_eq!(
            deploy(&mut times, &[("a", "1"), ("b", "1")], 3_000),
            [1_000, 3_000]
        );
        // As has what has another name.
        assert_eq!(
            deploy(&mut times, &[("b", "1"), ("c", "1")], 4_000),
            [3_000, 4_000]
        );
    }

    #[test]
    fn what_changed_is_newer_than_any_build_whatever_the_clock_says() {
        let mut times = Times::default();
        deploy(&mut times, &[("a", "1")], 1_000);
        times.end(SystemTime::UNIX_EPOCH + Duration::from_secs(1_500));
        assert_eq!(deploy(&mut times, &[("a", "2")], 900), [1_500 + AFTER]);
    }
}
