//! The files of a folder as it is, less what is ignored.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use ignore::WalkBuilder;

use super::{
    ArchiveError,
    entry::{Content, Entries, Entry, folder_link, is_never_deployed},
    git,
};

/// Ignore rules for deploys alone, in the form of `.gitignore`; they win over those.
pub(super) const IGNORE_FILE: &str = ".gilliamignore";

/// The files of `dir`.
pub(super) fn entries(dir: &Path) -> Result<Entries, ArchiveError> {
    let root = canonical(dir)?;
    let mut entries = Entries::default();
    for found in walk(&root) {
        let found = found.map_err(|error| walk_error(dir, error))?;
        let Some(path) = relative(&root, found.path())? else {
            continue;
        };
        let kind = found.file_type();
        if is_never_deployed(&path) || kind.is_some_and(|kind| kind.is_dir()) {
            continue;
        }
        let entry = entry(&root, &path, found.path())?;
        entries.insert(path, entry);
    }
    Ok(entries)
}

/// Adds the named components that the folder holds, ignored or not; the builder names those that are missing.
pub(super) fn add_components(
    entries: &mut Entries,
    dir: &Path,
    paths: &[String],
) -> Result<(), ArchiveError> {
    let root = canonical(dir)?;
    for path in paths {
        let file = root.join(path);
        if !is_never_deployed(path) && file.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            entries.insert(path.clone(), entry(&root, path, &file)?);
        }
    }
    Ok(())
}

fn walk(root: &Path) -> ignore::Walk {
    // Rules of folders above count when they belong to the same repository, and not from anywhere else.
    let has_parents = git::is_inside_repository(root);
    WalkBuilder::new(root)
        .standard_filters(false)
        .git_ignore(true)
        .git_exclude(true)
        .require_git(false)
        .parents(has_parents)
        .add_custom_ignore_filename(IGNORE_FILE)
        .follow_links(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build()
}

fn entry(root: &Path, path: &str, file: &Path) -> Result<Entry, ArchiveError> {
    let unreadable = |source| ArchiveError::Read {
        path: file.to_path_buf(),
        source,
    };
    let found = file.symlink_metadata().map_err(unreadable)?;
    if found.is_symlink() {
        let (target, inner) = follow(root, path, file)?;
        let found = target.metadata().map_err(unreadable)?;
        return Ok(match found.is_dir() {
            true => folder_link(path, &inner),
            false => of_file(target, &found),
        });
    }
    if !found.is_file() {
        return Err(ArchiveError::Special {
            path: path.to_string(),
        });
    }
    // A folder on the way to a named component may itself be a link to elsewhere.
    let real = canonical(file)?;
    if !real.starts_with(root) {
        return Err(ArchiveError::Link {
            path: path.to_string(),
            target: real.display().to_string(),
        });
    }
    Ok(of_file(real, &found))
}

fn of_file(file: PathBuf, found: &Metadata) -> Entry {
    Entry {
        bytes: found.len(),
        is_executable: found.permissions().mode() & 0o100 != 0,
        content: Content::File(file),
    }
}

/// The file or folder of the project that a link leads to, and its path there.
fn follow(root: &Path, path: &str, link: &Path) -> Result<(PathBuf, String), ArchiveError> {
    let refused = || ArchiveError::Link {
        path: path.to_string(),
        target: fs::read_link(link).unwrap_or_default().display().to_string(),
    };
    let target = link.canonicalize().map_err(|_| refused())?;
    let inner = relative(root, &target).ok().flatten();
    let inner = inner.filter(|inner| target.starts_with(root) && !is_never_deployed(inner));
    match inner {
        Some(inner) if target.is_file() || target.is_dir() => Ok((target, inner)),
        _ => Err(refused()),
    }
}

fn canonical(path: &Path) -> Result<PathBuf, ArchiveError> {
    path.canonicalize().map_err(|source| ArchiveError::Read {
        path: path.to_path_buf(),
        source,
    })
}

/// The path within the root with `/` between its parts; none for the root itself.
fn relative(root: &Path, path: &Path) -> Result<Option<String>, ArchiveError> {
    let inner = path.strip_prefix(root).unwrap_or(path);
    match inner.to_str() {
        Some("") => Ok(None),
        Some(text) => Ok(Some(text.to_string())),
        None => Err(ArchiveError::Name {
            path: inner.to_string_lossy().into_owned(),
        }),
    }
}

fn walk_error(dir: &Path, error: ignore::Error) -> ArchiveError {
    let message = error.to_string();
    let source = error.into_io_error().unwrap_or_else(|| io::Error::other(message));
    ArchiveError::Read {
        path: dir.to_path_buf(),
        source,
    }
}
