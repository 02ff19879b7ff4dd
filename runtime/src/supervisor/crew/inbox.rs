//! What a crew is told: orders of the supervisor, and ends of its instances from the threads of the guests.
//!
//! Invariant: bounded by the instances there are: one end each, and orders fold into ranges.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use gilliam_engine::ExitReason;
use gilliam_model::placement::SlotRange;
use tokio::sync::Notify;

use crate::slots::Place;

/// What a crew is told, and has not taken yet.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct Inbox {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    orders: Orders,
    exits: VecDeque<(Place, ExitReason)>,
    is_closed: bool,
}

/// To be carried out in this order.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) stop: Vec<SlotRange>,
    pub(super) start: Vec<SlotRange>,
}

/// The crew is gone; another is needed.
#[derive(Debug)]
pub(in crate::supervisor) struct Closed;

impl Inbox {
    /// Orders instances that are on the board, starting, to be started.
    pub(in crate::supervisor) fn start(&self, range: SlotRange) -> Result<(), Closed> {
        self.order(|orders| orders.start.push(range))
    }

    /// Orders instances that are on the board, stopping, to be stopped.
    pub(in crate::supervisor) fn stop(&self, range: SlotRange) -> Result<(), Closed> {
        self.order(|orders| orders.stop.push(range))
    }

    fn order(&self, give: impl FnOnce(&mut Orders)) -> Result<(), Closed> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Closed);
        }
        give(&mut state.orders);
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    /// An instance has ended.
    pub(super) fn ended(&self, place: Place, reason: ExitReason) {
        let was_empty = {
            let mut state = self.state();
            state.exits.push_back((place, reason));
            state.exits.len() == 1
        };
        if was_empty {
            self.news.notify_one();
        }
    }

    /// Waits until something came. Cancel-safe.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    pub(super) fn take_orders(&self) -> Orders {
        std::mem::take(&mut self.state().orders)
    }

    /// Up to `count_max` ends, and whether there are more. Of those in `booting` it is not known yet that
    /// they began: their ends stay.
    pub(super) fn take_exits(
        &self,
        count_max: usize,
        booting: &BTreeSet<Place>,
    ) -> (Vec<(Place, ExitReason)>, bool) {
        let mut state = self.state();
        let count = state.exits.len().min(count_max);
        let mut taken: Vec<_> = state.exits.drain(..count).collect();
        let kept = taken.extract_if(.., |(place, _)| booting.contains(place));
        let kept: Vec<_> = kept.collect();
        let is_more = !state.exits.is_empty() && !taken.is_empty();
        state.exits.extend(kept);
        (taken, is_more)
    }

    /// Takes no further orders, when none is left and `is_done`.
    pub(super) fn close_if(&self, is_done: impl FnOnce() -> bool) -> bool {
        let mut state = self.state();
        let is_idle = state.orders.stop.is_empty() && state.orders.start.is_empty();
        state.is_closed = is_idle && is_done();
        state.is_closed
    }

    pub(in crate::supervisor) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
