//! The files of a commit, less what its `.gilliamignore` names.

use std::io::Read;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{
    ArchiveError,
    entry::{Content, Entries, Entry, folder_link, inner_path, is_never_deployed},
    folder::IGNORE_FILE,
    git::{self, Objects, Source, TreeFile},
    pointer,
    submodule::{self, Module},
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
    let mut tree = Tree::new();
    let mut modules = read(source, commit, "", &mut tree)?;
    let ignored = ignore_rules(&tree, objects)?;
    let is_left_out =
        |path: &str| is_never_deployed(path) || ignored.matched_path_or_any_parents(path, false).is_ignore();
    let mut absent = Vec::new();
    for depth in 0..=submodule::DEPTH_MAX {
        modules.retain(|module| !is_left_out(&module.path));
        if modules.is_empty() {
            break;
        }
        let (at_hand, missing) = submodule::at_hand(source, modules, depth)?;
        absent.extend(missing);
        modules = Vec::new();
        for module in &at_hand {
            modules.extend(
                read(source, &module.id, &module.path, &mut tree)?
                    .into_iter()
                    .map(|own| Module {
                        parent_url: module.url.clone(),
                        ..own
                    }),
            );
        }
        // What was fetched since is not known to a reader that was there before.
        *objects = Objects::open(source).map_err(|error| failed(commit, error))?;
    }
    absent.extend(modules.into_iter().map(|module| module.path));
    let mut entries = Entries::default();
    for (path, file) in &tree {
        let Some(bytes) = file.bytes.filter(|_| !is_left_out(path)) else {
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
    let mut hints: Vec<String> = submodule::hint(&absent).into_iter().collect();
    hints.extend(pointer::hint(&entries, objects)?);
    Ok((entries, hints))
}

fn failed(commit: &str, source: std::io::Error) -> ArchiveError {
    ArchiveError::Commit {
        commit: commit.to_string(),
        source,
    }
}

/// Adds the files of a commit below `folder`; what it has submodules at is returned.
fn read(
    source: Source<'_>,
    commit: &str,
    folder: &str,
    tree: &mut Tree,
) -> Result<Vec<Module>, ArchiveError> {
    let files = git::tree(source, commit).map_err(|error| failed(commit, error))?;
    let mut modules = Vec::new();
    for file in files.ok_or(ArchiveError::TooMany)? {
        let path = String::from_utf8(file.path.clone()).map_err(|e| ArchiveError::Name {
            path: String::from_utf8_lossy(e.as_bytes()).into_owned(),
        })?;
        let path = if folder.is_empty() {
            path
        } else {
            format!("{folder}/{path}")
        };
        if file.bytes.is_none() {
            modules.push(Module {
                path: path.clone(),
                id: file.id.clone(),
                commit: commit.to_string(),
                folder: folder.to_string(),
                ..Module::default()
            });
        }
        tree.insert(path, file);
        if tree.len() > git::TREE_FILES_MAX {
            return Err(ArchiveError::TooMany);
        }
    }
    Ok(modules)
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
