//! What is too much of a group stops.
//!
//! - Of slots on nodes that keep them, the lowest numbers stay: `web.1` is the last to go.
//! - Slots on draining nodes stay only in the place of wanted ones that do not run yet: start before stop.
//! - Slots on lost nodes stay on record as long as they are wanted, until they are placed elsewhere.

use gilliam_model::name::NodeName;

use crate::{
    slots::SlotSet,
    world::{Group, GroupName, Standing, World},
};

/// Stops what a group has beyond `want` slots.
pub(crate) fn stop<'a>(world: &mut World<'a>, name: GroupName<'a>, want: u32) {
    let Some(group) = world.groups.get(&name) else {
        return;
    };
    let (mut kept, running) = slots(group, Standing::Kept);
    let excess = kept.take_all_but_lowest(want);
    let missing = want - kept.count();
    let not_running = want - running.intersect(&kept).count();
    let (draining, draining_running) = slots(group, Standing::Draining);
    let replaced = replaced(draining, draining_running, not_running);
    let (mut lost, _) = slots(group, Standing::Lost);
    let unwanted = lost.take_all_but_lowest(missing);
    let gone = excess.union(&replaced).union(&unwanted);
    if gone.is_empty() {
        return;
    }
    for node in group.held.keys().copied().collect::<Vec<&'a NodeName>>() {
        let here = world
            .groups
            .get(&name)
            .and_then(|group| group.held.get(node))
            .map(|held| held.slots());
        let here = here.map(|slots| slots.intersect(&gone)).unwrap_or_default();
        if !here.is_empty() && world.admit(name, &[node]) {
            world.stop(name, node, &here);
        }
    }
}

/// What of draining slots stops when `n` of them stay: those that run stay first, the lowest numbers first.
fn replaced(draining: SlotSet, running: SlotSet, n: u32) -> SlotSet {
    let mut idle = draining.minus(&running);
    let mut running = running;
    let surplus = running.take_all_but_lowest(n);
    surplus.union(&idle.take_all_but_lowest(n - running.count()))
}

/// The slots of a group on nodes of one standing, and those of them that run.
fn slots(group: &Group<'_>, standing: Standing) -> (SlotSet, SlotSet) {
    let mut all = (SlotSet::default(), SlotSet::default());
    for held in group.held.values().filter(|held| held.standing == standing) {
        all = (all.0.union(&held.slots()), all.1.union(&held.running));
    }
    all
}
