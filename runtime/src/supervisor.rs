//! Carries out [`decide`](crate::decide): has instances started and stopped, process type by process type.
//!
//! An instance that takes HTTP, or jobs, has a task of its own (`instance`); other workers of a process type have
//! one together (`crew`). Only process types whose assignment or instances changed are looked at.
//!
//! Invariant: instances are put on the board here alone; whoever runs them takes them off.

mod crash;
mod crew;
mod instance;
mod lines;
mod runs;
mod seat;
mod spec;
mod starts;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use gilliam_model::{
    assignment::{AssignedProcess, Assignment},
    instance::InstanceState,
    name::NodeName,
    placement::SlotRange,
    report::ProcessKey,
};
use gilliam_serve::DrainOutcome;
use gilliam_services::Services;
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    artefacts::Artefacts,
    board::{Board, Change, Fleet},
    control::Control,
    decide::{Handover, Steps, decide},
    ingress::{Ingress, Phase},
    jobs::Jobs,
    logs::Logs,
    ports::Ports,
    slots::{Place, SlotSet, places},
};
pub(crate) use crew::CrewThread;
use crew::Inbox;
pub(crate) use runs::{Ledger, Runs};
use spec::{Spec, key_of};
pub(crate) use starts::Starts;

/// Least time between two turns: a thousand instances that change together cost a few turns, not a thousand.
const GATHER: Duration = Duration::from_millis(2);
/// Instances put on the board, or told to stop, before others get the thread: some 100 µs.
const AT_ONCE_COUNT_MAX: u32 = 256;

/// What instances need of their node.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) node: NodeName,
    pub(crate) control: Arc<Control>,
    pub(crate) artefacts: Arc<Artefacts>,
    pub(crate) board: Arc<Board>,
    pub(crate) ports: Arc<Ports>,
    pub(crate) ingress: Ingress,
    pub(crate) logs: Arc<Logs>,
    pub(crate) starts: Starts,
    pub(crate) crews: CrewThread,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) services: Services,
}

/// The one owner of all tasks that run instances. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Supervisor {
    surroundings: Arc<Surroundings>,
    assignment: watch::Receiver<Option<Arc<Assignment>>>,
    tasks: JoinSet<()>,
    owners: HashMap<Id, Owner>,
    processes: BTreeMap<ProcessKey, Supervised>,
    /// Process types to look at.
    changed: BTreeSet<ProcessKey>,
    /// The assignment that was last looked at.
    known: Option<Arc<Assignment>>,
    /// The generation of the last one of which all stops were ordered.
    followed: watch::Sender<u64>,
}

/// Whose task it is.
#[derive(Debug)]
struct Owner {
    key: ProcessKey,
    /// None for a crew.
    place: Option<Place>,
}

/// A process type of the assignment, or with instances.
#[derive(Debug)]
struct Supervised {
    spec: Arc<Spec>,
    wanted: SlotSet,
    crew: Option<Arc<Inbox>>,
    stops: BTreeMap<Place, CancellationToken>,
}

impl Supervisor {
    pub(crate) fn new(
        surroundings: Arc<Surroundings>,
        assignment: watch::Receiver<Option<Arc<Assignment>>>,
        followed: watch::Sender<u64>,
    ) -> Self {
        Self {
            surroundings,
            assignment,
            tasks: JoinSet::new(),
            owners: HashMap::new(),
            processes: BTreeMap::new(),
            changed: BTreeSet::new(),
            known: None,
            followed,
        }
    }

    /// Keeps what runs equal to the assignment, for as long as it is polled. Cancel-safe.
    pub(crate) async fn supervise(&mut self) {
        let mut states = self.surroundings.board.watch_states();
        loop {
            states.borrow_and_update();
            let assignment = self.assignment.borrow_and_update().clone();
            if let Some(assignment) = assignment {
                self.take(assignment);
            }
            let touched = self.surroundings.board.take_touched();
            self.changed.extend(touched.iter().map(|fleet| fleet.key.clone()));
            while let Some(key) = self.changed.first().cloned() {
                self.turn(&key).await;
                // Last: a turn that is cut short is begun anew.
                self.changed.remove(&key);
            }
            if let Some(known) = &self.known {
                let generation = known.generation;
                let is_news = self
                    .followed
                    .send_if_modified(|before| std::mem::replace(before, generation) != generation);
                if is_news {
                    self.surroundings.ingress.followed(generation);
                }
            }
            tokio::time::sleep(GATHER).await;
            // Each of these only wakes the loop: a wake-up that is lost with this future finds its change in
            // the state.
            tokio::select! {
                changed = self.assignment.changed() => if changed.is_err() { return },
                _ = states.changed() => {}
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended),
            }
            // Those that ended together cost one turn.
            while let Some(ended) = self.tasks.try_join_next_with_id() {
                self.ended(ended);
            }
        }
    }

    /// Stops everything, within `grace`.
    pub(crate) async fn drain(mut self, grace: Duration) -> DrainOutcome {
        let all = async {
            let keys: Vec<ProcessKey> = self.processes.keys().cloned().collect();
            for key in &keys {
                let Some(fleet) = self.surroundings.board.existing(key) else {
                    continue;
                };
                let stopping = InstanceState::Stopping;
                let alive = fleet.alive();
                let alive = alive.states().filter(|(state, _)| *state != stopping);
                for range in alive.flat_map(|(_, set)| set.ranges()) {
                    self.stop(key, &fleet, range).await;
                }
            }
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.ended(ended);
            }
        };
        match tokio::time::timeout(grace, all).await {
            Ok(()) => DrainOutcome::Finished,
            Err(_) => DrainOutcome::TimedOut {
                connections: self.tasks.len(),
            },
        }
    }

    /// Takes over what changed in the assignment.
    fn take(&mut self, assignment: Arc<Assignment>) {
        if self
            .known
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, &assignment))
        {
            return;
        }
        let next: BTreeMap<ProcessKey, &AssignedProcess> = assignment
            .processes
            .iter()
            .map(|assigned| (key_of(assigned), assigned))
            .collect();
        let before: BTreeMap<ProcessKey, &AssignedProcess> = self
            .known
            .iter()
            .flat_map(|known| &known.processes)
            .map(|assigned| (key_of(assigned), assigned))
            .collect();
        for (key, assigned) in &next {
            if before.get(key) == Some(assigned) {
                continue;
            }
            let wanted: SlotSet = assigned.ranges.iter().copied().collect();
            let what = |of: &AssignedProcess| (of.process.clone(), of.config.clone(), of.services.clone());
            let is_other = |old: &&AssignedProcess| what(old) != what(assigned);
            match self.processes.get_mut(key) {
                Some(known) => {
                    known.wanted = wanted;
                    if before.get(key).is_none_or(is_other) {
                        known.spec = Arc::new(Spec::new(assigned, &self.surroundings));
                    }
                }
                None => {
                    let supervised = Supervised {
                        spec: Arc::new(Spec::new(assigned, &self.surroundings)),
                        wanted,
                        crew: None,
                        stops: BTreeMap::new(),
                    };
                    self.processes.insert(key.clone(), supervised);
                }
            }
            self.changed.insert(key.clone());
        }
        for key in before.keys().filter(|key| !next.contains_key(key)) {
            if let Some(known) = self.processes.get_mut(key) {
                known.wanted = SlotSet::default();
                self.changed.insert(key.clone());
            }
        }
        self.known = Some(assignment);
    }

    /// Does what is to be done about one process type.
    async fn turn(&mut self, key: &ProcessKey) {
        let board = self.surroundings.board.clone();
        let Some(supervised) = self.processes.get(key) else {
            return;
        };
        let fleet = board.existing(key);
        let alive = fleet.as_ref().map(|fleet| fleet.alive()).unwrap_or_default();
        let Steps { stop, start } = decide(&supervised.wanted, &alive, Handover::of(&key.process));
        if let Some(fleet) = fleet {
            for range in stop {
                self.stop(key, &fleet, range).await;
            }
        }
        for range in start {
            self.start(key, range).await;
        }
        let Some(supervised) = self.processes.get(key) else {
            return;
        };
        if board.existing(key).is_none_or(|fleet| fleet.is_empty()) {
            board.forget_empty(key);
            if supervised.wanted.is_empty() && supervised.is_idle() {
                self.processes.remove(key);
            }
        }
    }

    async fn stop(&mut self, key: &ProcessKey, fleet: &Arc<Fleet>, range: SlotRange) {
        for part in parts(range) {
            let stopping = places(part).map(|place| (place, Change::Stopping));
            fleet.change_each(stopping);
            let Some(supervised) = self.processes.get(key) else {
                return;
            };
            if supervised.spec.takes_http() {
                // At once, and not when its task hears of it: no request comes to it after the order.
                for place in places(part) {
                    self.surroundings.ingress.forget(&fleet.id(place));
                }
            }
            for stop in places(part).filter_map(|place| supervised.stops.get(&place)) {
                stop.cancel();
            }
            if let Some(crew) = &supervised.crew {
                // A crew that is gone has left nobody.
                let _ = crew.stop(part);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn start(&mut self, key: &ProcessKey, range: SlotRange) {
        for part in parts(range) {
            let Some(supervised) = self.processes.get_mut(key) else {
                return;
            };
            let spec = supervised.spec.clone();
            let limits = &spec.process.limits;
            let fleet = self.surroundings.board.fleet(key, limits.memory_bytes_max);
            fleet.add(part);
            if spec.is_called() {
                let group = spec.takes_http();
                let group = group.then(|| self.surroundings.ingress.group(&key.app, &key.process));
                for place in places(part) {
                    let stop = CancellationToken::new();
                    supervised.stops.insert(place, stop.clone());
                    // At once, and not when its task comes to run: requests wait for it from here on.
                    if let Some(group) = &group {
                        group.set_phase(&fleet.id(place), Phase::Starting);
                    }
                    let (around, group, spec) = (self.surroundings.clone(), group.clone(), spec.clone());
                    let task = instance::run(around, group, spec, fleet.clone(), place, stop);
                    let task = self.tasks.spawn(task);
                    let (key, place) = (key.clone(), Some(place));
                    self.owners.insert(task.id(), Owner { key, place });
                }
            } else if supervised
                .crew
                .as_ref()
                .is_none_or(|crew| crew.start(part).is_err())
            {
                let inbox = Arc::new(Inbox::default());
                inbox.start(part).expect("a new inbox is open");
                supervised.crew = Some(inbox.clone());
                let task = crew::run(self.surroundings.clone(), spec, fleet, inbox);
                let task = self.tasks.spawn_on(task, self.surroundings.crews.handle());
                let (key, place) = (key.clone(), None);
                self.owners.insert(task.id(), Owner { key, place });
            }
            tokio::task::yield_now().await;
        }
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (task, has_failed) = match &ended {
            Ok((task, ())) => (*task, false),
            Err(error) => {
                tracing::error!(%error, "a task that runs instances failed; they are started again");
                (error.id(), true)
            }
        };
        let Some(Owner { key, place }) = self.owners.remove(&task) else {
            return;
        };
        let fleet = self.surroundings.board.existing(&key);
        match (place, &fleet) {
            (Some(place), Some(fleet)) => {
                self.surroundings.ingress.forget(&fleet.id(place));
                fleet.remove(place.range());
            }
            // Whatever it left: its guests end with their places on the board.
            (None, Some(fleet)) if has_failed => {
                let alive = fleet.alive();
                for range in alive.states().flat_map(|(_, set)| set.ranges()) {
                    fleet.remove(range);
                }
            }
            _ => {}
        }
        if let Some(supervised) = self.processes.get_mut(&key) {
            if let Some(place) = place {
                supervised.stops.remove(&place);
            } else if has_failed || supervised.crew.as_ref().is_some_and(|crew| crew.is_closed()) {
                // Another may have taken its place already.
                supervised.crew = None;
            }
        }
        self.changed.insert(key);
    }
}

impl Supervised {
    /// Whether nobody runs instances of it.
    fn is_idle(&self) -> bool {
        self.stops.is_empty() && self.crew.is_none()
    }
}

/// The parts of a range that are handled at once.
fn parts(range: SlotRange) -> impl Iterator<Item = SlotRange> {
    let step = usize::try_from(AT_ONCE_COUNT_MAX).expect("32 bits");
    (range.first..=range.last)
        .step_by(step)
        .map(move |first| SlotRange {
            first,
            last: first.saturating_add(AT_ONCE_COUNT_MAX - 1).min(range.last),
            epoch: range.epoch,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_handled_in_parts_that_make_it_up() {
        let epoch = gilliam_model::instance::Epoch(1);
        for (first, last) in [(1, 1), (5, 260), (5, 261), (u32::MAX - 300, u32::MAX)] {
            let range = SlotRange { first, last, epoch };
            let all: SlotSet = parts(range).collect();
            assert_eq!(all.ranges(), [range]);
            assert!(parts(range).all(|part| part.count() <= AT_ONCE_COUNT_MAX));
        }
    }
}
