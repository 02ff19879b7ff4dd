//! What every plan must be, whatever it is made from. Each property is a test with its sentence.

mod cluster;

use std::collections::{BTreeMap, BTreeSet};

use cluster::{Key, app, applied, image, node, run_all, turn};
use gilliam_model::{
    app::{App, Migration},
    instance::{Epoch, InstanceId},
    name::{AppName, NodeName, ProcessName},
    placement::{Placement, ranges_of},
    release::ReleaseId,
    scale::Scale,
};
use gilliam_plan::{AppState, Availability, NodeState, Observed, Plan, Policy, STEPS_MAX, Snapshot, plan};
use proptest::{collection::vec, option, prelude::*, sample::subsequence};

const PROCESSES: [&str; 2] = ["web", "worker"];
/// Highest slot that a generated placement holds.
const SLOTS: u32 = 9;
const NODES: usize = 5;
const RELEASES: u32 = 3;
/// Snapshots that each property is tried on.
const CASES: u32 = 1_000;

type Group = (AppName, ReleaseId, ProcessName);

fn release(n: u32) -> ReleaseId {
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

fn scale() -> impl Strategy<Value = Scale> {
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

fn snapshots(migrating: bool) -> impl Strategy<Value = Snapshot> {
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

fn state_of(snapshot: &Snapshot, node: &NodeName) -> Option<Availability> {
    snapshot.nodes.iter().find(|n| n.name == *node).map(|n| n.state)
}

fn memory_of(snapshot: &Snapshot, group: &Group) -> Option<u64> {
    let state = snapshot.apps.iter().find(|state| state.app.name == group.0)?;
    Some(
        state
            .images
            .get(&group.1)?
            .processes
            .get(&group.2)?
            .limits
            .memory_bytes_max,
    )
}

fn group(placement: &Placement) -> Group {
    (
        placement.app.clone(),
        placement.release,
        placement.process.clone(),
    )
}

/// Slots and bytes promised on a node.
fn load(snapshot: &Snapshot, placements: &[Placement], node: &NodeName) -> (u32, u64) {
    let here = placements.iter().filter(|placement| placement.node == *node);
    here.fold((0, 0), |(slots, bytes), placement| {
        let memory = memory_of(snapshot, &group(placement)).unwrap_or(0);
        (
            slots + placement.count(),
            bytes + memory * u64::from(placement.count()),
        )
    })
}

/// Every placed slot: its group and number, with its node and epoch.
fn slots(placements: &[Placement]) -> BTreeMap<(Group, u32), (NodeName, Epoch)> {
    let mut slots = BTreeMap::new();
    for placement in placements {
        for id in placement.instances() {
            let double = slots.insert((group(placement), id.slot), (placement.node.clone(), id.epoch));
            assert_eq!(double, None, "{id} is placed twice");
        }
    }
    slots
}

fn wanted(snapshot: &Snapshot) -> BTreeMap<Group, u32> {
    let apps = snapshot.apps.iter().map(|state| &state.app);
    let scales = apps.flat_map(|app| {
        app.scale
            .iter()
            .map(|(release, scale)| (app.name.clone(), *release, scale))
    });
    scales
        .flat_map(|(app, release, scale)| {
            scale
                .0
                .iter()
                .map(move |(process, count)| ((app.clone(), release, process.clone()), *count))
        })
        .collect()
}

/// Plans and runs until nothing changes; the plans that changed something.
fn settle(snapshot: &mut Snapshot, turns_max: usize) -> Vec<Plan> {
    let mut plans = Vec::new();
    loop {
        let plan = turn(snapshot);
        if plan.is_empty() {
            return plans;
        }
        plans.push(plan);
        assert!(
            plans.len() <= turns_max,
            "no rest after {turns_max} turns: {plans:#?}"
        );
        run_all(snapshot);
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// (1) The order of the input changes nothing.
    #[test]
    fn the_order_of_the_input_changes_nothing(snapshot in snapshots(true), by in 0_usize..7) {
        let mut shuffled = snapshot.clone();
        shuffled.apps.reverse();
        shuffled.nodes.reverse();
        shuffled.placements.reverse();
        if let len @ 1.. = shuffled.nodes.len() {
            shuffled.nodes.rotate_left(by % len);
        }
        if let len @ 1.. = shuffled.placements.len() {
            shuffled.placements.rotate_left(by % len);
        }
        prop_assert_eq!(plan(&snapshot), plan(&shuffled));
    }

    /// (2) On nodes that do as they are told it comes to rest: in slots/STEPS_MAX + 2 turns.
    #[test]
    fn it_comes_to_rest(mut snapshot in snapshots(false)) {
        let slots = slots(&snapshot.placements).len() + wanted(&snapshot).values().sum::<u32>() as usize;
        // With a smaller allowance a move, of one slot in two records, may take a turn for itself.
        let turns_max = match snapshot.policy.steps_max {
            STEPS_MAX => slots / STEPS_MAX + 2,
            steps_max => 2 * slots / steps_max + 2,
        };
        settle(&mut snapshot, turns_max);
    }

    /// (2) A migration too comes to rest, in a turn for each quarter and one for each release.
    #[test]
    fn a_migration_comes_to_rest(mut snapshot in snapshots(true)) {
        snapshot.policy.steps_max = STEPS_MAX;
        settle(&mut snapshot, 4 + 2 + RELEASES as usize);
    }

    /// (3) A slot is in one placement at most, and what is not touched keeps its node and epoch.
    #[test]
    fn a_slot_is_in_one_placement(snapshot in snapshots(true)) {
        let before = slots(&snapshot.placements);
        let plan = plan(&snapshot);
        let placements = applied(&snapshot.placements, &plan);
        for placement in &placements {
            let ordered = placement.ranges.windows(2).all(|w| w[0].last < w[1].first);
            prop_assert!(ordered && placement.ranges.iter().all(|range| range.first <= range.last));
        }
        let (mut started, mut stopped) = (0, 0);
        let after = slots(&placements);
        for (slot, at) in &after {
            if before.get(slot) != Some(at) {
                prop_assert_eq!(at.1, snapshot.epoch.next(), "a slot moved without a new epoch");
                started += 1;
            }
        }
        stopped += before.iter().filter(|(slot, at)| after.get(*slot) != Some(*at)).count();
        let steps = &plan.report.steps;
        prop_assert_eq!(started, steps.iter().map(|step| step.started as usize).sum::<usize>());
        prop_assert_eq!(stopped, steps.iter().map(|step| step.stopped as usize).sum::<usize>());
    }

    /// (4) Nothing starts on a node that is not ready, or beyond what it can take.
    #[test]
    fn what_starts_has_room(snapshot in snapshots(true)) {
        let plan = plan(&snapshot);
        let placements = applied(&snapshot.placements, &plan);
        for step in plan.report.steps.iter().filter(|step| step.started > 0) {
            let node = snapshot.nodes.iter().find(|node| node.name == step.node).expect("a node that is known");
            prop_assert_eq!(node.state, Availability::Ready);
            let (slots, bytes) = load(&snapshot, &placements, &node.name);
            prop_assert!(slots <= node.slots_max && bytes <= node.memory_bytes, "{} is overfull", node.name);
        }
    }

    /// (5) A slot is blocked only if no node has room for it, and the report says why for every node.
    #[test]
    fn what_is_blocked_has_no_room(mut snapshot in snapshots(true)) {
        // Room that is left for what is deferred is spoken for.
        snapshot.policy.steps_max = STEPS_MAX;
        let plan = plan(&snapshot);
        let placements = applied(&snapshot.placements, &plan);
        for blocked in &plan.report.blocked {
            prop_assert!(blocked.count > 0);
            let group = (blocked.app.clone(), blocked.release, blocked.process.clone());
            let Some(memory) = memory_of(&snapshot, &group) else {
                prop_assert!(blocked.reasons["cluster"].contains("no process type"));
                continue;
            };
            for node in &snapshot.nodes {
                prop_assert!(blocked.reasons.contains_key(node.name.as_str()));
                let (slots, bytes) = load(&snapshot, &placements, &node.name);
                let room = slots < node.slots_max && bytes + memory <= node.memory_bytes;
                prop_assert!(!room || node.state != Availability::Ready, "{} has room", node.name);
            }
        }
    }

    /// (5) What is wanted is placed on nodes that keep it, or blocked; nothing more is.
    #[test]
    fn what_is_wanted_is_placed_or_blocked(mut snapshot in snapshots(false)) {
        snapshot.policy.steps_max = STEPS_MAX;
        let plan = plan(&snapshot);
        let mut kept: BTreeMap<Group, u32> = BTreeMap::new();
        for placement in applied(&snapshot.placements, &plan) {
            if matches!(state_of(&snapshot, &placement.node), None | Some(Availability::Ready)) {
                *kept.entry(group(&placement)).or_default() += placement.count();
            }
        }
        for blocked in &plan.report.blocked {
            *kept.entry((blocked.app.clone(), blocked.release, blocked.process.clone())).or_default() += blocked.count;
        }
        prop_assert_eq!(kept, wanted(&snapshot));
    }

    /// (6) No other node was strictly better by the rank rule for what was placed last on a node.
    #[test]
    fn no_other_node_was_better(snapshot in snapshots(false), count in 1_u32..30) {
        // One group is short of slots and everything else is as it should be.
        let mut snapshot = Snapshot { policy: Policy { memory_overcommit: 1, steps_max: STEPS_MAX }, ..snapshot };
        settle(&mut snapshot, 200);
        let Some(first) = snapshot.apps[0].app.scale.keys().next().copied() else { return Ok(()) };
        let web: ProcessName = "web".parse().expect("name");
        let had = snapshot.apps[0].app.scale[&first].count(&web);
        snapshot.apps[0].app.scale.get_mut(&first).expect("there").set(web.clone(), had + count);
        let plan = plan(&snapshot);
        prop_assume!(plan.report.steps.iter().all(|step| step.process == web && step.release == first));

        let placements = applied(&snapshot.placements, &plan);
        let group: Group = (snapshot.apps[0].app.name.clone(), first, web);
        let Some(memory) = memory_of(&snapshot, &group) else { return Ok(()) };
        let rank = |node: &NodeState| {
            let own = placements.iter().filter(|p| p.node == node.name && self::group(p) == group);
            (own.map(Placement::count).sum::<u32>(), load(&snapshot, &placements, &node.name).0, node.name.clone())
        };
        for step in plan.report.steps.iter().filter(|step| step.started > 0) {
            let chosen = snapshot.nodes.iter().find(|node| node.name == step.node).expect("known");
            let (own, all, name) = rank(chosen);
            let before_its_last = (own - 1, all - 1, name);
            for other in snapshot.nodes.iter().filter(|node| node.name != step.node) {
                let (slots, bytes) = load(&snapshot, &placements, &other.name);
                let room = slots < other.slots_max && bytes + memory <= other.memory_bytes;
                let better = other.state == Availability::Ready && room && rank(other) < before_its_last;
                prop_assert!(!better, "{} was better than {}", other.name, step.node);
            }
        }
    }

    /// (7) A change of one app does not move another's slots.
    #[test]
    fn a_change_of_one_app_does_not_move_another(mut snapshot in snapshots(false), scale in scale()) {
        snapshot.nodes.retain(|node| node.state != Availability::Draining);
        settle(&mut snapshot, 200);
        let of_beta = |placements: &[Placement]| {
            let mut slots = slots(placements);
            slots.retain(|((app, _, _), _), _| app.as_str() == "beta");
            slots
        };
        let before = of_beta(&snapshot.placements);
        snapshot.apps[0].app.scale = BTreeMap::from([(release(1), scale)]);
        settle(&mut snapshot, 200);
        let after = of_beta(&snapshot.placements);
        for (slot, (node, epoch)) in before {
            let now = after.get(&slot);
            // What was stuck on a lost node may have found room.
            let was_lost = state_of(&snapshot, &node) == Some(Availability::Lost);
            prop_assert!(was_lost || now == Some(&(node, epoch)), "{slot:?} moved to {now:?}");
        }
    }

    /// (8) A draining node's slots that run stop only when as many as are wanted run without them.
    #[test]
    fn draining_keeps_the_count(snapshot in snapshots(false)) {
        let wanted = wanted(&snapshot);
        let running = |placements: &[Placement], group: &Group, states: &[Option<Availability>]| {
            let of_group = placements.iter().filter(|p| self::group(p) == *group);
            let here = of_group.filter(|p| states.contains(&state_of(&snapshot, &p.node)));
            let ids: Vec<InstanceId> = here.flat_map(Placement::instances).collect();
            ids.iter().filter(|id| snapshot.observed.is_running(id)).count()
        };
        let plan = plan(&snapshot);
        let after = applied(&snapshot.placements, &plan);
        for (group, want) in wanted {
            let draining = [Some(Availability::Draining)];
            let kept = running(&after, &group, &[None, Some(Availability::Ready)]);
            let before = running(&snapshot.placements, &group, &draining);
            let stays = running(&after, &group, &draining);
            prop_assert!(stays >= before.min((want as usize).saturating_sub(kept)), "{group:?}: {stays} of {before}");
        }
    }

    /// (9) When nothing is wanted, everything stops and nothing starts.
    #[test]
    fn nothing_wanted_means_stops_only(mut snapshot in snapshots(true)) {
        for state in &mut snapshot.apps {
            state.app.scale.clear();
            state.app.migration = None;
        }
        let plans = settle(&mut snapshot, 200);
        prop_assert!(plans.iter().flat_map(|plan| &plan.report.steps).all(|step| step.started == 0));
        prop_assert!(snapshot.placements.is_empty());
    }

    /// (10) A plan changes no more records than it may, and says when there is more to do.
    #[test]
    fn a_plan_is_of_bounded_size(snapshot in snapshots(true)) {
        let whole = plan(&Snapshot { policy: Policy { steps_max: STEPS_MAX, ..snapshot.policy }, ..snapshot.clone() });
        let plan = plan(&snapshot);
        // A move changes two records, or it does not happen.
        prop_assert!(plan.placements.len() <= snapshot.policy.steps_max.max(2));
        prop_assert_eq!(plan.placements.len(), plan.report.steps.len());
        prop_assert_eq!(plan.is_empty(), whole.is_empty());
        prop_assert!(plan.report.deferred || plan == whole);
    }

    /// (11) In a migration at most a quarter is on its way, and as many old ones stay as new ones are not ready.
    #[test]
    fn a_migration_goes_at_its_rate(snapshot in snapshots(true)) {
        let alive = |placements: &[Placement], group: &Group| {
            let here = placements.iter().filter(|p| self::group(p) == *group);
            let here = here.filter(|p| state_of(&snapshot, &p.node) != Some(Availability::Lost));
            let ids: Vec<InstanceId> = here.flat_map(Placement::instances).collect();
            let running = ids.iter().filter(|id| snapshot.observed.is_running(id)).count();
            (ids.len(), running)
        };
        let after = applied(&snapshot.placements, &plan(&snapshot));
        for App { name, scale, migration, .. } in snapshot.apps.iter().map(|state| &state.app) {
            let Some(migration) = migration else { continue };
            let Some(to) = scale.get(&migration.to) else { continue };
            for (process, n) in &to.0 {
                let new = (name.clone(), migration.to, process.clone());
                let (placed_before, ready) = alive(&snapshot.placements, &new);
                let (placed, running) = alive(&after, &new);
                let surge = (n.div_ceil(4)).max(1) as usize;
                let started = slots(&after).iter().filter(|(slot, at)| slot.0 == new && at.1 == Epoch(4)).count();
                prop_assert!(started == 0 || placed - running <= surge.max(placed_before - ready) + displaced(&snapshot, &new));
                for (old, scale) in &migration.from {
                    let old = (name.clone(), *old, process.clone());
                    let stay = (scale.count(process) as usize * (*n as usize).saturating_sub(ready)).div_ceil(*n as usize);
                    let (before, now) = (alive(&snapshot.placements, &old).0, alive(&after, &old).0);
                    prop_assert!(now >= before.min(stay), "{old:?}: {now} of {before} stay, {stay} are needed");
                }
            }
        }
    }
}

/// Slots of a group on nodes that are lost or draining: what starts in their place is not new.
fn displaced(snapshot: &Snapshot, group: &Group) -> usize {
    let gone = [Some(Availability::Lost), Some(Availability::Draining)];
    let here = snapshot.placements.iter().filter(|p| self::group(p) == *group);
    here.filter(|p| gone.contains(&state_of(snapshot, &p.node)))
        .map(|p| p.count() as usize)
        .sum()
}
