//! What every plan must be, whatever it is made from. Each property is a test with its sentence.

mod cluster;
mod generators;

use std::collections::BTreeMap;

use cluster::{applied, run_all, turn};
use generators::{Group, RELEASES, release, scale, snapshots};
use gilliam_model::{
    app::App,
    instance::{Epoch, InstanceId},
    name::{NodeName, ProcessName},
    placement::Placement,
};
use gilliam_plan::{Availability, NodeState, Plan, Policy, STEPS_MAX, Snapshot, plan};
use proptest::prelude::*;

/// Snapshots that each property is tried on.
const CASES: u32 = 1_000;

fn node<'a>(snapshot: &'a Snapshot, name: &NodeName) -> Option<&'a NodeState> {
    snapshot.nodes.iter().find(|node| node.name == *name)
}

fn state_of(snapshot: &Snapshot, name: &NodeName) -> Option<Availability> {
    node(snapshot, name).map(|node| node.state)
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
            let node = node(&snapshot, &step.node).expect("a node that is known");
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
            let group = (blocked.app.clone(), blocked.release, blocked.process.clone());
            *kept.entry(group).or_default() += blocked.count;
        }
        prop_assert_eq!(kept, wanted(&snapshot));
    }

    /// (6) No other node was strictly better by the rank rule for what was placed last on a node.
    #[test]
    fn no_other_node_was_better(snapshot in snapshots(false), count in 1_u32..30) {
        // One group is short of slots and everything else is as it should be.
        let policy = Policy { memory_overcommit: 1, steps_max: STEPS_MAX };
        let mut snapshot = Snapshot { policy, ..snapshot };
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
            let own: u32 = own.map(Placement::count).sum();
            (own, load(&snapshot, &placements, &node.name).0, node.name.clone())
        };
        for step in plan.report.steps.iter().filter(|step| step.started > 0) {
            let chosen = node(&snapshot, &step.node).expect("known");
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
            let needed = before.min((want as usize).saturating_sub(kept));
            prop_assert!(stays >= needed, "{group:?}: {stays} of {before}");
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
        let policy = Policy { steps_max: STEPS_MAX, ..snapshot.policy };
        let whole = plan(&Snapshot { policy, ..snapshot.clone() });
        let plan = plan(&snapshot);
        // A move changes two records, or it does not happen.
        prop_assert!(plan.placements.len() <= snapshot.policy.steps_max.max(2));
        prop_assert_eq!(plan.placements.len(), plan.report.steps.len());
        prop_assert_eq!(plan.is_empty(), whole.is_empty());
        prop_assert!(plan.report.deferred || plan == whole);
    }

    /// (11) In a migration at most a quarter is on its way, and as many old ones stay as new ones are not
    /// ready.
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
                let now = snapshot.epoch.next();
                let started = slots(&after).iter().any(|(slot, at)| slot.0 == new && at.1 == now);
                let on_its_way = surge.max(placed_before - ready) + displaced(&snapshot, &new);
                prop_assert!(!started || placed - running <= on_its_way);
                for (old, scale) in &migration.from {
                    let old = (name.clone(), *old, process.clone());
                    let (count, n) = (scale.count(process) as usize, *n as usize);
                    let stay = (count * n.saturating_sub(ready)).div_ceil(n);
                    let (before, now) = (alive(&snapshot.placements, &old).0, alive(&after, &old).0);
                    prop_assert!(now >= before.min(stay), "{old:?}: {now} of {before} stay");
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
