//! A cluster on a virtual clock: the real planner, the real control loop and the real decisions of nodes, with
//! fake instances, networks that lose messages and a store that is slow or fails.
//!
//! In: a [`Scenario`] with a seed. Out: a [`Summary`] of what was survived, or the [`Violation`] of a promise
//! with what led to it. Phase one makes things fail and checks after every event what must never happen;
//! phase two heals everything and demands that what users asked for comes to run, and nothing else.
//!
//! ```text
//! users ──► store ◄── control planes (turns, leases) ◄── syncs, delayed or lost ──► nodes (decide) ──► instances
//!             ▲ delays, failures   ▲ killed, clocks stepped     ▲ cut one way or both   ▲ killed, paused   ▲ crash
//! ```
//!
//! Invariant: the seed decides everything: no clock is read, no other random number drawn, and the order of
//! events is total, so that a seed that fails fails again.

mod calamity;
mod checks;
mod clock;
mod disk;
mod node;
mod plane;
mod users;
mod world;

use std::time::Duration;

use serde::Serialize;

/// What is played through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// Decides everything that is random.
    pub seed: u64,
    /// Nodes, at least 1, spread over three zones.
    pub nodes: u32,
    /// Control planes on one store, at least 1.
    pub planes: u32,
    /// Apps, at least 1.
    pub apps: u32,
    /// Virtual time during which things fail.
    pub faults: Duration,
    /// Virtual time without a fault after which everything must run.
    pub heal: Duration,
    /// What is left out of the product on purpose; nothing, but where it is to be seen that it would be noticed.
    pub sabotage: Option<Sabotage>,
}

/// A safeguard that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Control planes commit their plans without the check of the plan's epoch, and all of them plan.
    EpochUnchecked,
    /// Nodes follow assignments of older generations.
    OlderAssignments,
}

/// What was played through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// Things that happened, each followed by the checks.
    pub events: u64,
    /// Turns of control loops.
    pub turns: u64,
    /// Turns that failed with the store.
    pub turns_failed: u64,
    /// Changes that users made and that were acknowledged.
    pub changes: u64,
    /// Nodes and control planes that were killed or paused.
    pub kills: u64,
    /// Links between a node and a control plane that were cut.
    pub cuts: u64,
    /// Times that an instance of a good release crashed.
    pub crashes: u64,
    /// Times that another control plane began to plan.
    pub planners: u64,
    /// Instances that started.
    pub starts: u64,
    /// Instances that run at the end, as users asked.
    pub running: u64,
    /// Stands for the whole course: two runs that have the same went the same way.
    pub fingerprint: String,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, after {after:?}: {what}")]
pub struct Violation {
    /// The seed, with which it happens again.
    pub seed: u64,
    /// Virtual time since the beginning.
    pub after: Duration,
    /// Which promise, and how it shows.
    pub what: String,
    /// What happened last, oldest first.
    pub course: Vec<String>,
}

impl Scenario {
    /// A cluster of this many nodes with two control planes, an app for every two nodes and faults for an hour.
    pub fn new(seed: u64, nodes: u32) -> Self {
        Self {
            seed,
            nodes,
            planes: 2,
            apps: (nodes / 2).max(1),
            faults: Duration::from_secs(3_600),
            heal: Duration::from_secs(1_800),
            sabotage: None,
        }
    }
}

/// Plays a scenario through; `progress` hears of the virtual time now and then.
pub fn run(scenario: &Scenario, progress: &mut dyn FnMut(Duration)) -> Result<Summary, Violation> {
    world::World::new(*scenario).play(progress)
}
