//! What is missing of a group is placed.

use std::collections::BTreeMap;

use crate::{
    feasible,
    held::Standing,
    node::Needs,
    rank::{self, Candidate, Domain, Fill},
    report::Blocked,
    slots::SlotSet,
    views::{View, Views},
    world::World,
};

/// Rounds in which slots are dealt out to nodes, so the most ranges that one placing adds to a record.
///
/// In turn, and one by one at first, so that scaling down (highest numbers first) leaves them spread; then in
/// hands that double, so that even the largest count is dealt out in these rounds.
pub(crate) const ROUNDS_MAX: u32 = 32;
/// Rounds in which each node gets one slot.
const ROUNDS_OF_ONE: u32 = 16;

/// Places what a group lacks; what no node can take is returned.
///
/// Slots of lost nodes come first, with their numbers; then the lowest numbers that are free.
pub(crate) fn place<'a>(world: &mut World<'a>, views: &mut Views<'a>, group: usize) -> Option<Blocked> {
    let want = world.groups[group].want;
    let missing = want.saturating_sub(world.groups[group].counts().kept);
    if missing == 0 || world.deferred() {
        return None;
    }
    world.open(group);
    let needs = world.groups[group].needs;
    let view = needs.map(|needs| views.of(needs.rules, &world.nodes));
    let shares = match (needs, &view) {
        (Some(needs), Some(view)) => {
            let domains = domains(world, group, needs, view, missing);
            rank::shares(domains, missing, &needs.rules.spread)
        }
        _ => Vec::new(),
    };
    let placed: u32 = shares.iter().map(|(_, share)| share).sum();
    if placed > 0 {
        let lost = LostSlots::of(world, group);
        let slots = numbers(world, group, &lost, missing).take_lowest(placed);
        settle(world, group, &lost, deal(slots, &shares));
    }
    let name = world.groups[group].name;
    let blocked = missing - placed;
    (blocked > 0).then(|| Blocked {
        app: name.app.clone(),
        release: name.release,
        process: name.process.clone(),
        count: blocked,
        reasons: feasible::reasons(world, group, view.as_deref()),
    })
}

/// The numbers of the slots that are missing, or more.
fn numbers(world: &World<'_>, group: usize, lost: &LostSlots, missing: u32) -> SlotSet {
    let held = world.groups[group].held();
    let taken = held
        .iter()
        .flat_map(|held| held.ranges.iter().map(|range| (range.first, range.last)));
    let lost = SlotSet::of(lost.ranges.iter().map(|(first, last, _)| (*first, *last)));
    let free = SlotSet::of(taken).lowest_free(missing.saturating_sub(lost.count()));
    lost.union(&free)
}

/// The nodes that can take some of a group, by the domains it is spread over.
///
/// Only nodes that may take something are looked at, and of those without a slot, which come last and are
/// alike but for their names, no more than can be chosen.
pub(crate) fn domains(
    world: &mut World<'_>,
    group: usize,
    needs: Needs<'_>,
    view: &View,
    most: u32,
) -> Vec<Domain> {
    let (open, empty) = world.open_places();
    let mut beyond = 0;
    let mut domains = vec![Domain::default(); view.domains_count];
    let held = world.groups[group].held().iter();
    let mut own: Vec<(u32, u32, u32)> = held
        .filter_map(|held| Some((held.place?, held.kept_count(), held.count())))
        .collect();
    own.sort_unstable();
    for (place, kept, _) in &own {
        domains[view.domain(*place as usize)].own += kept;
    }
    let mut own = own.into_iter().peekable();
    let apart = feasible::apart(world, group);
    let spread = &needs.rules.spread;
    for (place, node) in (0_u32..).zip(&world.nodes).skip(open) {
        if place as usize >= empty && !view.has_scores() {
            // A domain that no empty node can enter any more stays so: those that follow are worse.
            let key = rank::key(spread, 0, 0, Fill::default(), place);
            while domains
                .get(beyond)
                .is_some_and(|domain| domain.is_beyond(key, most))
            {
                beyond += 1;
            }
            if beyond == domains.len() {
                break;
            }
        }
        while own.next_if(|(at, ..)| *at < place).is_some() {}
        let here = own.next_if(|(at, ..)| *at == place);
        let (kept, all) = here.map_or((0, 0), |(_, kept, all)| (kept, all));
        if !node.is_ready || feasible::capacity(node, needs, all, 1) == 0 || !view.allows(place as usize) {
            continue;
        }
        if !apart.is_empty() && apart.contains_key(&place) {
            continue;
        }
        let (score, fill) = (view.score(place as usize), node.fill(needs));
        let key = rank::key(spread, kept, score, fill, place);
        domains[view.domain(place as usize)].offer(key, most, || {
            Candidate::new(
                place,
                kept,
                feasible::capacity(node, needs, all, most),
                score,
                fill,
            )
        });
    }
    domains
}

/// Deals slots out in rounds, the lowest first, until each node has its share.
fn deal(mut slots: SlotSet, shares: &[(u32, u32)]) -> Vec<(u32, SlotSet)> {
    let mut dealt: Vec<(u32, u32, SlotSet)> = shares
        .iter()
        .map(|(node, share)| (*node, *share, SlotSet::default()))
        .collect();
    for round in 0..ROUNDS_MAX {
        if slots.is_empty() {
            break;
        }
        for (_, left, mine) in dealt.iter_mut().filter(|(_, left, _)| *left > 0) {
            let hand = if round + 1 < ROUNDS_MAX {
                hand(round).min(*left)
            } else {
                *left
            };
            for (first, last) in slots.take_lowest(hand).ranges() {
                *left -= last - first + 1;
                mine.add(first, last);
            }
        }
    }
    dealt.into_iter().map(|(node, _, mine)| (node, mine)).collect()
}

fn hand(round: u32) -> u32 {
    1 << round.saturating_sub(ROUNDS_OF_ONE - 1)
}

/// The slots of a group on lost nodes.
struct LostSlots {
    /// In order, each with the record it is in.
    ranges: Vec<(u32, u32, usize)>,
}

impl LostSlots {
    fn of(world: &World<'_>, group: usize) -> Self {
        let records = world.groups[group].held().iter().enumerate();
        let lost = records.filter(|(_, held)| held.standing == Standing::Lost);
        let ranges = |(record, held): (usize, &crate::held::Held<'_>)| {
            let ranges = held
                .ranges
                .iter()
                .map(move |range| (range.first, range.last, record));
            ranges.collect::<Vec<_>>()
        };
        let mut ranges: Vec<(u32, u32, usize)> = lost.flat_map(ranges).collect();
        ranges.sort_unstable();
        Self { ranges }
    }

    /// Those of `slots` that are lost, by record.
    fn within(&self, slots: &SlotSet) -> BTreeMap<usize, SlotSet> {
        let mut found: BTreeMap<usize, SlotSet> = BTreeMap::new();
        if self.ranges.is_empty() {
            return found;
        }
        for (first, last) in slots.ranges() {
            let from = self.ranges.partition_point(|(_, end, _)| *end < first);
            for (start, end, record) in &self.ranges[from..] {
                if *start > last {
                    break;
                }
                found
                    .entry(*record)
                    .or_default()
                    .add(first.max(*start), last.min(*end));
            }
        }
        found
    }
}

/// Starts slots on nodes: new ones, and those that leave lost nodes for them.
fn settle(world: &mut World<'_>, group: usize, lost: &LostSlots, dealt: Vec<(u32, SlotSet)>) {
    let held = world.groups[group].held().iter().enumerate();
    let records: BTreeMap<u32, usize> = held
        .filter_map(|(record, held)| Some((held.place?, record)))
        .collect();
    for (place, slots) in dealt {
        let record = records.get(&place).copied();
        let record = record.unwrap_or_else(|| world.add_record(group, place));
        let mut new = slots.clone();
        for (from, moved) in lost.within(&slots) {
            new = new.minus(&moved);
            if world.admit(group, &[record, from]) {
                world.stop(group, from, &moved);
                world.start(group, record, &moved);
            }
        }
        if !new.is_empty() && world.admit(group, &[record]) {
            world.start(group, record, &new);
        }
    }
}
