//! Which of the feasible nodes are best.
//!
//! **The rule**: each slot goes to the feasible node with the fewest slots of its group (process type of a
//! release), of those to the one with the fewest slots in all, of those to the one whose name is first.
//!
//! What it knowingly leaves out: running slots are never moved to make the spread more even; memory and load
//! beyond feasibility do not count; groups of one app are not kept together or apart.

use gilliam_model::name::NodeName;

/// A feasible node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate<'a> {
    pub(crate) node: &'a NodeName,
    /// Slots of the group on it.
    pub(crate) own: u32,
    /// Slots in all on it.
    pub(crate) all: u32,
    /// Slots of the group that it can take besides.
    pub(crate) capacity: u32,
}

impl Candidate<'_> {
    /// Whether the rule prefers it to `other`.
    fn precedes(&self, other: &Self) -> bool {
        (self.own, self.all, self.node) < (other.own, other.all, other.node)
    }

    fn take(&mut self, n: u32) -> u32 {
        let n = n.min(self.capacity);
        self.own += n;
        self.all += n;
        self.capacity -= n;
        n
    }
}

/// How many of `n` slots each node gets, in the order of the rule: what handing them out one by one would
/// give, but whole levels at a time.
pub(crate) fn shares<'a>(mut candidates: Vec<Candidate<'a>>, n: u32) -> Vec<(&'a NodeName, u32)> {
    candidates.retain(|candidate| candidate.capacity > 0);
    candidates.sort_by_key(|c| (c.own, c.all, c.node));
    let mut shares: Vec<(&'a NodeName, u32)> = candidates.iter().map(|c| (c.node, 0)).collect();
    let mut left = n;
    while left > 0 {
        let open = || candidates.iter().filter(|c| c.capacity > 0);
        let Some(lowest) = open().map(|c| c.own).min() else {
            break;
        };
        let at_lowest = open().filter(|c| c.own == lowest);
        let width = u32::try_from(at_lowest.clone().count()).unwrap_or(u32::MAX);
        // Up to the next level, to the first node that is full, or to what is left: whichever comes first.
        let step = open()
            .map(|c| c.own)
            .filter(|own| *own > lowest)
            .min()
            .map_or(u32::MAX, |next| next - lowest);
        let step = at_lowest
            .map(|c| c.capacity)
            .min()
            .unwrap_or(0)
            .min(step)
            .min(left / width);
        if step == 0 {
            last_round(&mut candidates, &mut shares, lowest, left);
            break;
        }
        for (candidate, share) in candidates.iter_mut().zip(&mut shares) {
            if candidate.own == lowest && candidate.capacity > 0 {
                share.1 += candidate.take(step);
            }
        }
        left -= step * width;
    }
    shares.retain(|(_, share)| *share > 0);
    shares
}

/// Hands `left` slots, fewer than there are open nodes at the level `own`, to the best of those.
fn last_round(candidates: &mut [Candidate<'_>], shares: &mut [(&NodeName, u32)], own: u32, left: u32) {
    for _ in 0..left {
        let open = (0..candidates.len()).filter(|i| candidates[*i].own == own && candidates[*i].capacity > 0);
        let best = open.reduce(|a, b| {
            if candidates[b].precedes(&candidates[a]) {
                b
            } else {
                a
            }
        });
        let Some(best) = best else { break };
        shares[best].1 += candidates[best].take(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn one_by_one<'a>(mut candidates: Vec<Candidate<'a>>, n: u32) -> Vec<(&'a NodeName, u32)> {
        let mut shares: Vec<(&NodeName, u32)> = candidates.iter().map(|c| (c.node, 0)).collect();
        for _ in 0..n {
            let open = (0..candidates.len()).filter(|i| candidates[*i].capacity > 0);
            let Some(best) =
                open.min_by_key(|i| (candidates[*i].own, candidates[*i].all, candidates[*i].node))
            else {
                break;
            };
            shares[best].1 += candidates[best].take(1);
        }
        shares.retain(|(_, share)| *share > 0);
        shares.sort_unstable();
        shares
    }

    proptest! {
        #[test]
        fn levels_give_what_one_by_one_gives(
            loads in vec((0_u32..9, 0_u32..9, 0_u32..9), 0..7),
            n in 0_u32..50,
        ) {
            let name = |i| format!("n{i}").parse().expect("name");
            let names: Vec<NodeName> = (0..loads.len()).map(name).collect();
            let candidates: Vec<Candidate<'_>> = loads
                .iter()
                .zip(&names)
                .map(|((own, others, capacity), node)| Candidate {
                    node,
                    own: *own,
                    all: own + others,
                    capacity: *capacity,
                })
                .collect();
            let mut found = shares(candidates.clone(), n);
            found.sort_unstable();
            prop_assert_eq!(found, one_by_one(candidates, n));
        }
    }
}
