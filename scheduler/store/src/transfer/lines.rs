//! The file of an export: a line of JSON each for the head, every entry in the order of keys, and the end,
//! which has the digest of the entries. Pure.
//!
//! Invariant: the digest depends on keys and values alone, not on revisions or on where they are stored.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use super::TransferError;
use crate::{COMMIT_BYTES_MAX, Revision};

/// The version of the file.
const VERSION: u64 = 1;
/// Longest line: the largest value, each of its bytes as six characters, and a key.
const LINE_BYTES_MAX: u64 = COMMIT_BYTES_MAX as u64 * 6 + (16 << 10);

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the file.
    gilliam_store: u64,
    /// The version of keys and records.
    pub format: u64,
    /// The cluster whose state it is, if it has been in etcd.
    pub cluster: Option<String>,
    /// The revision that was read.
    pub revision: Revision,
}

impl Head {
    pub(super) fn new(format: u64, cluster: Option<String>, revision: Revision) -> Self {
        Self {
            gilliam_store: VERSION,
            format,
            cluster,
            revision,
        }
    }
}

/// What an export holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its entries.
    pub entries: u64,
    /// The digest of their keys and values (BLAKE3).
    pub digest: String,
}

/// A line between the first and the last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    key: String,
    /// The value, if it is a text; all records are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The value, if it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<Vec<u8>>,
}

/// The digest of entries, one after the other.
struct Digester {
    hasher: blake3::Hasher,
    entries: u64,
}

impl Digester {
    fn new() -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            entries: 0,
        }
    }

    fn add(&mut self, key: &str, value: &[u8]) {
        for part in [key.as_bytes(), value] {
            self.hasher.update(&(part.len() as u64).to_le_bytes());
            self.hasher.update(part);
        }
        self.entries += 1;
    }

    fn summary(&self) -> Summary {
        Summary {
            entries: self.entries,
            digest: self.hasher.finalize().to_hex().to_string(),
        }
    }
}

/// Writes a file, line by line.
pub(super) struct Writer<W> {
    out: W,
    digester: Digester,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, head: &Head) -> io::Result<Self> {
        let mut writer = Self {
            out,
            digester: Digester::new(),
        };
        writer.line(head)?;
        Ok(writer)
    }

    pub(super) fn entry(&mut self, key: &str, value: Vec<u8>) -> io::Result<()> {
        self.digester.add(key, &value);
        let (text, bytes) = match String::from_utf8(value) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(error.into_bytes())),
        };
        self.line(&Line {
            key: key.to_string(),
            text,
            bytes,
        })
    }

    pub(super) fn end(mut self) -> io::Result<Summary> {
        let summary = self.digester.summary();
        self.line(&summary)?;
        self.out.flush()?;
        Ok(summary)
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

/// Reads a file, line by line.
pub(super) struct Reader<R> {
    input: R,
    line: u64,
    digester: Digester,
}

impl<R: BufRead> Reader<R> {
    /// Reads the head.
    pub(super) fn new(input: R) -> Result<(Head, Self), TransferError> {
        let mut reader = Self {
            input,
            line: 0,
            digester: Digester::new(),
        };
        let text = reader.text()?;
        let head: Head = reader.parse(&text)?;
        if head.gilliam_store > VERSION || head.format > crate::format::FORMAT {
            return Err(TransferError::Newer {
                found: head.gilliam_store.max(head.format),
            });
        }
        Ok((head, reader))
    }

    /// The next entry; none at the end, whose digest is that of the entries.
    pub(super) fn entry(&mut self) -> Result<Option<(String, Vec<u8>)>, TransferError> {
        let text = self.text()?;
        if let Ok(said) = serde_json::from_str::<Summary>(&text) {
            let found = self.digester.summary();
            if said != found {
                return Err(self.damaged(format!("it ends with {said:?}, and holds {found:?}")));
            }
            return Ok(None);
        }
        let line: Line = self.parse(&text)?;
        let (key, value) = match line {
            Line {
                key,
                text: Some(text),
                bytes: None,
            } => (key, text.into_bytes()),
            Line {
                key,
                text: None,
                bytes: Some(bytes),
            } => (key, bytes),
            _ => return Err(self.damaged("an entry has one value".into())),
        };
        self.digester.add(&key, &value);
        Ok(Some((key, value)))
    }

    /// What was read, after the end.
    pub(super) fn summary(&self) -> Summary {
        self.digester.summary()
    }

    fn text(&mut self) -> Result<String, TransferError> {
        self.line += 1;
        let mut text = String::new();
        let mut limited = io::Read::take(&mut self.input, LINE_BYTES_MAX);
        limited.read_line(&mut text).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => self.damaged(error.to_string()),
            _ => TransferError::Read(error),
        })?;
        if !text.ends_with('\n') {
            return Err(self.damaged("it is cut off".into()));
        }
        Ok(text)
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self, text: &str) -> Result<T, TransferError> {
        serde_json::from_str(text).map_err(|error| self.damaged(error.to_string()))
    }

    fn damaged(&self, reason: String) -> TransferError {
        TransferError::Damaged {
            line: self.line,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(revision: u64, entries: &[(&str, &[u8])]) -> (Vec<u8>, Summary) {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, &Head::new(1, None, Revision(revision))).expect("head");
        for (key, value) in entries {
            writer.entry(key, value.to_vec()).expect("entry");
        }
        let summary = writer.end().expect("end");
        (out, summary)
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, TransferError> {
        let (_, mut reader) = Reader::new(bytes)?;
        std::iter::from_fn(|| reader.entry().transpose()).collect()
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        let entries: &[(&str, &[u8])] = &[("/a", b"{\"n\":1}\n"), ("/b", &[0, 0xff]), ("/c", b"")];
        let (bytes, summary) = write(7, entries);
        assert_eq!(summary.entries, 3);
        let want: Vec<_> = entries.iter().map(|(k, v)| (k.to_string(), v.to_vec())).collect();
        assert_eq!(read(&bytes).expect("whole"), want);
        assert_eq!(write(8, entries).1, summary, "whatever the revision");
        assert_ne!(write(7, &entries[1..]).1.digest, summary.digest);
    }

    #[test]
    fn any_damage_shows() {
        let (bytes, _) = write(7, &[("/a", b"12345"), ("/b", b"67890")]);
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let head = bytes.iter().position(|byte| *byte == b'\n').expect("a line");
        for at in head + 1..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged).is_err(), "at {at}");
        }
    }
}
