//! `DATA/control.json`: where, and with which token, the node finds the control plane.

use std::{
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

/// The file's name in the data folder.
pub(crate) const NAME: &str = "control.json";

/// Its content.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ControlFile {
    /// The API's address: `http://127.0.0.1:7788`.
    pub(crate) api: String,
    /// A node token.
    pub(crate) token: String,
}

impl ControlFile {
    /// What an earlier control plane wrote, if it can be read.
    pub(crate) fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(data.join(NAME)).ok()?).ok()
    }

    /// Replaces the file in one step, readable by its owner only; one that says the same stays, for the disk
    /// may be full.
    pub(crate) fn write(&self, data: &Path) -> io::Result<()> {
        if Self::read(data).is_some_and(|now| now == *self) {
            return Ok(());
        }
        let new = data.join("control.json.new");
        let _ = std::fs::remove_file(&new);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(new, data.join(NAME))
    }
}
