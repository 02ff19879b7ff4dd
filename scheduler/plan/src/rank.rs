//! Which of the feasible nodes are best.
//!
//! **The rule**: each slot goes
//! 1. to the failure domain with the fewest slots of its group (process type of a release): the zones, or the
//!    values of the label that the process type is spread over; one domain where there are none;
//! 2. in it, to the node with the fewest slots of the group;
//! 3. of those, to the one with the highest score, the sum of the ranks it meets;
//! 4. of those, to the fullest: the largest share of its memory and its cores promised, so that what needs much
//!    room later finds it;
//! 5. of those, to the one whose name is first.
//!
//! Domains with equally few slots are ordered by their best nodes. With `spread = "none"` the rule begins
//! at 3.
//!
//! What it knowingly leaves out: load as it is measured; memory counts as promised, not as used.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use gilliam_model::rules::Spread;

/// A feasible node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its place among the nodes, which are in the order of names.
    pub(crate) place: u32,
    /// Slots of the group on it that stay.
    pub(crate) own: u32,
    /// Slots of the group that it can take besides; at least 1.
    pub(crate) capacity: u32,
    /// What the ranks it meets sum up to.
    pub(crate) score: i32,
    /// How full it is, with the share it gets.
    pub(crate) fill: Fill,
    /// What it gets.
    share: u32,
}

/// How full a node is: promised over promisable, of memory and of cpu, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fill {
    /// What it has promised.
    pub(crate) now: u64,
    /// What one more slot adds.
    pub(crate) each: u64,
}

impl Fill {
    fn after(self, slots: u32) -> u64 {
        self.now.saturating_add(self.each.saturating_mul(slots.into()))
    }
}

/// A failure domain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Domain {
    /// Slots of the group in it that stay, on nodes that are not candidates too.
    pub(crate) own: u32,
    /// The best candidates so far, the worst of them on top.
    best: BinaryHeap<Ranked>,
}

/// What decides between nodes; the lowest is the best.
pub(crate) type Key = (u32, Reverse<i32>, Reverse<u64>, u32);

#[derive(Debug, Clone)]
struct Ranked(Key, Candidate);

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl Domain {
    /// Takes a candidate in, if it is one of the `most` best.
    ///
    /// Of `n` slots none goes to a node that is not among the `n` best: each of those takes at least one
    /// before.
    pub(crate) fn offer(&mut self, key: Key, most: u32, candidate: impl FnOnce() -> Candidate) {
        if self.best.len() < most as usize {
            self.best.push(Ranked(key, candidate()));
        } else if let Some(mut worst) = self.best.peek_mut()
            && key < worst.0
        {
            *worst = Ranked(key, candidate());
        }
    }

    /// Whether no candidate of this key, or of a worse one, is among the `most` best.
    pub(crate) fn is_beyond(&self, key: Key, most: u32) -> bool {
        self.best.len() >= most as usize && self.best.peek().is_some_and(|worst| worst.0 < key)
    }

    /// Those that were taken in, in no order.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.best.iter().map(|Ranked(_, candidate)| candidate)
    }
}

/// What decides between nodes before any of them gets something.
pub(crate) fn key(spread: &Spread, own: u32, score: i32, fill: Fill, place: u32) -> Key {
    let own = if *spread == Spread::None { 0 } else { own };
    (own, Reverse(score), Reverse(fill.now), place)
}

impl Candidate {
    pub(crate) fn new(place: u32, own: u32, capacity: u32, score: i32, fill: Fill) -> Self {
        Self {
            place,
            own,
            capacity,
            score,
            fill,
            share: 0,
        }
    }

    fn key(&self) -> Key {
        (
            self.own + self.share,
            Reverse(self.score),
            Reverse(self.fill.after(self.share)),
            self.place,
        )
    }

    fn is_open(&self) -> bool {
        self.share < self.capacity
    }
}

/// How many of `n` slots each node gets, by its place, in the order in which they are to be dealt out: what
/// handing them out one by one would give, but whole levels at a time.
pub(crate) fn shares(domains: Vec<Domain>, n: u32, spread: &Spread) -> Vec<(u32, u32)> {
    let filled = |domain: Domain| Filled {
        own: domain.own,
        candidates: domain
            .best
            .into_iter()
            .map(|Ranked(_, candidate)| candidate)
            .collect(),
    };
    let mut domains: Vec<Filled> = domains.into_iter().map(filled).collect();
    domains.retain(|domain| !domain.candidates.is_empty());
    if *spread == Spread::None {
        return packed(&domains, n);
    }
    let capacity = |domain: &Filled| {
        let sum: u64 = domain.candidates.iter().map(|c| u64::from(c.capacity)).sum();
        u32::try_from(sum).unwrap_or(u32::MAX)
    };
    let bins: Vec<(u32, u32)> = domains
        .iter()
        .map(|domain| (domain.own, capacity(domain)))
        .collect();
    let level = level(&bins, n);
    let mut left = n;
    for (domain, bin) in domains.iter_mut().zip(&bins) {
        let share = below(*bin, level);
        left -= share;
        fill(&mut domain.candidates, share);
    }
    // Fewer are left than there are domains that take one more: the best of those do.
    let open = |(at, domain): (usize, &Filled)| {
        let (own, capacity) = bins[at];
        let is_open = own <= level && level - own < capacity;
        is_open
            .then(|| best(&domain.candidates))
            .flatten()
            .map(|(key, candidate)| (key, at, candidate))
    };
    let mut best: Vec<(Key, usize, usize)> = domains.iter().enumerate().filter_map(open).collect();
    best.sort_unstable();
    for (_, domain, candidate) in best.into_iter().take(left as usize) {
        domains[domain].candidates[candidate].share += 1;
    }
    in_order(domains)
}

/// A failure domain, while its slots are dealt out.
struct Filled {
    own: u32,
    candidates: Vec<Candidate>,
}

/// The lowest level to which the bins, of what is in them and what fits besides, can be filled with `n`.
fn level(bins: &[(u32, u32)], n: u32) -> u32 {
    let Some(lowest) = bins.iter().map(|(own, _)| *own).min() else {
        return 0;
    };
    let taken = |level: u32| bins.iter().map(|bin| u64::from(below(*bin, level))).sum::<u64>();
    if taken(lowest.saturating_add(1)) > n.into() {
        return lowest;
    }
    let highest = bins.iter().map(|(own, _)| *own).max().unwrap_or(lowest);
    // What is not more than `n` at `low` is more, or all there is room for, at `high`.
    let (mut low, mut high) = (lowest, highest.saturating_add(n).saturating_add(1));
    if taken(high) <= n.into() {
        return high;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if taken(middle) <= n.into() {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// What a bin takes when it is filled up to a level.
fn below((own, capacity): (u32, u32), level: u32) -> u32 {
    level.saturating_sub(own).min(capacity)
}

/// Deals `n` slots to the nodes of a domain.
fn fill(candidates: &mut [Candidate], n: u32) {
    if n == 0 {
        return;
    }
    let bins: Vec<(u32, u32)> = candidates.iter().map(|c| (c.own, c.capacity)).collect();
    let level = level(&bins, n);
    let mut left = n;
    for candidate in candidates.iter_mut() {
        candidate.share = below((candidate.own, candidate.capacity), level);
        left = left.saturating_sub(candidate.share);
    }
    let open = |(at, c): (usize, &Candidate)| (c.own <= level && c.is_open()).then(|| (c.key(), at));
    let mut open: Vec<(Key, usize)> = candidates.iter().enumerate().filter_map(open).collect();
    let left = open.len().min(left as usize);
    if left == 0 {
        return;
    }
    open.select_nth_unstable(left - 1);
    for (_, at) in &open[..left] {
        candidates[*at].share += 1;
    }
}

/// The node that would take one more slot.
fn best(candidates: &[Candidate]) -> Option<(Key, usize)> {
    let open = candidates.iter().enumerate().filter(|(_, c)| c.is_open());
    open.map(|(at, c)| (c.key(), at)).min()
}

/// The nodes that get something, the domains in turn, in each the best first: so that the lowest numbers are
/// spread too.
fn in_order(domains: Vec<Filled>) -> Vec<(u32, u32)> {
    let first = |c: &Candidate| (c.own, Reverse(c.score), Reverse(c.fill.now), c.place);
    let chosen = |mut domain: Filled| {
        domain.candidates.retain(|c| c.share > 0);
        domain.candidates.sort_unstable_by_key(first);
        domain
    };
    let mut domains: Vec<Filled> = domains.into_iter().map(chosen).collect();
    domains.retain(|domain| !domain.candidates.is_empty());
    domains.sort_by_key(|domain| (domain.own, domain.candidates.first().map(first)));
    let longest = domains
        .iter()
        .map(|domain| domain.candidates.len())
        .max()
        .unwrap_or(0);
    let turns = (0..longest).flat_map(|turn| domains.iter().filter_map(move |d| d.candidates.get(turn)));
    turns.map(|c| (c.place, c.share)).collect()
}

/// Each node, the best first, gets what it can take.
fn packed(domains: &[Filled], n: u32) -> Vec<(u32, u32)> {
    let candidates = domains.iter().flat_map(|domain| &domain.candidates);
    let mut best: BinaryHeap<_> = candidates
        .map(|c| (c.score, c.fill.now, Reverse(c.place), c.capacity))
        .collect();
    let (mut shares, mut left) = (Vec::new(), n);
    while left > 0
        && let Some((_, _, Reverse(place), capacity)) = best.pop()
    {
        let share = capacity.min(left);
        shares.push((place, share));
        left -= share;
    }
    shares
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// One slot after the other, each by the rule.
    fn one_by_one(mut domains: Vec<Filled>, n: u32, spread: &Spread) -> BTreeMap<u32, u32> {
        let mut shares = BTreeMap::new();
        for _ in 0..n {
            let open = domains.iter().enumerate().flat_map(|(at, domain)| {
                let open = domain.candidates.iter().enumerate().filter(|(_, c)| c.is_open());
                open.map(move |(i, c)| {
                    let packs = *spread == Spread::None;
                    let (own, key) = (domain.own, c.key());
                    (
                        (
                            if packs { 0 } else { own },
                            (if packs { 0 } else { key.0 }, key.1, key.2, key.3),
                        ),
                        at,
                        i,
                    )
                })
            });
            let Some((_, at, i)) = open.min() else { break };
            domains[at].own += 1;
            domains[at].candidates[i].share += 1;
            *shares.entry(domains[at].candidates[i].place).or_default() += 1;
        }
        shares
    }

    fn filled(loads: &[(usize, u32, u32, i32, u64)], elsewhere: &[u32]) -> Vec<Filled> {
        let empty = |own: &u32| Filled {
            own: *own,
            candidates: Vec::new(),
        };
        let mut domains: Vec<Filled> = elsewhere.iter().map(empty).collect();
        for (place, (domain, own, capacity, score, now)) in (0..).zip(loads) {
            let domain = &mut domains[*domain];
            domain.own += own;
            if *capacity > 0 {
                let fill = Fill { now: *now, each: 3 };
                domain
                    .candidates
                    .push(Candidate::new(place, *own, *capacity, *score, fill));
            }
        }
        domains
    }

    /// Every candidate is offered; only the `n` best are taken in.
    fn offered(domains: &[Filled], n: u32, spread: &Spread) -> Vec<Domain> {
        let offer = |filled: &Filled| {
            let mut domain = Domain {
                own: filled.own,
                ..Domain::default()
            };
            for c in &filled.candidates {
                domain.offer(key(spread, c.own, c.score, c.fill, c.place), n, || *c);
            }
            domain
        };
        domains.iter().map(offer).collect()
    }

    proptest! {
        #[test]
        fn levels_give_what_one_by_one_gives(
            loads in vec((0_usize..3, 0_u32..5, 0_u32..9, -1_i32..2, 0_u64..9), 0..9),
            elsewhere in vec(0_u32..3, 3),
            n in 0_u32..60,
            packs in any::<bool>(),
        ) {
            let spread = if packs { Spread::None } else { Spread::default() };
            let domains = filled(&loads, &elsewhere);
            let found = shares(offered(&domains, n, &spread), n, &spread);
            let nodes = found.len();
            let found: BTreeMap<u32, u32> = found.into_iter().collect();
            prop_assert_eq!(found.len(), nodes, "a node is there twice");
            prop_assert_eq!(found, one_by_one(domains, n, &spread));
        }
    }

    #[test]
    fn the_lowest_numbers_are_dealt_to_the_domains_in_turn() {
        let loads = [
            (0, 0, 9, 0, 0),
            (0, 0, 9, 0, 5),
            (1, 0, 9, 0, 0),
            (1, 0, 9, 0, 0),
            (2, 0, 1, 0, 0),
        ];
        let domains = offered(&filled(&loads, &[0, 0, 0]), 5, &Spread::default());
        let shares = shares(domains, 5, &Spread::default());
        assert_eq!(shares, [(1, 1), (2, 1), (4, 1), (0, 1), (3, 1)]);
    }
}
