//! The workers of one process type: commands without a port, of which there may be very many.
//!
//! In flow orders of the supervisor, and from the engine the ends of commands; out flow changes of the board
//! and lines of the log. One task for all of them: an instance that just runs has nothing here.
//!
//! Invariant: who is on the board and has no guest is in exactly one of `waiting`, `again`, `retries` and
//! `booting`.
//! Invariant: a poll of the task handles a bounded number of instances, then lets others run.

mod inbox;
mod stops;
mod thread;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use gilliam_engine::{CommandInstance, ExitReason, Loaded};
use gilliam_model::{
    Timestamp,
    code::Code,
    instance::{Failure, InstanceState},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Surroundings,
    crash::Crash,
    lines::Lines,
    spec::Spec,
    starts::{Turn, Young},
};
use crate::{
    artefacts::ArtefactError,
    backoff::Backoff,
    board::{Change, Fleet, Guest},
    entropy,
    slots::{Place, SlotSet},
};
pub(super) use inbox::Inbox;
use stops::Stops;
pub(crate) use thread::CrewThread;

/// A command counts as ready when it has lived this long.
pub(super) const SETTLE: Duration = Duration::from_millis(150);
/// Instances started in one batch: some milliseconds of the pace, so that other process types get their turn.
const BATCH_COUNT_MAX: usize = 128;
/// Instances handled in one poll: half a millisecond.
const AT_ONCE_COUNT_MAX: usize = 256;

/// What a batch of starts led to.
type Started = Vec<(Place, Result<Arc<CommandInstance>, Crash>)>;

struct Crew {
    around: Arc<Surroundings>,
    spec: Arc<Spec>,
    fleet: Arc<Fleet>,
    inbox: Arc<Inbox>,
    /// The component, while something is to be started.
    loaded: Option<Loaded>,
    /// Loads the component.
    loading: JoinSet<Result<Loaded, ArtefactError>>,
    /// Batches on their way, one of each turn at most.
    batches: JoinSet<(Turn, Started)>,
    is_starting: [bool; 2],
    /// To be started for the first time.
    waiting: SlotSet,
    /// To be started again now.
    again: VecDeque<Place>,
    /// In a batch.
    booting: BTreeSet<Place>,
    /// When those that run count as ready, in order; what is not in `unsettled` too has ended.
    settling: VecDeque<(Instant, Place)>,
    unsettled: BTreeMap<Place, Instant>,
    retries: BTreeSet<(Instant, Place)>,
    backoffs: BTreeMap<Place, Backoff>,
    stops: Stops,
    lines: Lines,
}

/// Runs the workers of `fleet` as the inbox orders, until none is left.
pub(super) async fn run(around: Arc<Surroundings>, spec: Arc<Spec>, fleet: Arc<Fleet>, inbox: Arc<Inbox>) {
    let lines = Lines::new(spec.clone());
    let grace = Duration::from_millis(spec.process.limits.exit_ms_max);
    let mut crew = Crew {
        around,
        spec,
        fleet,
        inbox,
        loaded: None,
        loading: JoinSet::new(),
        batches: JoinSet::new(),
        is_starting: [false; 2],
        waiting: SlotSet::default(),
        again: VecDeque::new(),
        booting: BTreeSet::new(),
        settling: VecDeque::new(),
        unsettled: BTreeMap::new(),
        retries: BTreeSet::new(),
        backoffs: BTreeMap::new(),
        stops: Stops::new(grace),
        lines,
    };
    crew.work().await;
    crew.lines.tell_all();
}

impl Crew {
    async fn work(&mut self) {
        loop {
            let is_more = self.turn();
            if self.inbox.close_if(|| self.fleet.is_empty()) {
                return;
            }
            if is_more {
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.due();
            let inbox = self.inbox.clone();
            tokio::select! {
                () = inbox.news() => {}
                () = until(due) => {}
                Some(loaded) = self.loading.join_next() => self.loaded(loaded.ok()),
                Some(batch) = self.batches.join_next() => self.started(batch.ok()),
            }
        }
    }

    /// Handles some of what there is; tells whether there is more.
    fn turn(&mut self) -> bool {
        let now = Instant::now();
        self.orders();
        let mut is_more = self.exits();
        is_more |= self.settle(now);
        is_more |= self.retry(now);
        is_more |= self.stop(now);
        self.launch();
        self.lines.tell(now);
        is_more
    }

    /// The next instant at which something is to be done.
    fn due(&self) -> Option<Instant> {
        let settling = self.settling.front().map(|(at, _)| *at);
        let retry = self.retries.first().map(|(at, _)| *at);
        [settling, retry, self.stops.due(), self.lines.due()]
            .into_iter()
            .flatten()
            .min()
    }

    fn orders(&mut self) {
        let orders = self.inbox.take_orders();
        for range in orders.stop {
            // What has not begun is not begun.
            self.waiting.remove(range);
            self.stops.ask(range);
        }
        for range in orders.start {
            self.waiting.insert(range);
        }
    }

    // === starts

    /// Sends the next batches on their way.
    fn launch(&mut self) {
        if self.waiting.is_empty() && self.again.is_empty() {
            self.loaded = None;
            return;
        }
        let Some(loaded) = self.loaded.clone() else {
            if self.loading.is_empty() {
                let (around, spec) = (self.around.clone(), self.spec.clone());
                let load = async move { around.artefacts.loaded(&spec.key.app, &spec.process).await };
                self.loading.spawn_on(load, self.around.crews.main());
            }
            return;
        };
        for turn in [Turn::First, Turn::Again] {
            if self.is_starting[turn as usize] {
                continue;
            }
            let places = match turn {
                Turn::First => self.waiting.take(BATCH_COUNT_MAX),
                Turn::Again => {
                    let count = self.again.len().min(BATCH_COUNT_MAX);
                    self.again.drain(..count).collect()
                }
            };
            if !places.is_empty() {
                self.is_starting[turn as usize] = true;
                self.booting.extend(&places);
                let (around, spec) = (self.around.clone(), self.spec.clone());
                let batch = batch(around, spec, self.inbox.clone(), loaded.clone(), turn, places);
                self.batches.spawn(batch);
            }
        }
    }

    fn loaded(&mut self, loaded: Option<Result<Loaded, ArtefactError>>) {
        match loaded {
            Some(Ok(loaded)) => self.loaded = Some(loaded),
            failed => {
                let crash = match failed {
                    Some(Err(error)) => Crash::early(error.code, error.message),
                    _ => Crash::early(Code::R99, "the component could not be loaded"),
                };
                let places: Vec<Place> = self.waiting.places().chain(self.again.drain(..)).collect();
                self.waiting = SlotSet::default();
                self.crashed(places.into_iter().map(|place| (place, crash.clone())).collect());
            }
        }
    }

    fn started(&mut self, batch: Option<(Turn, Started)>) {
        let Some((turn, started)) = batch else {
            // A defect; whoever was in it is lost to the engine, and the supervisor starts all anew.
            panic!("a batch of starts failed");
        };
        self.is_starting[turn as usize] = false;
        let settled_at = Instant::now() + SETTLE;
        let (mut booted, mut crashed) = (Vec::new(), Vec::new());
        for (place, result) in started {
            self.booting.remove(&place);
            match result {
                Ok(instance) => {
                    booted.push((place, Change::Booted(Guest::Command(instance))));
                    self.settling.push_back((settled_at, place));
                    self.unsettled.insert(place, settled_at);
                }
                Err(crash) => crashed.push((place, crash)),
            }
        }
        self.fleet.change_each(booted);
        self.crashed(crashed);
    }

    /// Those that have lived for long enough are ready.
    fn settle(&mut self, now: Instant) -> bool {
        let mut ready = Vec::new();
        while let Some((at, place)) = self.settling.front().copied().filter(|(at, _)| *at <= now) {
            if ready.len() == AT_ONCE_COUNT_MAX {
                break;
            }
            self.settling.pop_front();
            if self.unsettled.get(&place) == Some(&at) {
                self.unsettled.remove(&place);
                if self.fleet.state(place) == Some(InstanceState::Starting) {
                    ready.push(place);
                    self.lines.running(place);
                }
            }
        }
        let is_more = ready.len() == AT_ONCE_COUNT_MAX;
        if !ready.is_empty() {
            let ready = ready.into_iter().map(|place| (place, Change::Running));
            self.fleet.change_each(ready);
        }
        is_more
    }

    fn retry(&mut self, now: Instant) -> bool {
        let mut due = Vec::new();
        while due.len() < AT_ONCE_COUNT_MAX
            && let Some((_, place)) = self.retries.first().copied().filter(|(at, _)| *at <= now)
        {
            self.retries.pop_first();
            due.push(place);
        }
        let is_more = due.len() == AT_ONCE_COUNT_MAX;
        if !due.is_empty() {
            self.again.extend(&due);
            self.fleet
                .change_each(due.into_iter().map(|place| (place, Change::Starting)));
        }
        is_more
    }

    // === ends

    /// Takes note of commands that have ended: by themselves, which is a crash, or at a stop.
    fn exits(&mut self) -> bool {
        let (exits, is_more) = self.inbox.take_exits(AT_ONCE_COUNT_MAX, &self.booting);
        let (mut ended, mut crashed) = (Vec::new(), Vec::new());
        for (place, reason) in exits {
            let has_run = self.unsettled.remove(&place).is_none();
            match self.fleet.state(place) {
                Some(InstanceState::Stopping) => ended.push(place),
                Some(_) => {
                    let ran = match has_run {
                        true => self.fleet.age(place),
                        false => Duration::ZERO,
                    };
                    crashed.push((place, Crash::exited(&reason, ran)));
                }
                None => {}
            }
        }
        self.ended(ended);
        self.crashed(crashed);
        is_more
    }

    fn ended(&mut self, places: Vec<Place>) {
        if places.is_empty() {
            return;
        }
        for place in &places {
            self.backoffs.remove(place);
            self.stops.ended(*place);
            self.lines.stopped(*place);
        }
        self.fleet.remove_each(places);
    }

    /// Takes note of crashes, each with a wait before the next start.
    fn crashed(&mut self, crashes: Vec<(Place, Crash)>) {
        if crashes.is_empty() {
            return;
        }
        let (now, at) = (Instant::now(), Timestamp::now());
        let (mut changes, mut ended) = (Vec::with_capacity(crashes.len()), Vec::new());
        // What crashes together crashes for one reason as a rule, and its backtrace is kept once.
        let mut last: Option<Arc<Failure>> = None;
        for (place, crash) in crashes {
            if self.fleet.state(place) == Some(InstanceState::Stopping) {
                ended.push(place);
                continue;
            }
            let backoff = self.backoffs.entry(place).or_default();
            let wait = backoff.crashed(crash.ran, entropy::jitter());
            self.lines.crashed(place, &self.spec.crash_text(&crash), wait);
            self.retries.insert((now + wait, place));
            let is_same = |last: &Arc<Failure>| last.code == crash.code && last.message == crash.message;
            let failure = last.take().filter(is_same).unwrap_or_else(|| {
                let Crash { code, message, .. } = crash;
                Arc::new(Failure { code, message, at })
            });
            last = Some(failure.clone());
            let retry_at = at.checked_add(wait).unwrap_or(at);
            changes.push((place, Change::Crashed { failure, retry_at }));
        }
        self.fleet.change_each(changes);
        self.ended(ended);
    }

    // === stops

    /// Goes on with the stops that were asked for.
    fn stop(&mut self, now: Instant) -> bool {
        let mut gone = Vec::new();
        for place in self.stops.next(AT_ONCE_COUNT_MAX) {
            match self.fleet.guest(place) {
                Some(Guest::Command(instance)) => self.stops.begin(place, &instance, now),
                // It is stopped when it has been started.
                _ if self.booting.contains(&place) => self.stops.put_off(place),
                _ => gone.push(place),
            }
        }
        if !gone.is_empty() {
            let is_gone: BTreeSet<Place> = gone.iter().copied().collect();
            self.again.retain(|place| !is_gone.contains(place));
            self.retries.retain(|(_, place)| !is_gone.contains(place));
            // What was not on the board any more has been told of already.
            gone.retain(|place| self.fleet.state(*place).is_some());
            self.ended(gone);
        }
        for place in self.stops.late(now, AT_ONCE_COUNT_MAX) {
            let is_stopping = self.fleet.state(place) == Some(InstanceState::Stopping);
            if let Some(Guest::Command(instance)) = self.fleet.guest(place).filter(|_| is_stopping) {
                let text = self.spec.hinted(&self.stops.is_late(), Some(Code::R12), "");
                self.lines.remark(place, &text);
                self.stops.kill(place, &instance);
            }
        }
        self.stops.has_more()
    }
}

/// Starts instances, at the node's pace.
async fn batch(
    around: Arc<Surroundings>,
    spec: Arc<Spec>,
    inbox: Arc<Inbox>,
    loaded: Loaded,
    turn: Turn,
    places: Vec<Place>,
) -> (Turn, Started) {
    around.starts.admit(turn, places.len()).await;
    let starts = move |young: &mut Young| -> Started {
        let start = |place| {
            young.wait();
            let inbox = inbox.clone();
            let on_exit = Box::new(move |reason: ExitReason| inbox.ended(place, reason));
            let started = CommandInstance::start_and_tell(&loaded, spec.instance(place, None), on_exit);
            let started = started.map(Arc::new);
            if let Ok(instance) = &started {
                young.add(instance);
            }
            (
                place,
                started.map_err(|error| Crash::early(error.code, error.message)),
            )
        };
        places.into_iter().map(start).collect()
    };
    let started = around.starts.run(starts).await;
    (turn, started.expect("a start does not panic"))
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
