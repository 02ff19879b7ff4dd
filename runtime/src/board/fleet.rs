//! All instances of one process type of one release on this node.
//!
//! Invariant: the states as ranges and the sums are those of the members, kept up with every change; nothing
//! here walks all members.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use gilliam_model::{
    Timestamp,
    instance::{InstanceId, InstanceReport, InstanceState},
    placement::SlotRange,
    report::{
        DETAILS_ALL_COUNT_MAX, DetailsWanted, FAILURES_COUNT_MAX, ProcessKey, ProcessReport, WANTED_SLOTS_MAX,
    },
};

use super::{
    Signals,
    member::{Change, Figures, Found, Guest, Member},
};
use crate::{
    decide::Alive,
    slots::{Place, places},
};

/// The instances of a process type.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) key: ProcessKey,
    memory_bytes_max: u64,
    roster: Mutex<Roster>,
    /// Whether the supervisor's list has it.
    is_touched: AtomicBool,
    signals: Arc<Signals>,
}

#[derive(Debug, Default)]
struct Roster {
    members: BTreeMap<Place, Member>,
    alive: Alive,
    /// When an instance last came into each state.
    newest: BTreeMap<InstanceState, Timestamp>,
    memory_bytes: u64,
    fuel_per_s: u64,
    restarts: u64,
    /// The members that failed last, the newest at the end.
    failures: VecDeque<Place>,
    /// The last member that was sampled.
    sampled: Option<Place>,
    version: u64,
}

impl Fleet {
    pub(super) fn new(key: ProcessKey, memory_bytes_max: u64, signals: Arc<Signals>) -> Arc<Self> {
        Arc::new(Self {
            key,
            memory_bytes_max,
            roster: Mutex::default(),
            is_touched: AtomicBool::new(false),
            signals,
        })
    }

    /// The instance at a place, as it is called everywhere.
    pub(crate) fn id(&self, place: Place) -> InstanceId {
        self.key.instance(place.slot, place.epoch)
    }

    /// Puts new instances on the board, starting.
    pub(crate) fn add(self: &Arc<Self>, range: SlotRange) {
        let (now, uptime) = (Timestamp::now(), self.signals.uptime());
        self.edit(|roster| {
            for place in places(range) {
                if let Some(before) = roster.members.insert(place, Member::new(now, uptime)) {
                    roster.subtract(&before);
                }
            }
            roster.alive.set(range, InstanceState::Starting);
            roster.newest.insert(InstanceState::Starting, now);
        });
    }

    /// Takes note of a change of one instance.
    pub(crate) fn change(self: &Arc<Self>, place: Place, change: Change) {
        self.change_each([(place, change)]);
    }

    /// Takes note of changes.
    pub(crate) fn change_each(self: &Arc<Self>, changes: impl IntoIterator<Item = (Place, Change)>) {
        let (now, uptime) = (Timestamp::now(), self.signals.uptime());
        let changes = changes.into_iter();
        // Guests end when they are dropped, which takes its time: outside of the lock.
        let gone: Vec<Guest> = self.edit(|roster| {
            changes
                .filter_map(|(place, change)| roster.change(place, change, now, uptime))
                .collect()
        });
        drop(gone);
    }

    pub(crate) fn set_port(self: &Arc<Self>, place: Place, port: u16) {
        self.edit(|roster| {
            if let Some(member) = roster.members.get_mut(&place) {
                member.set_port(port);
            }
        });
    }

    /// Takes instances out that have ended.
    pub(crate) fn remove(self: &Arc<Self>, range: SlotRange) {
        self.remove_each(places(range));
    }

    /// Takes instances out that have ended.
    pub(crate) fn remove_each(self: &Arc<Self>, places: impl IntoIterator<Item = Place>) {
        let gone: Vec<Member> = self.edit(|roster| {
            let places = places.into_iter();
            places.filter_map(|place| roster.remove(place)).collect()
        });
        drop(gone);
    }

    /// The state of every instance.
    pub(crate) fn alive(&self) -> Alive {
        self.roster().alive.clone()
    }

    pub(crate) fn state(&self, place: Place) -> Option<InstanceState> {
        self.roster().members.get(&place).map(|member| member.state)
    }

    /// The guest of an instance, while there is one.
    pub(crate) fn guest(&self, place: Place) -> Option<Guest> {
        self.roster().members.get(&place)?.guest().cloned()
    }

    /// For how long an instance is in its state.
    pub(crate) fn age(&self, place: Place) -> Duration {
        let uptime = self.signals.uptime();
        let roster = self.roster();
        let member = roster.members.get(&place);
        member.map_or(Duration::ZERO, |member| member.age(uptime))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.roster().members.is_empty()
    }

    pub(crate) fn count(&self) -> usize {
        self.roster().members.len()
    }

    /// What to tell the control plane: of all instances their states and sums, of few, failed or wanted ones
    /// the details.
    pub(crate) fn report(&self, wanted: &[DetailsWanted]) -> ProcessReport {
        let (now, uptime) = (Timestamp::now(), self.signals.uptime());
        let mut roster = self.roster();
        let chosen: Vec<Place> = match roster.members.len() <= DETAILS_ALL_COUNT_MAX {
            true => roster.members.keys().copied().collect(),
            false => roster.chosen(&self.key, wanted),
        };
        let mut details: Vec<InstanceReport> = Vec::with_capacity(chosen.len());
        for place in chosen {
            // Of very many the last look may be long ago.
            if roster.members.len() > DETAILS_ALL_COUNT_MAX {
                roster.sample(place, now, uptime);
            }
            if let Some(member) = roster.members.get(&place) {
                details.push(member.report(self.id(place), self.memory_bytes_max));
            }
        }
        let states = roster.alive.states().map(|(state, set)| {
            let mut ranges = set.ranges();
            ranges.sort_unstable_by_key(|range| (range.epoch, range.first));
            (state, ranges)
        });
        ProcessReport {
            states: states.collect(),
            newest: roster.newest(),
            memory_bytes: roster.memory_bytes,
            fuel_per_s: roster.fuel_per_s,
            restarts: roster.restarts,
            details,
            ..ProcessReport::empty(self.key.clone())
        }
    }

    /// Reads the usage of the next `count` instances, in turns.
    pub(super) fn sample(self: &Arc<Self>, count: usize) {
        let (now, uptime) = (Timestamp::now(), self.signals.uptime());
        let mut roster = self.roster();
        let from = roster.sampled.map_or(Bound::Unbounded, Bound::Excluded);
        let mut next: Vec<Place> = roster
            .members
            .range((from, Bound::Unbounded))
            .map(|(p, _)| *p)
            .take(count)
            .collect();
        let rest = count - next.len();
        next.extend(roster.members.keys().take(rest));
        roster.sampled = next.last().copied();
        let (mut figures, mut failures) = (false, false);
        for place in next {
            match roster.sample(place, now, uptime) {
                Found::Nothing => {}
                Found::Figures => figures = true,
                Found::Failure => failures = true,
            }
        }
        if figures || failures {
            roster.version = self.signals.version.fetch_add(1, SeqCst) + 1;
        }
        drop(roster);
        if figures {
            self.signals.figures.send_modify(|version| *version += 1);
        }
        if failures {
            self.signals.states.send_modify(|version| *version += 1);
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.roster().version
    }

    /// The supervisor looks at it now.
    pub(super) fn seen(&self) {
        self.is_touched.store(false, SeqCst);
    }

    fn edit<T>(self: &Arc<Self>, edit: impl FnOnce(&mut Roster) -> T) -> T {
        let result = {
            let mut roster = self.roster();
            let result = edit(&mut roster);
            // Under the lock: whoever reads the board's version first and this one then misses nothing.
            roster.version = self.signals.version.fetch_add(1, SeqCst) + 1;
            result
        };
        if !self.is_touched.swap(true, SeqCst) {
            self.signals.touched().push(Arc::downgrade(self));
        }
        self.signals.states.send_modify(|version| *version += 1);
        result
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Roster {
    /// Gives the guest that is no more.
    fn change(&mut self, place: Place, change: Change, now: Timestamp, uptime: Duration) -> Option<Guest> {
        let is_failure = matches!(change, Change::Crashed { .. });
        let member = self.members.get_mut(&place)?;
        let (state, figures, restarts) = (member.state, member.figures(), member.restarts());
        let gone = member.change(change, now, uptime);
        let next = (member.state, member.figures(), member.restarts());
        self.alive.change(place.range(), state, next.0);
        if state != next.0 {
            self.newest.insert(next.0, now);
        }
        self.exchange(figures, next.1);
        self.restarts = self.restarts + u64::from(next.2) - u64::from(restarts);
        if is_failure && next.0 == InstanceState::Crashed {
            self.failed(place);
        }
        gone
    }

    fn remove(&mut self, place: Place) -> Option<Member> {
        let member = self.members.remove(&place)?;
        self.alive.remove_from(place.range(), member.state);
        self.subtract(&member);
        self.failures.retain(|failed| *failed != place);
        Some(member)
    }

    fn sample(&mut self, place: Place, now: Timestamp, uptime: Duration) -> Found {
        let Some(member) = self.members.get_mut(&place) else {
            return Found::Nothing;
        };
        let before = member.figures();
        let found = member.sample(now, uptime);
        let after = member.figures();
        self.exchange(before, after);
        if found == Found::Failure {
            self.failed(place);
        }
        found
    }

    fn exchange(&mut self, before: Figures, after: Figures) {
        self.memory_bytes = self.memory_bytes - before.memory_bytes + after.memory_bytes;
        self.fuel_per_s = self.fuel_per_s - before.fuel_per_s + after.fuel_per_s;
    }

    fn subtract(&mut self, member: &Member) {
        self.exchange(member.figures(), Figures::default());
        self.restarts -= u64::from(member.restarts());
    }

    fn failed(&mut self, place: Place) {
        self.failures.retain(|failed| *failed != place);
        self.failures.push_back(place);
        if self.failures.len() > FAILURES_COUNT_MAX {
            self.failures.pop_front();
        }
    }

    fn newest(&self) -> BTreeMap<InstanceState, Timestamp> {
        let there = self.alive.states().map(|(state, _)| state);
        there
            .filter_map(|state| Some((state, *self.newest.get(&state)?)))
            .collect()
    }

    /// Of very many, those that are asked for and those that failed: crashed ones first, then the newest.
    fn chosen(&self, key: &ProcessKey, wanted: &[DetailsWanted]) -> Vec<Place> {
        let mut chosen: Vec<Place> = Vec::new();
        for wanted in wanted.iter().filter(|wanted| wanted.key() == *key) {
            let first = Place::first_of(wanted.first);
            let last = wanted.last.min(wanted.first.saturating_add(WANTED_SLOTS_MAX - 1));
            let asked = self.members.range(first..).map(|(place, _)| *place);
            chosen.extend(asked.take_while(|place| place.slot <= last));
        }
        let crashed = self.alive.in_state(InstanceState::Crashed);
        let is_crashed = |place: &Place| crashed.is_some_and(|set| set.contains(*place));
        let recent = || self.failures.iter().rev().copied();
        let others = crashed.into_iter().flat_map(|set| set.places());
        let failed = recent()
            .filter(is_crashed)
            .chain(others.take(FAILURES_COUNT_MAX))
            .chain(recent());
        let mut picked: Vec<Place> = Vec::new();
        for place in failed {
            if picked.len() == FAILURES_COUNT_MAX {
                break;
            }
            if !picked.contains(&place) {
                picked.push(place);
            }
        }
        chosen.extend(picked);
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }
}
