//! Every limit of a blob service besides its quota, each with its reason.

use std::time::Duration;

/// Bytes of a name: what S3 takes.
pub const NAME_BYTES_MAX: usize = 1024;
/// Bytes of a content type.
pub const TYPE_BYTES_MAX: usize = 256;
/// Objects of one service: they are counted when its node first uses it.
pub const OBJECTS_MAX: u64 = 1_000_000;
/// Objects that one page of a list has at most.
pub const LISTED_MAX: usize = 1_000;
/// Objects of a page unless it is said.
pub const LISTED: usize = 100;
/// Bytes that are read or written at once.
pub const PIECE_BYTES: usize = 64 << 10;
/// Calls of one service that wait for the disk at once: each has a thread meanwhile.
pub const AT_ONCE_MAX: usize = 8;
/// How long a sender may be silent in the middle of an object: it holds a file and a part of the quota.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);
