//! What is placed of an app joined with what nodes report of it: counts, sums, and pages of single instances.
//!
//! In: the app, its placements, the view of all nodes. Out: a summary of each process type of each release,
//! whether all of it is as wanted, and the instances of a page of slots. What is placed and not reported yet
//! is starting; what is reported and not placed there is on its way out.
//!
//! Invariant: the work is in proportion to ranges and to the instances of the page, never to all instances.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use gilliam_model::{
    api::{InstanceInfo, NodeState, ProcessSummary},
    app::App,
    instance::{InstanceId, InstanceReport, InstanceState},
    name::{NodeName, ProcessName},
    placement::{Placement, SlotRange},
    release::ReleaseId,
    report::{FAILURES_COUNT_MAX, ProcessKey, ProcessReport},
};
use gilliam_plan::InstanceSet;

use crate::observed::NodeView;

/// The instances of an app.
#[derive(Debug)]
pub(crate) struct Roster<'a> {
    app: &'a App,
    groups: BTreeMap<(ReleaseId, &'a ProcessName), Vec<Share<'a>>>,
}

/// The instances of a process type that a node has.
#[derive(Debug)]
struct Share<'a> {
    node: &'a NodeName,
    /// The node's host name.
    host: &'a str,
    /// What the node says of them, if it can be counted on.
    report: Option<&'a ProcessReport>,
    /// Whether what it runs is exactly what is placed on it.
    is_settled: bool,
    /// What it reports.
    states: Vec<(InstanceState, InstanceSet)>,
    /// What is placed on it and not reported.
    silent: InstanceSet,
    /// What that means: a node that is heard of is about to start them.
    silence: InstanceState,
}

/// Which instances of a process type to list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// First slot.
    pub(crate) from: u32,
    /// Most instances; those of one slot stay together.
    pub(crate) limit: usize,
}

/// An instance of a page.
#[derive(Debug, Clone)]
pub(crate) struct Listed<'a> {
    pub(crate) id: InstanceId,
    pub(crate) node: &'a NodeName,
    host: &'a str,
    pub(crate) state: InstanceState,
    /// Whether its node reports it.
    pub(crate) is_reported: bool,
}

impl<'a> Roster<'a> {
    pub(crate) fn of(
        app: &'a App,
        placements: &'a [Placement],
        nodes: &'a BTreeMap<NodeName, NodeView>,
    ) -> Self {
        let mut reported: BTreeMap<(&NodeName, ReleaseId, &ProcessName), &ProcessReport> = BTreeMap::new();
        for (name, node) in nodes {
            let mine = node.current().filter(|(key, _)| key.app == app.name);
            reported.extend(mine.map(|(key, report)| ((name, key.release, &key.process), report)));
        }
        let mut groups: BTreeMap<_, Vec<Share<'a>>> = BTreeMap::new();
        for placement in placements {
            let Placement {
                release,
                process,
                node,
                ranges,
                ..
            } = placement;
            let report = reported.remove(&(node, *release, process));
            let share = Share::of(node, nodes, report, &InstanceSet::of(ranges));
            groups.entry((*release, process)).or_default().push(share);
        }
        for ((node, release, process), report) in reported {
            let share = Share::of(node, nodes, Some(report), &InstanceSet::default());
            groups.entry((release, process)).or_default().push(share);
        }
        for (release, scale) in &app.scale {
            for process in scale.0.keys() {
                groups.entry((*release, process)).or_default();
            }
        }
        Self { app, groups }
    }

    /// Whether exactly the wanted counts are placed, each of them runs, and nothing else does.
    pub(crate) fn is_settled(&self) -> bool {
        self.app.migration.is_none()
            && self.groups.iter().all(|((release, process), shares)| {
                shares.iter().all(|share| share.is_settled) && total(shares) == self.wanted(*release, process)
            })
    }

    /// The process types that have instances or should, by release and name.
    pub(crate) fn keys(&self) -> impl Iterator<Item = ProcessKey> + '_ {
        self.groups.keys().map(|(release, process)| ProcessKey {
            app: self.app.name.clone(),
            release: *release,
            process: (*process).clone(),
        })
    }

    /// How many instances of a process type there are.
    pub(crate) fn count(&self, key: &ProcessKey) -> u32 {
        self.groups
            .get(&(key.release, &key.process))
            .map_or(0, |shares| total(shares))
    }

    pub(crate) fn summary(&self, key: &ProcessKey) -> ProcessSummary {
        let shares = self
            .groups
            .get(&(key.release, &key.process))
            .map_or(&[][..], Vec::as_slice);
        let mut summary = ProcessSummary {
            process: key.process.clone(),
            release: key.release,
            wanted: self.wanted(key.release, &key.process),
            states: BTreeMap::new(),
            newest: BTreeMap::new(),
            memory_bytes: 0,
            fuel_per_s: 0,
            restarts: 0,
            nodes: BTreeMap::new(),
            failures: failures(shares),
        };
        for share in shares {
            *summary.nodes.entry(share.node.clone()).or_default() += share.count();
            for (state, _, here) in share.all().filter(|(_, _, here)| !here.is_empty()) {
                *summary.states.entry(state).or_default() += here.count();
            }
            if let Some(report) = share.report {
                for (state, at) in &report.newest {
                    let newest = summary.newest.entry(*state).or_insert(*at);
                    *newest = (*newest).max(*at);
                }
                summary.memory_bytes = summary.memory_bytes.saturating_add(report.memory_bytes);
                summary.fuel_per_s = summary.fuel_per_s.saturating_add(report.fuel_per_s);
                summary.restarts = summary.restarts.saturating_add(report.restarts);
            }
        }
        summary
    }

    /// The instances of a page of these process types, by slot; and the first slot that is not on it.
    pub(crate) fn page(&self, keys: &[ProcessKey], page: Page) -> (Vec<Listed<'a>>, Option<u32>) {
        let mut sources = Vec::new();
        for key in keys {
            let shares = self
                .groups
                .get(&(key.release, &key.process))
                .into_iter()
                .flatten();
            for share in shares {
                for (state, is_reported, here) in share.all() {
                    let ranges = here.ranges().filter(|range| range.last >= page.from);
                    sources.extend(ranges.map(|range| Source {
                        range,
                        key,
                        share,
                        state,
                        is_reported,
                    }));
                }
            }
        }
        merge(&sources, page)
    }

    fn wanted(&self, release: ReleaseId, process: &ProcessName) -> u32 {
        self.app
            .scale
            .get(&release)
            .map_or(0, |scale| scale.count(process))
    }
}

/// A run of instances in one state.
struct Source<'s, 'a> {
    range: SlotRange,
    key: &'s ProcessKey,
    share: &'s Share<'a>,
    state: InstanceState,
    is_reported: bool,
}

/// Takes instances in the order of slots from ranges that may overlap.
fn merge<'a>(sources: &[Source<'_, 'a>], page: Page) -> (Vec<Listed<'a>>, Option<u32>) {
    let first = |(i, source): (usize, &Source<'_, '_>)| Reverse((source.range.first.max(page.from), i));
    let mut heap: BinaryHeap<Reverse<(u32, usize)>> = sources.iter().enumerate().map(first).collect();
    let mut listed: Vec<Listed<'a>> = Vec::new();
    while let Some(Reverse((slot, i))) = heap.pop() {
        if listed.len() >= page.limit && listed.last().is_none_or(|last| last.id.slot != slot) {
            return (listed, Some(slot));
        }
        let source = &sources[i];
        listed.push(Listed {
            id: source.key.instance(slot, source.range.epoch),
            node: source.share.node,
            host: source.share.host,
            state: source.state,
            is_reported: source.is_reported,
        });
        if slot < source.range.last {
            heap.push(Reverse((slot + 1, i)));
        }
    }
    (listed, None)
}

impl<'a> Share<'a> {
    fn of(
        node: &'a NodeName,
        nodes: &'a BTreeMap<NodeName, NodeView>,
        report: Option<&'a ProcessReport>,
        placed: &InstanceSet,
    ) -> Self {
        let states = report.into_iter().flat_map(|report| &report.states);
        let states: Vec<(InstanceState, InstanceSet)> = states
            .map(|(state, ranges)| (*state, InstanceSet::of(ranges)))
            .collect();
        let reported = states
            .iter()
            .fold(InstanceSet::default(), |all, (_, here)| all.union(here));
        let view = nodes.get(node);
        let is_heard = view.is_some_and(|view| view.state != NodeState::Lost);
        let all_run = states
            .iter()
            .all(|(state, here)| *state == InstanceState::Running || here.is_empty());
        Self {
            node,
            host: view.map_or(node.as_str(), |view| &view.facts.host),
            report,
            is_settled: all_run && reported == *placed,
            silent: placed.minus(&reported),
            silence: match is_heard {
                true => InstanceState::Starting,
                false => InstanceState::Unknown,
            },
            states,
        }
    }

    /// Its instances by state, and whether the node reports them.
    fn all(&self) -> impl Iterator<Item = (InstanceState, bool, &InstanceSet)> {
        let reported = self.states.iter().map(|(state, here)| (*state, true, here));
        reported.chain([(self.silence, false, &self.silent)])
    }

    fn count(&self) -> u32 {
        self.all().map(|(_, _, here)| here.count()).sum()
    }
}

impl Listed<'_> {
    /// The instance with what is known of it.
    pub(crate) fn info(self, report: Option<InstanceReport>) -> InstanceInfo {
        InstanceInfo {
            name: self.id.label(),
            process: self.id.process,
            release: self.id.release,
            node: self.node.clone(),
            host: self.host.to_string(),
            state: self.state,
            report,
        }
    }
}

fn total(shares: &[Share<'_>]) -> u32 {
    shares.iter().map(Share::count).sum()
}

/// What failed last: crashed ones first, then the newest failures.
fn failures(shares: &[Share<'_>]) -> Vec<InstanceInfo> {
    let of_share = |share: &Share<'_>| {
        let (node, host) = (share.node.clone(), share.host.to_string());
        let details = share.report.into_iter().flat_map(|report| &report.details);
        let failed: Vec<InstanceInfo> = details
            .filter(|detail| detail.last_failure.is_some() || detail.state == InstanceState::Crashed)
            .map(|detail| InstanceInfo {
                name: detail.id.label(),
                process: detail.id.process.clone(),
                release: detail.id.release,
                node: node.clone(),
                host: host.clone(),
                state: detail.state,
                report: Some(detail.clone()),
            })
            .collect();
        failed
    };
    let mut failed: Vec<InstanceInfo> = shares.iter().flat_map(of_share).collect();
    let at = |info: &InstanceInfo| {
        let failure = info
            .report
            .as_ref()
            .and_then(|report| report.last_failure.as_ref());
        failure.map(|failure| failure.at)
    };
    failed.sort_by_key(|info| (info.state != InstanceState::Crashed, Reverse(at(info))));
    failed.truncate(FAILURES_COUNT_MAX);
    failed
}
