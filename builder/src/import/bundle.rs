//! The archive of an image: which blobs are in it and where, read from their places.
//!
//! Invariant: a blob that is given has the digest and the size that were asked for.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
};

use gilliam_model::digest::Digest;
use serde::Deserialize;

use super::{ImportError, of_type};
use crate::layout::{Descriptor, MEDIA_TYPE_MANIFEST, digest_of};

/// Entries of an archive: a blob for each component, three files, some folders, and what other tools add.
const ENTRIES_MAX: usize = 256;
/// Largest `index.json`: it lists one image.
const INDEX_BYTES_MAX: u64 = 64 << 10;
const BLOBS: &str = "blobs/sha256/";
const INDEX: &str = "index.json";

/// Where something is in the archive.
#[derive(Debug, Clone, Copy)]
struct Span {
    at: u64,
    bytes: u64,
}

/// An archive whose contents are known and not read yet.
#[derive(Debug)]
pub(super) struct Bundle {
    file: File,
    index: Option<Span>,
    blobs: BTreeMap<Digest, Span>,
}

/// OCI image-spec 1.1, "Image Index".
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

impl Bundle {
    /// Looks at what is in the archive.
    pub(super) fn open(file: File) -> Result<Self, ImportError> {
        let mut bundle = Bundle {
            file: file.try_clone().map_err(ImportError::Read)?,
            index: None,
            blobs: BTreeMap::new(),
        };
        let broken = |error: std::io::Error| ImportError::NotALayout {
            reason: error.to_string(),
        };
        let mut archive = tar::Archive::new(file);
        // As they stand: no entry of a layout has a name that needs an extension.
        let entries = archive.entries_with_seek().map_err(broken)?.raw(true);
        for (number, entry) in entries.enumerate() {
            if number >= ENTRIES_MAX {
                return Err(ImportError::TooLarge {
                    what: "archive's number of entries",
                    count: number as u64 + 1,
                    max: ENTRIES_MAX as u64,
                });
            }
            let entry = entry.map_err(broken)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let span = Span {
                at: entry.raw_file_position(),
                bytes: entry.size(),
            };
            bundle.note(&entry.path_bytes(), span);
        }
        Ok(bundle)
    }

    fn note(&mut self, path: &[u8], span: Span) {
        let path = String::from_utf8_lossy(path);
        let path = path.strip_prefix("./").unwrap_or(&path);
        if path == INDEX {
            self.index = Some(span);
        } else if let Some(Ok(digest)) = path
            .strip_prefix(BLOBS)
            .map(|hex| format!("sha256:{hex}").parse())
        {
            self.blobs.insert(digest, span);
        }
    }

    /// The one image that is listed.
    pub(super) fn image(&mut self) -> Result<Descriptor, ImportError> {
        let not = |reason: &str| ImportError::NotALayout {
            reason: reason.to_string(),
        };
        let index = self.index.ok_or_else(|| not("it has no index.json"))?;
        if index.bytes > INDEX_BYTES_MAX {
            return Err(not("its index.json is too large"));
        }
        let text = self.read(index)?;
        let index: Index = serde_json::from_slice(&text).map_err(|error| not(&error.to_string()))?;
        match <[Descriptor; 1]>::try_from(index.manifests) {
            Ok([image]) => of_type("manifest", &image, MEDIA_TYPE_MANIFEST).map(|()| image),
            Err(all) => Err(ImportError::NotOne { count: all.len() }),
        }
    }

    /// A blob of at most `bytes_max` bytes; `what` is what has too many otherwise.
    pub(super) fn blob(
        &mut self,
        wanted: &Descriptor,
        what: &'static str,
        bytes_max: u64,
    ) -> Result<Vec<u8>, ImportError> {
        let Descriptor { digest, size, .. } = *wanted;
        let span = self.blobs.get(&digest).copied();
        let span = span.ok_or(ImportError::Missing { digest })?;
        if span.bytes > bytes_max {
            return Err(ImportError::TooLarge {
                what,
                count: span.bytes,
                max: bytes_max,
            });
        }
        if span.bytes != size {
            return Err(ImportError::Size {
                digest,
                bytes: span.bytes,
                said: size,
            });
        }
        let bytes = self.read(span)?;
        match digest_of(&bytes) {
            found if found == digest => Ok(bytes),
            found => Err(ImportError::Damaged { digest, found }),
        }
    }

    fn read(&mut self, span: Span) -> Result<Vec<u8>, ImportError> {
        self.file
            .seek(SeekFrom::Start(span.at))
            .map_err(ImportError::Read)?;
        let mut bytes = Vec::new();
        // Cut off where the archive is: the digest tells.
        self.file
            .by_ref()
            .take(span.bytes)
            .read_to_end(&mut bytes)
            .map_err(ImportError::Read)?;
        Ok(bytes)
    }
}
