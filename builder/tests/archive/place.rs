//! A folder to unpack in, and the proof that nothing around it changed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use cap_std::{ambient_authority, fs::Dir};
use gilliam_builder::archive::{ArchiveError, ArchiveLimits, Unpacked, unpack};

/// A folder to unpack in, with a tree around it that must stay as it is.
pub(crate) struct Place {
    around: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let around = tempfile::tempdir().expect("temporary folder");
        for folder in ["into", "canary/deep"] {
            fs::create_dir_all(around.path().join(folder)).expect("folder");
        }
        for file in ["canary/file", "canary/deep/file", "victim"] {
            fs::write(around.path().join(file), "untouched").expect("file");
        }
        let before = tree(around.path(), &["into"]);
        Self { around, before }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.around.path().join("into")
    }

    pub(crate) fn unpack(&self, archive: &[u8], limits: &ArchiveLimits) -> Result<Unpacked, ArchiveError> {
        let into = Dir::open_ambient_dir(self.folder(), ambient_authority()).expect("open");
        let result = unpack(archive, &into, limits);
        assert_eq!(
            tree(self.around.path(), &["into"]),
            self.before,
            "something outside changed"
        );
        result
    }
}

/// Every path below `root` with its kind, mode, length and content or target.
fn tree(root: &Path, without: &[&str]) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("list") {
            let path = entry.expect("entry").path();
            let name = path.strip_prefix(root).expect("below").to_path_buf();
            if without.iter().any(|skipped| name == Path::new(skipped)) {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).expect("metadata");
            let content = if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).expect("target").display())
            } else if metadata.is_dir() {
                folders.push(path);
                "dir".to_string()
            } else {
                String::from_utf8_lossy(&fs::read(&path).expect("read")).into_owned()
            };
            seen.insert(
                name,
                format!("{content} {:o} {}", metadata.mode(), metadata.nlink()),
            );
        }
    }
    seen
}
