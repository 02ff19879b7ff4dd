//! One thread of a node that looks through what is kept and lets go what nobody needs any more.
//!
//! In flows nothing but time; the decisions are those of the owners of what is kept. It runs at the lowest
//! priority: to let go late costs memory for a moment, and nothing else.
//!
//! Invariant: one timer for all instances, whatever their number.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread,
    time::Duration,
};

/// Time between two looks: what is let go is let go at most so much too late.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// Behind all threads that serve, and behind those that run guests.
const SWEEP_NICE: i32 = 19;

/// Keeps the thread alive; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Sweeper {
    _alive: SyncSender<()>,
}

/// Sweeps `owner` for as long as it and the sweeper live.
pub(crate) fn start<T: Send + Sync + 'static>(owner: &Arc<T>, sweep: fn(&T)) -> io::Result<Sweeper> {
    let (alive, ended) = mpsc::sync_channel(0);
    let owner = Arc::downgrade(owner);
    let run = move || {
        if let Err(error) = rustix::process::setpriority_process(None, SWEEP_NICE) {
            tracing::debug!(%error, "the sweeper keeps its priority");
        }
        while ended.recv_timeout(SWEEP_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            match owner.upgrade() {
                Some(owner) => sweep(&owner),
                None => return,
            }
        }
    };
    thread::Builder::new()
        .name("gilliam-sweep".to_owned())
        .spawn(run)?;
    Ok(Sweeper { _alive: alive })
}
