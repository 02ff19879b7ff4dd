//! The threads that SQLite computes and waits for the disk on: as many as there is work for, up to a limit.
//!
//! In flow pieces of work, each with a database's connection in it. They are begun in their order.
//!
//! Invariant: no more work is queued than all databases allow at once: each has so many connections.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::limits;

/// Bytes of a thread's stack: rusqlite looks for further statements by recursion.
const STACK_BYTES: usize = 4 << 20;
/// What guests' threads have too (see the engine): work of guests waits for the node's own.
const NICE: i32 = 5;

type Work = Box<dyn FnOnce() + Send>;

/// Threads for any number of databases. Clones are the same threads; they end with the last one.
#[derive(Clone)]
pub struct SqlThreads(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    threads_max: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    threads: usize,
    idle: usize,
}

impl fmt::Debug for SqlThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlThreads").finish_non_exhaustive()
    }
}

impl Default for SqlThreads {
    fn default() -> Self {
        Self::new(limits::THREADS_MAX)
    }
}

impl SqlThreads {
    /// At most so many threads; none before there is work.
    pub fn new(threads_max: usize) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            threads_max: threads_max.max(1),
        }))
    }

    /// Has a piece of work done.
    pub(super) fn run(&self, work: Work) {
        let mut state = self.0.state();
        state.queue.push_back(work);
        if state.idle >= state.queue.len() || state.threads >= self.0.threads_max {
            drop(state);
            self.0.wake.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = self.0.clone();
        let thread = std::thread::Builder::new()
            .name("sql".to_owned())
            .stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || shared.work()) {
            let mut state = self.0.state();
            state.threads -= 1;
            // Another thread does it, when there is one; else whoever waits hears that it was dropped.
            if state.threads == 0 {
                state.queue.clear();
            }
            tracing::error!(%error, "no thread for databases");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until there has been nothing to do for a while.
    fn work(&self) {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "a thread for databases keeps its priority");
        }
        let mut state = self.state();
        loop {
            if let Some(work) = state.queue.pop_front() {
                drop(state);
                // A panic ends this piece; its caller hears that it was dropped.
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    tracing::error!("work on a database panicked");
                }
                state = self.state();
                continue;
            }
            state.idle += 1;
            let waited = self.wake.wait_timeout(state, limits::THREAD_IDLE_MAX);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}
