//! Every limit of a volume besides its size, each with its reason.

/// Files, directories and links of one volume: inodes are the disk's, and it is counted anew when its node starts.
pub const ENTRIES_MAX: u64 = 100_000;
/// What the size of a file is rounded up to, and what a directory or a link counts for: a block of the disk.
pub const BLOCK_BYTES: u64 = 4096;
/// Bytes of a path within a volume: what walks through it never goes deeper than a thousand directories.
pub const PATH_BYTES_MAX: usize = 2048;
/// Opened files after which those that were closed meanwhile are forgotten.
pub(super) const OPENED_PER_LOOK: u32 = 1024;
