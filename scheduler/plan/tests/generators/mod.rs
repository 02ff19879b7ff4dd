//! Snapshots that may be: apps with placement rules, nodes with labels in every state, and placements that
//! need not make sense.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
};

use gilliam_model::{
    app::{App, Migration},
    instance::{Epoch, InstanceId},
    label::Labels,
    name::{AppName, ProcessName},
    placement::{Placement, ranges_of},
    release::ReleaseId,
    requirement::Requirement,
    rules::PlacementRules,
    scale::Scale,
};
use gilliam_plan::{
    AppState, Availability, NodeState, Observed, PARTS_MAX, Policy, Rebalance, STEPS_MAX, Snapshot,
};
use proptest::{collection::vec, option, prelude::*, sample::subsequence};

use crate::cluster::{Key, app, image, node};

const PROCESSES: [&str; 2] = ["web", "worker"];
/// Highest slot that a generated placement holds.
const SLOTS: u32 = 9;
const NODES: usize = 5;
pub(crate) const RELEASES: u32 = 3;
pub(crate) type Group = (AppName, ReleaseId, ProcessName);

pub(crate) fn release(n: u32) -> ReleaseId {
    format!("v{n}").parse().expect("release")
}

fn nodes() -> impl Strategy<Value = Vec<NodeState>> {
    let state = prop_oneof![
        6 => Just(Availability::Ready),
        2 => Just(Availability::Draining),
        2 => Just(Availability::Lost),
    ];
    let zone = prop_oneof![2 => Just("zone=a"), 2 => Just("zone=b"), 1 => Just("rack=7")];
    let disk = prop_oneof![Just("disk=ssd"), Just("disk=hdd"), Just("cores=16")];
    let one = (state, 0_u32..14, 32_u64..800, 0_u32..9_000, zone, disk);
    // Names that are not taken stand for nodes that have not been heard of.
    (
        vec(one, NODES),
        subsequence((0..NODES).collect::<Vec<_>>(), 0..=NODES),
    )
        .prop_map(|(all, heard)| {
            heard
                .into_iter()
                .map(|i| {
                    let (state, slots, memory, cpu_millis, zone, disk) = all[i];
                    NodeState {
                        state,
                        cpu_millis,
                        labels: Labels::parse([zone, disk]).expect("labels"),
                        ..node(&format!("n{i}"), slots, memory)
                    }
                })
                .collect()
        })
}

/// Placement rules, of which most say nothing.
fn rules(other: &'static str) -> impl Strategy<Value = PlacementRules> {
    let requirement = prop_oneof![
        Just("disk == ssd"),
        Just("zone in (a, c)"),
        Just("zone not in (a)"),
        Just("cores >= 8"),
        Just("node != n1"),
    ];
    let requirement = requirement.prop_map(|text| text.parse::<Requirement>().expect(text));
    let spread = prop_oneof![6 => Just("zone"), 1 => Just("node"), 1 => Just("none"), 1 => Just("disk")];
    (
        vec(requirement.clone(), 0..2),
        proptest::collection::btree_map(requirement, -3_i32..4, 0..3),
        spread,
        proptest::bool::weighted(0.1),
        option::weighted(0.2, 1_u32..4),
        proptest::bool::weighted(0.5),
    )
        .prop_map(move |(require, rank, spread, apart, max_per_node, none)| {
            if none {
                return PlacementRules::default();
            }
            PlacementRules {
                require,
                rank,
                spread: spread.parse().expect("spread"),
                anti_affinity: apart.then(|| other.parse().expect("name")).into_iter().collect(),
                max_per_node: max_per_node.and_then(NonZeroU32::new),
            }
        })
}

pub(crate) fn scale() -> impl Strategy<Value = Scale> {
    vec(0_u32..8, PROCESSES.len()).prop_map(|counts| {
        let mut scale = Scale::default();
        for (process, count) in PROCESSES.iter().zip(counts) {
            scale.set(process.parse().expect("name"), count);
        }
        scale
    })
}

/// An app with three releases, of which some are scaled, and perhaps a migration to the last.
fn app_state(name: &'static str, migrating: bool) -> impl Strategy<Value = AppState> {
    let process = |other| option::weighted(0.9, (16_u64..600, 10_u32..1_000, rules(other)));
    let images = vec((process(PROCESSES[1]), process(PROCESSES[0])), RELEASES as usize);
    let scales = vec(option::of(scale()), RELEASES as usize);
    (images, scales, any::<bool>(), any::<bool>()).prop_map(move |(images, scales, moves, proven)| {
        let images = (1..).map(release).zip(images.into_iter().map(|(web, worker)| {
            let processes: BTreeMap<&str, _> = PROCESSES
                .into_iter()
                .zip([web, worker])
                .filter_map(|(name, of)| Some((name, of?)))
                .collect();
            let mut image = image(processes.iter().map(|(name, (mib, ..))| (*name, *mib)));
            for (name, process) in &mut image.processes {
                let (_, cpu_millis, rules) = &processes[name.as_str()];
                process.limits.cpu_millis = *cpu_millis;
                process.placement = rules.clone();
            }
            Arc::new(image)
        }));
        let mut app = App {
            latest: Some(release(RELEASES)),
            ..app(name)
        };
        let scales = (1..)
            .map(release)
            .zip(scales)
            .filter_map(|(release, scale)| Some((release, scale?)));
        app.scale = scales.filter(|(_, scale)| !scale.is_empty()).collect();
        if migrating && moves {
            let to = release(RELEASES);
            let from: BTreeMap<ReleaseId, Scale> = app
                .scale
                .iter()
                .filter(|(release, _)| **release != to)
                .map(|(r, s)| (*r, s.clone()))
                .collect();
            app.scale.retain(|release, _| *release == to);
            let fallback = if proven {
                from.clone()
            } else {
                from.clone().into_iter().take(1).collect()
            };
            app.migration = Some(Migration {
                to,
                from,
                fallback,
                started_at: app.created_at,
            });
        }
        AppState {
            app,
            images: images.collect(),
        }
    })
}

/// Placements that need not make sense: too many, too few, of apps that are gone, on any node.
fn placements() -> impl Strategy<Value = Vec<Placement>> {
    let slot = option::weighted(0.5, (0..NODES, 1_u64..4));
    let group = (
        prop_oneof![3 => Just("alpha"), 3 => Just("beta"), 1 => Just("gone")],
        1..=RELEASES,
        0..PROCESSES.len(),
        vec(slot, SLOTS as usize),
    );
    vec(group, 0..6).prop_map(|groups| {
        let mut records: BTreeMap<Key, Vec<(u32, Epoch)>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (app, n, process, slots) in groups {
            if !seen.insert((app, n, process)) {
                continue;
            }
            for (slot, (node, epoch)) in (1..)
                .zip(slots)
                .filter_map(|(slot, placed)| Some((slot, placed?)))
            {
                let node = format!("n{node}").parse().expect("name");
                let key = (
                    app.parse().expect("name"),
                    release(n),
                    PROCESSES[process].parse().expect("name"),
                    node,
                );
                records.entry(key).or_default().push((slot, Epoch(epoch)));
            }
        }
        let placement = |((app, release, process, node), slots)| Placement {
            app,
            release,
            process,
            node,
            leaving: Vec::new(),
            ranges: ranges_of(slots),
        };
        records.into_iter().map(placement).collect()
    })
}

/// Of some records some slots leave.
fn leaving(mut placements: Vec<Placement>, leave: &[bool]) -> Vec<Placement> {
    for (placement, leaves) in placements.iter_mut().zip(leave.iter().cycle()) {
        if *leaves {
            placement.leaving = placement.ranges.iter().copied().take(1).collect();
        }
    }
    placements
}

pub(crate) fn snapshots(migrating: bool) -> impl Strategy<Value = Snapshot> {
    let runs = vec(proptest::bool::weighted(0.7), 6 * SLOTS as usize);
    let leave = vec(proptest::bool::weighted(0.1), 7);
    let bounds = prop_oneof![4 => Just((STEPS_MAX, PARTS_MAX)), 1 => (1..6_usize, 1..3_usize)];
    let rebalance = option::weighted(0.3, (1_u32..3, 1_u32..5));
    let policy = (bounds, option::of(1_u32..3), rebalance);
    let apps = (app_state("alpha", migrating), app_state("beta", migrating));
    (nodes(), apps, placements(), runs, leave, policy).prop_map(
        |(nodes, apps, placements, runs, leave, ((steps_max, parts_max), cpu_overcommit, rebalance))| {
            let placements = leaving(placements, &leave);
            let placed: Vec<InstanceId> = placements.iter().flat_map(Placement::instances).collect();
            let running = placed
                .iter()
                .zip(runs.iter().cycle())
                .filter(|(_, runs)| **runs)
                .map(|(id, _)| id);
            Snapshot {
                epoch: Epoch(3),
                apps: vec![Arc::new(apps.0), Arc::new(apps.1)],
                nodes,
                observed: running.collect::<Observed>(),
                placements: placements.iter().collect(),
                runs: Vec::new(),
                policy: Policy {
                    memory_overcommit: 1,
                    cpu_overcommit,
                    rebalance: rebalance.map(|(skew_max, slots_max)| Rebalance { skew_max, slots_max }),
                    steps_max,
                    parts_max,
                },
            }
        },
    )
}
