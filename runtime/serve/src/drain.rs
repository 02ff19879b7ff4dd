//! Asking servers to finish, and hearing how it ended.

use std::time::Duration;

use tokio::sync::watch;

/// Asks every holder of the matching [`DrainSignal`] to finish.
///
/// Dropping it asks as well, with no grace: nobody could ask any more.
#[derive(Debug)]
pub struct DrainTrigger {
    sender: watch::Sender<Option<Duration>>,
}

/// Hears of the drain; clones hear of the same one.
#[derive(Debug, Clone)]
pub struct DrainSignal {
    receiver: watch::Receiver<Option<Duration>>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Everything in flight was finished.
    Finished,
    /// The grace passed; so many connections were cut.
    TimedOut {
        /// Connections that were cut.
        connections: usize,
    },
}

/// A trigger and its signal.
pub fn channel() -> (DrainTrigger, DrainSignal) {
    let (sender, receiver) = watch::channel(None);
    (DrainTrigger { sender }, DrainSignal { receiver })
}

impl DrainTrigger {
    /// Asks to stop accepting and to finish what is in flight within `grace`.
    ///
    /// The first call counts; later ones change nothing.
    pub fn drain(&self, grace: Duration) {
        self.sender.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(grace);
            first
        });
    }
}

impl DrainSignal {
    /// Waits until the drain is asked for, and gives its grace. Cancel-safe.
    pub async fn requested(&mut self) -> Duration {
        match self.receiver.wait_for(Option::is_some).await {
            Ok(asked) => asked.unwrap_or_default(),
            Err(_) => Duration::ZERO,
        }
    }

    /// Whether the drain has been asked for.
    pub fn is_requested(&self) -> bool {
        self.receiver.borrow().is_some() || self.receiver.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_grace_counts_and_a_dropped_trigger_asks_with_none() {
        let (trigger, signal) = channel();
        assert!(!signal.is_requested());
        trigger.drain(Duration::from_secs(3));
        trigger.drain(Duration::from_secs(9));
        assert_eq!(signal.clone().requested().await, Duration::from_secs(3));
        drop(trigger);
        assert_eq!(signal.clone().requested().await, Duration::from_secs(3));

        let (trigger, mut signal) = channel();
        drop(trigger);
        assert!(signal.is_requested());
        assert_eq!(signal.requested().await, Duration::ZERO);
    }
}
