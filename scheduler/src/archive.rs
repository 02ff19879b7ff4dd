//! Archives on their way in: streamed to a file in the temporary folder, bounded, and gone when their deploy
//! ends.
//!
//! Invariant: an archive is never held in memory, and no file outlives the deploy it came with: a life of the
//! control plane that ended without cleaning up is cleaned up after by the next.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::refusal::Refusal;

/// Longest pause in an upload: a client that is still there sends something.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Bytes of a refused upload that are read all the same, since a client that still writes may not see the
/// answer.
const DISCARD_BYTES_MAX: u64 = 64 << 20;
/// Longest time spent on that.
const DISCARD_MAX: Duration = Duration::from_secs(10);
/// Longest pause in it: a client that has stopped sending is reading.
const DISCARD_IDLE_MAX: Duration = Duration::from_secs(1);

/// A received archive; its file goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
}

impl Archive {
    /// The file at `path`, which is there already.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an archive");
        }
    }
}

/// Makes the temporary folder, or empties it of what an earlier life left.
pub(crate) fn empty(tmp: &Path) -> io::Result<()> {
    match fs::remove_dir_all(tmp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(tmp)
}

/// Writes a request's body to a file in `tmp`.
pub(crate) async fn receive(body: Body, tmp: &Path, bytes_max: u64) -> Result<Archive, Refusal> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let archive = Archive {
        path: tmp.join(format!("deploy-{number}.tar")),
    };
    let file = tokio::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&archive.path)
        .await;
    let mut file = file.map_err(|e| cannot_store(&e))?;
    let mut stream = body.into_data_stream();
    let mut bytes = 0;
    while let Some(chunk) = next(&mut stream).await? {
        bytes += chunk.len() as u64;
        if bytes > bytes_max {
            discard(stream).await;
            return Err(too_large(bytes_max));
        }
        file.write_all(&chunk).await.map_err(|e| cannot_store(&e))?;
    }
    file.flush().await.map_err(|e| cannot_store(&e))?;
    if bytes == 0 {
        return Err(Refusal::malformed("the archive is empty").hint("send a tar archive as the body"));
    }
    Ok(archive)
}

/// Reads on and forgets, within limits.
pub(crate) async fn discard(mut stream: BodyDataStream) {
    let reading = async {
        let mut bytes = 0;
        while let Ok(Some(Ok(chunk))) = tokio::time::timeout(DISCARD_IDLE_MAX, stream.next()).await
            && bytes < DISCARD_BYTES_MAX
        {
            bytes += chunk.len() as u64;
        }
    };
    // Either way the client gets its answer next.
    let _ = tokio::time::timeout(DISCARD_MAX, reading).await;
}

pub(crate) fn too_large(bytes_max: u64) -> Refusal {
    Refusal::too_large("the archive", bytes_max).hint("leave build output and data out with .gilliamignore")
}

async fn next(stream: &mut BodyDataStream) -> Result<Option<Bytes>, Refusal> {
    match tokio::time::timeout(IDLE_MAX, stream.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(Some(Err(error))) => Err(Refusal::malformed(format!(
            "the archive did not arrive whole: {error}"
        ))),
        Err(_) => Err(Refusal::malformed(format!(
            "the archive stopped arriving for {} s",
            IDLE_MAX.as_secs()
        ))),
    }
}

fn cannot_store(error: &io::Error) -> Refusal {
    tracing::error!(%error, "cannot store an archive");
    Refusal::new(
        gilliam_model::code::Code::A503,
        "the archive could not be stored; the disk may be full",
    )
    .hint("free space in the data folder and deploy again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("folder");
        entries
            .map(|e| e.expect("entry").file_name().into_string().expect("name"))
            .collect()
    }

    #[tokio::test]
    async fn an_archive_is_stored_whole_and_gone_with_its_deploy() {
        let tmp = tempfile::tempdir().expect("folder");
        let archive = receive(Body::from("some tar"), tmp.path(), 8)
            .await
            .expect("fits");
        assert_eq!(fs::read(archive.path()).expect("file"), b"some tar");
        drop(archive);
        assert!(names(tmp.path()).is_empty());
    }

    #[tokio::test]
    async fn an_archive_that_is_too_large_empty_or_cut_leaves_nothing() {
        let tmp = tempfile::tempdir().expect("folder");
        let cut = Body::from_stream(futures::stream::iter([
            Ok(Bytes::from("x")),
            Err(io::Error::other("gone")),
        ]));
        for (body, want) in [
            (Body::from("nine bytes"), "larger than 8 bytes"),
            (Body::empty(), "is empty"),
            (cut, "did not arrive whole"),
        ] {
            let error = receive(body, tmp.path(), 8).await.expect_err(want).into_error();
            assert!(error.message.contains(want), "{}", error.message);
        }
        assert!(names(tmp.path()).is_empty());
    }

    #[test]
    fn leftovers_are_removed_at_start() {
        let data = tempfile::tempdir().expect("folder");
        let tmp = data.path().join("tmp");
        empty(&tmp).expect("made");
        fs::write(tmp.join("deploy-7.tar"), "old").expect("left over");
        empty(&tmp).expect("emptied");
        assert!(names(&tmp).is_empty());
    }
}
