//! Answers of one turn of a thread are written together.
//!
//! A client that sleeps is woken by the first byte written to it, and waking it costs the server more than
//! the write. So an answer is put off until the other connections that have something to do had their turn:
//! then the answers of all follow one another, and find clients of the same machine awake. With nobody else
//! in turn nothing is gained, and the next answers are written at once.
//!
//! Invariant: an answer is put off once, and for no longer than one round of the thread's ready tasks.

use std::cell::Cell;

/// Answers written at once after one that was put off in vain; then it is tried again.
const AT_ONCE_MAX: u32 = 32;

/// When an answer was put off: what its thread had put off and resumed until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

#[derive(Debug, Default)]
struct Turn {
    /// Answers put off, and answers resumed.
    steps: Cell<u64>,
    /// Answers left that are written at once.
    at_once: Cell<u32>,
}

thread_local! {
    static TURN: Turn = Turn::default();
}

/// Whether an answer should be put off.
pub(crate) fn put_off() -> Option<Mark> {
    TURN.with(Turn::put_off)
}

/// The answer's turn has come.
pub(crate) fn resume(mark: Mark) {
    TURN.with(|turn| turn.resume(mark));
}

impl Turn {
    fn put_off(&self) -> Option<Mark> {
        if let Some(left) = self.at_once.get().checked_sub(1) {
            self.at_once.set(left);
            return None;
        }
        Some(Mark(self.step()))
    }

    fn resume(&self, mark: Mark) {
        // A task may have moved to another thread meanwhile; then this is a guess, and costs one at most.
        let was_alone = mark.0 == self.steps.get();
        if was_alone {
            self.at_once.set(AT_ONCE_MAX);
        }
        self.step();
    }

    fn step(&self) -> u64 {
        self.steps.set(self.steps.get().wrapping_add(1));
        self.steps.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_once(turn: &Turn) -> usize {
        (0..=AT_ONCE_MAX).take_while(|_| turn.put_off().is_none()).count()
    }

    #[test]
    fn answers_are_put_off_while_that_gathers_them() {
        let turn = Turn::default();
        for _ in 0..3 {
            let marks: Vec<Mark> = (0..10).map(|_| turn.put_off().expect("put off")).collect();
            marks.into_iter().for_each(|mark| turn.resume(mark));
        }
        assert_eq!(at_once(&turn), 0);
    }

    #[test]
    fn an_answer_that_waited_for_nobody_lets_the_next_go_at_once() {
        let turn = Turn::default();
        turn.resume(turn.put_off().expect("put off"));
        assert_eq!(at_once(&turn), AT_ONCE_MAX as usize);
    }
}
