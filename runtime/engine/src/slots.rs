//! The slots of an engine's pool: who may make the next lane.
//!
//! A pool is shared by all apps of a node, so what it has free is given out here, before wasmtime is asked.
//! Each instance has one slot of its own for as long as it lives; more are for whoever comes first.
//!
//! Invariant: an instance can always serve one request at a time, however many slots other apps hold.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Share of the slots that stays free of idle lanes which no instance has of its own.
const PLENTY_DIVISOR: usize = 4;

/// The slots of one pool; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    total: usize,
}

/// An instance's hold on a pool.
#[derive(Debug)]
pub(crate) struct Seat {
    slots: Slots,
    /// One permit: whether the own slot is free.
    own: Arc<Semaphore>,
    /// The own slot itself; lanes in it keep it until their memory is given back.
    kept: Arc<OwnedSemaphorePermit>,
}

/// The right to one lane, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    kept: Option<Arc<OwnedSemaphorePermit>>,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        let total = (count as usize).min(Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(total));
        Self { free, total }
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Waits for a slot that an instance keeps.
    pub(crate) async fn seat(&self) -> Seat {
        let kept = acquire(&self.free).await;
        Seat {
            slots: self.clone(),
            own: Arc::new(Semaphore::new(1)),
            kept: Arc::new(kept),
        }
    }

    /// A slot, if one is free.
    pub(crate) fn try_take(&self) -> Option<Slot> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        Some(Slot {
            _permit: permit,
            kept: None,
        })
    }
}

impl Seat {
    /// The own slot or a free one, if there is either.
    pub(crate) fn try_slot(&self) -> Option<Slot> {
        match self.own.clone().try_acquire_owned() {
            Ok(permit) => Some(self.own_slot(permit)),
            Err(_) => self.slots.try_take(),
        }
    }

    /// Waits for the own slot or a free one.
    pub(crate) async fn slot(&self) -> Slot {
        tokio::select! {
            biased;
            permit = acquire(&self.own) => self.own_slot(permit),
            permit = acquire(&self.slots.free) => Slot { _permit: permit, kept: None },
        }
    }

    /// Whether an idle lane may keep `slot`: others need those that nobody has of their own.
    pub(crate) fn may_park(&self, slot: &Slot) -> bool {
        let Slots { free, total } = &self.slots;
        slot.kept.is_some() || free.available_permits() > total / PLENTY_DIVISOR
    }

    fn own_slot(&self, permit: OwnedSemaphorePermit) -> Slot {
        Slot {
            _permit: permit,
            kept: Some(self.kept.clone()),
        }
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = semaphore.clone().acquire_owned().await;
    permit.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_instance_keeps_one_slot_whatever_others_take() {
        let slots = Slots::new(4);
        let (quiet, greedy) = (slots.seat().await, slots.seat().await);
        let held: Vec<Slot> = std::iter::from_fn(|| greedy.try_slot()).collect();
        assert_eq!(held.len(), 3, "its own one and the two that nobody keeps");
        let own = quiet.try_slot().expect("its own");
        assert!(quiet.try_slot().is_none());
        assert!(quiet.may_park(&own));
        drop(own);
        quiet.slot().await;

        // A slot is free only once its lane is gone.
        drop(greedy);
        assert!(slots.try_take().is_none());
        drop(held);
        let free: Vec<Slot> = std::iter::from_fn(|| slots.try_take()).collect();
        assert_eq!(free.len(), 3);
    }
}
