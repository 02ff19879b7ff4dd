//! The files of a commit, less what its `.gilliamignore` names.

use std::io::Read;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{
    ArchiveError,
    entry::{Content, Entries, Entry, folder_link, inner_path, is_never_deployed},
    folder::IGNORE_FILE,
    git::{self, Objects, Source, TreeFile},
    pointer,
};

/// Longest chain of links followed; more is a loop.
const LINKS_MAX: usize = 8;
/// Longest target of a link, as Linux has it.
const LINK_BYTES_MAX: u64 = 4096;

const MODE_EXECUTABLE: &str = "100755";
const MODE_LINK: &str = "120000";

/// The files of `commit`, and what its author may not expect.
pub(super) fn entries(
    source: Source<'_>,
    commit: &str,
    objects: &mut Objects,
) -> Result<(Entries, Vec<String>), ArchiveError> {
    let failed = |source| ArchiveError::Commit {
        commit: commit.to_string(),
        source,
    };
    let files = git::tree(source, commit).map_err(failed)?;
    let mut tree = std::collections::BTreeMap::new();
    for file in files.ok_or(ArchiveError::TooMany)? {
        let path = String::from_utf8(file.path.clone()).map_err(|e| ArchiveError::Name {
            path: String::from_utf8_lossy(e.as_bytes()).into_owned(),
        })?;
        tree.insert(path, file);
    }
    let ignored = ignore_rules(&tree, objects)?;
    let mut entries = Entries::default();
    let mut submodules = Vec::new();
    for (path, file) in &tree {
        if is_never_deployed(path) || ignored.matched_path_or_any_parents(path, false).is_ignore() {
            continue;
        }
        let Some(bytes) = file.bytes else {
            submodules.push(path.as_str());
            continue;
        };
        let entry = match file.mode.as_str() {
            MODE_LINK => followed(&tree, path, objects)?,
            mode => Entry {
                bytes,
                is_executable: mode == MODE_EXECUTABLE,
                content: Content::Object(file.id.clone()),
            },
        };
        entries.insert(path.clone(), entry);
    }
    let mut hints: Vec<String> = submodules_hint(&submodules).into_iter().collect();
    hints.extend(pointer::hint(&entries, objects)?);
    Ok((entries, hints))
}

/// What is said of submodules: a commit names theirs, and does not have it.
fn submodules_hint(paths: &[&str]) -> Option<String> {
    let (is, them) = match paths {
        [] => return None,
        [_] => ("the submodule", "is"),
        _ => ("the submodules", "are"),
    };
    Some(format!(
        "{is} {} {them} not deployed, only what the commit itself holds; gilliam deploy . sends the folder with \
         them, git subtree takes them into the repository",
        paths.join(", ")
    ))
}

type Tree = std::collections::BTreeMap<String, TreeFile>;

fn ignore_rules(tree: &Tree, objects: &mut Objects) -> Result<Gitignore, ArchiveError> {
    let mut rules = GitignoreBuilder::new("");
    if let Some(file) = tree.get(IGNORE_FILE).filter(|file| file.bytes.is_some()) {
        let mut only = Entries::default();
        let content = Content::Object(file.id.clone());
        only.insert(
            IGNORE_FILE.to_string(),
            Entry {
                bytes: 0,
                is_executable: false,
                content,
            },
        );
        for line in only.text(IGNORE_FILE, Some(objects))?.unwrap_or_default().lines() {
            // git too passes over a line that is no pattern.
            let _ = rules.add_line(None, line);
        }
    }
    rules.build().map_err(|e| ArchiveError::Read {
        path: IGNORE_FILE.into(),
        source: std::io::Error::other(e.to_string()),
    })
}

/// Whether the commit has files below a path.
fn is_folder(tree: &Tree, path: &str) -> bool {
    let below = format!("{path}/");
    let mut from = tree.range(below.clone()..);
    from.next().is_some_and(|(first, _)| first.starts_with(&below))
}

/// The file or folder of the commit that a link of it leads to.
fn followed(tree: &Tree, link: &str, objects: &mut Objects) -> Result<Entry, ArchiveError> {
    let mut path = link.to_string();
    let mut target = String::new();
    for _ in 0..LINKS_MAX {
        let Some(file) = tree.get(&path) else {
            if is_folder(tree, &path) && !is_never_deployed(&path) {
                return Ok(folder_link(link, &path));
            }
            break;
        };
        match (file.mode.as_str(), file.bytes) {
            (MODE_LINK, _) => {
                target = link_target(&path, file, objects)?;
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let joined = if folder.is_empty() {
                    target.clone()
                } else {
                    format!("{folder}/{target}")
                };
                match inner_path(&joined).filter(|_| !target.starts_with('/')) {
                    Some(inner) => path = inner,
                    None => break,
                }
            }
            (mode, Some(bytes)) if !is_never_deployed(&path) => {
                let content = Content::Object(file.id.clone());
                return Ok(Entry {
                    bytes,
                    is_executable: mode == MODE_EXECUTABLE,
                    content,
                });
            }
            _ => break,
        }
    }
    Err(ArchiveError::Link {
        path: link.to_string(),
        target,
    })
}

fn link_target(path: &str, file: &TreeFile, objects: &mut Objects) -> Result<String, ArchiveError> {
    let read = objects.read(&file.id, |content, _| {
        let mut target = String::new();
        content
            .take(LINK_BYTES_MAX)
            .read_to_string(&mut target)
            .map(|_| target)
    });
    read.map_err(|source| ArchiveError::Read {
        path: path.into(),
        source,
    })
}
