//! When a thread has its allocator give memory back.
//!
//! An allocator keeps what a thread freed for that thread's next needs, and what others freed of a thread's until
//! that one asks for more. A thread that waits asks for nothing: after a hundred thousand commands have ended,
//! hundreds of MiB would stay with threads that sleep. So each thread that lives long says when it waits.
//!
//! Invariant: nothing is given back more often than once in an [`INTERVAL`] and thread.

use std::time::{Duration, Instant};

/// From a thread's first work until it gives back: what it freed a moment ago it mostly needs again, and to look
/// through what half a million instances use takes some ms.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

/// One thread's part in it.
#[derive(Debug)]
pub struct GiveBack {
    /// Has the calling thread's allocator give back all that it can.
    call: fn(),
    due: Option<Instant>,
}

impl GiveBack {
    /// For a thread that has not worked yet.
    pub const fn new(call: fn()) -> Self {
        Self { call, due: None }
    }

    /// The thread has worked: takes note of it, and gives back when it is time.
    pub fn worked(&mut self, now: Instant) {
        self.due.get_or_insert(now + INTERVAL);
        self.look(now);
    }

    /// Gives back when it is time.
    pub fn look(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            (self.call)();
        }
    }

    /// How long the thread may wait before it looks again; as long as it likes where that is none.
    pub fn wait_max(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }

    #[test]
    fn a_thread_that_has_worked_gives_back_once() {
        let mut give_back = GiveBack::new(|| CALLS.set(CALLS.get() + 1));
        let start = Instant::now();
        assert_eq!(give_back.wait_max(start), None, "it has nothing to give");
        give_back.worked(start);
        give_back.worked(start + INTERVAL / 2);
        assert_eq!((CALLS.get(), give_back.wait_max(start)), (0, Some(INTERVAL)));
        give_back.look(start + INTERVAL);
        give_back.look(start + INTERVAL * 9);
        assert_eq!((CALLS.get(), give_back.wait_max(start + INTERVAL)), (1, None));
    }
}
