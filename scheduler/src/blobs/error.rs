//! How blobs cannot be kept or had, for operators, for the API, and from what an object store says.
//!
//! Invariant: what an answer of the API says tells nothing of the place; the log and the start of a control plane do.

use std::{error::Error as _, io, path::PathBuf};

use gilliam_model::{code::Code, digest::Digest};
use gilliam_store::{CommitError, RangeError};

use crate::refusal::Refusal;

/// Blobs that cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum BlobsError {
    /// A setting cannot be used.
    #[error("the place of images cannot be used: {reason}")]
    Settings {
        /// Why.
        reason: String,
    },
    /// A folder cannot be used.
    #[error("the folder {} cannot hold images", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bucket is not there, or not for who asks.
    #[error("images cannot be kept in {place}: {reason}")]
    Refused {
        /// The place.
        place: String,
        /// What it says.
        reason: String,
    },
    /// It does not answer, or not as it should.
    #[error("the place of images {place} does not answer: {reason}")]
    Unavailable {
        /// The place.
        place: String,
        /// What was seen.
        reason: String,
    },
    /// Its disk is full.
    #[error("the disk of the images in {place} is full")]
    Full {
        /// The place.
        place: String,
    },
    /// The cluster has another place.
    #[error(
        "the images of this cluster are not in {place}: {}",
        if *is_empty { "it holds none" } else { "it holds those of another cluster or server" }
    )]
    Other {
        /// The place.
        place: String,
        /// Whether nobody's are here.
        is_empty: bool,
    },
    /// No such blob.
    #[error("no blob {digest}")]
    Missing {
        /// The digest.
        digest: Digest,
    },
    /// A blob whose content is another.
    #[error("the content of {digest} is not what its digest says")]
    Damaged {
        /// The digest.
        digest: Digest,
    },
    /// A file of this machine.
    #[error("cannot use {}", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store could not be read.
    #[error("the store does not say where the images of this cluster are")]
    Read(#[from] RangeError),
    /// The store could not be written.
    #[error("the store does not take where the images of this cluster are")]
    Write(#[from] CommitError),
}

impl BlobsError {
    /// The way out, for people who start a control plane.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            BlobsError::Refused { .. } => Some(
                "is the bucket there, in that region? it takes s3:GetObject, s3:PutObject and s3:ListBucket for who \
                 asks: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the machine",
            ),
            BlobsError::Unavailable { .. } => Some(
                "is it mounted, or is the endpoint the right one? without AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY the role of the machine is asked for",
            ),
            BlobsError::Other { .. } => Some(
                "all servers on one store share one place: pass the --blobs of the others, or copy their images with \
                 gilliam-blobs.json into this one; if those are lost for good: --adopt-blobs, once, and deploy again",
            ),
            BlobsError::Folder { .. } | BlobsError::Local { .. } | BlobsError::Full { .. } => {
                Some("check that it is a folder, writable, and that the disk is not full")
            }
            BlobsError::Settings { .. } => Some("gilliam server --help says what --blobs takes"),
            BlobsError::Read(_) | BlobsError::Write(_) => Some("is the store there?"),
            BlobsError::Missing { .. } | BlobsError::Damaged { .. } => None,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        match self {
            BlobsError::Full { .. } => true,
            BlobsError::Local { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    /// The error as the API answers it.
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            BlobsError::Missing { digest } => Refusal::new(Code::A404, format!("no blob {digest}")),
            BlobsError::Read(error) => error.into(),
            BlobsError::Write(error) => error.into(),
            BlobsError::Damaged { digest } => {
                tracing::error!(%digest, "a blob is damaged");
                let message = format!("the blob {digest} is damaged where images are kept");
                Refusal::new(Code::S11, message).hint("deploy its sources again, or restore it from a backup")
            }
            error if error.is_full() => {
                tracing::error!(error = chain(&error), "an image cannot be kept");
                Refusal::new(Code::S10, "the disk of the images is full")
                    .hint("nothing was released; free some space and try again")
            }
            error => {
                tracing::error!(error = chain(&error), "the place of images fails");
                Refusal::new(Code::S13, "the place of images does not answer as it should")
                    .hint("nothing was changed; try again when it is back: the control plane's log says why")
            }
        }
    }
}

/// What an object store says, as what it means for the place.
pub(super) fn failed(place: &str, error: object_store::Error) -> BlobsError {
    use object_store::Error;
    let (place, reason) = (place.to_owned(), chain(&error));
    match &error {
        _ if is_full(&error) => BlobsError::Full { place },
        Error::NotFound { .. } | Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            BlobsError::Refused { place, reason }
        }
        _ if is_denied(&error) => BlobsError::Refused { place, reason },
        _ => BlobsError::Unavailable { place, reason },
    }
}

/// The same, of an error that went through a writer.
pub(super) fn failed_io(place: &str, error: io::Error) -> BlobsError {
    match error.downcast::<object_store::Error>() {
        Ok(error) => failed(place, error),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => BlobsError::Full {
            place: place.to_owned(),
        },
        Err(error) => BlobsError::Unavailable {
            place: place.to_owned(),
            reason: error.to_string(),
        },
    }
}

fn is_full(error: &object_store::Error) -> bool {
    has_cause(error, io::ErrorKind::StorageFull)
}

fn is_denied(error: &object_store::Error) -> bool {
    has_cause(error, io::ErrorKind::PermissionDenied) || has_cause(error, io::ErrorKind::ReadOnlyFilesystem)
}

fn has_cause(error: &object_store::Error, kind: io::ErrorKind) -> bool {
    let mut cause = error.source();
    while let Some(found) = cause {
        if found
            .downcast_ref::<io::Error>()
            .is_some_and(|found| found.kind() == kind)
        {
            return true;
        }
        cause = found.source();
    }
    false
}

/// The message of an error and of what led to it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        let message = found.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = found.source();
    }
    text
}
