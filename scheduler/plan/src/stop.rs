//! What is too much of a group stops.
//!
//! - Of slots on nodes that keep them, the lowest numbers stay: `web.1` is the last to go.
//! - Slots on draining nodes, and those that leave for a better spread, stay only in the place of wanted ones
//!   that do not run yet: start before stop.
//! - Slots on lost nodes stay on record as long as they are wanted, until they are placed elsewhere.

use crate::{
    held::{Held, Standing},
    slots::SlotSet,
    world::World,
};

/// Stops what a group has beyond what is wanted of it.
pub(crate) fn stop(world: &mut World<'_>, group: usize) {
    let want = world.groups[group].want;
    let counts = world.groups[group].counts();
    if counts.kept <= want && counts.draining == 0 && counts.lost == 0 {
        return;
    }
    world.open(group);
    let gone = gone(world.groups[group].held(), want);
    if gone.is_empty() {
        return;
    }
    for record in 0..world.groups[group].held().len() {
        let here = world.groups[group].held()[record].slots().intersect(&gone);
        if !here.is_empty() && world.admit(group, &[record]) {
            world.stop(group, record, &here);
        }
    }
}

/// What of a group stops when `want` are wanted.
fn gone(held: &[Held<'_>], want: u32) -> SlotSet {
    let of = |standing| held.iter().filter(move |held| held.standing == standing);
    let leaving = || of(Standing::Kept).filter(|held| !held.leaving.is_empty());
    let all = |standing| SlotSet::of(of(standing).flat_map(ranges));
    let running = |standing| SlotSet::of(of(standing).flat_map(|held| held.running.ranges()));
    let left = SlotSet::of(leaving().flat_map(|held| held.leaving.ranges()));
    let left_running = SlotSet::of(leaving().flat_map(|held| {
        let running = held.leaving.intersect(&held.running);
        running.ranges().collect::<Vec<_>>()
    }));

    let mut kept = all(Standing::Kept).minus(&left);
    let excess = kept.take_all_but_lowest(want);
    let missing = want - kept.count();
    let not_running = want - running(Standing::Kept).intersect(&kept).count();
    let draining = all(Standing::Draining).union(&left);
    let draining_running = running(Standing::Draining).union(&left_running);
    let replaced = replaced(draining, draining_running, not_running);
    let mut lost = all(Standing::Lost);
    let unwanted = lost.take_all_but_lowest(missing);
    excess.union(&replaced).union(&unwanted)
}

fn ranges<'a>(held: &'a Held<'_>) -> impl Iterator<Item = (u32, u32)> + use<'a> {
    held.ranges.iter().map(|range| (range.first, range.last))
}

/// What of draining slots stops when `n` of them stay: those that run stay first, the lowest numbers first.
fn replaced(draining: SlotSet, running: SlotSet, n: u32) -> SlotSet {
    let mut idle = draining.minus(&running);
    let mut running = running;
    let surplus = running.take_all_but_lowest(n);
    surplus.union(&idle.take_all_but_lowest(n - running.count()))
}
