//! Whether a file is compiled code that this node sealed, and whether it is still the one that was looked at.
//!
//! In flows an open file and the key, out flows a [`Stamp`] of what was found authentic.
//!
//! A component is unmapped when it is idle and mapped again for its next request, and to read the whole file
//! each time would cost that request a millisecond for each megabyte. So a file is read and its MAC checked
//! once in a process's life; later mappings ask for the same device, inode, size and times. What that gives
//! up, and what not:
//!
//! - Other users, and files put in the place of ours (another inode, or the same one written again): as
//!   before. The file must be a regular file of this user which nobody may write; every write, truncation,
//!   change of mode or owner, and every link sets the change time, which no call can set back.
//! - A write in the same tick of the kernel's clock as the look at the file would leave no trace: a stamp is
//!   kept only once the file had been left alone for [`SETTLED_MIN`].
//! - A process of this node's own user can do what it likes, here as with a file that stays mapped: it can
//!   read the key, or write to the node's memory. So can root, who can also set the clock.
//! - Bits that rot on the disk after the look are not seen, here as with a file that stays mapped: the kernel
//!   drops clean pages and reads them again whenever it likes. A new process looks at every file anew.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    compile::{Artefact, CompileKey, Mac, SettingsHash, TRAILER_BYTES},
    load::LoadError,
};

/// Bytes read at a time while a file is verified.
const READ_BYTES: usize = 1 << 20;
/// Permission bits that let anybody write.
const MODE_WRITE: u32 = 0o222;
/// How long a file must have been left alone before its stamp says anything: file systems take times from a
/// clock that ticks every 10 ms at most, network file systems in steps of up to a second.
const SETTLED_MIN: Duration = Duration::from_secs(2);

/// What tells a file from any other and from itself before or after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    pub(crate) bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether a change after `now` would show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let (seconds, nanos) = self.changed;
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
            return false;
        };
        let changed = UNIX_EPOCH + Duration::new(seconds, nanos);
        now.duration_since(changed).is_ok_and(|age| age >= SETTLED_MIN)
    }
}

/// A file that was found authentic.
#[derive(Debug)]
pub(crate) struct Authentic {
    pub(crate) bytes: u64,
    /// To be passed in next time; none while the file is too new for that.
    pub(crate) stamp: Option<Stamp>,
}

/// Checks that `file` is what was sealed for `artefact`: by `known`, the stamp of an earlier check, or else by
/// reading the whole of it.
pub(crate) fn verify(
    file: &mut File,
    path: &Path,
    artefact: &Artefact,
    key: &CompileKey,
    settings: &SettingsHash,
    known: Option<Stamp>,
) -> Result<Authentic, LoadError> {
    let read = |source| read_error(path, source);
    let now = SystemTime::now();
    let meta = file.metadata().map_err(read)?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(unauthentic(path, "not a file of this user"));
    }
    if meta.mode() & MODE_WRITE != 0 {
        return Err(unauthentic(path, "the file is writable"));
    }
    let stamp = Stamp::of(&meta);
    let bytes = stamp.bytes;
    if known == Some(stamp) {
        return Ok(Authentic { bytes, stamp: known });
    }
    check_seal(file, path, bytes, artefact, key, settings)?;
    let is_same = Stamp::of(&file.metadata().map_err(read)?) == stamp;
    Ok(Authentic {
        bytes,
        stamp: (is_same && stamp.is_settled(now)).then_some(stamp),
    })
}

fn check_seal(
    file: &mut File,
    path: &Path,
    bytes: u64,
    artefact: &Artefact,
    key: &CompileKey,
    settings: &SettingsHash,
) -> Result<(), LoadError> {
    let read = |source| read_error(path, source);
    let code_bytes = bytes
        .checked_sub(TRAILER_BYTES as u64)
        .ok_or_else(|| unauthentic(path, "too short"))?;
    let mut mac = Mac::new(key, artefact, settings);
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(code_bytes).unwrap_or(READ_BYTES))];
    let mut left = code_bytes;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
        file.read_exact(&mut buffer[..want]).map_err(read)?;
        mac.update(&buffer[..want]);
        left -= want as u64;
    }
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact(&mut trailer).map_err(read)?;
    let (made_for, tag) = trailer.split_at(32);
    if made_for != settings.0 {
        return Err(LoadError::Stale { path: shown(path) });
    }
    let tag: [u8; 32] = tag.try_into().map_err(|_| unauthentic(path, "too short"))?;
    if mac.finish(code_bytes) != blake3::Hash::from_bytes(tag) {
        return Err(unauthentic(path, "the seal does not match"));
    }
    Ok(())
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

pub(crate) fn read_error(path: &Path, source: io::Error) -> LoadError {
    LoadError::Read {
        path: shown(path),
        source,
    }
}

fn unauthentic(path: &Path, reason: &'static str) -> LoadError {
    LoadError::Unauthentic {
        path: shown(path),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use super::*;

    #[test]
    fn every_change_of_a_file_changes_its_stamp_and_a_new_file_has_none_yet() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("code");
        fs::write(&path, "code").expect("written");
        let stamp = || Stamp::of(&fs::metadata(&path).expect("metadata"));
        let first = stamp();
        let now = SystemTime::now();
        assert!(!first.is_settled(now), "just written");
        assert!(first.is_settled(now + SETTLED_MIN + Duration::from_secs(1)));
        assert!(
            !first.is_settled(now - Duration::from_secs(60)),
            "the clock was set back"
        );

        // The kernel's clock ticks: a change is seen once it has.
        let changes = |change: &dyn Fn()| {
            let before = stamp();
            while stamp() == before {
                change();
            }
        };
        changes(&|| fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("mode"));
        changes(&|| {
            let file = File::options().write(true).open(&path).expect("open");
            // Set back by hand: the change time tells.
            file.set_modified(now).expect("time");
        });
        let before = stamp();
        fs::write(folder.path().join("other"), "code").expect("written");
        fs::rename(folder.path().join("other"), &path).expect("renamed");
        assert_ne!(stamp(), before, "another file of the same name");
    }
}
