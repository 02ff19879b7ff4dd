//! What becomes of a store when etcd falters: clusters of real members that are killed, paused, filled,
//! compacted.

#[path = "../etcd_process/mod.rs"]
mod etcd_process;
mod histories;
mod linearizable;
mod states;

use std::time::Duration;

/// A deadline for what must happen: far beyond an election.
const DEADLINE: Duration = Duration::from_secs(60);
