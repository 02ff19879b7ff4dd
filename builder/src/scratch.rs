//! The folder of one build, which goes with it whatever the build left there.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A folder; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one within `folder`, which only this user can enter.
    pub(crate) fn beside(folder: &Path) -> io::Result<Self> {
        // Absolute, because mounts of a sandbox are made from another working folder.
        let folder = folder.canonicalize()?;
        let made = tempfile::Builder::new().prefix("build-").tempdir_in(folder)?;
        Ok(Self(made.keep()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes a folder that builds wrote in, whatever they left there.
pub(crate) fn remove(folder: &Path) {
    if fs::remove_dir_all(folder).is_ok() {
        return;
    }
    // A build may close its folders, and nest them more deeply than this process can hold open: the system's
    // commands follow no link, and go to any depth.
    for (program, args) in [("chmod", &["-R", "u+rwX"][..]), ("rm", &["-rf"])] {
        let mut command = Command::new(program);
        command.args(args).arg(folder).stdin(Stdio::null());
        // What stays is found by nobody but the operator.
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn closed_folders_go_too() {
        let outer = tempfile::tempdir().expect("temporary folder");
        let scratch = Scratch::beside(outer.path()).expect("folder");
        let closed = scratch.path().join("a/closed");
        fs::create_dir_all(closed.join("b")).expect("folders");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
        drop(scratch);
        assert_eq!(fs::read_dir(outer.path()).expect("folder").count(), 0);
    }
}
