//! How many clusters run at once: their parts are processes that must not starve each other, for what tests wait for
//! hangs on seconds.

use std::sync::{Condvar, Mutex};

/// Clusters at once: two for the two cores of a small machine.
const CLUSTERS_MAX: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run a cluster, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(());

impl Turn {
    /// Waits for it.
    pub(crate) fn take() -> Self {
        let running = RUNNING.lock().expect("nobody panics with it");
        let mut running = ENDED
            .wait_while(running, |running| *running >= CLUSTERS_MAX)
            .expect("nobody panics with it");
        *running += 1;
        Self(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().expect("nobody panics with it") -= 1;
        ENDED.notify_one();
    }
}
