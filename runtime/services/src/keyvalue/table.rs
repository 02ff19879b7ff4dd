//! What the file holds: its tables and the bytes of a value.

use redb::TableDefinition;

use super::KeyValueError;

/// Key → version, when it expires, value.
pub(super) const DATA: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("data");
/// When it expires, in milliseconds since 1970, key.
pub(super) const EXPIRES: TableDefinition<'static, (u64, &str), ()> = TableDefinition::new("expires");
/// The numbers below.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// Version of these tables.
pub(super) const META_LAYOUT: &str = "layout";
/// Keys in [`DATA`].
pub(super) const META_KEYS: &str = "keys";
/// Bytes in [`DATA`], as the quota counts them.
pub(super) const META_BYTES: &str = "bytes";
/// The version that was given out last.
pub(super) const META_VERSION: &str = "version";

/// Version of these tables that this program writes.
pub(super) const LAYOUT: u64 = 1;
/// Version and expiry before each value.
pub(super) const HEAD_BYTES: usize = 16;
/// Bytes that a key costs besides itself and its value: what two trees keep of it.
const KEY_COST_BYTES: u64 = 64;

/// A row of [`DATA`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) version: u64,
    /// In milliseconds since 1970; 0 for never.
    pub(super) expires: u64,
    pub(super) value: &'a [u8],
}

impl<'a> Row<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, KeyValueError> {
        let short = || KeyValueError::Corrupt(format!("a value has {} bytes", bytes.len()));
        let (head, value) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(short)?;
        let number = |from: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&head[from..from + 8]);
            u64::from_le_bytes(eight)
        };
        Ok(Self {
            version: number(0),
            expires: number(8),
            value,
        })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.value.len());
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&self.expires.to_le_bytes());
        bytes.extend_from_slice(self.value);
        bytes
    }

    pub(super) fn has_expired(&self, now_ms: u64) -> bool {
        self.expires != 0 && self.expires <= now_ms
    }
}

/// What a key with its value costs of the quota.
pub(super) fn cost(key: &str, value_bytes: usize) -> u64 {
    (key.len() + value_bytes) as u64 + KEY_COST_BYTES
}
