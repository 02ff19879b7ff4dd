//! What a change would do: planned on a copy, to its end, and compared with what comes without it.
//!
//! Nodes are taken to do as they are told at once, so that what is answered is where everything comes to rest,
//! not what happens on the way. What is under way anyhow (a migration, a drain) is planned to its end on both
//! sides, and so is no part of the answer.

use std::{collections::BTreeMap, fmt, sync::Arc};

use gilliam_model::{
    label::Labels,
    name::{AppName, NodeName},
    report::ProcessKey,
    what_if::{BlockedProcess, Difference, NodeDifference, ProcessDifference, WhatIf},
};

use crate::{
    placements::Placements,
    plan,
    report::Blocked,
    scaled::{ScaleRefusal, scale_target, scaled},
    snapshot::{Availability, NodeState, Observed, Policy, Snapshot},
};

/// Most plans on the way to rest: a migration takes some ten, rebalancing a few for each hundred slots.
const TURNS_MAX: u32 = 1_000;

/// A question that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhatIfRefusal {
    /// A scale of no app, or of one that does not exist.
    NoApp {
        /// As asked, if it was named.
        app: Option<AppName>,
    },
    /// There is no such node.
    NoNode {
        /// As asked.
        node: NodeName,
        /// Those there are, or some of them.
        known: Vec<NodeName>,
    },
    /// The scale would be refused.
    Scale(ScaleRefusal),
}

/// Nodes that a refusal names.
const KNOWN_NAMED_MAX: usize = 10;

impl fmt::Display for WhatIfRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoApp { app: Some(app) } => write!(f, "there is no app {app}"),
            Self::NoApp { app: None } => f.write_str("a scale is of an app, and none is named"),
            Self::NoNode { node, known } if known.is_empty() => {
                write!(f, "there is no node {node}; none has joined")
            }
            Self::NoNode { node, known } => {
                let named: Vec<&str> = known.iter().take(KNOWN_NAMED_MAX).map(NodeName::as_str).collect();
                let more = if known.len() > named.len() { ", …" } else { "" };
                write!(f, "there is no node {node}; there are {}{more}", named.join(", "))
            }
            Self::Scale(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for WhatIfRefusal {}

/// What `change` would do; `app` is the one that a scale is about.
pub fn what_if(
    snapshot: &Snapshot,
    app: Option<&AppName>,
    change: &WhatIf,
) -> Result<Difference, WhatIfRefusal> {
    let mut without = snapshot.clone();
    without.observed = Observed::everything();
    let blocked_without = settle(&mut without);
    let mut with = without.clone();
    apply(&mut with, app, change)?;
    let blocked = settle(&mut with);
    let processes = differences(&without.placements, &with.placements);
    let sum = |of: fn(&ProcessDifference) -> u64| processes.iter().map(of).sum();
    Ok(Difference {
        placed: sum(|process| process.after.saturating_sub(process.before)),
        stopped: sum(|process| process.before.saturating_sub(process.after)),
        moved: sum(|process| process.moved),
        blocked: newly_blocked(blocked_without, blocked),
        processes,
    })
}

/// Plans until nothing changes; gives what is blocked then.
fn settle(snapshot: &mut Snapshot) -> Vec<Blocked> {
    for _ in 0..TURNS_MAX {
        let plan = plan(snapshot);
        if plan.is_empty() {
            return plan.report.blocked;
        }
        snapshot.placements.apply(&plan);
        snapshot.epoch = plan.epoch;
    }
    plan(snapshot).report.blocked
}

fn apply(snapshot: &mut Snapshot, app: Option<&AppName>, change: &WhatIf) -> Result<(), WhatIfRefusal> {
    match change {
        WhatIf::Scale(patch) => {
            let missing = || WhatIfRefusal::NoApp { app: app.cloned() };
            let app = app.ok_or_else(missing)?;
            let state = snapshot
                .apps
                .iter_mut()
                .find(|state| state.app.name == *app)
                .map(Arc::make_mut)
                .ok_or_else(missing)?;
            let target = scale_target(&state.app, patch.release).map_err(WhatIfRefusal::Scale)?;
            let image = state.images.get(&target).ok_or_else(|| {
                WhatIfRefusal::Scale(ScaleRefusal::UnknownRelease {
                    release: target,
                    latest: state.app.latest.unwrap_or(target),
                })
            })?;
            state.app = scaled(&state.app, patch, image).map_err(WhatIfRefusal::Scale)?;
        }
        WhatIf::Kill(node) => set(snapshot, node, Availability::Lost)?,
        WhatIf::Drain(node) => set(snapshot, node, Availability::Draining)?,
        WhatIf::Undrain(node) => set(snapshot, node, Availability::Ready)?,
        WhatIf::Rebalance => {
            let rebalance = Some(snapshot.policy.rebalance.unwrap_or_default());
            snapshot.policy = Policy {
                rebalance,
                ..snapshot.policy
            };
        }
    }
    Ok(())
}

fn set(snapshot: &mut Snapshot, node: &NodeName, state: Availability) -> Result<(), WhatIfRefusal> {
    if let Some(known) = snapshot.nodes.iter_mut().find(|known| known.name == *node) {
        // Lost is not a matter of choice: only its return ends it.
        if known.state != Availability::Lost || state == Availability::Lost {
            known.state = state;
        }
        return Ok(());
    }
    // One that has not been heard of, and holds something, is known by that.
    if snapshot.placements.holders().any(|holder| holder == node) {
        snapshot.nodes.push(NodeState {
            name: node.clone(),
            state: if state == Availability::Ready {
                return Ok(());
            } else {
                state
            },
            memory_bytes: 0,
            cpu_millis: 0,
            labels: Labels::default(),
            slots_max: 0,
            ports_max: 0,
        });
        return Ok(());
    }
    let known = snapshot.nodes.iter().map(|known| &known.name);
    let mut known: Vec<NodeName> = known.chain(snapshot.placements.holders()).cloned().collect();
    known.sort_unstable();
    known.dedup();
    Err(WhatIfRefusal::NoNode {
        node: node.clone(),
        known,
    })
}

/// The process types whose counts on nodes differ.
fn differences(without: &Placements, with: &Placements) -> Vec<ProcessDifference> {
    let mut counts: BTreeMap<ProcessKey, BTreeMap<&NodeName, (u64, u64)>> = BTreeMap::new();
    let sides = [(without, false), (with, true)];
    for (placements, is_with) in sides {
        for (key, records) in placements.groups() {
            let nodes = counts.entry(key.clone()).or_default();
            for record in records {
                let node = nodes
                    .entry(&placements.node_names()[record.node as usize])
                    .or_default();
                let side = if is_with { &mut node.1 } else { &mut node.0 };
                *side += u64::from(record.count);
            }
        }
    }
    let processes = counts.into_iter().map(|(key, nodes)| difference(key, &nodes));
    processes.filter(|process| !process.nodes.is_empty()).collect()
}

fn difference(key: ProcessKey, nodes: &BTreeMap<&NodeName, (u64, u64)>) -> ProcessDifference {
    let changed = nodes.iter().filter(|(_, (before, after))| before != after);
    let (mut gained, mut lost) = (0, 0);
    let nodes_changed = changed.map(|(node, (before, after))| {
        gained += after.saturating_sub(*before);
        lost += before.saturating_sub(*after);
        NodeDifference {
            node: NodeName::clone(node),
            before: *before,
            after: *after,
        }
    });
    let nodes_changed = nodes_changed.collect();
    ProcessDifference {
        app: key.app,
        release: key.release,
        process: key.process,
        before: nodes.values().map(|(before, _)| before).sum(),
        after: nodes.values().map(|(_, after)| after).sum(),
        moved: gained.min(lost),
        nodes: nodes_changed,
    }
}

/// What is blocked with the change, where that differs.
fn newly_blocked(without: Vec<Blocked>, with: Vec<Blocked>) -> Vec<BlockedProcess> {
    let key = |blocked: &Blocked| ProcessKey {
        app: blocked.app.clone(),
        release: blocked.release,
        process: blocked.process.clone(),
    };
    let before: BTreeMap<ProcessKey, u32> = without
        .iter()
        .map(|blocked| (key(blocked), blocked.count))
        .collect();
    let blocked = with.into_iter().map(|blocked| BlockedProcess {
        before: before.get(&key(&blocked)).copied().unwrap_or(0),
        app: blocked.app,
        release: blocked.release,
        process: blocked.process,
        count: blocked.count,
        reasons: blocked.reasons,
    });
    blocked
        .filter(|blocked| blocked.count != blocked.before)
        .collect()
}
