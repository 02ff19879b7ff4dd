//! The files of an archive, before they are read.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{ArchiveError, git};

/// The file that names the processes.
pub(super) const PROCFILE: &str = "Procfile";
/// Longest Procfile or ignore file looked at here; the builder has its own, smaller limit.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) bytes: u64,
    pub(super) is_executable: bool,
    pub(super) content: Content,
}

/// Where a file's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    File(PathBuf),
    Object(String),
    /// A link to a folder of the project: by the way from the link's own folder.
    Folder(String),
}

/// The files by path: relative, `/` between the parts, in the order of the archive.
#[derive(Debug, Default)]
pub(super) struct Entries(BTreeMap<String, Entry>);

impl Entries {
    pub(super) fn insert(&mut self, path: String, entry: Entry) {
        self.0.insert(path, entry);
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The beginning of a small text file; none when it is not there.
    pub(super) fn text(
        &self,
        path: &str,
        objects: Option<&mut git::Objects>,
    ) -> Result<Option<String>, ArchiveError> {
        let Some(entry) = self.0.get(path) else {
            return Ok(None);
        };
        let bytes = match (&entry.content, objects) {
            (Content::Object(id), Some(objects)) => objects.read(id, |content, _| read_text(content)),
            (Content::Object(id), None) => Err(io::Error::other(format!("no repository to read {id} from"))),
            (Content::Folder(_), _) => Err(io::Error::other("it is a folder")),
            (Content::File(file), _) => File::open(file).and_then(|mut file| read_text(&mut file)),
        };
        let bytes = bytes.map_err(|source| ArchiveError::Read {
            path: PathBuf::from(path),
            source,
        })?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

fn read_text(content: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    content.take(TEXT_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// The paths of the components that a Procfile names; what is wrong with its lines is the builder's to say.
pub(super) fn component_paths(procfile: &str) -> Vec<String> {
    let mut paths: Vec<String> = procfile
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .flat_map(|(_, command)| command.split_whitespace())
        .map(|word| word.trim_matches(['"', '\'']))
        .filter(|word| word.ends_with(".wasm"))
        .filter_map(inner_path)
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// The path without `./`, when it stays inside the folder.
pub(super) fn inner_path(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" if parts.is_empty() => return None,
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty() && Path::new(path).is_relative()).then(|| parts.join("/"))
}

/// The entry of a link at `path` to the folder `target`, both by their paths in the project.
pub(super) fn folder_link(path: &str, target: &str) -> Entry {
    let mut from: Vec<&str> = path.split('/').collect();
    from.pop();
    let to: Vec<&str> = target.split('/').collect();
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut way = vec![".."; from.len() - shared];
    way.extend(&to[shared..]);
    let way = if way.is_empty() {
        ".".to_string()
    } else {
        way.join("/")
    };
    Entry {
        bytes: 0,
        is_executable: false,
        content: Content::Folder(way),
    }
}

/// Whether a path is never deployed: git's own folder, and the file that names the app.
pub(super) fn is_never_deployed(path: &str) -> bool {
    path == crate::project::APP_FILE || path.split('/').any(|part| part == ".git")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_of_a_procfile_are_found() {
        let procfile = "# web: old.wasm\nweb: ./target/web.wasm --flag\nworker: node x.js\njob: 'a.wasm' b.wasm\n\
                        bad: ../../etc/x.wasm\nroot: /x.wasm\nno colon x.wasm\nweb2: ./target/web.wasm";
        assert_eq!(component_paths(procfile), ["a.wasm", "b.wasm", "target/web.wasm"]);
    }

    #[test]
    fn a_link_to_a_folder_leads_by_the_shortest_way() {
        for (path, target, want) in [
            ("lib", "src/lib", "src/lib"),
            ("a/b/link", "a/c", "../c"),
            ("a/b/link", "d", "../../d"),
            ("a/link", "a", "."),
            ("a/b/link", "a", ".."),
        ] {
            assert_eq!(
                folder_link(path, target).content,
                Content::Folder(want.to_string())
            );
        }
    }

    #[test]
    fn paths_stay_inside() {
        for (path, want) in [
            ("a/./b//c", Some("a/b/c")),
            ("a/../b", Some("b")),
            ("../a", None),
            ("a/../../b", None),
            ("/a", None),
            (".", None),
            ("", None),
        ] {
            assert_eq!(inner_path(path).as_deref(), want, "{path}");
        }
        assert!(
            is_never_deployed(".git/config")
                && is_never_deployed("sub/.git")
                && is_never_deployed(".gilliam.app")
        );
        assert!(!is_never_deployed(".gitignore"));
    }
}
