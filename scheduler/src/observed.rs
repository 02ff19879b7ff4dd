//! What nodes report: kept in memory only, per process type as ranges and sums, and gone with the control
//! plane.
//!
//! In: each sync's facts, and the process types that changed since a report that is held here. Out: a view of
//! all nodes for the planner and for `ps`, and a wake-up when something changed that a decision can hang on
//! (readiness, states, restarts; never memory or fuel).
//!
//! Invariant: what is held of a node is one whole report of its, or one with later changes applied: a change
//! whose base is not held is not taken.
//! Invariant: nothing here reaches the store: after a restart it comes back with the nodes' next sync.
//! Invariant: liveness is measured on the monotonic clock; a jump of the wall clock loses no node.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gilliam_model::{
    Timestamp,
    api::{NodeInfo, NodeState},
    instance::InstanceState,
    name::{AppName, NodeName},
    report::{ProcessKey, ProcessReport},
    run::{RunId, RunProgress},
    sync::{NodeFacts, SyncRequest},
};
use tokio::sync::watch;

/// Most nodes known at once: twice as many as plans are measured with. Each holds a request open and takes some
/// 60 KiB beside what it runs (`make bench-nodes`).
const NODES_MAX: usize = 20_000;
/// How long a node that is gone stays listed.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// The reports of one node by process type; shared, since a view of them is taken for every request.
pub(crate) type Reports = Arc<BTreeMap<ProcessKey, Arc<ProcessReport>>>;

/// What one node says of its runs; shared as well.
pub(crate) type Runs = Arc<BTreeMap<RunId, RunProgress>>;

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic: what durations are measured on.
    pub clock: Instant,
    /// What people read.
    pub wall: Timestamp,
}

/// What every node last reported.
#[derive(Debug)]
pub(crate) struct Observed {
    nodes: Mutex<BTreeMap<NodeName, Seen>>,
    changes: watch::Sender<u64>,
    started: Instant,
    lost_after: Duration,
}

#[derive(Debug, Clone)]
struct Seen {
    facts: Arc<NodeFacts>,
    at: Now,
    /// The report that was taken last.
    number: u64,
    /// An older life of the node that reports as well, and since when.
    rival: Option<(Timestamp, Instant)>,
    reports: Reports,
    runs: Runs,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is what is known of the node now.
    Applied,
    /// A later one was here first: it says nothing.
    Late,
    /// It is relative to one that is not held here: a whole one is needed.
    Unfounded,
}

/// A node at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeView {
    pub(crate) facts: Arc<NodeFacts>,
    pub(crate) state: NodeState,
    pub(crate) seen_at: Timestamp,
    pub(crate) reports: Reports,
    pub(crate) runs: Runs,
}

/// A report that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Too many nodes sync.
    TooManyNodes,
    /// A life of the node that began later was heard of a moment ago.
    Older {
        /// When that one began, by its own clock.
        than: Timestamp,
        /// Whether it was heard of since this one was told so: both are there, and this one is to end.
        is_replaced: bool,
    },
}

impl Now {
    pub(crate) fn read() -> Self {
        Self {
            clock: Instant::now(),
            wall: Timestamp::now(),
        }
    }
}

impl Observed {
    pub(crate) fn new(lost_after: Duration, now: Now) -> Self {
        Self {
            nodes: Mutex::default(),
            changes: watch::Sender::new(0),
            started: now.clock,
            lost_after,
        }
    }

    /// Takes a report of a node, and with it that the node is alive.
    pub(crate) fn report(&self, request: SyncRequest, now: Now) -> Result<Taken, NotTaken> {
        let news = {
            let mut nodes = self.nodes.lock().expect("no holder panics");
            if let Some(seen) = nodes.get_mut(&request.node.name) {
                seen.check_rival(&request, self.lost_after, now)?;
            }
            let known = nodes.get_mut(&request.node.name);
            // Another life of the node numbers its reports anew.
            let known = known.filter(|seen| seen.facts.started_at == request.node.started_at);
            match (known, request.base) {
                (Some(seen), _) if request.number <= seen.number => return Ok(Taken::Late),
                (Some(seen), Some(base)) if base <= seen.number => seen.change(request, self.lost_after, now),
                (_, Some(_)) => return Ok(Taken::Unfounded),
                (_, None) => {
                    if nodes.len() >= NODES_MAX && !nodes.contains_key(&request.node.name) {
                        return Err(NotTaken::TooManyNodes);
                    }
                    let mut seen = Seen::of(request, now);
                    let same_life = nodes
                        .get(&seen.facts.name)
                        .filter(|known| known.facts.started_at == seen.facts.started_at);
                    seen.rival = same_life.and_then(|known| known.rival);
                    let before = nodes.insert(seen.facts.name.clone(), seen.clone());
                    before.is_none_or(|before| seen.is_news(&before, self.lost_after))
                }
            }
        };
        if news {
            self.changes.send_modify(|n| *n += 1);
        }
        Ok(Taken::Applied)
    }

    /// Forgets a node.
    pub(crate) fn forget(&self, node: &NodeName) {
        if self
            .nodes
            .lock()
            .expect("no holder panics")
            .remove(node)
            .is_some()
        {
            self.changes.send_modify(|n| *n += 1);
        }
    }

    /// How many changes there were that a decision can hang on.
    pub(crate) fn changes_count(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Hears of every change that a decision can hang on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Every node that has synced in this life of the control plane, and not been gone for long.
    pub(crate) fn view(&self, now: Now) -> BTreeMap<NodeName, NodeView> {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        nodes.retain(|_, seen| seen.age(now) < FORGET_AFTER.max(self.lost_after));
        nodes
            .iter()
            .map(|(name, seen)| (name.clone(), seen.view(self.lost_after, now)))
            .collect()
    }

    /// Whether a node that has not synced yet may still be on its way: the first moments of this life.
    pub(crate) fn in_grace(&self, now: Now) -> bool {
        now.clock.saturating_duration_since(self.started) < self.lost_after
    }
}

impl Seen {
    fn of(mut request: SyncRequest, now: Now) -> Self {
        let runs = runs_of(&mut request);
        let processes = request.processes.into_iter();
        Self {
            facts: Arc::new(request.node),
            at: now,
            number: request.number,
            rival: None,
            reports: Arc::new(processes.map(|report| (report.key(), Arc::new(report))).collect()),
            runs,
        }
    }

    /// Refuses the report of a life that began before this one, while this one is there.
    ///
    /// One of a clock that was set back is refused as well, until the life it follows is held lost.
    fn check_rival(&mut self, request: &SyncRequest, lost_after: Duration, now: Now) -> Result<(), NotTaken> {
        let (its, than) = (request.node.started_at, self.facts.started_at);
        if its >= than || self.is_lost(lost_after, now) {
            return Ok(());
        }
        let is_replaced = match self.rival {
            Some((rival, since)) if rival == its => self.at.clock > since,
            _ => {
                self.rival = Some((its, now.clock));
                false
            }
        };
        Err(NotTaken::Older { than, is_replaced })
    }

    /// Whether a decision can hang on what changed since `before`.
    fn is_news(&self, before: &Self, lost_after: Duration) -> bool {
        let (now, then) = (self.reports.iter(), before.reports.iter());
        before.is_lost(lost_after, self.at)
            || before.facts != self.facts
            || before.runs != self.runs
            || before.reports.len() != self.reports.len()
            || now
                .zip(then)
                .any(|((i, new), (j, old))| i != j || !same_to_a_planner(new, old))
    }

    /// Applies the changes of a report; says whether a decision can hang on one of them.
    fn change(&mut self, mut request: SyncRequest, lost_after: Duration, now: Now) -> bool {
        let has_facts = *self.facts == request.node;
        let mut news = self.is_lost(lost_after, now) || !has_facts;
        let runs = runs_of(&mut request);
        if runs != self.runs {
            (self.runs, news) = (runs, true);
        }
        if !has_facts {
            self.facts = Arc::new(request.node);
        }
        self.number = request.number;
        self.at = now;
        if request.gone.is_empty() && request.processes.is_empty() {
            return news;
        }
        let reports = Arc::make_mut(&mut self.reports);
        for gone in &request.gone {
            news |= reports.remove(gone).is_some();
        }
        for report in request.processes {
            let key = report.key();
            let old = reports.get(&key);
            news |= old.is_none_or(|old| !same_to_a_planner(&report, old));
            reports.insert(key, Arc::new(report));
        }
        news
    }

    fn age(&self, now: Now) -> Duration {
        now.clock.saturating_duration_since(self.at.clock)
    }

    fn is_lost(&self, lost_after: Duration, now: Now) -> bool {
        self.age(now) > lost_after
    }

    fn view(&self, lost_after: Duration, now: Now) -> NodeView {
        NodeView {
            facts: self.facts.clone(),
            state: if self.is_lost(lost_after, now) {
                NodeState::Lost
            } else {
                NodeState::Ready
            },
            seen_at: self.at.wall,
            reports: self.reports.clone(),
            runs: self.runs.clone(),
        }
    }
}

impl NodeView {
    pub(crate) fn is_ready(&self) -> bool {
        self.state == NodeState::Ready
    }

    /// What it reports of each process type; what a lost node reported says nothing of now.
    pub(crate) fn current(&self) -> impl Iterator<Item = (&ProcessKey, &ProcessReport)> {
        let reports = self.is_ready().then_some(&self.reports);
        reports
            .into_iter()
            .flat_map(|reports| reports.iter())
            .map(|(key, report)| (key, &**report))
    }

    pub(crate) fn info(&self) -> NodeInfo {
        let running = |(_, report): (_, &ProcessReport)| u64::from(report.count(InstanceState::Running));
        NodeInfo {
            facts: NodeFacts::clone(&self.facts),
            state: self.state,
            seen_at: self.seen_at,
            running: self.current().map(running).sum(),
        }
    }
}

/// How many instances of each app run on nodes that can be counted on.
pub(crate) fn running_by_app(nodes: &BTreeMap<NodeName, NodeView>) -> BTreeMap<AppName, u64> {
    let mut running: BTreeMap<AppName, u64> = BTreeMap::new();
    for (key, report) in nodes.values().flat_map(NodeView::current) {
        let here = u64::from(report.count(InstanceState::Running));
        match running.get_mut(&key.app) {
            Some(n) => *n += here,
            None if here > 0 => drop(running.insert(key.app.clone(), here)),
            None => {}
        }
    }
    running
}

/// What a report says of runs.
fn runs_of(request: &mut SyncRequest) -> Runs {
    let runs = std::mem::take(&mut request.runs).into_iter();
    Arc::new(runs.map(|run| (run.id, run.progress)).collect())
}

fn same_to_a_planner(a: &ProcessReport, b: &ProcessReport) -> bool {
    a.restarts == b.restarts && a.states == b.states
}

#[cfg(test)]
mod tests;
