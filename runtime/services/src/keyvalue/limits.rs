//! How much a key, a value and a call may have.

use super::KeyValueError;

/// Bytes of a key: it is part of each page of the file's trees on the way to it.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// Bytes of a value: it is copied whole on its way; larger things are blobs.
pub const VALUE_BYTES_MAX: usize = 4 << 20;
/// Keys of one call.
pub const BATCH_MAX: usize = 1_000;
/// Bytes of all keys and values of one call, and of its answer: what an instance's host memory has room for.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Keys of one page of a list: at most a mebibyte of them.
pub const LIST_MAX: usize = 1_000;

pub(super) fn check_key(key: &str) -> Result<(), KeyValueError> {
    match key.len() {
        0 => Err(KeyValueError::NoKey),
        1..=KEY_BYTES_MAX => Ok(()),
        bytes => Err(KeyValueError::LongKey { bytes }),
    }
}

pub(super) fn check_pair(key: &str, value: &[u8]) -> Result<(), KeyValueError> {
    check_key(key)?;
    match value.len() <= VALUE_BYTES_MAX {
        true => Ok(()),
        false => Err(KeyValueError::LargeValue { bytes: value.len() }),
    }
}

pub(super) fn check_count(count: usize) -> Result<(), KeyValueError> {
    match count <= BATCH_MAX {
        true => Ok(()),
        false => Err(KeyValueError::ManyKeys { count }),
    }
}

pub(super) fn check_bytes(bytes: usize) -> Result<(), KeyValueError> {
    match bytes <= BATCH_BYTES_MAX {
        true => Ok(()),
        false => Err(KeyValueError::LargeBatch { bytes }),
    }
}
