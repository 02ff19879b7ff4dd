//! Which instance takes a request. Pure.

/// The index of the least loaded of `loads`; among equals the first at or after `turn`, so that equals take
/// turns.
pub(crate) fn pick(loads: impl ExactSizeIterator<Item = usize>, turn: usize) -> Option<usize> {
    let count = loads.len();
    let turn = turn.checked_rem(count)?;
    let distance = |index: usize| (index + count - turn) % count;
    loads
        .enumerate()
        .min_by_key(|(index, load)| (*load, distance(*index)))
        .map(|(index, _)| index)
}

/// What is known of the load of another node's instances of a process type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerLoad {
    /// Requests that this node has in flight there.
    pub(crate) in_flight: usize,
    /// Requests in flight at its least loaded instance, as it said a moment ago; 0 when it has not.
    pub(crate) told: usize,
    /// Its instances, at least 1.
    pub(crate) count: u32,
}

impl PeerLoad {
    /// Requests in flight that each of its instances has at least.
    fn per_instance(self) -> usize {
        (self.in_flight / self.count.max(1) as usize).max(self.told)
    }
}

/// The index of the node among `peers` that takes a request; none when an instance here is to take it, the
/// least loaded of which has `here` requests in flight, if there is one.
///
/// Instances here come first when none elsewhere has less to do. Of nodes with equally little each gets
/// requests in proportion to its instances.
pub(crate) fn pick_peer(
    here: Option<usize>,
    peers: impl Iterator<Item = PeerLoad> + Clone,
    turn: usize,
) -> Option<usize> {
    let least = peers.clone().map(PeerLoad::per_instance).min()?;
    if here.is_some_and(|here| here <= least) {
        return None;
    }
    let of_least = peers.enumerate().filter(|(_, peer)| peer.per_instance() == least);
    let instances: usize = of_least.clone().map(|(_, peer)| peer.count as usize).sum();
    let mut turn = turn.checked_rem(instances)?;
    for (index, peer) in of_least {
        match turn.checked_sub(peer.count as usize) {
            Some(rest) => turn = rest,
            None => return Some(index),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equals_take_turns() {
        let picks: Vec<_> = (0..4).map(|turn| pick([1, 1, 1].into_iter(), turn)).collect();
        assert_eq!(picks, [Some(0), Some(1), Some(2), Some(0)]);
        assert_eq!(pick([2, 1, 5, 1].into_iter(), 0), Some(1));
        assert_eq!(pick([2, 1, 5, 1].into_iter(), 2), Some(3));
        assert_eq!(pick([].into_iter(), 7), None);
    }

    proptest! {
        #[test]
        fn no_other_instance_is_less_loaded(loads in prop::collection::vec(0..5_usize, 1..20), turn: usize) {
            let index = pick(loads.iter().copied(), turn).expect("some instance");
            prop_assert!(loads.iter().all(|load| *load >= loads[index]));
        }
    }
    fn peer(in_flight: usize, told: usize, count: u32) -> PeerLoad {
        PeerLoad {
            in_flight,
            told,
            count,
        }
    }

    #[test]
    fn instances_here_come_first_unless_others_have_less_to_do() {
        let idle = [peer(0, 0, 8)];
        assert_eq!(pick_peer(Some(0), idle.into_iter(), 3), None);
        assert_eq!(pick_peer(Some(1), idle.into_iter(), 3), Some(0));
        assert_eq!(pick_peer(Some(1), [peer(8, 0, 8)].into_iter(), 3), None);
        assert_eq!(
            pick_peer(Some(2), [peer(1, 2, 8)].into_iter(), 3),
            None,
            "busy with others' requests"
        );
        assert_eq!(pick_peer(None, [peer(90, 9, 8)].into_iter(), 3), Some(0));
        assert_eq!(pick_peer(None, [].into_iter(), 3), None);
    }

    #[test]
    fn nodes_with_equally_little_to_do_share_by_their_instances() {
        let peers = [peer(0, 0, 1), peer(9, 0, 4), peer(3, 0, 4), peer(0, 0, 2)];
        let mut picked = [0; 4];
        for turn in 0..70 {
            picked[pick_peer(None, peers.into_iter(), turn).expect("a node")] += 1;
        }
        assert_eq!(picked, [10, 0, 40, 20]);
    }
}
