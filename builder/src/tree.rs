//! What is in a folder, by content: the same files give the same digest, whoever wrote them and when.
//!
//! Out flows a [`Tree`]: each file with the digest of its contents, names in order. From it comes the key of a
//! build's result, and for each file whether it is the one of the deploy before.
//!
//! Invariant: no link is followed, and nothing is read beyond what `archive` unpacks.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use cap_std::fs::{Dir, DirEntry, MetadataExt as _};
use sha2::{Digest as _, Sha256};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A SHA-256 digest.
pub(crate) type Sum = [u8; 32];

/// A folder's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    /// By path from the folder; each sum is of the kind, the mode and the contents.
    nodes: BTreeMap<PathBuf, Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    sum: Sum,
    is_file: bool,
}

impl Tree {
    /// Reads all below `folder`.
    pub(crate) fn of(folder: &Dir) -> io::Result<Self> {
        let mut nodes = BTreeMap::new();
        let mut waiting = vec![(PathBuf::new(), folder.try_clone()?)];
        while let Some((path, folder)) = waiting.pop() {
            for entry in folder.entries()? {
                let entry = entry?;
                let path = path.join(entry.file_name());
                let kind = entry.file_type()?;
                let node = if kind.is_dir() {
                    waiting.push((path.clone(), entry.open_dir()?));
                    Node::of(b"folder", &[], false)
                } else if kind.is_symlink() {
                    let target = folder.read_link_contents(entry.file_name())?;
                    Node::of(b"link", target.as_os_str().as_bytes(), false)
                } else {
                    file(&entry)?
                };
                nodes.insert(path, node);
            }
        }
        Ok(Self { nodes })
    }

    /// The digest of all.
    pub(crate) fn sum(&self) -> Sum {
        let mut all = Sha256::new();
        for (path, node) in &self.nodes {
            all.update(path_sum(path, node));
        }
        all.finalize().into()
    }

    /// What stands for a file with its place and contents, for each regular file.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, Sum)> {
        let files = self.nodes.iter().filter(|(_, node)| node.is_file);
        files.map(|(path, node)| (path.as_path(), path_sum(path, node)))
    }
}

impl Node {
    fn of(kind: &[u8], contents: &[u8], is_file: bool) -> Self {
        let sum = Sha256::new().chain_update(kind).chain_update(b"\0");
        Self {
            sum: sum.chain_update(contents).finalize().into(),
            is_file,
        }
    }
}

fn file(entry: &DirEntry) -> io::Result<Node> {
    let mut file = entry.open()?;
    let is_script = file.metadata()?.mode() & 0o111 != 0;
    let mut sum = Sha256::new().chain_update(if is_script { &b"script\0"[..] } else { b"file\0" });
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => sum.update(&chunk[..n]),
        }
    }
    Ok(Node {
        sum: sum.finalize().into(),
        is_file: true,
    })
}

fn path_sum(path: &Path, node: &Node) -> Sum {
    // A path has no NUL, so that no other pair reads the same.
    let sum = Sha256::new().chain_update(path.as_os_str().as_bytes());
    sum.chain_update(b"\0").chain_update(node.sum).finalize().into()
}

/// Sets the time of each file below `folder`.
pub(crate) fn set_times<'a>(
    folder: &Dir,
    times: impl Iterator<Item = (&'a Path, SystemTime)>,
) -> io::Result<()> {
    for (path, time) in times {
        let file: fs::File = folder.open(path)?.into_std();
        file.set_modified(time)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use cap_std::ambient_authority;

    use super::*;

    /// A folder with these files, as a tree.
    fn tree(make: impl FnOnce(&Path)) -> Tree {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(folder.path().join("a")).expect("folder");
        fs::write(folder.path().join("a/file"), "one").expect("file");
        make(folder.path());
        let dir = Dir::open_ambient_dir(folder.path(), ambient_authority()).expect("folder");
        Tree::of(&dir).expect("tree")
    }

    #[test]
    fn a_tree_is_its_names_contents_links_and_modes() {
        let first = tree(|_| ());
        assert_eq!(first, tree(|_| ()));
        assert_eq!(first.files().count(), 1);
        let changes: [fn(&Path); 6] = [
            |root| fs::write(root.join("a/file"), "two").expect("file"),
            |root| fs::rename(root.join("a/file"), root.join("file")).expect("rename"),
            |root| fs::create_dir(root.join("b")).expect("folder"),
            |root| symlink("file", root.join("a/link")).expect("link"),
            |root| symlink("other", root.join("a/link")).expect("link"),
            |root| fs::set_permissions(root.join("a/file"), fs::Permissions::from_mode(0o755)).expect("mode"),
        ];
        let mut sums: Vec<Sum> = changes.into_iter().map(|change| tree(change).sum()).collect();
        sums.push(first.sum());
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), 7);
    }
}
