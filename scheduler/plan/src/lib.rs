//! Where everything runs: a pure function from what is wanted and known to what each node should run.
//!
//! In: a [`Snapshot`] (apps, nodes, placements, what is observed running). Out: a [`Plan`] (the placements
//! that change) and a report of what could not be placed, and why. The control plane commits the plan guarded
//! by the snapshot's epoch, and plans again when anything changed.
//!
//! ```text
//! Snapshot → desired (how many) → stop (what is too much) → place (what is missing) → rebalance → Plan
//!              migrate: at a rate                    views, feasible → rank
//! ```
//!
//! The rules, each in the file of its step: `desired`, `stop`, `feasible`, `rank`, `place`, `rebalance`,
//! `parts`.
//! Beside `plan` stand the other decisions about an app's record: [`released`], [`announced`],
//! [`hook_ended`], [`scaled`], [`migration`], [`restart`], [`routes`], [`peers`]; what becomes of one-off
//! [`runs`]; and [`what_if`], which asks what a change would do.
//!
//! Invariant: nothing here does IO, reads a clock, draws a random number or logs; the same input in any order
//! gives the same output.
//! Invariant: placements are ranges, and the work is in proportion to ranges, nodes and changes, never to
//! instances. Of what stays as it is, records are counted and no more.
//! Invariant: no slot of a process type is ever in two placements.
//! Invariant: what could not be placed is not an error but part of the report, with a reason for every node.

mod crons;
mod desired;
mod feasible;
mod held;
mod homes;
mod hook;
mod instances;
mod migrate;
mod node;
mod parts;
mod peers;
mod place;
mod placements;
mod rank;
mod rebalance;
mod released;
mod report;
mod restart;
mod routes;
mod runs;
mod scaled;
mod slots;
mod snapshot;
mod stop;
mod views;
mod what_if;
mod world;

pub use crons::{CronStep, CronsView, cron_due, crons};
pub use homes::homes;
pub use hook::{announced, hook_ended};
pub use instances::InstanceSet;
pub use migrate::{CRASHES_MAX, MigrationStep, MigrationView, STALL_MS_MAX, finished, given_up, migration};
pub use parts::{PARTS_MAX, RANGES_MAX, STEPS_MAX};
pub use peers::{Instances, Routed, RunningOn, Shares, peers};
pub use placements::Placements;
pub use released::released;
pub use report::{Blocked, Change, Plan, Report};
pub use restart::{RANGES_PER_RECORD_MAX, RestartRefusal, RestartTarget, restart};
pub use routes::routes;
pub use runs::{RunsOnNode, RunsView, runs};
pub use scaled::{ScaleRefusal, scale_target, scaled};
pub use snapshot::{AppState, Availability, NodeState, Observed, Policy, Rebalance, Snapshot};
pub use what_if::{WhatIfRefusal, what_if};

use views::Views;
use world::World;

/// Decides what changes so that what runs comes closer to what is wanted.
///
/// One call makes at most [`Policy::parts_max`] parts of at most [`Policy::steps_max`] records each
/// ([`Report::deferred`] says that there is more); called again with its result in effect, it comes to rest
/// with a plan that changes nothing.
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut world = World::of(snapshot, snapshot.epoch.next());
    let mut views = Views::default();
    desired::migrations(snapshot, &mut world);
    // All stops before the first start: what they free is there for all.
    for group in 0..world.groups.len() {
        stop::stop(&mut world, group);
    }
    let mut blocked = Vec::new();
    for group in 0..world.groups.len() {
        blocked.extend(place::place(&mut world, &mut views, group));
    }
    rebalance::rebalance(&mut world, &mut views);
    world.into_plan(blocked)
}
