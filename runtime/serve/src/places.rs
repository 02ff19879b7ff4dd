//! Places for connections: each takes a descriptor, of which a process has only so many.
//!
//! A server has its own count of them, and may share a second one with the other servers of its process.
//! While a place is wanted that is not there, connections that wait for their client's next request give
//! theirs up early.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places that several servers share; clones share them too.
#[derive(Debug, Clone)]
pub struct Places(Arc<Semaphore>);

impl Places {
    /// So many connections at once.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))))
    }

    /// Waits for a place.
    pub(crate) async fn take(&self) -> Place {
        let permit = self.0.clone().acquire_owned().await;
        Place {
            _permit: permit.expect("the semaphore is never closed"),
        }
    }

    fn are_gone(&self) -> bool {
        self.0.available_permits() == 0
    }
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// The places that one server's connections come from.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    pub(crate) own: Places,
    pub(crate) shared: Option<Places>,
}

impl Crowd {
    /// Whether the next connection finds no place.
    pub(crate) fn is_full(&self) -> bool {
        self.own.are_gone() || self.shared.as_ref().is_some_and(Places::are_gone)
    }
}
