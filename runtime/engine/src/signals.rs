//! What a command and whoever holds it tell each other: stop, heard, ended.
//!
//! Invariant: one small allocation for both sides, for there may be half a million commands.

use std::sync::{
    OnceLock,
    atomic::{
        AtomicBool,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use tokio::sync::Notify;

use crate::command::ExitReason;

/// Shared by a command's handle, its guest and its end.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    is_to_stop: AtomicBool,
    is_heard: AtomicBool,
    exit: OnceLock<ExitReason>,
    changed: Notify,
}

impl Signals {
    /// Asks the command to end.
    pub(crate) fn ask_to_stop(&self) {
        self.is_to_stop.store(true, Release);
        self.changed.notify_waiters();
    }

    /// Whether it was asked to end.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_to_stop.load(Acquire)
    }

    /// Whether it was asked to end. From now on it counts as listening.
    pub(crate) fn hear(&self) -> bool {
        self.is_heard.store(true, Relaxed);
        self.is_to_stop.load(Acquire)
    }

    /// Waits until it is asked to end. Cancel-safe.
    pub(crate) async fn asked_to_stop(&self) {
        self.until(|| self.hear().then_some(())).await;
    }

    /// Whether it listens, or has.
    pub(crate) fn is_heard(&self) -> bool {
        self.is_heard.load(Relaxed)
    }

    /// It has ended; the first reason counts.
    pub(crate) fn ended(&self, reason: ExitReason) {
        let _ = self.exit.set(reason);
        self.changed.notify_waiters();
    }

    /// Why it ended, once it has.
    pub(crate) fn exit(&self) -> Option<&ExitReason> {
        self.exit.get()
    }

    /// Waits for its end. Cancel-safe.
    pub(crate) async fn wait(&self) -> ExitReason {
        self.until(|| self.exit().cloned()).await
    }

    async fn until<T>(&self, look: impl Fn() -> Option<T>) -> T {
        loop {
            // Before the look: a change after it wakes what was made before it.
            let changed = self.changed.notified();
            if let Some(found) = look() {
                return found;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::{FutureExt as _, executor::block_on, poll};

    use super::*;

    #[test]
    fn who_waits_is_woken_by_what_it_waits_for() {
        let signals = Signals::default();
        assert!(!signals.is_heard());
        block_on(async {
            let (mut stop, mut end) = (pin!(signals.asked_to_stop()), pin!(signals.wait()));
            assert!(poll!(&mut stop).is_pending() && poll!(&mut end).is_pending());
            assert!(signals.is_heard(), "waiting for the stop is listening");
            signals.ask_to_stop();
            assert!(poll!(&mut stop).is_ready() && poll!(&mut end).is_pending());
            signals.ended(ExitReason::ExitCode(3));
            signals.ended(ExitReason::Ok);
            assert_eq!(end.await, ExitReason::ExitCode(3));
        });
        assert!(signals.hear());
        assert_eq!(signals.wait().now_or_never(), Some(ExitReason::ExitCode(3)));
    }
}
