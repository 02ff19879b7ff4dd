//! A cluster in memory: plans take effect at once, and nodes run what they are told when the test says so.

use std::collections::{BTreeMap, BTreeSet};

use gilliam_model::{
    app::App,
    digest::Digest,
    image::{Image, Process, Shape},
    instance::InstanceId,
    limits::Limits,
    name::{AppName, NodeName, ProcessName},
    placement::Placement,
    rules::PlacementRules,
};
use gilliam_plan::{Availability, NodeState, Observed, Placements, Plan, Snapshot, plan};

pub(crate) type Key = (AppName, gilliam_model::release::ReleaseId, ProcessName, NodeName);

pub(crate) fn key(placement: &Placement) -> Key {
    let Placement {
        app,
        release,
        process,
        node,
        ..
    } = placement;
    (app.clone(), *release, process.clone(), node.clone())
}

/// The placements after each part of a plan.
pub(crate) fn after_each_part(placements: &Placements, plan: &Plan) -> Vec<Vec<Placement>> {
    let mut records: BTreeMap<Key, Placement> = placements.iter().map(|p| (key(&p), p)).collect();
    let mut states = Vec::new();
    for part in &plan.parts {
        let keys: BTreeSet<Key> = part.iter().map(|change| key(&change.placement)).collect();
        assert_eq!(keys.len(), part.len(), "a part changes a record twice");
        for placement in part.iter().map(|change| &change.placement) {
            if placement.ranges.is_empty() {
                let gone = records.remove(&key(placement));
                assert!(
                    gone.is_some(),
                    "a record that is not there is deleted: {placement:?}"
                );
            } else {
                records.insert(key(placement), placement.clone());
            }
        }
        states.push(records.values().cloned().collect());
    }
    states
}

/// The placements after `plan`.
#[allow(
    dead_code,
    reason = "not every test that shares this file looks at a plan that is not in effect"
)]
pub(crate) fn applied(placements: &Placements, plan: &Plan) -> Vec<Placement> {
    let states = after_each_part(placements, plan);
    states
        .into_iter()
        .next_back()
        .unwrap_or_else(|| placements.iter().collect())
}

/// Plans, and puts the plan into effect.
pub(crate) fn turn(snapshot: &mut Snapshot) -> Plan {
    let plan = plan(snapshot);
    if !plan.is_empty() {
        snapshot.placements.apply(&plan);
        snapshot.epoch = plan.epoch;
    }
    plan
}

/// The nodes that are alive run all that is placed on them, and nothing else.
#[allow(
    dead_code,
    reason = "not every test that shares this file runs what is placed one by one"
)]
pub(crate) fn run_all(snapshot: &mut Snapshot) {
    let lost: BTreeSet<&NodeName> = snapshot
        .nodes
        .iter()
        .filter(|n| n.state == Availability::Lost)
        .map(|n| &n.name)
        .collect();
    let running = snapshot
        .placements
        .iter()
        .filter(|p| !lost.contains(&p.node))
        .flat_map(|p| p.instances().collect::<Vec<_>>());
    let ids: Vec<InstanceId> = running.collect();
    snapshot.observed = ids.iter().collect::<Observed>();
}

pub(crate) fn node(name: &str, slots_max: u32, memory_mib: u64) -> NodeState {
    let name = name.parse().expect("node name");
    NodeState {
        name,
        state: Availability::Ready,
        memory_bytes: memory_mib << 20,
        cpu_millis: 4_000,
        labels: gilliam_model::label::Labels::default(),
        slots_max,
        ports_max: u32::MAX,
    }
}

pub(crate) fn image<'a>(processes: impl IntoIterator<Item = (&'a str, u64)>) -> Image {
    let process = |(name, mib): (&str, u64)| {
        let process = Process {
            component: Digest::from_sha256([7; 32]),
            component_bytes: 1,
            shape: if name == "web" {
                Shape::HttpP2
            } else {
                Shape::CommandP2
            },
            command: format!("{name}.wasm"),
            args: vec![format!("{name}.wasm")],
            limits: Limits {
                memory_bytes_max: mib << 20,
                ..Limits::default()
            },
            allowed_outbound_hosts: Vec::new(),
            guard_pages: false,
            jobs: gilliam_model::queue::JobTerms::default(),
            uses: Default::default(),
            imports: None,
            placement: PlacementRules::default(),
        };
        (name.parse().expect("process name"), process)
    };
    Image::new(processes.into_iter().map(process).collect())
}

pub(crate) fn app(name: &str) -> App {
    App::new(
        name.parse().expect("app name"),
        "2026-11-21T09:00:00Z".parse().expect("time"),
    )
}
