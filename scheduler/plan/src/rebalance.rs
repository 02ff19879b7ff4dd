//! Slots move for the sake of a better spread: only when the operator asks, a bounded number at a time.
//!
//! A group at rest whose fullest domain (or, within even domains, node) has more slots than its emptiest, by
//! more than the policy lets it, gives up slots there: they are marked as leaving. From then on they are
//! treated as those on a draining node: others start elsewhere, by the rule of `rank`, and when those run, the
//! marked ones stop. The mark is part of the record, so that whoever plans next goes on.
//!
//! Invariant: no more slots are on their way, over all groups, than the policy lets be; a group with anything
//! missing, draining or lost is left alone.

use std::{cmp::Reverse, collections::BTreeMap};

use gilliam_model::rules::Spread;

use crate::{
    held::Held,
    node::Needs,
    place,
    rank::Domain,
    snapshot::Rebalance,
    views::{View, Views},
    world::World,
};

/// Marks what is to leave.
pub(crate) fn rebalance<'a>(world: &mut World<'a>, views: &mut Views<'a>) {
    let Some(rule) = world.policy.rebalance else {
        return;
    };
    if world.deferred() {
        return;
    }
    let on_their_way: u32 = world.groups.iter().map(|group| group.counts().draining).sum();
    let mut left = rule.slots_max.saturating_sub(on_their_way);
    for group in 0..world.groups.len() {
        if left == 0 || world.deferred() {
            return;
        }
        let (counts, want) = (world.groups[group].counts(), world.groups[group].want);
        let at_rest = counts.kept == want && counts.draining == 0 && counts.lost == 0;
        let Some(needs) = world.groups[group].needs.filter(|_| at_rest && want > 1) else {
            continue;
        };
        if needs.rules.spread != Spread::None {
            let view = views.of(needs.rules, &world.nodes);
            if !may_be_uneven(world, group, &view, rule.skew_max) {
                continue;
            }
            left -= even_out(world, group, needs, &view, rule, left);
        }
    }
}

/// Whether there can be anything to move of a group at rest: told from counts, without opening it.
fn may_be_uneven(world: &World<'_>, group: usize, view: &View, skew_max: u32) -> bool {
    let mut domains = vec![0; view.domains_count];
    let mut most = 0;
    for (place, count) in world.groups[group].counts_at_first(world) {
        domains[view.domain(place as usize)] += count;
        most = most.max(count);
    }
    let (least, fullest) = (domains.iter().min(), domains.iter().max());
    most > skew_max
        || fullest
            .zip(least)
            .is_some_and(|(fullest, least)| fullest - least > skew_max)
}

/// Marks up to `most` slots of a group; gives how many.
fn even_out(
    world: &mut World<'_>,
    group: usize,
    needs: Needs<'_>,
    view: &View,
    rule: Rebalance,
    most: u32,
) -> u32 {
    world.open(group);
    let domains = place::domains(world, group, needs, view, most);
    let marks = marks(
        world.groups[group].held(),
        &domains,
        view,
        rule.skew_max.max(1),
        most,
    );
    let mut marked = 0;
    for (record, count) in marks {
        let held = &world.groups[group].held()[record];
        let mut slots = held.slots().minus(&held.leaving);
        let stay = slots.count() - count;
        let leaving = slots.take_all_but_lowest(stay);
        if world.admit(group, &[record]) {
            marked += leaving.count();
            world.leave(group, record, &leaving);
        }
    }
    marked
}

/// A node that has slots of the group to give, or room for more.
struct Site {
    place: u32,
    domain: usize,
    /// Its record, if it has slots to give.
    record: Option<usize>,
    count: u32,
    room: u32,
    gives: u32,
}

/// How many slots of which records are to leave: one after the other, from the fullest to the emptiest.
fn marks(held: &[Held<'_>], domains: &[Domain], view: &View, skew_max: u32, most: u32) -> Vec<(usize, u32)> {
    let mut counts: Vec<u32> = domains.iter().map(|domain| domain.own).collect();
    let mut sites = sites(held, domains, view);
    for _ in 0..most {
        let Some((from, to)) =
            between_domains(&sites, &counts, skew_max).or_else(|| within(&sites, skew_max))
        else {
            break;
        };
        counts[sites[from].domain] -= 1;
        counts[sites[to].domain] += 1;
        sites[from].count -= 1;
        sites[from].gives += 1;
        sites[to].count += 1;
        sites[to].room -= 1;
    }
    let given = sites.iter().filter(|site| site.gives > 0);
    given
        .filter_map(|site| Some((site.record?, site.gives)))
        .collect()
}

/// Every site, by the place of its node.
fn sites(held: &[Held<'_>], domains: &[Domain], view: &View) -> Vec<Site> {
    let mut sites: BTreeMap<u32, Site> = BTreeMap::new();
    let new = |place: u32, count, room, record| Site {
        place,
        domain: view.domain(place as usize),
        record,
        count,
        room,
        gives: 0,
    };
    for candidate in domains.iter().flat_map(Domain::candidates) {
        let site = new(candidate.place, candidate.own, candidate.capacity, None);
        sites.insert(candidate.place, site);
    }
    for (record, held) in held.iter().enumerate().filter(|(_, held)| held.kept_count() > 0) {
        if let Some(place) = held.place {
            let site = sites
                .entry(place)
                .or_insert_with(|| new(place, held.kept_count(), 0, None));
            site.record = Some(record);
        }
    }
    sites.into_values().collect()
}

/// From the fullest domain to the emptiest, if that much is between them.
fn between_domains(sites: &[Site], counts: &[u32], skew_max: u32) -> Option<(usize, usize)> {
    let of = |site: &Site| counts[site.domain];
    let givers = || (0..sites.len()).filter(|at| sites[*at].gives_some());
    let takers = || (0..sites.len()).filter(|at| sites[*at].room > 0);
    let from = givers().max_by_key(|at| (of(&sites[*at]), sites[*at].count, Reverse(sites[*at].place)))?;
    let to = takers().min_by_key(|at| (of(&sites[*at]), sites[*at].count, sites[*at].place))?;
    let skew = of(&sites[from]).saturating_sub(of(&sites[to]));
    (skew > skew_max).then_some((from, to))
}

/// From the fullest node of a domain to its emptiest, where most is between them.
fn within(sites: &[Site], skew_max: u32) -> Option<(usize, usize)> {
    let mut ends: BTreeMap<usize, (Option<usize>, Option<usize>)> = BTreeMap::new();
    for (at, site) in sites.iter().enumerate() {
        let (from, to) = ends.entry(site.domain).or_default();
        if site.gives_some() && from.is_none_or(|other| sites[other].count < site.count) {
            *from = Some(at);
        }
        if site.room > 0 && to.is_none_or(|other| sites[other].count > site.count) {
            *to = Some(at);
        }
    }
    let pairs = ends.into_values().filter_map(|(from, to)| Some((from?, to?)));
    let skew = |(from, to): (usize, usize)| sites[from].count.saturating_sub(sites[to].count);
    let most = pairs.max_by_key(|pair| (skew(*pair), Reverse(pair.0)))?;
    (skew(most) > skew_max).then_some(most)
}

impl Site {
    fn gives_some(&self) -> bool {
        self.record.is_some() && self.count > 0
    }
}
