//! The archive of a deploy: which files of a project go into it, and a tar of them in a temporary file.
//!
//! - Without a folder named, at the top of a git repository with a commit: the files of HEAD, less what
//!   `.gilliamignore` names. What is not committed is not deployed; a note says so.
//! - Otherwise: the folder as it is, less what `.gitignore` and `.gilliamignore` name (a `!line` of
//!   `.gilliamignore` brings back what `.gitignore` drops).
//! - In both, a `.wasm` that the Procfile names is taken from the folder even if ignored: a prebuilt
//!   component is an artefact, and those are rarely committed. `.git` and `.gilliam.app` never are.
//!
//! Invariant: the same files give the same bytes: sorted, without times and owners. Nothing outside the
//! folder is read: a symbolic link is stored as the file of the folder it leads to, or refused.

mod entry;
mod folder;
pub(crate) mod git;
mod head;
mod pointer;
mod submodule;
mod tar_file;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use gilliam_model::api::ARCHIVE_BYTES_MAX;

use crate::{
    amounts,
    failure::CommandError,
    git_child::{Received, SubmoduleError},
};
use entry::{Entries, PROCFILE, component_paths};

/// A packed project.
#[derive(Debug)]
pub(crate) struct Archive {
    /// Open at its beginning; gone when closed.
    pub(crate) file: fs::File,
    pub(crate) bytes: u64,
    /// What it holds, for people: `HEAD (1a2b3c4 subject)`, `the folder DIR`.
    pub(crate) origin: String,
    /// A message for the release when its author gives none.
    pub(crate) message: Option<String>,
    /// What the author may not expect.
    pub(crate) hints: Vec<String>,
}

/// A project that cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot read commit {commit}: {source}")]
    Commit { commit: String, source: io::Error },
    #[error("cannot write the archive: {0}")]
    Write(io::Error),
    #[error("{} is not a folder", path.display())]
    NoFolder { path: PathBuf },
    #[error("git refuses {}: {reason}", path.display())]
    Git { path: PathBuf, reason: String },
    #[error("no Procfile in the project ({origin})")]
    NoProcfile { origin: String, uncommitted: bool },
    #[error("{path} is a link to {target}, which is not a file of the project")]
    Link { path: String, target: String },
    #[error("{path} is neither a file nor a folder")]
    Special { path: String },
    #[error("the file name {path:?} is not text (UTF-8)")]
    Name { path: String },
    #[error("the submodule {path} cannot be fetched: {why}")]
    Submodule { path: String, why: SubmoduleError },
    #[error("the commit has more files than are looked at")]
    TooMany,
    #[error("{path} changed while it was read")]
    Changed { path: String },
    #[error(
        "the archive would have {}; at most {} are allowed",
        amounts::bytes(*bytes),
        amounts::bytes(ARCHIVE_BYTES_MAX)
    )]
    TooLarge {
        bytes: u64,
        largest: String,
        largest_bytes: u64,
    },
}

/// Packs the project at `named`, or else at `current`, by the rules above.
pub(crate) fn pack(named: Option<&Path>, current: &Path) -> Result<Archive, ArchiveError> {
    let dir = named.map_or_else(|| current.to_path_buf(), |named| current.join(named));
    if !dir.is_dir() {
        return Err(ArchiveError::NoFolder {
            path: named.unwrap_or(&dir).to_path_buf(),
        });
    }
    match (named, git::standing(&dir)) {
        (None, git::Standing::Head { commit }) => pack_head(&dir, &commit),
        (None, git::Standing::Refused { reason }) => Err(ArchiveError::Git { path: dir, reason }),
        (None, git::Standing::NoCommit) => {
            let mut archive = pack_folder(&dir)?;
            archive
                .hints
                .push("this repository has no commit yet; the folder as it is was deployed".to_string());
            Ok(archive)
        }
        _ => pack_folder(&dir),
    }
}

fn pack_folder(dir: &Path) -> Result<Archive, ArchiveError> {
    let origin = format!("the folder {}", dir.display());
    let mut entries = folder::entries(dir)?;
    let procfile = entries.text(PROCFILE, None)?;
    let procfile = procfile.ok_or_else(|| ArchiveError::NoProcfile {
        origin: origin.clone(),
        uncommitted: false,
    })?;
    folder::add_components(&mut entries, dir, &component_paths(&procfile))?;
    let (file, bytes) = tar_file::write(&entries, None)?;
    Ok(Archive {
        file,
        bytes,
        origin,
        message: None,
        hints: Vec::new(),
    })
}

fn pack_head(dir: &Path, commit: &str) -> Result<Archive, ArchiveError> {
    pack_commit(git::Source::Folder(&git::Checkout::at(dir)), commit, Some(dir))
}

/// Packs a commit that was pushed, by the rules for a commit: the same files give the same archive.
pub(crate) fn pack_received(received: &Received, commit: &str) -> Result<Archive, ArchiveError> {
    pack_commit(git::Source::Received(received), commit, None)
}

/// Packs a commit, with components that are built in `folder`.
fn pack_commit(
    source: git::Source<'_>,
    commit: &str,
    folder: Option<&Path>,
) -> Result<Archive, ArchiveError> {
    let subject = git::subject(source, commit);
    let origin = format!("HEAD ({})", subject.as_deref().unwrap_or(commit));
    let failed = |source| ArchiveError::Commit {
        commit: commit.to_string(),
        source,
    };
    let mut objects = git::Objects::open(source).map_err(failed)?;
    let (mut entries, mut hints) = head::entries(source, commit, &mut objects)?;
    let procfile = entries.text(PROCFILE, Some(&mut objects))?;
    let procfile = procfile.ok_or_else(|| ArchiveError::NoProcfile {
        origin: match folder {
            Some(_) => "HEAD of the git repository",
            None => "the commit that was pushed",
        }
        .to_string(),
        uncommitted: folder.is_some_and(|dir| dir.join(PROCFILE).exists()),
    })?;
    let components = component_paths(&procfile);
    let prebuilt: Vec<String> = components
        .into_iter()
        .filter(|path| !entries.contains(path))
        .collect();
    match (folder, prebuilt.first()) {
        (Some(dir), _) => {
            folder::add_components(&mut entries, dir, &prebuilt)?;
            hints.extend(uncommitted_hint(dir, &prebuilt));
        }
        (None, Some(path)) => hints.push(format!(
            "{path} is not in the commit: git add -f {path}, or gilliam deploy, which sends it all the same"
        )),
        (None, None) => {}
    }
    let (file, bytes) = tar_file::write(&entries, Some(&mut objects))?;
    Ok(Archive {
        file,
        bytes,
        origin,
        message: subject,
        hints,
    })
}

/// A hint when the working tree holds what HEAD does not; prebuilt components and our own file do not count.
fn uncommitted_hint(dir: &Path, prebuilt: &[String]) -> Option<String> {
    let expected = |path: &String| path == crate::project::APP_FILE || prebuilt.contains(path);
    let is_dirty = git::uncommitted(dir)?.iter().any(|path| !expected(path));
    is_dirty.then(|| {
        "uncommitted changes are not deployed; gilliam deploy . deploys the folder as it is".to_string()
    })
}

/// The largest top-level file or folder, for the one who must make the archive smaller.
fn largest(entries: &Entries) -> (String, u64) {
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for (path, entry) in entries.iter() {
        *sizes.entry(path.split('/').next().unwrap_or(path)).or_default() += entry.bytes;
    }
    let largest = sizes.into_iter().max_by_key(|(_, bytes)| *bytes);
    largest
        .map(|(name, bytes)| (name.to_string(), bytes))
        .unwrap_or_default()
}

impl From<ArchiveError> for CommandError {
    fn from(error: ArchiveError) -> Self {
        let hint = match &error {
            ArchiveError::NoProcfile {
                uncommitted: true, ..
            } => Some("it is not committed: git add Procfile && git commit, or gilliam deploy .".to_string()),
            ArchiveError::NoProcfile { .. } => Some(
                "name each process and its component in a file called Procfile, such as web: web.wasm"
                    .to_string(),
            ),
            ArchiveError::Link { path, .. } | ArchiveError::Special { path } => Some(format!(
                "name {path} in .gilliamignore when the app does not need it"
            )),
            ArchiveError::Name { .. } => Some("rename it, or name its folder in .gilliamignore".to_string()),
            ArchiveError::TooLarge {
                largest,
                largest_bytes,
                ..
            } => Some(format!(
                "the largest is {largest} ({}); name what the app does not need in .gilliamignore",
                amounts::bytes(*largest_bytes)
            )),
            ArchiveError::Submodule { why, .. } => Some(why.hint()),
            ArchiveError::TooMany => Some("take what is not source out of the repository".to_string()),
            ArchiveError::Git { .. } => Some("gilliam deploy . deploys the folder as it is".to_string()),
            ArchiveError::Changed { .. } => Some("deploy again when nothing writes to it".to_string()),
            ArchiveError::Read { .. }
            | ArchiveError::Commit { .. }
            | ArchiveError::Write(_)
            | ArchiveError::NoFolder { .. } => None,
        };
        Self {
            hint,
            ..Self::failed(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
