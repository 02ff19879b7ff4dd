//! A node of the simulated cluster: the real decisions, carried out on instances that only have a state.
//!
//! Invariant: an assignment of an older generation is never followed, over restarts of the node too, unless that is
//! what a simulation is to notice.

use std::collections::BTreeMap;

use gilliam_model::{
    Timestamp,
    assignment::Assignment,
    image::Process,
    instance::{Failure, InstanceReport, InstanceState},
    name::NodeName,
    placement::SlotRange,
    report::{ProcessKey, ProcessReport, fold},
    sync::{NodeFacts, PROTOCOL, SyncRequest},
};
use gilliam_runtime::{
    decide::{Alive, Handover, decide},
    slots::{Place, SlotSet},
};

use crate::{Sabotage, clock::Ms, users::BROKEN};

/// A node, whether it is up or not.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) facts: NodeFacts,
    /// Counts its lives.
    pub(crate) life: u32,
    pub(crate) is_up: bool,
    /// It does nothing until then.
    pub(crate) paused_until: Ms,
    /// What it follows; kept in a file, as a real node does.
    assignment: Option<Assignment>,
    /// Whether it takes any.
    takes_older: bool,
    processes: BTreeMap<ProcessKey, Local>,
    /// One for each control plane.
    pub(crate) sessions: Vec<Session>,
}

/// What one control plane was told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Session {
    /// Of the last report, in this life.
    pub(crate) number: u64,
    /// Counts the reports that were planned: an earlier plan is void.
    pub(crate) planned: u64,
    /// When the next report is due.
    pub(crate) due: Option<Ms>,
}

#[derive(Debug, Default)]
struct Local {
    process: Option<Process>,
    wanted: SlotSet,
    alive: Alive,
    crashes: BTreeMap<Place, (u32, Timestamp)>,
    since: Option<Timestamp>,
}

/// What instances have to do next; it takes them a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chore {
    /// They start.
    Start(ProcessKey, SlotRange),
    /// They stop.
    Stop(ProcessKey, SlotRange),
}

impl Node {
    pub(crate) fn new(facts: NodeFacts, planes: u32, sabotage: Option<Sabotage>) -> Self {
        Self {
            name: facts.name.clone(),
            facts,
            life: 0,
            is_up: false,
            paused_until: 0,
            assignment: None,
            takes_older: sabotage == Some(Sabotage::OlderAssignments),
            processes: BTreeMap::new(),
            sessions: (0..planes).map(|_| Session::default()).collect(),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.assignment
            .as_ref()
            .map_or(0, |assignment| assignment.generation)
    }

    /// Begins a life with the assignment that it kept.
    pub(crate) fn start(&mut self, now: Timestamp) -> Vec<Chore> {
        self.life += 1;
        self.is_up = true;
        self.facts.started_at = now;
        for session in &mut self.sessions {
            (session.number, session.due) = (0, None);
        }
        match self.assignment.take() {
            Some(assignment) => self.follow(assignment),
            None => Vec::new(),
        }
    }

    /// Ends its life and all of its instances.
    pub(crate) fn kill(&mut self) {
        self.is_up = false;
        self.processes.clear();
    }

    /// Follows an assignment, unless it is older than the present one.
    pub(crate) fn take(&mut self, assignment: Assignment) -> Vec<Chore> {
        if assignment.generation <= self.generation() && !self.takes_older {
            return Vec::new();
        }
        self.follow(assignment)
    }

    fn follow(&mut self, assignment: Assignment) -> Vec<Chore> {
        for local in self.processes.values_mut() {
            local.wanted = SlotSet::default();
        }
        for assigned in &assignment.processes {
            let key = ProcessKey {
                app: assigned.app.clone(),
                release: assigned.release,
                process: assigned.name.clone(),
            };
            let local = self.processes.entry(key).or_default();
            local.wanted = assigned.ranges.iter().copied().collect();
            local.process = Some(assigned.process.clone());
        }
        self.assignment = Some(assignment);
        let keys: Vec<ProcessKey> = self.processes.keys().cloned().collect();
        keys.into_iter().flat_map(|key| self.decide(key)).collect()
    }

    fn decide(&mut self, key: ProcessKey) -> Vec<Chore> {
        let Some(local) = self.processes.get_mut(&key) else {
            return Vec::new();
        };
        let steps = decide(&local.wanted, &local.alive, Handover::of(&key.process));
        let mut chores = Vec::new();
        for range in steps.stop {
            local.alive.set(range, InstanceState::Stopping);
            chores.push(Chore::Stop(key.clone(), range));
        }
        for range in steps.start {
            local.alive.set(range, InstanceState::Starting);
            chores.push(Chore::Start(key.clone(), range));
        }
        if local.wanted.is_empty() && local.alive.is_empty() {
            self.processes.remove(&key);
        }
        chores
    }

    /// Ends a chore; instances that were told otherwise meanwhile are left alone. Those of a broken release crash,
    /// until all is healed. Gives what follows from it.
    pub(crate) fn finish(&mut self, chore: Chore, now: Timestamp, is_healed: bool) -> Vec<Chore> {
        let (key, range, from) = match chore {
            Chore::Start(key, range) => (key, range, InstanceState::Starting),
            Chore::Stop(key, range) => (key, range, InstanceState::Stopping),
        };
        let Some(local) = self.processes.get_mut(&key) else {
            return Vec::new();
        };
        let is_broken = local
            .process
            .as_ref()
            .is_some_and(|process| process.command == BROKEN);
        let crashes = is_broken && !is_healed;
        let mut chores = Vec::new();
        for slot in range.slots() {
            let place = Place {
                slot,
                epoch: range.epoch,
            };
            if !local.alive.in_state(from).is_some_and(|set| set.contains(place)) {
                continue;
            }
            match from {
                InstanceState::Stopping => {
                    local.alive.remove(place.range());
                    local.crashes.remove(&place);
                }
                _ if crashes => chores.push(local.crash(&key, place, now)),
                _ => {
                    local.alive.set(place.range(), InstanceState::Running);
                    local.since = Some(now);
                }
            }
        }
        chores.extend(self.decide(key));
        chores
    }

    /// Crashes the running instance of this number, counted over all of them.
    pub(crate) fn crash(&mut self, nth: u64, now: Timestamp) -> Option<Chore> {
        let mut passed = 0;
        for (key, local) in &mut self.processes {
            let Some(running) = local.alive.in_state(InstanceState::Running) else {
                continue;
            };
            if nth < passed + running.count() {
                let within = usize::try_from(nth - passed).ok()?;
                let place = running.places().nth(within)?;
                return Some(local.crash(key, place, now));
            }
            passed += running.count();
        }
        None
    }

    /// Everything that is alive here, by process type.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (&ProcessKey, &Alive)> {
        self.processes.iter().map(|(key, local)| (key, &local.alive))
    }

    /// The next report to a control plane.
    pub(crate) fn report(&mut self, plane: usize) -> SyncRequest {
        let session = &mut self.sessions[plane];
        session.number += 1;
        SyncRequest {
            protocol: PROTOCOL,
            node: self.facts.clone(),
            generation: self
                .assignment
                .as_ref()
                .map_or(0, |assignment| assignment.generation),
            control: String::new(),
            number: session.number,
            base: None,
            processes: self
                .processes
                .iter()
                .map(|(key, local)| local.report(key))
                .collect(),
            gone: Vec::new(),
            runs: Vec::new(),
            wait_ms: 0,
            peers: None,
        }
    }
}

impl Local {
    /// It is started again at once; the back-off of a real node is no part of what is simulated.
    fn crash(&mut self, key: &ProcessKey, place: Place, now: Timestamp) -> Chore {
        let crashes = self.crashes.entry(place).or_insert((0, now));
        *crashes = (crashes.0 + 1, now);
        self.alive.set(place.range(), InstanceState::Starting);
        Chore::Start(key.clone(), place.range())
    }

    fn report(&self, key: &ProcessKey) -> ProcessReport {
        let since = self.since.unwrap_or(Timestamp::UNIX_EPOCH);
        let instances = self.alive.states().flat_map(|(state, set)| {
            set.places().map(move |place| {
                let crashed = self.crashes.get(&place);
                InstanceReport {
                    id: key.instance(place.slot, place.epoch),
                    state,
                    since,
                    port: None,
                    memory_bytes: 0,
                    memory_bytes_peak: 0,
                    memory_bytes_max: 0,
                    fuel_per_s: 0,
                    restarts: crashed.map_or(0, |(count, _)| *count),
                    last_failure: crashed.map(|(_, at)| Failure {
                        code: None,
                        message: "simulated".to_owned(),
                        at: *at,
                    }),
                    retry_at: None,
                }
            })
        });
        let report = fold(instances, &[]).pop();
        report.unwrap_or_else(|| ProcessReport::empty(key.clone()))
    }
}
