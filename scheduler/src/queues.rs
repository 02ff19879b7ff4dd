//! The queues of apps: who may use them, and what time and lost nodes bring about.
//!
//! In flow what nodes report and the clock; out flow leases that end. Jobs themselves go from the API
//! straight to the queues.
//!
//! Invariant: a job is put only into a queue of an app that is there, and goes with it.
//! Invariant: the jobs of a node that is held lost are given to others; what it says of them later is refused.

mod cluster;
mod held;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gilliam_model::{Timestamp, api::NodeState, code::Code, name::NodeName};
use gilliam_queue::{QueueError, Queues};
use gilliam_serve::DrainSignal;

pub use self::cluster::{ClusterOfQueuesError, queues_on_postgres};
pub(crate) use self::held::Held;
use crate::{refusal::Refusal, shared::Shared};

/// Longest time between two looks at the clock and at nodes.
const TICK_MAX: Duration = Duration::from_millis(500);
/// Least time between two of them: jobs that are due one after another are moved together.
const TICK_MIN: Duration = Duration::from_millis(5);

/// What is known of the nodes that have jobs.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The process of each node that said something last.
    lives: HashMap<NodeName, String>,
    /// Nodes that are held lost, and whose leases were ended.
    lost: HashSet<NodeName>,
}

impl Holders {
    /// Takes note that a process of a node speaks; whether the leases of an earlier one are to end.
    pub(crate) fn hear(&self, node: &NodeName, life: &str, begins: bool) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.lives.insert(node.clone(), life.to_string());
        begins && before.as_deref() != Some(life)
    }

    /// Those of the nodes held lost whose leases are to end. The server that they spoke to may be lost with
    /// them, so each server ends them.
    fn newly_lost(&self, lost: HashSet<NodeName>) -> Vec<NodeName> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.lost.retain(|node| lost.contains(node));
        let new = lost.into_iter().filter(|node| !known.lost.contains(node));
        new.collect()
    }

    /// Takes note that the leases of a lost node have ended.
    fn ended(&self, node: NodeName) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.lives.remove(&node);
        known.lost.insert(node);
    }
}

/// The name under which a process of a node has jobs.
pub(crate) fn holder(node: &NodeName, life: &str) -> String {
    format!("{node}/{life}")
}

impl Shared {
    /// The queues, or why there are none.
    pub(crate) fn queues(&self) -> Result<&Queues, Refusal> {
        self.config.queues.as_ref().ok_or_else(|| {
            Refusal::new(
                Code::A422,
                "this cluster has no queues: its servers share no place for them",
            )
            .hint("name a PostgreSQL to all of them with --queues postgres://USER:PASSWORD@HOST/DATABASE")
        })
    }
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        let refusal = Refusal::new(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        }
    }
}

/// Does what time brings, until the drain is asked for.
pub(crate) async fn keep(shared: Arc<Shared>, mut drain: DrainSignal) {
    let Some(queues) = shared.config.queues.clone() else {
        return;
    };
    loop {
        let next = tick(&shared, &queues).await;
        let wait = match next {
            Ok(next) => next.map_or(TICK_MAX, until).clamp(TICK_MIN, TICK_MAX),
            Err(error) => {
                tracing::warn!(%error, "queues are not kept");
                TICK_MAX
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = drain.requested() => return,
        }
    }
}

fn until(due: Timestamp) -> Duration {
    let left = due.duration_since(Timestamp::now());
    Duration::try_from(left).unwrap_or_default()
}

async fn tick(shared: &Shared, queues: &Queues) -> Result<Option<Timestamp>, QueueError> {
    let nodes = shared.nodes().into_iter();
    let lost = nodes.filter(|(_, view)| view.state == NodeState::Lost);
    for node in shared.holders.newly_lost(lost.map(|(node, _)| node).collect()) {
        let jobs = queues.holder_gone(node.as_str(), Timestamp::now()).await?;
        tracing::info!(%node, jobs, "the jobs of a lost node are given to others");
        shared.holders.ended(node);
    }
    queues.tick(Timestamp::now()).await
}
