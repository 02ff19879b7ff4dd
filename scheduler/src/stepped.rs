//! A control plane without server and timers, driven step by step: for simulations.
//!
//! In: moments, syncs of nodes, a store that may be slow or fail. Out: the same turns, assignments and reports
//! as the running control plane makes of them, since both call the same functions.
//!
//! Invariant: it reads no clock and draws no random number: what happens hangs on the calls alone.

use std::{path::PathBuf, sync::Arc, time::Duration};

use gilliam_model::{
    assignment::Assignment,
    name::NodeName,
    sync::{SyncRequest, SyncResponse},
};
use gilliam_store::{Store, keys};

use crate::{
    Config,
    control::{Control, Turn},
    observed::{Now, Taken},
    publish::Orders,
    shared::Shared,
};

/// A control plane whose loop takes a turn when it is told to.
#[derive(Debug, Clone)]
pub struct SteppedPlane {
    shared: Arc<Shared>,
}

/// Its control loop: one for each life of a control plane.
#[derive(Debug)]
pub struct SteppedLoop {
    control: Control,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SteppedTurn {
    /// There is nothing to change.
    AtRest,
    /// Something was changed, or someone else was faster: there may be more.
    Again,
    /// The store failed.
    Failed(String),
}

impl SteppedPlane {
    /// A life that begins `now` and is called `life`, on a store; a node that is silent for longer than
    /// `config.lost_after` is lost.
    pub fn new(lost_after: Duration, store: Store, life: String, now: Now) -> (Self, SteppedLoop) {
        let config = Config {
            lost_after,
            shares_store: true,
            ..Config::new(PathBuf::new(), ([127, 0, 0, 1], 0).into(), Vec::new())
        };
        let shared = Arc::new(Shared::at(config, store, life, now));
        let control = Control::new(shared.clone(), now.wall);
        (Self { shared }, SteppedLoop { control })
    }

    /// Takes a node's report; the answer has what is newest for it, if that is newer than what it follows.
    pub async fn sync(&self, request: SyncRequest, now: Now) -> SyncResponse {
        let (name, generation) = (request.node.name.clone(), request.generation);
        let taken = self.shared.observed.report(request, now);
        if self
            .newest(&name, 0)
            .is_some_and(|newest| newest.generation < generation)
            && let Ok((revision, _)) = self.shared.store.get(keys::PLAN_EPOCH).await
            && revision.0 < generation
        {
            self.shared.publisher.raise(&name, generation);
        }
        SyncResponse {
            control: self.shared.life.clone(),
            assignment: self.newest(&name, generation),
            resync: taken == Ok(Taken::Unfounded),
            details: Vec::new(),
            dead_after_ms: None,
            peers: None,
        }
    }

    /// The answer to a sync that waits, if there is news for `node`, which follows `generation`.
    pub fn news(&self, node: &NodeName, generation: u64) -> Option<SyncResponse> {
        let assignment = self.newest(node, generation)?;
        Some(SyncResponse {
            control: self.shared.life.clone(),
            assignment: Some(assignment),
            resync: false,
            details: Vec::new(),
            dead_after_ms: None,
            peers: None,
        })
    }

    fn newest(&self, node: &NodeName, generation: u64) -> Option<Assignment> {
        let newest = self.shared.publisher.subscribe(node);
        let newest = newest.borrow();
        newest
            .as_deref()
            .filter(|newest| newest.generation > generation)
            .map(Orders::assignment)
    }

    /// A number that grows whenever nodes report something that a decision can hang on.
    pub fn heard(&self) -> u64 {
        self.shared.observed.changes_count()
    }

    /// Slots that the last plan could not place, of all apps.
    pub fn blocked(&self) -> u32 {
        let planned = self.shared.planned();
        planned
            .blocked
            .values()
            .flatten()
            .map(|blocked| blocked.count)
            .sum()
    }
}

impl SteppedLoop {
    /// The same, but it plans whoever else does: the lease only saves work.
    pub fn without_lease(mut self) -> Self {
        self.control.give_no_lease();
        self
    }

    /// Takes a turn at `now`. The future waits only for the store.
    pub async fn turn(&mut self, now: Now) -> SteppedTurn {
        match self.control.turn(now).await {
            Ok(Turn::AtRest(_)) => SteppedTurn::AtRest,
            Ok(Turn::Again) => SteppedTurn::Again,
            Err(error) => SteppedTurn::Failed(error.to_string()),
        }
    }
}
