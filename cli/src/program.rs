//! This program, as its own child processes are started.
//!
//! Invariant: a child is the very program that starts it. An upgrade replaces the file under its path while
//! `up` goes on for weeks: by the path a child would be another version, or not there at all.

use std::path::Path;

/// The running program, whatever has become of the file it was started from.
pub(crate) fn path() -> &'static Path {
    Path::new("/proc/self/exe")
}

/// Gives this process the name that people look for; one started by [`path`] would be called `exe`.
pub(crate) fn name_process() {
    // A process keeps working under another name.
    let _ = rustix::thread::set_name(c"gilliam");
}
