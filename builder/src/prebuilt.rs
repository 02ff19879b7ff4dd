//! Prebuilt components: files of the project that are taken as they are.
//!
//! Invariant: a file is opened through the project's folder, so no link leads out of it, and read up to a
//! limit.

use std::{
    io::{self, Read},
    path::Path,
};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};

use crate::component::COMPONENT_BYTES_MAX;

/// Why a file of the project could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum PrebuiltError {
    /// No such file.
    #[error("{place}: {path} is not in the project")]
    Missing {
        /// Where it is named: `Procfile line 3`.
        place: String,
        /// The path it names.
        path: String,
    },
    /// A directory, or a link that leads nowhere.
    #[error("{place}: {path} is not a file")]
    NotAFile {
        /// Where it is named: `Procfile line 3`.
        place: String,
        /// The path it names.
        path: String,
    },
    /// Larger than any component that is taken.
    #[error("{place}: {path} has {bytes} bytes; at most {COMPONENT_BYTES_MAX} are taken")]
    TooLarge {
        /// Where it is named: `Procfile line 3`.
        place: String,
        /// The path it names.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// Not WebAssembly's text.
    #[error("{place}: {reason}")]
    Text {
        /// Where it is named: `Procfile line 3`.
        place: String,
        /// The parser's message, with its place.
        reason: String,
    },
    /// It could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PrebuiltError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            PrebuiltError::Missing { path, .. } => {
                format!("build {path} first, and see that .gitignore or .gilliamignore do not leave it out")
            }
            PrebuiltError::NotAFile { .. } => "name the component's own file".to_string(),
            PrebuiltError::TooLarge { .. } => "strip debug information from the component".to_string(),
            PrebuiltError::Text { .. } | PrebuiltError::Read { .. } => return None,
        })
    }
}

/// Reads the component at `path`, which is named at `place`.
pub fn read(project: &Dir, path: &str, place: &str) -> Result<Vec<u8>, PrebuiltError> {
    let named = |path: &str| path.to_string();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => PrebuiltError::Missing {
            place: place.to_string(),
            path: named(path),
        },
        io::ErrorKind::NotADirectory => PrebuiltError::Missing {
            place: place.to_string(),
            path: named(path),
        },
        _ => PrebuiltError::Read {
            path: named(path),
            source,
        },
    };
    // A build before may have left a FIFO under this name, which must not be waited for.
    let options = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .clone();
    let file = project.open_with(path, &options).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(PrebuiltError::NotAFile {
            place: place.to_string(),
            path: named(path),
        });
    }
    if metadata.len() > COMPONENT_BYTES_MAX {
        return Err(PrebuiltError::TooLarge {
            place: place.to_string(),
            path: named(path),
            bytes: metadata.len(),
        });
    }
    let mut bytes = Vec::new();
    file.take(COMPONENT_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if !path.ends_with(".wat") {
        return Ok(bytes);
    }
    match wat::Parser::new().parse_bytes(Some(Path::new(path)), &bytes) {
        Ok(binary) => Ok(binary.into_owned()),
        Err(error) => Err(PrebuiltError::Text {
            place: place.to_string(),
            reason: error.to_string(),
        }),
    }
}
