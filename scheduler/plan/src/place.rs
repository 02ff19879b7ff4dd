//! What is missing of a group is placed.

use gilliam_model::{instance::Epoch, name::NodeName};

use crate::{
    feasible,
    rank::{self, Candidate},
    report::Blocked,
    slots::SlotSet,
    world::{GroupName, Standing, World},
};

/// Rounds in which slots are dealt out to nodes, so the most ranges that one placing adds to a record.
///
/// In turn, and one by one at first, so that scaling down (highest numbers first) leaves them spread; then in
/// hands that double, so that even the largest count is dealt out in these rounds.
pub(crate) const ROUNDS_MAX: u32 = 32;
/// Rounds in which each node gets one slot.
const ROUNDS_OF_ONE: u32 = 16;

/// Places what a group lacks of `want` slots; what no node can take is returned.
///
/// Slots of lost nodes come first, with their numbers; then the lowest numbers that are free.
pub(crate) fn place<'a>(
    world: &mut World<'a>,
    name: GroupName<'a>,
    want: u32,
    epoch: Epoch,
) -> Option<Blocked> {
    let missing = want.saturating_sub(world.tally(name).kept);
    if missing == 0 || world.budget.deferred() {
        return None;
    }
    let group = world.groups.get(&name)?;
    let all = |standing: Option<Standing>| {
        let held = group
            .held
            .values()
            .filter(|held| standing.is_none_or(|standing| held.standing == standing));
        held.fold(SlotSet::default(), |slots, held| slots.union(&held.slots()))
    };
    let lost = all(Some(Standing::Lost));
    let free = all(None).lowest_free(missing.saturating_sub(lost.count()));
    let mut slots = lost.union(&free);

    let shares = rank::shares(candidates(world, name), missing);
    let placed = shares
        .iter()
        .map(|(_, share)| share)
        .sum::<u32>()
        .min(slots.count());
    slots = slots.take_lowest(placed);
    for (node, mine) in deal(slots, &shares) {
        settle(world, name, node, &mine, epoch);
    }
    let blocked = missing - placed;
    (blocked > 0).then(|| Blocked {
        app: name.app.clone(),
        release: name.release,
        process: name.process.clone(),
        count: blocked,
        reasons: feasible::reasons(world, name),
    })
}

fn candidates<'a>(world: &World<'a>, name: GroupName<'a>) -> Vec<Candidate<'a>> {
    let Some((group, needs)) = world
        .groups
        .get(&name)
        .and_then(|group| group.needs.map(|needs| (group, needs)))
    else {
        return Vec::new();
    };
    let overcommit = world.policy.memory_overcommit;
    let candidate = |(node, state): (&&'a NodeName, &crate::world::Node<'a>)| Candidate {
        node,
        own: group.held.get(node).map_or(0, |held| held.slots().count()),
        all: state.slots,
        capacity: feasible::capacity(state, needs, overcommit),
    };
    world.nodes.iter().map(candidate).collect()
}

/// Deals slots out in rounds, the lowest first, until each node has its share.
fn deal<'a>(mut slots: SlotSet, shares: &[(&'a NodeName, u32)]) -> Vec<(&'a NodeName, SlotSet)> {
    let mut dealt: Vec<(&'a NodeName, SlotSet)> = shares
        .iter()
        .map(|(node, _)| (*node, SlotSet::default()))
        .collect();
    for round in 0..ROUNDS_MAX {
        for ((_, share), (_, mine)) in shares.iter().zip(&mut dealt) {
            let left = share - mine.count();
            let hand = if round + 1 < ROUNDS_MAX {
                left.min(hand(round))
            } else {
                left
            };
            *mine = mine.union(&slots.take_lowest(hand));
        }
    }
    dealt
}

fn hand(round: u32) -> u32 {
    1 << round.saturating_sub(ROUNDS_OF_ONE - 1)
}

/// Starts slots on a node: new ones, and those that leave lost nodes for it.
fn settle<'a>(world: &mut World<'a>, name: GroupName<'a>, node: &'a NodeName, slots: &SlotSet, epoch: Epoch) {
    let Some(group) = world.groups.get(&name) else {
        return;
    };
    let lost = group
        .held
        .iter()
        .filter(|(_, held)| held.standing == Standing::Lost);
    let moves: Vec<(&'a NodeName, SlotSet)> = lost
        .map(|(from, held)| (*from, held.slots().intersect(slots)))
        .filter(|(_, moved)| !moved.is_empty())
        .collect();
    let mut new = slots.clone();
    for (from, moved) in moves {
        new = new.minus(&moved);
        if world.admit(name, &[node, from]) {
            world.stop(name, from, &moved);
            world.start(name, node, &moved, epoch);
        }
    }
    if !new.is_empty() && world.admit(name, &[node]) {
        world.start(name, node, &new, epoch);
    }
}
