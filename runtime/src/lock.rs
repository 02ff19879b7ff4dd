//! One node per data folder, and the record by which others find it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use gilliam_model::Timestamp;
use serde::{Deserialize, Serialize};

/// Whoever looks whether a node runs holds the lock for an instant; a starting node waits that out.
const PROBE_MAX: Duration = Duration::from_millis(200);
const PROBE_RETRY: Duration = Duration::from_millis(5);

/// A running node, as it wrote itself down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its process.
    pub pid: u32,
    /// Where its ingress listens.
    pub http: SocketAddr,
    /// gilliam's version.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
}

/// The record in a data folder, whether or not its node still runs; see [`is_running`].
pub fn read_record(data: &Path) -> io::Result<Option<NodeRecord>> {
    match fs::read(record_path(data)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a node holds the lock of a data folder.
pub fn is_running(data: &Path) -> bool {
    let Ok(file) = File::open(lock_path(data)) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The folder a node keeps its own files in.
pub(crate) fn node_folder(data: &Path) -> PathBuf {
    data.join("node")
}

fn lock_path(data: &Path) -> PathBuf {
    node_folder(data).join("lock")
}

fn record_path(data: &Path) -> PathBuf {
    node_folder(data).join("node.json")
}

/// The lock of a data folder: held until it is dropped, or its process ends however that happens.
#[derive(Debug)]
pub(crate) struct NodeLock {
    data: PathBuf,
    _file: File,
}

impl NodeLock {
    /// Takes the lock; none when another node has it.
    pub(crate) fn take(data: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(lock_path(data))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => {
                    // Of a node that died: whoever reads it now would take it for this one. On a full disk it
                    // also makes room for the new one.
                    let _ = fs::remove_file(record_path(data));
                    return Ok(Some(Self {
                        data: data.to_owned(),
                        _file: file,
                    }));
                }
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if begun.elapsed() >= PROBE_MAX => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PROBE_RETRY),
            }
        }
    }

    /// Writes down who holds the lock.
    pub(crate) fn record(&self, record: &NodeRecord) -> io::Result<()> {
        let json = serde_json::to_vec(record).map_err(io::Error::from)?;
        write_private(&record_path(&self.data), &json)
    }
}

impl Drop for NodeLock {
    fn drop(&mut self) {
        // The file stays: to unlink it would let two nodes lock two files of one name.
        let _ = fs::remove_file(record_path(&self.data));
    }
}

/// Writes a file whole or not at all, readable by the owner alone.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_holds_a_folder_and_leaves_no_record_behind() {
        let data = tempfile::tempdir().expect("folder");
        let data = data.path();
        fs::create_dir(node_folder(data)).expect("node folder");
        assert!(!is_running(data));
        let lock = NodeLock::take(data).expect("lock").expect("free");
        assert!(is_running(data));
        assert!(NodeLock::take(data).expect("lock").is_none());
        let record = NodeRecord {
            pid: 1,
            http: "127.0.0.1:8080".parse().expect("address"),
            version: "1".to_owned(),
            started_at: Timestamp::UNIX_EPOCH,
        };
        lock.record(&record).expect("record");
        assert_eq!(read_record(data).expect("read"), Some(record));
        drop(lock);
        assert!(!is_running(data));
        assert_eq!(read_record(data).expect("read"), None);
    }

    #[test]
    fn a_record_of_a_node_that_died_is_gone_once_another_holds_the_folder() {
        let data = tempfile::tempdir().expect("folder");
        let data = data.path();
        fs::create_dir(node_folder(data)).expect("node folder");
        fs::write(record_path(data), "{}").expect("what a killed node left");
        let _lock = NodeLock::take(data).expect("lock").expect("free");
        assert_eq!(read_record(data).expect("read"), None);
    }
}
