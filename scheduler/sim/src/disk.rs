//! The faults of one control plane's way to the store.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
};

use fastrand::Rng;
use gilliam_store::{
    Check,
    faults::{Fault, Faults, Operation},
    keys,
};

use crate::clock::Ms;

/// How the way to the store behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It answers within some milliseconds.
    Good,
    /// An operation in five is refused or done unanswered, and all take up to some seconds.
    Bad,
    /// Nothing gets through.
    Cut,
}

/// Faults on the virtual clock.
#[derive(Debug)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    /// Whether plans are committed without a look at what others planned.
    leaves_epoch_out: bool,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    mood: Mood,
    now: Ms,
    /// When an operation that waits may go on.
    wake: Option<Ms>,
}

impl Disk {
    pub(crate) fn new(rng: Rng, leaves_epoch_out: bool) -> Self {
        let state = State {
            rng,
            mood: Mood::Good,
            now: 0,
            wake: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            leaves_epoch_out,
        }
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// Tells the time; says nothing of what waits.
    pub(crate) fn set_now(&self, now: Ms) {
        self.state().now = now;
    }

    /// When what waits may go on.
    pub(crate) fn wake(&self) -> Option<Ms> {
        self.state().wake
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl Faults for Disk {
    fn heeds(&self, check: &Check) -> bool {
        !(self.leaves_epoch_out && check.key == keys::PLAN_EPOCH)
    }

    fn before(&self, _: Operation) -> Pin<Box<dyn Future<Output = Fault> + Send>> {
        let (until, fault) = {
            let mut state = self.state();
            let (delay, fault) = match state.mood {
                Mood::Good => (state.rng.u64(0..4), Fault::None),
                Mood::Cut => (5_000, Fault::Unavailable),
                Mood::Bad => {
                    let fault = match state.rng.u8(0..10) {
                        0 => Fault::Unavailable,
                        1 => Fault::Unanswered,
                        _ => Fault::None,
                    };
                    (state.rng.u64(0..3_000), fault)
                }
            };
            (state.now + delay, fault)
        };
        let state = self.state.clone();
        Box::pin(poll_fn(move |_| {
            let mut state = state.lock().expect("no holder panics");
            if state.now >= until {
                state.wake = None;
                return Poll::Ready(fault);
            }
            state.wake = Some(until);
            Poll::Pending
        }))
    }
}
