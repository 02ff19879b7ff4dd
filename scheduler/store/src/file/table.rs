//! What the file holds: two tables, and the bytes of an entry.

use redb::TableDefinition;

use crate::{Entry, RangeError, Revision};

/// Key → entry, as [`encode`] writes it.
pub(super) const ENTRIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");
/// The numbers below.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// Version of the two tables themselves, which must be known before an entry can be read.
pub(super) const META_LAYOUT: &str = "layout";
/// Revision of the last commit.
pub(super) const META_REVISION: &str = "revision";

const REVISION_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 8;
const HEAD_BYTES: usize = REVISION_BYTES + CHECKSUM_BYTES;

/// An entry's bytes: its revision (little-endian), a checksum of key, revision and value, then the value.
pub(super) fn encode(key: &str, revision: Revision, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + value.len());
    bytes.extend_from_slice(&revision.0.to_le_bytes());
    bytes.extend_from_slice(&checksum(key, revision, value));
    bytes.extend_from_slice(value);
    bytes
}

/// Reads an entry's bytes, or says how they are damaged.
pub(super) fn decode(key: &str, bytes: &[u8]) -> Result<Entry, RangeError> {
    let corrupt = |reason: &str| RangeError::Corrupt {
        key: key.to_string(),
        reason: reason.to_string(),
    };
    let (revision, value) = split(bytes).ok_or_else(|| corrupt("it is shorter than its head"))?;
    if checksum(key, revision, value) != bytes[REVISION_BYTES..HEAD_BYTES] {
        return Err(corrupt("its checksum does not match"));
    }
    Ok(Entry {
        key: key.to_string(),
        value: value.to_vec(),
        revision,
    })
}

/// The revision of an entry's bytes.
pub(super) fn revision(key: &str, bytes: &[u8]) -> Result<Revision, RangeError> {
    // Of the whole entry, for a damaged revision would let a check hold that must not.
    decode(key, bytes).map(|entry| entry.revision)
}

fn split(bytes: &[u8]) -> Option<(Revision, &[u8])> {
    let (revision, rest) = bytes.split_first_chunk::<REVISION_BYTES>()?;
    Some((
        Revision(u64::from_le_bytes(*revision)),
        rest.get(CHECKSUM_BYTES..)?,
    ))
}

fn checksum(key: &str, revision: Revision, value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key.as_bytes());
    hasher.update(&revision.0.to_le_bytes());
    hasher.update(value);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_of_an_entry_shows() {
        let bytes = encode("/apps/a", Revision(7), b"{\"n\":1}");
        let entry = decode("/apps/a", &bytes).expect("whole");
        assert_eq!(
            (entry.revision, entry.value.as_slice()),
            (Revision(7), b"{\"n\":1}".as_slice())
        );
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode("/apps/a", &damaged).is_err(), "bit {bit}");
        }
        assert!(decode("/apps/b", &bytes).is_err(), "an entry under another's key");
        assert!(decode("/apps/a", &bytes[..10]).is_err(), "a cut entry");
    }
}
