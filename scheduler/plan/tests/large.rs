//! Half a million instances of one process type: as many records and ranges as of a few.

mod cluster;

use std::{collections::BTreeMap, sync::Arc};

use gilliam_model::{
    image::Image,
    placement::{Placement, SlotRange},
    release::ReleaseId,
    report::ProcessKey,
    scale::Scale,
};
use gilliam_plan::{AppState, Availability, Observed, RestartTarget, Snapshot, plan, released, restart};

const COUNT: u32 = 500_000;
/// Ranges that a record may have after one plan: those of dealing slots out in rounds.
const RANGES_PER_PLAN_MAX: usize = 33;

fn image() -> Image {
    cluster::image([("worker", 1)])
}

fn scale(count: u32) -> Scale {
    let mut scale = Scale::default();
    scale.set("worker".parse().expect("name"), count);
    scale
}

/// An app with one release on nodes that have room for all of it, each.
fn snapshot(nodes: &[&str], count: u32) -> Snapshot {
    let mut app = cluster::app("hello");
    app.latest = Some(ReleaseId::FIRST);
    app.scale = BTreeMap::from([(ReleaseId::FIRST, scale(count))]);
    let images = BTreeMap::from([(ReleaseId::FIRST, Arc::new(image()))]);
    Snapshot {
        apps: vec![Arc::new(AppState { app, images })],
        nodes: nodes
            .iter()
            .map(|name| cluster::node(name, 2 * COUNT, 2 * u64::from(COUNT)))
            .collect(),
        ..Snapshot::default()
    }
}

/// All that is placed on nodes that are alive runs.
fn run(snapshot: &mut Snapshot) {
    let mut observed = Observed::default();
    let lost = |p: &Placement| {
        snapshot
            .nodes
            .iter()
            .any(|n| n.name == p.node && n.state == Availability::Lost)
    };
    for placement in snapshot.placements.iter().filter(|p| !lost(p)) {
        let key = ProcessKey {
            app: placement.app.clone(),
            release: placement.release,
            process: placement.process.clone(),
        };
        observed.add_ranges(&key, &placement.ranges);
    }
    snapshot.observed = observed;
}

fn placed(snapshot: &Snapshot) -> Vec<Placement> {
    snapshot.placements.iter().collect()
}

fn count(snapshot: &Snapshot) -> u32 {
    snapshot.placements.iter().map(|p| p.count()).sum()
}

fn ranges_most(snapshot: &Snapshot) -> usize {
    snapshot
        .placements
        .iter()
        .map(|p| p.ranges.len())
        .max()
        .unwrap_or(0)
}

/// Plans and runs until nothing changes; gives the number of plans.
fn settle(snapshot: &mut Snapshot) -> u32 {
    for turns in 0..100 {
        if cluster::turn(snapshot).is_empty() {
            return turns;
        }
        run(snapshot);
    }
    panic!("it does not come to rest")
}

#[test]
fn a_scale_is_one_record_and_one_range() {
    let mut snapshot = snapshot(&["a"], COUNT);
    assert_eq!(settle(&mut snapshot), 1);
    let all = SlotRange {
        first: 1,
        last: COUNT,
        epoch: snapshot.epoch,
    };
    assert_eq!(snapshot.placements.records_count(), 1);
    assert_eq!(placed(&snapshot)[0].ranges, [all]);
    Arc::make_mut(&mut snapshot.apps[0]).app.scale = BTreeMap::from([(ReleaseId::FIRST, scale(3))]);
    assert_eq!((settle(&mut snapshot), count(&snapshot)), (1, 3));
}

#[test]
fn a_lost_node_is_replaced_in_one_plan() {
    let mut snapshot = snapshot(&["a", "b", "c"], COUNT);
    assert_eq!(
        (
            settle(&mut snapshot),
            count(&snapshot),
            snapshot.placements.records_count()
        ),
        (1, COUNT, 3)
    );
    assert!(ranges_most(&snapshot) <= RANGES_PER_PLAN_MAX);
    snapshot.nodes[1].state = Availability::Lost;
    run(&mut snapshot);
    assert_eq!(
        (
            settle(&mut snapshot),
            count(&snapshot),
            snapshot.placements.records_count()
        ),
        (1, COUNT, 2)
    );
    assert!(
        ranges_most(&snapshot) <= 4 * RANGES_PER_PLAN_MAX,
        "{}",
        ranges_most(&snapshot)
    );
}

#[test]
fn a_migration_takes_a_few_rounds() {
    let mut snapshot = snapshot(&["a", "b"], COUNT);
    settle(&mut snapshot);
    let state = Arc::make_mut(&mut snapshot.apps[0]);
    let v2 = ReleaseId::FIRST.next();
    state.images.insert(v2, Arc::new(image()));
    state.app = released(&state.app, v2, &image(), true, state.app.created_at);
    let turns = settle(&mut snapshot);
    assert!(turns <= 10, "{turns} plans");
    assert!(
        snapshot
            .placements
            .iter()
            .all(|placement| placement.release == v2)
    );
    assert_eq!(count(&snapshot), COUNT);
    assert!(
        ranges_most(&snapshot) <= 10 * RANGES_PER_PLAN_MAX,
        "{}",
        ranges_most(&snapshot)
    );
}

#[test]
fn restarting_one_splits_one_range() {
    let mut snapshot = snapshot(&["a"], COUNT);
    settle(&mut snapshot);
    let target: RestartTarget = "worker.4711".parse().expect("an instance");
    let changed = restart(&placed(&snapshot), &target, snapshot.epoch.next()).expect("there");
    let slots: Vec<(u32, u32)> = changed[0].ranges.iter().map(|r| (r.first, r.last)).collect();
    assert_eq!(slots, [(1, 4_710), (4_711, 4_711), (4_712, COUNT)]);
}

#[test]
fn every_other_one_that_ended_changes_nothing() {
    let mut snapshot = snapshot(&["a"], COUNT);
    settle(&mut snapshot);
    let epoch = snapshot.epoch;
    let odd = (1..=COUNT).step_by(2).map(|slot| SlotRange {
        first: slot,
        last: slot,
        epoch,
    });
    let key = ProcessKey {
        app: snapshot.apps[0].app.name.clone(),
        release: ReleaseId::FIRST,
        process: "worker".parse().expect("name"),
    };
    snapshot.observed = Observed::default();
    snapshot.observed.add_ranges(&key, &odd.collect::<Vec<_>>());
    assert!(plan(&snapshot).is_empty());
}
