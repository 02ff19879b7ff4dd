//! Whether this node may serve just now: not after it was stopped for so long that others may run what it ran, until
//! it has asked.
//!
//! A node that does not sync for a while is held dead, and its instances start elsewhere. Three things look alike from
//! outside and are told apart here, on this machine's clock alone:
//!
//! - every control plane is gone: nobody moved anything; the node serves on, for hours;
//! - the network is parted: the node cannot know what was moved; it serves on whom it reaches, and obeys at
//!   once when it hears of a control plane again;
//! - the node itself stood still (a stopped process, a paused machine): it was not there to try. When it goes
//!   on it holds requests and guests back, asks, and obeys; if nobody answers within [`DOUBT_MAX`], the first case
//!   holds.
//!
//! In: the pulse of this process, and answers of control planes. Out: whether a request may pass and guests may run, or
//! wait.
//!
//! Invariant: no clock of another machine is compared with ours.
//! Invariant: a request waits for at most [`DOUBT_MAX`] and a pulse.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// Between two pulses.
const PULSE: Duration = Duration::from_millis(100);
/// Longest doubt: an answer takes a round trip; a control plane that starts is there within a second.
const DOUBT_MAX: Duration = Duration::from_secs(2);
/// Silence after which a node is held dead, until a control plane says another.
const DEAD_AFTER: Duration = Duration::from_secs(10);
/// A pulse may be late by this part of the silence after which a node is dead: a busy machine is no stopped one.
const LATE_PART: u64 = 4;

/// The watch over this process.
#[derive(Debug)]
pub(crate) struct Vigil {
    /// Until when requests pass without a further look, in milliseconds of [`now`].
    clear_until: AtomicU64,
    state: Mutex<State>,
    /// Whether there is a doubt, and since when.
    doubt: watch::Sender<Option<u64>>,
}

/// All of it in milliseconds of one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// The last pulse.
    pulse: u64,
    /// Until when nobody can hold this node dead: counted from the sending of the last report that was answered.
    lease: u64,
    dead_after: u64,
    /// Since when it is not known whether what runs here is still this node's.
    doubt: Option<u64>,
}

impl State {
    /// A node that has just started: what its last life ran may be others' by now.
    fn new(now: u64) -> Self {
        Self {
            pulse: now,
            lease: 0,
            dead_after: millis(DEAD_AFTER),
            doubt: Some(now),
        }
    }

    fn late(&self) -> u64 {
        self.dead_after / LATE_PART
    }

    /// Takes note that this process runs.
    fn beat(&mut self, now: u64) {
        let gap = now.saturating_sub(self.pulse);
        self.pulse = now;
        match self.doubt {
            None if now >= self.lease && gap > self.late() => self.doubt = Some(now),
            Some(since) if now.saturating_sub(since) >= millis(DOUBT_MAX) => self.doubt = None,
            _ => {}
        }
    }

    /// Takes note that a report that was sent then was answered, and that the answer is obeyed.
    fn obeyed(&mut self, sent: u64, dead_after: u64) {
        self.dead_after = dead_after.max(1);
        self.lease = self.lease.max(sent + self.dead_after);
        if self.doubt.is_some_and(|since| since <= sent) {
            self.doubt = None;
        }
    }

    /// Until when requests pass without a further look.
    fn clear_until(&self) -> u64 {
        match self.doubt {
            Some(_) => 0,
            None => self.lease.max(self.pulse + self.late()),
        }
    }
}

impl Vigil {
    /// One that lets everything pass until it begins.
    pub(crate) fn new() -> Self {
        Self {
            clear_until: AtomicU64::new(u64::MAX),
            doubt: watch::Sender::new(None),
            state: Mutex::new(State::new(0)),
        }
    }

    /// Begins to watch over a process that starts now.
    pub(crate) fn begin(&self) {
        self.change(|state| *state = State::new(now()));
    }

    /// Feels the pulse for as long as it is polled.
    pub(crate) async fn keep(&self) {
        let mut tick = interval(PULSE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.change(|state| state.beat(now()));
        }
    }

    /// Returns once requests may pass; at once, but after a standstill.
    pub(crate) async fn pass(&self) {
        if self.is_clear() {
            return;
        }
        let mut doubt = self.doubt.subscribe();
        // The sender lives as long as `self`.
        let _ = doubt.wait_for(Option::is_none).await;
    }

    /// Whether requests may pass and guests may run now. What comes before the first pulse after a standstill sees it
    /// too.
    pub(crate) fn is_clear(&self) -> bool {
        let now = now();
        if now <= self.clear_until.load(Ordering::Relaxed) {
            return true;
        }
        self.change(|state| state.beat(now));
        now <= self.clear_until.load(Ordering::Relaxed)
    }

    /// The moment of a report that is about to be sent.
    pub(crate) fn moment(&self) -> u64 {
        now()
    }

    /// Takes note of an answer that is obeyed by now, to a report of the moment `sent`.
    pub(crate) fn obeyed(&self, sent: u64, dead_after_ms: Option<u64>) {
        let dead_after = dead_after_ms.unwrap_or(millis(DEAD_AFTER));
        self.change(|state| state.obeyed(sent, dead_after));
    }

    /// Waits until there is a doubt that began after the moment `sent`: what was sent then answers it not.
    pub(crate) async fn doubted_since(&self, sent: u64) {
        let mut doubt = self.doubt.subscribe();
        let _ = doubt
            .wait_for(|since| since.is_some_and(|since| since > sent))
            .await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        self.clear_until.store(state.clear_until(), Ordering::Relaxed);
        let doubt = state.doubt;
        self.doubt
            .send_if_modified(|before| std::mem::replace(before, doubt) != doubt);
    }
}

/// Milliseconds of a clock that goes on while the machine sleeps.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
    seconds * 1_000 + nanos / 1_000_000
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that was answered at 1,000 ms and has run since.
    fn answered() -> State {
        let mut state = State::new(900);
        state.obeyed(1_000, 10_000);
        assert_eq!((state.doubt, state.clear_until()), (None, 11_000));
        state
    }

    #[test]
    fn a_node_serves_on_while_no_control_plane_answers() {
        let mut state = answered();
        for now in (1_100..3_600_000).step_by(100) {
            state.beat(now);
            assert!(state.clear_until() > now, "at {now}");
        }
    }

    #[test]
    fn after_a_standstill_beyond_its_lease_it_asks_first_and_obeys() {
        let mut state = answered();
        state.beat(1_100);
        assert_eq!(state.clear_until(), 11_000);
        state.beat(61_000);
        assert_eq!(state.clear_until(), 0);
        // An answer to what was sent before says nothing of now.
        state.obeyed(60_900, 10_000);
        assert_eq!(state.clear_until(), 0);
        state.obeyed(61_020, 10_000);
        assert_eq!(state.clear_until(), 71_020);
    }

    #[test]
    fn a_standstill_within_its_lease_is_of_no_account() {
        let mut state = answered();
        state.beat(1_100);
        state.beat(10_900);
        assert!(state.clear_until() > 10_900);
    }

    #[test]
    fn if_nobody_answers_it_serves_on_after_a_while() {
        let mut state = answered();
        state.beat(61_000);
        for now in (61_100..62_900).step_by(100) {
            state.beat(now);
            assert_eq!(state.clear_until(), 0, "at {now}");
        }
        state.beat(63_000);
        assert!(state.clear_until() > 63_000);
    }

    #[test]
    fn a_node_that_starts_asks_before_it_serves() {
        let mut state = State::new(5_000);
        assert_eq!(state.clear_until(), 0);
        state.beat(5_100);
        assert_eq!(state.clear_until(), 0);
        state.beat(7_000);
        assert!(state.clear_until() > 7_000);
    }
}
