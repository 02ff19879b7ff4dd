//! What a node should do next about one process type: what is assigned against what is alive here. Pure.
//!
//! The supervisor calls [`decide`] for every process type whose assignment or instances changed, and carries
//! the steps out; it keeps no plan of its own. Public, so that a cluster can be played through without a
//! node.
//!
//! Invariant: no clock, no randomness, no IO; the same input gives the same steps in the same order.
//! Invariant: the cost follows the number of ranges, not of instances: a settled process type has one.

use std::collections::BTreeMap;

use gilliam_model::{instance::InstanceState, name::ProcessName, placement::SlotRange, route::WEB};

use crate::slots::Spans;
pub use crate::slots::{Place, SlotSet};

/// What is alive of one process type, by state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alive(BTreeMap<InstanceState, SlotSet>);

/// How an instance is replaced by another of the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// The old one serves until the new one runs: for web processes.
    MakeBeforeBreak,
    /// The old one is gone before the new one starts: two workers of one slot never run at once.
    BreakBeforeMake,
}

/// What the supervisor does now: first the stops, then the starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps {
    /// Instances to be asked to finish and end, by slot.
    pub stop: Vec<SlotRange>,
    /// Instances of the assignment to start, by slot.
    pub start: Vec<SlotRange>,
}

impl Handover {
    /// How instances of a process type are replaced.
    pub fn of(process: &ProcessName) -> Self {
        match process.as_str() == WEB {
            true => Handover::MakeBeforeBreak,
            false => Handover::BreakBeforeMake,
        }
    }
}

impl Steps {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stop.is_empty() && self.start.is_empty()
    }
}

impl Alive {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no instance is alive.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts instances that were not alive, or are in another state, into `state`.
    pub fn set(&mut self, range: SlotRange, state: InstanceState) {
        self.remove(range);
        self.0.entry(state).or_default().insert(range);
    }

    /// Moves instances from a state that they are known to be in to another.
    pub(crate) fn change(&mut self, range: SlotRange, from: InstanceState, to: InstanceState) {
        if from != to {
            self.remove_from(range, from);
            self.0.entry(to).or_default().insert(range);
        }
    }

    /// Takes instances out that have ended.
    pub fn remove(&mut self, range: SlotRange) {
        self.0.retain(|_, set| {
            set.remove(range);
            !set.is_empty()
        });
    }

    pub(crate) fn remove_from(&mut self, range: SlotRange, state: InstanceState) {
        if let Some(set) = self.0.get_mut(&state) {
            set.remove(range);
            if set.is_empty() {
                self.0.remove(&state);
            }
        }
    }

    /// The instances in one state.
    pub fn in_state(&self, state: InstanceState) -> Option<&SlotSet> {
        self.0.get(&state)
    }

    /// The instances of each state there is.
    pub fn states(&self) -> impl Iterator<Item = (InstanceState, &SlotSet)> {
        self.0.iter().map(|(state, set)| (*state, set))
    }

    /// How many instances are alive.
    pub fn count(&self) -> u64 {
        self.0.values().map(SlotSet::count).sum()
    }
}

/// The steps to take now for one process type. `wanted` has at most one epoch of each slot.
pub fn decide(wanted: &SlotSet, alive: &Alive, handover: Handover) -> Steps {
    let mut steps = Steps::default();
    // Slots whose wanted instance does not serve yet: in them, one that serves is still needed.
    let mut uncovered = Spans::default();
    if handover == Handover::MakeBeforeBreak {
        for epoch in wanted.epochs() {
            let running = alive.in_state(InstanceState::Running);
            let running = running.map(|set| set.of_epoch(epoch)).unwrap_or_default();
            uncovered = uncovered.union(&wanted.of_epoch(epoch).minus(&running));
        }
    }
    let mut taken = Spans::default();
    for (state, set) in alive.states() {
        if handover == Handover::BreakBeforeMake {
            taken = taken.union(&set.slots());
        }
        if state == InstanceState::Stopping {
            continue;
        }
        for epoch in set.epochs() {
            let mut unwanted = set.of_epoch(epoch).minus(&wanted.of_epoch(epoch));
            if state == InstanceState::Running {
                unwanted = unwanted.minus(&uncovered);
            }
            steps.stop.extend(unwanted.with_epoch(epoch));
        }
    }
    for epoch in wanted.epochs() {
        let mut missing = wanted.of_epoch(epoch).minus(&taken);
        for (_, set) in alive.states() {
            missing = missing.minus(&set.of_epoch(epoch));
        }
        steps.start.extend(missing.with_epoch(epoch));
    }
    steps.stop.sort_unstable();
    steps.start.sort_unstable();
    steps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use InstanceState::{Crashed, Running, Starting, Stopping};
    use gilliam_model::instance::Epoch;
    use proptest::prelude::*;

    use super::*;

    type Places = BTreeSet<Place>;
    type States = BTreeMap<Place, InstanceState>;

    /// `1@2`.
    fn place(text: &str) -> Place {
        let (slot, epoch) = text.split_once('@').expect("a place");
        Place {
            slot: slot.parse().expect("slot"),
            epoch: Epoch(epoch.parse().expect("epoch")),
        }
    }

    fn set_of(places: &Places) -> SlotSet {
        places.iter().map(|place| place.range()).collect()
    }

    fn alive_of(states: &States) -> Alive {
        let mut alive = Alive::new();
        states
            .iter()
            .for_each(|(place, state)| alive.set(place.range(), *state));
        alive
    }

    fn places_of(ranges: &[SlotRange]) -> Vec<Place> {
        let places = |range: &SlotRange| {
            let epoch = range.epoch;
            range.slots().map(move |slot| Place { slot, epoch })
        };
        ranges.iter().flat_map(places).collect()
    }

    /// The same decision instance by instance: what [`decide`] is held against.
    mod by_instance {
        use super::*;

        pub(super) fn decide(
            wanted: &Places,
            alive: &States,
            handover: Handover,
        ) -> (Vec<Place>, Vec<Place>) {
            let is_web = handover == Handover::MakeBeforeBreak;
            let next: BTreeMap<u32, Place> = wanted.iter().map(|place| (place.slot, *place)).collect();
            let taken: BTreeSet<u32> = alive.keys().map(|place| place.slot).collect();
            let stop = alive.iter().filter(|(place, state)| {
                if **state == Stopping || wanted.contains(place) {
                    return false;
                }
                let successor = next.get(&place.slot).filter(|_| is_web);
                let still_needed =
                    **state == Running && successor.is_some_and(|place| alive.get(place) != Some(&Running));
                !still_needed
            });
            let start = next
                .values()
                .filter(|place| !alive.contains_key(place) && (is_web || !taken.contains(&place.slot)));
            (stop.map(|(place, _)| *place).collect(), start.copied().collect())
        }
    }

    #[track_caller]
    fn check(handover: Handover, wanted: &[&str], alive: &[(&str, InstanceState)], expected: &[&str]) {
        let wanted: Places = wanted.iter().map(|text| place(text)).collect();
        let alive: States = alive.iter().map(|(text, state)| (place(text), *state)).collect();
        let steps = decide(&set_of(&wanted), &alive_of(&alive), handover);
        let text =
            |verb: &'static str| move |place: Place| format!("{verb} {}@{}", place.slot, place.epoch.0);
        let stops = places_of(&steps.stop).into_iter().map(text("stop"));
        let starts = places_of(&steps.start).into_iter().map(text("start"));
        assert_eq!(stops.chain(starts).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_settled_process_type_needs_nothing() {
        for handover in [Handover::MakeBeforeBreak, Handover::BreakBeforeMake] {
            check(handover, &[], &[], &[]);
            for state in [Running, Crashed, Starting] {
                check(handover, &["1@1"], &[("1@1", state)], &[]);
            }
        }
    }

    #[test]
    fn missing_instances_start_and_others_stop_once() {
        for handover in [Handover::MakeBeforeBreak, Handover::BreakBeforeMake] {
            check(handover, &["1@1", "2@1"], &[], &["start 1@1", "start 2@1"]);
            check(handover, &[], &[("1@1", Running)], &["stop 1@1"]);
            check(handover, &[], &[("1@1", Crashed)], &["stop 1@1"]);
            check(handover, &[], &[("1@1", Stopping)], &[]);
        }
    }

    #[test]
    fn a_web_instance_serves_until_its_successor_runs() {
        let check = |alive: &[_], expected: &[_]| check(Handover::MakeBeforeBreak, &["1@2"], alive, expected);
        check(&[("1@1", Running)], &["start 1@2"]);
        check(&[("1@1", Running), ("1@2", Starting)], &[]);
        check(&[("1@1", Running), ("1@2", Crashed)], &[]);
        check(&[("1@1", Running), ("1@2", Running)], &["stop 1@1"]);
        check(&[("1@1", Crashed)], &["stop 1@1", "start 1@2"]);
        check(&[("1@1", Running), ("2@1", Running)], &["stop 2@1", "start 1@2"]);
    }

    #[test]
    fn a_worker_ends_before_its_successor_starts() {
        let check = |alive: &[_], expected: &[_]| check(Handover::BreakBeforeMake, &["1@2"], alive, expected);
        check(&[("1@1", Running)], &["stop 1@1"]);
        check(&[("1@1", Stopping)], &[]);
        check(&[], &["start 1@2"]);
    }

    #[test]
    fn a_hundred_thousand_instances_are_one_step() {
        let epoch = Epoch(1);
        let (first, last) = (1, 100_000);
        let all = SlotRange { first, last, epoch };
        let wanted: SlotSet = [all].into_iter().collect();
        let steps = decide(&wanted, &Alive::new(), Handover::BreakBeforeMake);
        assert_eq!((steps.stop, steps.start), (vec![], vec![all]));
    }

    fn any_place() -> impl Strategy<Value = Place> {
        (1..6u32, 1..4u64).prop_map(|(slot, epoch)| Place {
            slot,
            epoch: Epoch(epoch),
        })
    }

    /// At most one epoch for each slot, as in every assignment.
    fn any_wanted() -> impl Strategy<Value = Places> {
        prop::collection::btree_map(1..6u32, 1..4u64, 0..6).prop_map(|slots| {
            let place = |(slot, epoch)| Place {
                slot,
                epoch: Epoch(epoch),
            };
            slots.into_iter().map(place).collect()
        })
    }

    fn any_alive() -> impl Strategy<Value = States> {
        let state = prop::sample::select(vec![Starting, Running, Stopping, Crashed]);
        prop::collection::btree_map(any_place(), state, 0..12)
    }

    fn any_handover() -> impl Strategy<Value = Handover> {
        prop::sample::select(vec![Handover::MakeBeforeBreak, Handover::BreakBeforeMake])
    }

    fn live_of(alive: &States, slot: u32) -> usize {
        alive.keys().filter(|place| place.slot == slot).count()
    }

    fn serving(alive: &States, slot: u32) -> bool {
        let serves = |(place, state): (&Place, &InstanceState)| place.slot == slot && *state == Running;
        alive.iter().any(serves)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Decisions on ranges are those on each instance by itself.
        #[test]
        fn ranges_decide_as_instances_do(
            wanted in any_wanted(),
            alive in any_alive(),
            handover in any_handover(),
        ) {
            let steps = decide(&set_of(&wanted), &alive_of(&alive), handover);
            let (mut stop, mut start) = (places_of(&steps.stop), places_of(&steps.start));
            stop.sort_unstable();
            start.sort_unstable();
            prop_assert_eq!((stop, start), by_instance::decide(&wanted, &alive, handover));
        }

        /// Carried out by a perfect node, the decisions lead to exactly what is wanted; on the way no slot
        /// that serves stops serving while it is wanted, and no worker's slot is doubled.
        #[test]
        fn decisions_reach_the_assignment_without_a_gap(
            wanted in any_wanted(),
            mut alive in any_alive(),
            handover in any_handover(),
        ) {
            let is_web = handover == Handover::MakeBeforeBreak;
            let wanted_set = set_of(&wanted);
            for _ in 0..8 {
                let steps = decide(&wanted_set, &alive_of(&alive), handover);
                let before = alive.clone();
                for place in places_of(&steps.stop) {
                    prop_assert!(alive.insert(place, Stopping).is_some());
                }
                for place in places_of(&steps.start) {
                    prop_assert!(alive.insert(place, Starting).is_none());
                }
                for Place { slot, .. } in &wanted {
                    prop_assert!(!serving(&before, *slot) || !is_web || serving(&alive, *slot));
                    prop_assert!(is_web || live_of(&alive, *slot) <= live_of(&before, *slot).max(1));
                }
                alive.retain(|_, state| *state != Stopping);
                alive.values_mut().for_each(|state| *state = Running);
            }
            prop_assert_eq!(alive.keys().copied().collect::<Places>(), wanted);
            prop_assert!(decide(&wanted_set, &alive_of(&alive), handover).is_empty());
        }
    }
}
