//! The stops of a crew: notice first, then the rest of the exit time, then a kill.
//!
//! Invariant: at most [`KILLS_COUNT_MAX`] guests are being taken down at once, so that the end of a hundred
//! thousand does not keep the guest threads from others.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use gilliam_engine::CommandInstance;
use gilliam_model::{code::Code, placement::SlotRange};
use tokio::time::Instant;

use crate::slots::{Place, SlotSet};

/// Guests that are killed and have not ended yet: some 2 ms of a guest thread. Kills go before all that is ready
/// there; between two such lots the others have their turns.
const KILLS_COUNT_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Stops {
    grace: Duration,
    /// To be begun.
    asked: SlotSet,
    /// Asked for while they boot.
    put_off: Vec<Place>,
    /// Those that had notice, by when they are late.
    noticed: VecDeque<(Instant, Place)>,
    killed: BTreeSet<Place>,
}

impl Stops {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            grace,
            asked: SlotSet::default(),
            put_off: Vec::new(),
            noticed: VecDeque::new(),
            killed: BTreeSet::new(),
        }
    }

    pub(super) fn ask(&mut self, range: SlotRange) {
        self.asked.insert(range);
    }

    /// The next stops to begin.
    pub(super) fn next(&mut self, count_max: usize) -> Vec<Place> {
        for place in self.put_off.drain(..) {
            self.asked.insert(place.range());
        }
        let room = KILLS_COUNT_MAX.saturating_sub(self.killed.len());
        self.asked.take(count_max.min(room))
    }

    /// Comes back to it at the next turn.
    pub(super) fn put_off(&mut self, place: Place) {
        self.put_off.push(place);
    }

    /// Gives notice; who cannot hear it is killed.
    pub(super) fn begin(&mut self, place: Place, instance: &CommandInstance, now: Instant) {
        match instance.notice() {
            true => self.noticed.push_back((now + self.grace, place)),
            false => self.kill(place, instance),
        }
    }

    pub(super) fn kill(&mut self, place: Place, instance: &CommandInstance) {
        self.killed.insert(place);
        instance.kill();
    }

    /// Those whose time is up.
    pub(super) fn late(&mut self, now: Instant, count_max: usize) -> Vec<Place> {
        let room = KILLS_COUNT_MAX.saturating_sub(self.killed.len()).min(count_max);
        let count = self
            .noticed
            .iter()
            .take(room)
            .take_while(|(at, _)| *at <= now)
            .count();
        self.noticed.drain(..count).map(|(_, place)| place).collect()
    }

    pub(super) fn is_late(&self) -> String {
        let (code, ms) = (Code::R12, self.grace.as_millis());
        format!("{code} {}: not done after {ms} ms", code.title())
    }

    pub(super) fn ended(&mut self, place: Place) {
        self.killed.remove(&place);
    }

    /// When the next one is late; none as long as there is no room to kill it.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.noticed.front().map(|(at, _)| *at);
        first.filter(|_| self.has_room())
    }

    /// Whether another stop can begin now.
    pub(super) fn has_more(&self) -> bool {
        !self.asked.is_empty() && self.has_room()
    }

    fn has_room(&self) -> bool {
        self.killed.len() < KILLS_COUNT_MAX
    }
}
