//! The packs and the WIT packages that are part of the program, as files.
//!
//! Each build writes its own copy into its scratch folder, so that no build finds what another has changed.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

// `PACKS` and `WIT`: paths and contents, found by `build.rs`.
include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// Folders, and files that are run.
const SCRIPT: u32 = 0o755;
/// All other files.
const PLAIN: u32 = 0o644;
/// Files of a pack that are run.
const SCRIPTS: &[&str] = &["build", "tools", "setup"];
/// The folder of a pack with the files of a new project.
const INIT: &str = "init";

/// Writes the packs below `folder`.
pub(super) fn write_packs(folder: &Path) -> io::Result<()> {
    PACKS.iter().try_for_each(|(path, bytes)| {
        let is_script = path
            .split_once('/')
            .is_some_and(|(_, name)| SCRIPTS.contains(&name));
        write(folder, path, bytes, if is_script { SCRIPT } else { PLAIN })
    })
}

/// Writes the platform's WIT packages below `folder`.
pub(super) fn write_wit(folder: &Path) -> io::Result<()> {
    WIT.iter()
        .try_for_each(|(path, bytes)| write(folder, path, bytes, PLAIN))
}

/// The contents of the platform's WIT packages, in the order of their paths.
pub(crate) fn wit() -> impl Iterator<Item = &'static [u8]> {
    WIT.iter().map(|(_, bytes)| *bytes)
}

/// Whatever the process's umask: the users of builds read them.
fn write(folder: &Path, path: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (parents, _) = path.rsplit_once('/').expect("a path in a folder");
    let mut place = folder.to_path_buf();
    fs::create_dir_all(&place)?;
    fs::set_permissions(&place, fs::Permissions::from_mode(SCRIPT))?;
    for name in parents.split('/') {
        place.push(name);
        if !place.is_dir() {
            fs::create_dir(&place)?;
            fs::set_permissions(&place, fs::Permissions::from_mode(SCRIPT))?;
        }
    }
    let file = folder.join(path);
    fs::write(&file, bytes)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(mode))
}

/// The languages in which a new project can begin.
pub fn languages() -> Vec<&'static str> {
    let mut names: Vec<&str> = PACKS
        .iter()
        .filter_map(|(path, _)| {
            let (name, rest) = path.split_once('/')?;
            rest.strip_prefix(INIT)?.starts_with('/').then_some(name)
        })
        .collect();
    names.dedup();
    names
}

/// The files of a new project in this language: paths from its top, and contents.
pub fn init_files(language: &str) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    PACKS.iter().filter_map(move |(path, bytes)| {
        let (name, rest) = path.split_once('/')?;
        let path = rest.strip_prefix(INIT)?.strip_prefix('/')?;
        (name == language).then_some((path, *bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_written_with_what_they_need_to_run() {
        let folder = tempfile::tempdir().expect("temporary folder");
        write_packs(folder.path()).expect("packs");
        write_wit(&folder.path().join("wit")).expect("wit");
        let mode = |path: &str| {
            let found =
                fs::metadata(folder.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            found.permissions().mode() & 0o777
        };
        assert_eq!(mode("rust"), SCRIPT);
        assert_eq!(mode("rust/build"), SCRIPT);
        assert_eq!(mode("rust/words"), PLAIN);
        assert_eq!(mode("wit/deps/wasi-cli-0.2.12/package.wit"), PLAIN);
        assert!(!folder.path().join("README.md").exists());
    }

    #[test]
    fn new_projects_are_whole() {
        for language in languages() {
            let files: Vec<&str> = init_files(language).map(|(path, _)| path).collect();
            for name in ["Procfile", "README.md"] {
                assert!(files.contains(&name), "{language} lacks {name}: {files:?}");
            }
        }
    }
}
