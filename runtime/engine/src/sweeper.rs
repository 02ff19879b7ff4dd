//! One thread of a node that looks through what is kept and lets go what nobody needs any more.
//!
//! In flows nothing but time; the decisions are those of the owners of what is kept.
//!
//! Invariant: one timer for all instances, whatever their number.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    thread,
    time::Duration,
};

/// Time between two looks: what is let go is let go at most so much too late.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Keeps the thread alive; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Sweeper {
    _alive: SyncSender<()>,
}

/// Calls `sweep` again and again. At the usual priority: what it locks, requests lock as well.
pub(crate) fn start(mut sweep: impl FnMut() + Send + 'static) -> io::Result<Sweeper> {
    let (alive, ended) = mpsc::sync_channel(0);
    let run = move || {
        while ended.recv_timeout(SWEEP_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            sweep();
        }
    };
    thread::Builder::new()
        .name("gilliam-sweep".to_owned())
        .spawn(run)?;
    Ok(Sweeper { _alive: alive })
}
