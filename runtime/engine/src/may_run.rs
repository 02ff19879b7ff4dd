//! Whether guests may run just now: a node that stood still holds them back until it knows that they are still its own.
//!
//! Invariant: it is asked before each slice of a guest, so it answers within nanoseconds and never waits.

use std::{fmt, sync::Arc};

/// Says whether guests may run; by default they always may.
#[derive(Clone, Default)]
pub struct MayRun(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl MayRun {
    /// As `says` says, each time.
    pub fn when(says: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(says)))
    }

    pub(crate) fn now(&self) -> bool {
        self.0.as_ref().is_none_or(|says| says())
    }
}

impl fmt::Debug for MayRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MayRun").field(&self.now()).finish()
    }
}
