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
///
/// Two locks: guest threads yield to all others, and while one that holds a lock does, nobody but the crew may
/// wait for it.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct Inbox {
    desk: Mutex<Desk>,
    exits: Mutex<VecDeque<(Place, ExitReason)>>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Desk {
    orders: Orders,
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
        let mut desk = self.desk();
        if desk.is_closed {
            return Err(Closed);
        }
        give(&mut desk.orders);
        drop(desk);
        self.news.notify_one();
        Ok(())
    }

    /// An instance has ended.
    pub(super) fn ended(&self, place: Place, reason: ExitReason) {
        let was_empty = {
            let mut exits = self.exits();
            exits.push_back((place, reason));
            exits.len() == 1
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
        std::mem::take(&mut self.desk().orders)
    }

    /// Up to `count_max` ends, and whether there are more. Of those in `booting` it is not known yet that
    /// they began: their ends stay.
    pub(super) fn take_exits(
        &self,
        count_max: usize,
        booting: &BTreeSet<Place>,
    ) -> (Vec<(Place, ExitReason)>, bool) {
        let mut exits = self.exits();
        let count = exits.len().min(count_max);
        let mut taken: Vec<_> = exits.drain(..count).collect();
        let kept = taken.extract_if(.., |(place, _)| booting.contains(place));
        let kept: Vec<_> = kept.collect();
        let is_more = !exits.is_empty() && !taken.is_empty();
        exits.extend(kept);
        (taken, is_more)
    }

    /// Takes no further orders, when none is left and `is_done`.
    pub(super) fn close_if(&self, is_done: impl FnOnce() -> bool) -> bool {
        let mut desk = self.desk();
        let is_idle = desk.orders.stop.is_empty() && desk.orders.start.is_empty();
        desk.is_closed = is_idle && is_done();
        desk.is_closed
    }

    pub(in crate::supervisor) fn is_closed(&self) -> bool {
        self.desk().is_closed
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exits(&self) -> MutexGuard<'_, VecDeque<(Place, ExitReason)>> {
        self.exits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
