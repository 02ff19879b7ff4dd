//! Unpacking: a tar archive becomes a folder of the builder.
//!
//! In flow bytes that a stranger wrote, out flow regular files, directories and symbolic links below one open
//! folder. Everything else, and everything ambiguous, is refused with the entry's name: a reader that guesses
//! is a reader that another reader disagrees with.
//!
//! Invariant: every path is opened through the folder's handle, file by file with `create_new`, and symbolic
//! links are made only after the last file; so no entry is ever written through a link, nor over another
//! entry.
//! Invariant: owners, times, extended attributes and all mode bits but "executable" are dropped.

mod entries;

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use gilliam_model::text::excerpt;

use self::entries::{Entries, Entry, Kind};

/// Files, directories and links of one project; far above any that is deployed, and a bound on time and
/// inodes.
pub const NODES_MAX: usize = 20_000;
/// Bytes of all files together; twice the largest archive that the platform takes.
pub const UNPACKED_BYTES_MAX: u64 = 512 << 20;
/// Bytes of one file; twice the largest component.
pub const FILE_BYTES_MAX: u64 = 128 << 20;
/// Bytes of one path; a quarter of what Linux takes, so that the folder it lies in has room.
pub const PATH_BYTES_MAX: usize = 1_024;
/// Bytes between two slashes (`NAME_MAX` of every common file system).
pub const NAME_BYTES_MAX: usize = 255;

/// How much is unpacked.
#[derive(Debug, Clone)]
pub struct ArchiveLimits {
    /// Files, directories and links.
    pub nodes_max: usize,
    /// Bytes of all files.
    pub unpacked_bytes_max: u64,
    /// Bytes of one file.
    pub file_bytes_max: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self {
            nodes_max: NODES_MAX,
            unpacked_bytes_max: UNPACKED_BYTES_MAX,
            file_bytes_max: FILE_BYTES_MAX,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Regular files and links.
    pub files: usize,
    /// Bytes of the regular files.
    pub bytes: u64,
}

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Another format, recognised by its first bytes.
    #[error("the archive is {format}, not a plain tar file")]
    Format {
        /// The format.
        format: &'static str,
    },
    /// Nothing at all.
    #[error("the archive is empty")]
    Empty,
    /// It stops before its end.
    #[error("the archive is cut off at byte {at}, {part}")]
    Truncated {
        /// Where the missing part begins.
        at: u64,
        /// What is missing.
        part: &'static str,
    },
    /// A header that is not one.
    #[error("the archive has no valid header at byte {at}: {reason}")]
    Header {
        /// Where.
        at: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry that is never unpacked.
    #[error("archive entry {name:?} {reason}")]
    Entry {
        /// The entry's name, cut to a printable length.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too many entries.
    #[error("archive entry {name:?} is one too many: at most {max} files and directories are unpacked")]
    TooMany {
        /// The first that is too many.
        name: String,
        /// How many are taken.
        max: usize,
    },
    /// Too many bytes.
    #[error("archive entry {name:?} of {bytes} bytes is too large: at most {max} are unpacked {scope}")]
    TooLarge {
        /// The entry.
        name: String,
        /// Its size.
        bytes: u64,
        /// What is taken.
        max: u64,
        /// Of which the limit is: one file, or all.
        scope: &'static str,
    },
    /// The archive could not be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// An entry could not be written.
    #[error("cannot unpack {name:?}")]
    Write {
        /// The entry.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ArchiveError {
    /// The way out.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ArchiveError::Format { .. } => Some("send the tar file itself, as gilliam deploy does"),
            ArchiveError::Empty | ArchiveError::Truncated { .. } => Some("send the archive again, whole"),
            ArchiveError::Header { .. } => Some("make the archive with gilliam deploy, git archive or tar"),
            ArchiveError::Entry { .. } => {
                Some("leave it out of the project (.gilliamignore), or replace it by a file")
            }
            ArchiveError::TooMany { .. } | ArchiveError::TooLarge { .. } => {
                Some("leave out what the app does not need (.gilliamignore)")
            }
            ArchiveError::Read(_) | ArchiveError::Write { .. } => None,
        }
    }

    fn entry(name: &[u8], reason: impl Into<String>) -> Self {
        ArchiveError::Entry {
            name: shown(name),
            reason: reason.into(),
        }
    }
}

/// Unpacks `archive` into the empty folder `into`.
///
/// Errors: [`ArchiveError`]; what was unpacked before the refused entry stays, for the caller to remove.
pub fn unpack(archive: impl Read, into: &Dir, limits: &ArchiveLimits) -> Result<Unpacked, ArchiveError> {
    let mut entries = Entries::new(archive);
    let mut tree = Tree {
        into,
        limits,
        nodes: BTreeMap::new(),
        links: Vec::new(),
        unpacked: Unpacked::default(),
    };
    while let Some(entry) = entries.next()? {
        let path = Path::parse(&entry.name)?;
        match entry.kind {
            Kind::Directory => tree.directory(&path)?,
            Kind::File => tree.file(&path, &entry, &mut entries)?,
            Kind::Link => tree.link(&path, &entry)?,
        }
    }
    tree.make_links()?;
    Ok(tree.unpacked)
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    /// Made for an entry below it; its own entry may still come.
    ImpliedDirectory,
    Directory,
    File,
    Link,
}

/// A checked path: names joined by single slashes, none of them `.` or `..`; empty for the top folder itself.
struct Path(String);

impl Path {
    fn parse(name: &[u8]) -> Result<Self, ArchiveError> {
        let refuse = |reason: &str| ArchiveError::entry(name, reason);
        let text = std::str::from_utf8(name).map_err(|_| refuse("has a name that is not UTF-8"))?;
        if text.is_empty() {
            return Err(refuse("has no name"));
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(refuse(&format!(
                "has a name of {} bytes; at most {PATH_BYTES_MAX}",
                text.len()
            )));
        }
        if text.chars().any(char::is_control) {
            return Err(refuse("has a control character in its name"));
        }
        if text.starts_with('/') {
            return Err(refuse("has an absolute path"));
        }
        let names: Vec<&str> = text
            .split('/')
            .filter(|name| !name.is_empty() && *name != ".")
            .collect();
        if names.contains(&"..") {
            return Err(refuse("climbs out with \"..\""));
        }
        if names.iter().any(|name| name.len() > NAME_BYTES_MAX) {
            return Err(refuse(&format!(
                "has a part of more than {NAME_BYTES_MAX} bytes in its name"
            )));
        }
        Ok(Self(names.join("/")))
    }

    /// The directories above it, outermost first.
    fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

struct Tree<'a> {
    into: &'a Dir,
    limits: &'a ArchiveLimits,
    nodes: BTreeMap<String, Node>,
    /// Path and target.
    links: Vec<(String, String)>,
    unpacked: Unpacked,
}

impl Tree<'_> {
    fn directory(&mut self, path: &Path) -> Result<(), ArchiveError> {
        if path.0.is_empty() {
            return Ok(());
        }
        self.make_parents(path)?;
        match self.nodes.get_mut(&path.0) {
            Some(node @ Node::ImpliedDirectory) => {
                *node = Node::Directory;
                Ok(())
            }
            Some(_) => Err(duplicate(path)),
            None => self.make_directory(&path.0, Node::Directory),
        }
    }

    fn file<R: Read>(
        &mut self,
        path: &Path,
        entry: &Entry,
        entries: &mut Entries<R>,
    ) -> Result<(), ArchiveError> {
        self.claim(path, Node::File)?;
        let too_large = |max, scope| ArchiveError::TooLarge {
            name: shown(&entry.name),
            bytes: entry.size,
            max,
            scope,
        };
        if entry.size > self.limits.file_bytes_max {
            return Err(too_large(self.limits.file_bytes_max, "of one file"));
        }
        if entry.size > self.limits.unpacked_bytes_max - self.unpacked.bytes {
            return Err(too_large(self.limits.unpacked_bytes_max, "in all"));
        }
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(if entry.executable { 0o755 } else { 0o644 });
        let mut file = self
            .into
            .open_with(&path.0, &options)
            .map_err(|source| write_error(&path.0, source))?;
        entries.copy_data(&mut file, |source| write_error(&path.0, source))?;
        self.unpacked.files += 1;
        self.unpacked.bytes += entry.size;
        Ok(())
    }

    /// Remembers a link whose target stays inside. `..` may only lead: then it climbs real directories, never
    /// out of another link, and the whole set of links cannot be combined into a way out.
    fn link(&mut self, path: &Path, entry: &Entry) -> Result<(), ArchiveError> {
        let refuse = |reason: String| ArchiveError::entry(&entry.name, reason);
        self.claim(path, Node::Link)?;
        let target = entry.link.as_deref().unwrap_or_default();
        let text = std::str::from_utf8(target)
            .ok()
            .filter(|text| {
                !text.is_empty() && text.len() <= PATH_BYTES_MAX && !text.contains(char::is_control)
            })
            .ok_or_else(|| {
                refuse(format!(
                    "is a symbolic link with an unusable target, {:?}",
                    shown(target)
                ))
            })?;
        let climbs = text.split('/').take_while(|name| *name == "..").count();
        let outside = text.starts_with('/')
            || climbs > path.parents().count()
            || text.split('/').skip(climbs).any(|name| name == "..");
        if outside {
            return Err(refuse(format!(
                "is a symbolic link that leads outside the project, to {:?}",
                shown(target)
            )));
        }
        self.links.push((path.0.clone(), text.to_string()));
        self.unpacked.files += 1;
        Ok(())
    }

    fn make_links(&mut self) -> Result<(), ArchiveError> {
        for (path, target) in &self.links {
            self.into
                .symlink(target, path)
                .map_err(|source| write_error(path, source))?;
        }
        Ok(())
    }

    /// Takes a path for a file or link: nothing else may stand there.
    fn claim(&mut self, path: &Path, node: Node) -> Result<(), ArchiveError> {
        if path.0.is_empty() {
            return Err(ArchiveError::entry(
                b".",
                "is the project's folder itself, but not a directory",
            ));
        }
        self.make_parents(path)?;
        if self.nodes.contains_key(&path.0) {
            return Err(duplicate(path));
        }
        self.count(&path.0)?;
        self.nodes.insert(path.0.clone(), node);
        Ok(())
    }

    fn make_parents(&mut self, path: &Path) -> Result<(), ArchiveError> {
        for parent in path.parents() {
            match self.nodes.get(parent) {
                Some(Node::Directory | Node::ImpliedDirectory) => {}
                Some(Node::File | Node::Link) => {
                    let reason = format!("lies below {parent:?}, which is not a directory");
                    return Err(ArchiveError::entry(path.0.as_bytes(), reason));
                }
                None => self.make_directory(parent, Node::ImpliedDirectory)?,
            }
        }
        Ok(())
    }

    fn make_directory(&mut self, path: &str, node: Node) -> Result<(), ArchiveError> {
        self.count(path)?;
        self.into
            .create_dir(path)
            .map_err(|source| write_error(path, source))?;
        self.nodes.insert(path.to_string(), node);
        Ok(())
    }

    /// Implied directories count too, or one short entry could make five hundred.
    fn count(&self, path: &str) -> Result<(), ArchiveError> {
        if self.nodes.len() >= self.limits.nodes_max {
            return Err(ArchiveError::TooMany {
                name: shown(path.as_bytes()),
                max: self.limits.nodes_max,
            });
        }
        Ok(())
    }
}

fn duplicate(path: &Path) -> ArchiveError {
    ArchiveError::entry(path.0.as_bytes(), "is there twice")
}

/// A file system that folds case or Unicode finds an entry there already that differs only in that.
fn write_error(path: &str, source: io::Error) -> ArchiveError {
    if source.kind() == io::ErrorKind::AlreadyExists {
        return ArchiveError::entry(path.as_bytes(), "is there twice on this file system");
    }
    ArchiveError::Write {
        name: shown(path.as_bytes()),
        source,
    }
}

/// A name as it is printed.
fn shown(name: &[u8]) -> String {
    excerpt(&String::from_utf8_lossy(name))
}
