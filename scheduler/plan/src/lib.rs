//! Where everything runs: a pure function from what is wanted and known to what each node should run.
//!
//! In: a [`Snapshot`] (apps, nodes, placements, what is observed running). Out: a [`Plan`] (the placements
//! that change) and a report of what could not be placed, and why. The control plane commits the plan guarded
//! by the snapshot's epoch, and plans again when anything changed.
//!
//! ```text
//! Snapshot → desired (how many of each) → stop (what is too much) → place (what is missing) → Plan
//!                     migrate: at a rate            feasible → rank
//! ```
//!
//! The rules, each in the file of its step: `desired`, `stop`, `feasible`, `rank`, `place`,
//! `budget`. Beside `plan` stand the other decisions about an app's record: [`released`], [`scaled`],
//! [`migration`], [`restart`], [`routes`].
//!
//! Invariant: nothing here does IO, reads a clock, draws a random number or logs; the same input in any order
//! gives the same output.
//! Invariant: placements are ranges, and the work is in proportion to ranges, nodes and changes, never to
//! instances.
//! Invariant: no slot of a process type is ever in two placements.
//! Invariant: what could not be placed is not an error but part of the report, with a reason for every node.

mod budget;
mod desired;
mod feasible;
mod instances;
mod migrate;
mod place;
mod rank;
mod released;
mod report;
mod restart;
mod routes;
mod scaled;
mod slots;
mod snapshot;
mod stop;
mod world;

pub use budget::{RANGES_MAX, STEPS_MAX};
pub use instances::InstanceSet;
pub use migrate::{CRASHES_MAX, MigrationStep, MigrationView, STALL_MS_MAX, finished, given_up, migration};
pub use released::released;
pub use report::{Blocked, Plan, Report, Step};
pub use restart::{RANGES_PER_RECORD_MAX, RestartRefusal, RestartTarget, restart};
pub use routes::routes;
pub use scaled::{ScaleRefusal, scale_target, scaled};
pub use snapshot::{AppState, Availability, NodeState, Observed, Policy, Snapshot};

use world::World;

/// Decides what changes so that what runs comes closer to what is wanted.
///
/// One call makes at most [`Policy::steps_max`] changes ([`Report::deferred`] says that there is more);
/// called again with its result in effect, it comes to rest with a plan that changes nothing.
pub fn plan(snapshot: &Snapshot) -> Plan {
    let epoch = snapshot.epoch.next();
    let mut world = World::of(snapshot);
    let wants = desired::wants(snapshot, &world);
    // All stops before the first start: what they free is there for all.
    for group in world.group_names() {
        stop::stop(&mut world, group, wants.get(&group).copied().unwrap_or(0));
    }
    let blocked = wants
        .iter()
        .filter_map(|(group, want)| place::place(&mut world, *group, *want, epoch))
        .collect();
    world.into_plan(epoch, blocked)
}
