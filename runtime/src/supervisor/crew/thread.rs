//! The thread that all crews share: what tens of thousands of instances a second give them to do is done apart
//! from the threads of the ingress.
//!
//! Invariant: nothing here waits for a guest thread but for a lock that is held for one push.

use std::{fmt, io, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// A runtime of one thread; dropped, it ends.
pub(crate) struct CrewThread {
    handle: Handle,
    /// Where crews have done what needs sockets.
    main: Handle,
    _end: oneshot::Sender<()>,
}

impl fmt::Debug for CrewThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrewThread").finish_non_exhaustive()
    }
}

impl CrewThread {
    /// Must be called within a tokio runtime.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name("gilliam-crews".to_owned())
            .spawn(move || {
                // Nothing is ever sent: the sender goes.
                let _ = runtime.block_on(ended);
            })?;
        Ok(Self {
            handle,
            main: Handle::current(),
            _end: end,
        })
    }

    pub(in crate::supervisor) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(in crate::supervisor) fn main(&self) -> &Handle {
        &self.main
    }
}
