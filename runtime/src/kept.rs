//! What a node keeps on disk of what it was last told, so that one that starts while the control plane is gone
//! serves at once: its assignment, and which other nodes take requests.
//!
//! The assignment holds the apps' configuration: readable by the owner alone.

use std::{
    fs, io,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gilliam_model::{assignment::Assignment, peer::PeerTable};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch, time::sleep};

use crate::lock::{node_folder, write_private};

/// Between two writings of what changes often: each is one fsync, and what is a little old is of use too.
const INTERVAL: Duration = Duration::from_secs(5);

/// The file of one node for one kind of thing.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    path: PathBuf,
    holds: PhantomData<fn() -> T>,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            holds: PhantomData,
        }
    }
}

impl Kept<Assignment> {
    pub(crate) fn assignment(data: &Path) -> Self {
        Self::at(data, "assignment.json")
    }
}

impl Kept<PeerTable> {
    pub(crate) fn peers(data: &Path) -> Self {
        Self::at(data, "peers.json")
    }
}

impl<T: Serialize + DeserializeOwned> Kept<T> {
    /// What was kept last. A file that cannot be read counts as none: the control plane will send another.
    pub(crate) fn read(&self) -> Option<T> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "cannot read what was kept");
                return None;
            }
        };
        match serde_json::from_slice(&bytes) {
            Ok(kept) => Some(kept),
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "what was kept is damaged");
                None
            }
        }
    }

    /// Keeps `newest` in place of what was kept. Blocks on the disk.
    pub(crate) fn write(&self, newest: &T) {
        let written = serde_json::to_vec(newest)
            .map_err(io::Error::from)
            .and_then(|json| write_private(&self.path, &json));
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.path.display(), "cannot keep what is newest");
        }
    }
}

impl<T> Kept<T> {
    fn at(data: &Path, name: &str) -> Self {
        Self {
            path: node_folder(data).join(name),
            holds: PhantomData,
        }
    }
}

/// Keeps what is newest, for as long as it is polled: the first at once, what follows within [`INTERVAL`].
pub(crate) async fn keep<T>(file: Kept<T>, mut newest: watch::Receiver<Option<Arc<T>>>)
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    while newest.changed().await.is_ok() {
        let (file, kept) = (file.clone(), newest.borrow_and_update().clone());
        if let Some(kept) = kept {
            let written = tokio::task::spawn_blocking(move || file.write(&kept));
            let _ = written.await;
        }
        sleep(INTERVAL).await;
    }
}
