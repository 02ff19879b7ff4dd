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
}
