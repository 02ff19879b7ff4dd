//! The guest threads: a runtime of their own, of lower priority, for guest code that runs on.
//!
//! In flow futures that run guests; the threads of ingress, timers and sync never run them beyond a first
//! short slice.

use std::{fmt, io, num::NonZeroUsize};

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads for blocking calls of guests (name resolution): bounded, for each costs a stack.
const BLOCKING_THREADS_MAX: usize = 64;

/// A runtime whose threads yield to all others of this process.
pub(crate) struct GuestThreads {
    /// Taken in `drop`, where it is shut down without waiting.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl fmt::Debug for GuestThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestThreads")
            .field("workers", &self.handle.metrics().num_workers())
            .finish()
    }
}

impl GuestThreads {
    pub(crate) fn start(threads: NonZeroUsize, nice: i32) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.get())
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("gilliam-guest")
            .enable_all()
            .on_thread_start(move || {
                // On Linux the nice value belongs to the calling thread. Refusal leaves the priority as it
                // is, which costs latency under load and nothing else.
                if let Err(error) = rustix::process::setpriority_process(None, nice) {
                    tracing::debug!(%error, nice, "guest thread keeps its priority");
                }
            })
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self {
            runtime: Some(runtime),
            handle,
        })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for GuestThreads {
    fn drop(&mut self) {
        // A plain drop would wait, and may happen on an async thread, where waiting is a panic.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
