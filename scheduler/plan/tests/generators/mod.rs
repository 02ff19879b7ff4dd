//! Snapshots that may be: apps, nodes in every state, and placements that need not make sense.

use std::collections::{BTreeMap, BTreeSet};

use gilliam_model::{
    app::{App, Migration},
    instance::{Epoch, InstanceId},
    name::{AppName, ProcessName},
    placement::{Placement, ranges_of},
    release::ReleaseId,
    scale::Scale,
};
use gilliam_plan::{AppState, Availability, NodeState, Observed, Policy, STEPS_MAX, Snapshot};
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
    let one = (state, 0_u32..14, 32_u64..800);
    // Names that are not taken stand for nodes that have not been heard of.
    (
        vec(one, NODES),
        subsequence((0..NODES).collect::<Vec<_>>(), 0..=NODES),
    )
        .prop_map(|(all, heard)| {
            heard
                .into_iter()
                .map(|i| {
                    let (state, slots, memory) = all[i];
                    NodeState {
                        state,
                        ..node(&format!("n{i}"), slots, memory)
                    }
                })
                .collect()
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
    let images = vec(
        vec(option::weighted(0.9, 16_u64..600), PROCESSES.len()),
        RELEASES as usize,
    );
    let scales = vec(option::of(scale()), RELEASES as usize);
    (images, scales, any::<bool>(), any::<bool>()).prop_map(move |(images, scales, moves, proven)| {
        let images = (1..).map(release).zip(images.into_iter().map(|memory| {
            image(
                PROCESSES
                    .into_iter()
                    .zip(memory)
                    .filter_map(|(process, mib)| Some((process, mib?))),
            )
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
            ranges: ranges_of(slots),
        };
        records.into_iter().map(placement).collect()
    })
}

pub(crate) fn snapshots(migrating: bool) -> impl Strategy<Value = Snapshot> {
    let runs = vec(proptest::bool::weighted(0.7), 6 * SLOTS as usize);
    let steps_max = prop_oneof![4 => Just(STEPS_MAX), 1 => 1..6_usize];
    let apps = (app_state("alpha", migrating), app_state("beta", migrating));
    (nodes(), apps, placements(), runs, steps_max).prop_map(|(nodes, apps, placements, runs, steps_max)| {
        let placed: Vec<InstanceId> = placements.iter().flat_map(Placement::instances).collect();
        let running = placed
            .iter()
            .zip(runs.iter().cycle())
            .filter(|(_, runs)| **runs)
            .map(|(id, _)| id);
        Snapshot {
            epoch: Epoch(3),
            apps: vec![apps.0, apps.1],
            nodes,
            observed: running.collect::<Observed>(),
            placements,
            policy: Policy {
                memory_overcommit: 1,
                steps_max,
            },
        }
    })
}
