//! The entries of a tar stream: ustar, GNU and PAX headers resolved to a name, a kind and a size.
//!
//! It reads block by block and keeps no more than one header and one extension in memory. What two readers
//! could understand in two ways is an error: a size that PAX and the header state differently, a bad
//! checksum, a missing end, bytes after the end, sparse files.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::ArchiveError;

/// The unit of a tar file.
const BLOCK_BYTES: usize = 512;
/// Bytes of one extension (PAX records, a GNU long name). Paths have 1,024 at most; the rest is attributes.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;
/// Bytes copied at a time.
const COPY_BYTES: usize = 64 << 10;

/// What an entry becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Link,
}

/// One entry, its extensions applied.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name as it stands in the archive, unchecked.
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// Bytes of data that follow.
    pub(super) size: u64,
    /// Whether its owner may execute it.
    pub(super) executable: bool,
    /// A link's target.
    pub(super) link: Option<Vec<u8>>,
}

/// Names that extensions state for the next entry.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    /// Seen, whatever it held: a second before the entry is ambiguous.
    pax: bool,
}

pub(super) struct Entries<R> {
    reader: R,
    /// Bytes read so far.
    at: u64,
    /// Data of the current entry that was not read yet.
    data: u64,
    /// Zeros after it, up to a whole block.
    padding: u64,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            at: 0,
            data: 0,
            padding: 0,
        }
    }

    /// The next entry; none at the end-of-archive mark, after which only zeros may follow.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut extension = Extension::default();
        loop {
            self.skip_data()?;
            let at = self.at;
            let Some(header) = self.header()? else {
                if extension.pax || extension.name.is_some() || extension.link.is_some() {
                    return Err(ArchiveError::Header {
                        at,
                        reason: "an extension without an entry",
                    });
                }
                self.check_rest_is_zero()?;
                return Ok(None);
            };
            let size = header.entry_size().map_err(|_| ArchiveError::Header {
                at,
                reason: "its size is not a number",
            })?;
            self.expect_data(size, at)?;
            match header.entry_type() {
                EntryType::XGlobalHeader => self.global_records(size, at)?,
                EntryType::XHeader => self.records(size, at, &mut extension)?,
                EntryType::GNULongName => {
                    let name = self.long_name(size, at)?;
                    set_once(&mut extension.name, name, at)?;
                }
                EntryType::GNULongLink => {
                    let link = self.long_name(size, at)?;
                    set_once(&mut extension.link, link, at)?;
                }
                _ => return entry(&header, size, extension).map(Some),
            }
        }
    }

    /// Copies the current entry's data; `write_error` names the file in errors of the writer.
    pub(super) fn copy_data(
        &mut self,
        into: &mut impl Write,
        write_error: impl Fn(io::Error) -> ArchiveError,
    ) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; COPY_BYTES];
        while self.data > 0 {
            let wanted = usize::try_from(self.data).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            self.fill(&mut buffer[..wanted], "inside an entry's data")?;
            into.write_all(&buffer[..wanted]).map_err(&write_error)?;
            self.data -= wanted as u64;
        }
        Ok(())
    }

    /// One header block; none for a block of zeros.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let at = self.at;
        let mut block = [0; BLOCK_BYTES];
        let read = self.read_up_to(&mut block)?;
        if at == 0 {
            recognise(&block[..read])?;
        }
        if read == 0 {
            return Err(match at {
                0 => ArchiveError::Empty,
                _ => ArchiveError::Truncated {
                    at,
                    part: "before the mark of its end",
                },
            });
        }
        if read < BLOCK_BYTES {
            return Err(ArchiveError::Truncated {
                at,
                part: "inside a header",
            });
        }
        if block == [0; BLOCK_BYTES] {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(i, byte)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u32::from(*byte)
                }
            })
            .sum();
        match header.cksum() {
            Ok(stated) if stated == sum => Ok(Some(header)),
            _ => Err(ArchiveError::Header {
                at,
                reason: "its checksum does not match",
            }),
        }
    }

    fn expect_data(&mut self, size: u64, at: u64) -> Result<(), ArchiveError> {
        let blocks = size.div_ceil(BLOCK_BYTES as u64);
        let whole = blocks.checked_mul(BLOCK_BYTES as u64);
        let whole = whole.ok_or(ArchiveError::Header {
            at,
            reason: "its size is not a number",
        })?;
        self.data = size;
        self.padding = whole - size;
        Ok(())
    }

    fn skip_data(&mut self) -> Result<(), ArchiveError> {
        self.copy_data(&mut io::sink(), ArchiveError::Read)?;
        let mut zeros = [0; BLOCK_BYTES];
        let padding = usize::try_from(self.padding).expect("padding is less than a block");
        self.padding = 0;
        self.fill(&mut zeros[..padding], "inside the padding of an entry")
    }

    /// The whole data of an extension.
    fn extension_data(&mut self, size: u64, at: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > EXTENSION_BYTES_MAX {
            return Err(ArchiveError::Header {
                at,
                reason: "an extension of more than 64 KiB",
            });
        }
        let mut data = Vec::new();
        self.copy_data(&mut data, ArchiveError::Read)?;
        Ok(data)
    }

    fn long_name(&mut self, size: u64, at: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut name = self.extension_data(size, at)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn records(&mut self, size: u64, at: u64, extension: &mut Extension) -> Result<(), ArchiveError> {
        if extension.pax {
            return Err(ArchiveError::Header {
                at,
                reason: "two extensions for one entry",
            });
        }
        extension.pax = true;
        let data = self.extension_data(size, at)?;
        for (key, value) in parse_records(&data, at)? {
            match key {
                b"path" => set_once(&mut extension.name, value.to_vec(), at)?,
                b"linkpath" => set_once(&mut extension.link, value.to_vec(), at)?,
                b"size" => {
                    let reason = "a size that is not a number";
                    let size = decimal(value).ok_or(ArchiveError::Header { at, reason })?;
                    set_once(&mut extension.size, size, at)?;
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(ArchiveError::Header {
                        at,
                        reason: "sparse files are not taken",
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Records for all entries: git writes its commit there. What would change an entry is refused.
    fn global_records(&mut self, size: u64, at: u64) -> Result<(), ArchiveError> {
        let data = self.extension_data(size, at)?;
        for (key, _) in parse_records(&data, at)? {
            if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
                return Err(ArchiveError::Header {
                    at,
                    reason: "a global extension that renames or resizes entries",
                });
            }
        }
        Ok(())
    }

    fn check_rest_is_zero(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let at = self.at;
            let read = self.read_up_to(&mut buffer)?;
            if buffer[..read].iter().any(|byte| *byte != 0) {
                return Err(ArchiveError::Header {
                    at,
                    reason: "data after the mark of its end",
                });
            }
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8], part: &'static str) -> Result<(), ArchiveError> {
        let at = self.at;
        if self.read_up_to(buffer)? < buffer.len() {
            return Err(ArchiveError::Truncated { at, part });
        }
        Ok(())
    }

    /// Reads until the buffer is full or the archive ends.
    fn read_up_to(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ArchiveError::Read(error)),
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }
}

/// Refuses the formats that people take for tar.
fn recognise(start: &[u8]) -> Result<(), ArchiveError> {
    let formats: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "compressed with gzip"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        (b"\xfd7zXZ\0", "compressed with xz"),
        (b"BZh", "compressed with bzip2"),
        (b"PK\x03\x04", "a zip file"),
    ];
    match formats.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, format)) => Err(ArchiveError::Format { format }),
        None => Ok(()),
    }
}

fn entry(header: &Header, size: u64, extension: Extension) -> Result<Entry, ArchiveError> {
    let name = extension.name.unwrap_or_else(|| header.path_bytes().into_owned());
    let refuse = |reason: &str| Err(ArchiveError::entry(&name, reason));
    if name.contains(&0) {
        return refuse("has a NUL byte in its name");
    }
    if extension.size.is_some_and(|stated| stated != size) {
        return refuse("states two sizes");
    }
    let kind = match header.entry_type() {
        EntryType::Regular => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Link,
        EntryType::Link => return refuse("is a hard link"),
        EntryType::Char | EntryType::Block => return refuse("is a device"),
        EntryType::Fifo => return refuse("is a FIFO"),
        EntryType::GNUSparse => return refuse("is a sparse file"),
        _ => return refuse("is of an unknown type"),
    };
    if kind == Kind::File && name.last() == Some(&b'/') {
        return refuse("is a file with the name of a directory");
    }
    if kind != Kind::File && size != 0 {
        return refuse("has data, but is not a file");
    }
    let executable = header.mode().is_ok_and(|mode| mode & 0o100 != 0);
    let link = extension
        .link
        .or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
    Ok(Entry {
        kind,
        size,
        executable,
        link,
        name,
    })
}

fn set_once<T>(slot: &mut Option<T>, value: T, at: u64) -> Result<(), ArchiveError> {
    if slot.is_some() {
        return Err(ArchiveError::Header {
            at,
            reason: "two extensions state the same",
        });
    }
    *slot = Some(value);
    Ok(())
}

/// Key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// PAX records: `LENGTH KEY=VALUE\n`, the length counting all of it (POSIX pax, "pax Extended Header").
fn parse_records(mut data: &[u8], at: u64) -> Result<Vec<Record<'_>>, ArchiveError> {
    let malformed = || ArchiveError::Header {
        at,
        reason: "a malformed extension",
    };
    let mut records = Vec::new();
    while !data.is_empty() {
        let space = data.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
        let length = decimal(&data[..space]).ok_or_else(malformed)?;
        let length = usize::try_from(length).map_err(|_| malformed())?;
        if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
            return Err(malformed());
        }
        let record = &data[space + 1..length - 1];
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(malformed)?;
        records.push((&record[..equals], &record[equals + 1..]));
        data = &data[length..];
    }
    Ok(records)
}

/// Digits alone: the standard parser takes a sign too.
fn decimal(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
