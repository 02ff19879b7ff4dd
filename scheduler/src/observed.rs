//! What nodes report: kept in memory only, whole per node, and gone with the control plane.
//!
//! In: each sync's facts and instances. Out: a view of all nodes for the planner and for `ps`, and a wake-up
//! when something changed that a decision can hang on (readiness, states, restarts; never memory or fuel).
//!
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
    instance::{InstanceId, InstanceReport, InstanceState},
    name::{AppName, NodeName},
    sync::NodeFacts,
};
use tokio::sync::watch;

/// Most nodes known at once: each may hold a request open.
const NODES_MAX: usize = 1_000;
/// How long a node that is gone stays listed.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// The reports of one node by instance; shared, since a node may run very many.
pub(crate) type Reports = Arc<BTreeMap<InstanceId, InstanceReport>>;

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Monotonic: what durations are measured on.
    pub(crate) clock: Instant,
    /// What people read.
    pub(crate) wall: Timestamp,
}

/// What every node last reported.
#[derive(Debug)]
pub(crate) struct Observed {
    nodes: Mutex<BTreeMap<NodeName, Seen>>,
    changes: watch::Sender<u64>,
    started: Instant,
    lost_after: Duration,
}

#[derive(Debug)]
struct Seen {
    facts: NodeFacts,
    at: Now,
    reports: Reports,
}

/// A node at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeView {
    pub(crate) facts: NodeFacts,
    pub(crate) state: NodeState,
    pub(crate) seen_at: Timestamp,
    pub(crate) reports: Reports,
}

/// Too many nodes sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyNodes;

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

    /// Replaces all that is known of a node by its report.
    pub(crate) fn report(
        &self,
        facts: NodeFacts,
        instances: Vec<InstanceReport>,
        now: Now,
    ) -> Result<(), TooManyNodes> {
        let seen = Seen {
            at: now,
            reports: Arc::new(instances.into_iter().map(|r| (r.id.clone(), r)).collect()),
            facts,
        };
        let news = {
            let mut nodes = self.nodes.lock().expect("no holder panics");
            if nodes.len() >= NODES_MAX && !nodes.contains_key(&seen.facts.name) {
                return Err(TooManyNodes);
            }
            let news = nodes.get(&seen.facts.name).is_none_or(|before| {
                before.is_lost(self.lost_after, now)
                    || before.facts != seen.facts
                    || !same_to_a_planner(&before.reports, &seen.reports)
            });
            nodes.insert(seen.facts.name.clone(), seen);
            news
        };
        if news {
            self.changes.send_modify(|n| *n += 1);
        }
        Ok(())
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
        }
    }
}

impl NodeView {
    pub(crate) fn is_ready(&self) -> bool {
        self.state == NodeState::Ready
    }

    /// What a lost node reported says nothing of now.
    pub(crate) fn current(&self) -> impl Iterator<Item = &InstanceReport> {
        self.is_ready()
            .then(|| self.reports.values())
            .into_iter()
            .flatten()
    }

    pub(crate) fn info(&self) -> NodeInfo {
        NodeInfo {
            facts: self.facts.clone(),
            state: self.state,
            seen_at: self.seen_at,
            running: count(self.current().filter(|r| r.state == InstanceState::Running)),
        }
    }
}

/// How many instances of each app run on nodes that can be counted on.
pub(crate) fn running_by_app(nodes: &BTreeMap<NodeName, NodeView>) -> BTreeMap<AppName, u64> {
    let mut running = BTreeMap::new();
    let reports = nodes.values().flat_map(NodeView::current);
    for report in reports.filter(|r| r.state == InstanceState::Running) {
        match running.get_mut(&report.id.app) {
            Some(n) => *n += 1,
            None => {
                running.insert(report.id.app.clone(), 1);
            }
        }
    }
    running
}

fn count(items: impl Iterator) -> u64 {
    items.fold(0, |n, _| n + 1)
}

fn same_to_a_planner(a: &Reports, b: &Reports) -> bool {
    let decisive = |r: &InstanceReport| (r.state, r.restarts);
    a.len() == b.len()
        && a.iter()
            .zip(b.iter())
            .all(|((i, a), (j, b))| i == j && decisive(a) == decisive(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST_AFTER: Duration = Duration::from_secs(10);

    fn facts(name: &str) -> NodeFacts {
        NodeFacts {
            name: name.parse().expect("name"),
            host: name.to_string(),
            version: "0.1.0".to_string(),
            pid: 1,
            http: "127.0.0.1:8080".to_string(),
            cpus: 2,
            memory_bytes: 1 << 30,
            instances_max: None,
            started_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn report(id: &str, state: InstanceState) -> InstanceReport {
        InstanceReport {
            id: id.parse().expect("id"),
            state,
            since: Timestamp::UNIX_EPOCH,
            port: None,
            memory_bytes: 0,
            memory_bytes_peak: 0,
            memory_bytes_max: 0,
            fuel_per_s: 0,
            restarts: 0,
            last_failure: None,
            retry_at: None,
        }
    }

    fn later(now: Now, by: Duration) -> Now {
        Now {
            clock: now.clock + by,
            ..now
        }
    }

    #[test]
    fn a_node_is_lost_when_it_stops_syncing_and_ready_when_it_is_back() {
        let now = Now::read();
        let observed = Observed::new(LOST_AFTER, now);
        observed.report(facts("a"), vec![], now).expect("room");
        assert_eq!(observed.view(later(now, LOST_AFTER))["a"].state, NodeState::Ready);
        let lost = later(now, LOST_AFTER + Duration::from_millis(1));
        assert_eq!(observed.view(lost)["a"].state, NodeState::Lost);
        let changes = observed.changes();
        observed.report(facts("a"), vec![], lost).expect("room");
        assert_eq!(observed.view(lost)["a"].state, NodeState::Ready);
        assert!(changes.has_changed().expect("open"), "its return is news");
        assert!(observed.view(later(lost, FORGET_AFTER)).is_empty(), "forgotten");
    }

    #[test]
    fn a_report_replaces_the_one_before_and_only_news_wakes() {
        let now = Now::read();
        let observed = Observed::new(LOST_AFTER, now);
        let running = report("hello/v1/web.1@1", InstanceState::Running);
        observed
            .report(facts("a"), vec![running.clone()], now)
            .expect("room");
        let mut changes = observed.changes();
        let busier = InstanceReport {
            memory_bytes: 5,
            fuel_per_s: 9,
            ..running.clone()
        };
        observed.report(facts("a"), vec![busier], now).expect("room");
        assert!(!changes.has_changed().expect("open"), "load is not news");
        let view = observed.view(now);
        assert_eq!(view["a"].reports.values().next().expect("one").memory_bytes, 5);
        let crashed = InstanceReport {
            state: InstanceState::Crashed,
            ..running
        };
        observed.report(facts("a"), vec![crashed], now).expect("room");
        assert!(changes.has_changed().expect("open"), "a crash is news");
        changes.mark_unchanged();
        observed.report(facts("a"), vec![], now).expect("room");
        assert!(changes.has_changed().expect("open"), "an end is news");
        assert!(observed.view(now)["a"].reports.is_empty());
    }

    #[test]
    fn only_running_instances_of_ready_nodes_count() {
        let now = Now::read();
        let observed = Observed::new(LOST_AFTER, now);
        let instances = vec![
            report("hello/v1/web.1@1", InstanceState::Running),
            report("hello/v1/web.2@1", InstanceState::Starting),
            report("other/v1/web.1@1", InstanceState::Running),
        ];
        observed.report(facts("a"), instances, now).expect("room");
        assert_eq!(running_by_app(&observed.view(now)).get("hello"), Some(&1));
        assert_eq!(observed.view(now)["a"].info().running, 2);
        assert!(running_by_app(&observed.view(later(now, LOST_AFTER * 2))).is_empty());
    }
}
