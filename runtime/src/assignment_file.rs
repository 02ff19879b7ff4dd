//! The last assignment on disk, so that a node that starts while the control plane is gone serves at once.
//!
//! It holds the apps' configuration: readable by the owner alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gilliam_model::assignment::Assignment;

use crate::lock::{node_folder, write_private};

/// The file of one node.
#[derive(Debug, Clone)]
pub(crate) struct AssignmentFile {
    path: PathBuf,
}

impl AssignmentFile {
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            path: node_folder(data).join("assignment.json"),
        }
    }

    /// The last assignment. A file that cannot be read counts as none: the control plane will send another.
    pub(crate) fn read(&self) -> Option<Assignment> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "cannot read the last assignment");
                return None;
            }
        };
        match serde_json::from_slice(&bytes) {
            Ok(assignment) => Some(assignment),
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "the last assignment is damaged");
                None
            }
        }
    }

    /// Keeps `assignment`. Blocks on the disk.
    pub(crate) fn write(&self, assignment: &Assignment) {
        let written = serde_json::to_vec(assignment)
            .map_err(io::Error::from)
            .and_then(|json| write_private(&self.path, &json));
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.path.display(), "cannot keep the assignment");
        }
    }
}
