//! What every plan must be, whatever it is made from. Each property is a test with its sentence.

mod cluster;
mod generators;
mod truth;

use std::{collections::BTreeMap, sync::Arc};

use cluster::{after_each_part, applied, run_all, turn};
use generators::{Group, RELEASES, release, scale, snapshots};
use gilliam_model::{app::App, instance::InstanceId, name::ProcessName, placement::Placement, rules::Spread};
use gilliam_plan::{
    Availability, Change, NodeState, PARTS_MAX, Placements, Plan, Policy, Rebalance, STEPS_MAX, Snapshot,
    plan,
};
use proptest::prelude::*;
use truth::{
    cpu_promisable, displaced, domain, group, has_room, keep_apart, listed, load, node, process_of, slots,
    state_of, wanted,
};

/// Snapshots that each property is tried on.
const CASES: u32 = 1_000;

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

/// The policy without bounds on a plan's size.
fn whole(snapshot: &Snapshot) -> Policy {
    Policy {
        steps_max: STEPS_MAX,
        parts_max: PARTS_MAX,
        ..snapshot.policy
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
        let mut placements = listed(&shuffled.placements);
        placements.reverse();
        if let len @ 1.. = shuffled.nodes.len() {
            shuffled.nodes.rotate_left(by % len);
        }
        if let len @ 1.. = placements.len() {
            placements.rotate_left(by % len);
        }
        shuffled.placements = placements.iter().collect();
        prop_assert_eq!(plan(&snapshot), plan(&shuffled));
    }

    /// (2) On nodes that do as they are told it comes to rest: a few turns, and those that rebalancing takes.
    #[test]
    fn it_comes_to_rest(mut snapshot in snapshots(false)) {
        let placed = listed(&snapshot.placements);
        let slots = slots(&placed).len() + wanted(&snapshot).values().sum::<u32>() as usize;
        let Policy { steps_max, parts_max, rebalance, .. } = snapshot.policy;
        // With a smaller allowance a move, of one slot in two records, may take a turn for itself.
        let turns = match (steps_max, parts_max) {
            (STEPS_MAX, PARTS_MAX) => 2,
            _ => 2 * slots / steps_max + 2,
        };
        // What leaves makes room, which others may have waited for.
        let leaving: u32 = placed.iter().flat_map(|p| &p.leaving).map(|range| range.count()).sum();
        // A slot that moves for the spread is marked, then replaced, then stopped.
        let moves = leaving as usize + rebalance.map_or(0, |rule| slots.div_ceil(rule.slots_max as usize) * 3);
        settle(&mut snapshot, turns + moves);
    }

    /// (2) A migration too comes to rest, in a turn for each quarter and one for each release.
    #[test]
    fn a_migration_comes_to_rest(mut snapshot in snapshots(true)) {
        snapshot.policy = Policy { rebalance: None, ..whole(&snapshot) };
        settle(&mut snapshot, 4 + 2 + RELEASES as usize);
    }

    /// (3) A slot is in one placement at most, after every part of a plan, and what is not touched keeps its
    /// node and epoch.
    #[test]
    fn a_slot_is_in_one_placement(snapshot in snapshots(true)) {
        let plan = plan(&snapshot);
        let mut before = slots(&listed(&snapshot.placements));
        let states = after_each_part(&snapshot.placements, &plan);
        for (part, placements) in plan.parts.iter().zip(&states) {
            for placement in placements {
                let ordered = placement.ranges.windows(2).all(|w| w[0].last < w[1].first);
                prop_assert!(ordered && placement.ranges.iter().all(|range| range.first <= range.last));
            }
            let after = slots(placements);
            let mut started = 0;
            for (slot, at) in &after {
                if before.get(slot) != Some(at) {
                    prop_assert_eq!(at.1, snapshot.epoch.next(), "a slot moved without a new epoch");
                    started += 1;
                }
            }
            let stopped = before.iter().filter(|(slot, at)| after.get(*slot) != Some(*at)).count();
            prop_assert_eq!(started, part.iter().map(|change| change.started as usize).sum::<usize>());
            prop_assert_eq!(stopped, part.iter().map(|change| change.stopped as usize).sum::<usize>());
            before = after;
        }
    }

    /// (4) Nothing starts on a node that is not ready, beyond what it can take, or against a rule; not after any
    /// part of a plan.
    #[test]
    fn what_starts_has_room(snapshot in snapshots(true)) {
        let plan = plan(&snapshot);
        for (part, placements) in plan.parts.iter().zip(after_each_part(&snapshot.placements, &plan)) {
            for Change { placement, .. } in part.iter().filter(|change| change.started > 0) {
                let node = node(&snapshot, &placement.node).expect("a node that is known");
                prop_assert_eq!(node.state, Availability::Ready);
                let load = load(&snapshot, &placements, &node.name);
                prop_assert!(load.slots <= node.slots_max && load.bytes <= node.memory_bytes, "{load:?}");
                prop_assert!(load.cpu_millis <= cpu_promisable(&snapshot, node), "{load:?}");
                let group = group(placement);
                let rules = &process_of(&snapshot, &group).expect("an image").placement;
                prop_assert!(rules.require.iter().all(|r| r.holds(&node.name, &node.labels)));
                prop_assert!(rules.max_per_node.is_none_or(|max| placement.count() <= max.get()));
                let beside = placements.iter().filter(|p| p.node == node.name);
                prop_assert!(beside.clone().all(|p| !keep_apart(&snapshot, &group, &truth::group(p))));
            }
        }
    }

    /// (5) A slot is blocked only if no node has room for it, and the report says why for every node.
    #[test]
    fn what_is_blocked_has_no_room(mut snapshot in snapshots(true)) {
        // Room that is left for what is deferred is spoken for.
        snapshot.policy = whole(&snapshot);
        let plan = plan(&snapshot);
        let placements = applied(&snapshot.placements, &plan);
        for blocked in &plan.report.blocked {
            prop_assert!(blocked.count > 0);
            let group = (blocked.app.clone(), blocked.release, blocked.process.clone());
            if process_of(&snapshot, &group).is_none() {
                prop_assert!(blocked.reasons["cluster"].contains("no process type"));
                continue;
            }
            for node in &snapshot.nodes {
                prop_assert!(blocked.reasons.contains_key(node.name.as_str()));
                prop_assert!(!has_room(&snapshot, &placements, &group, node), "{} has room", node.name);
            }
        }
    }

    /// (5) What is wanted is placed on nodes that keep it, or blocked; nothing more is.
    #[test]
    fn what_is_wanted_is_placed_or_blocked(mut snapshot in snapshots(false)) {
        snapshot.policy = Policy { rebalance: None, ..whole(&snapshot) };
        let plan = plan(&snapshot);
        let mut kept: BTreeMap<Group, u32> = BTreeMap::new();
        for placement in applied(&snapshot.placements, &plan) {
            if matches!(state_of(&snapshot, &placement.node), None | Some(Availability::Ready)) {
                let leaving: u32 = placement.leaving.iter().map(|range| range.count()).sum();
                *kept.entry(group(&placement)).or_default() += placement.count() - leaving;
            }
        }
        kept.retain(|_, count| *count > 0);
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
        let policy = Policy { rebalance: None, ..whole(&snapshot) };
        let mut snapshot = Snapshot { policy, ..snapshot };
        settle(&mut snapshot, 200);
        let Some(first) = snapshot.apps[0].app.scale.keys().next().copied() else { return Ok(()) };
        let web: ProcessName = "web".parse().expect("name");
        let had = snapshot.apps[0].app.scale[&first].count(&web);
        Arc::make_mut(&mut snapshot.apps[0]).app.scale.get_mut(&first).expect("there").set(web.clone(), had + count);
        let plan = plan(&snapshot);
        let is_it = |p: &Placement| p.process == web && p.release == first;
        prop_assume!(plan.changes().all(|change| is_it(&change.placement)));

        let placements = applied(&snapshot.placements, &plan);
        let group: Group = (snapshot.apps[0].app.name.clone(), first, web);
        let Some(process) = process_of(&snapshot, &group) else { return Ok(()) };
        // Draining and lost nodes do not count, nor does what is not known of.
        let own = |of: &dyn Fn(&NodeState) -> bool| -> u32 {
            let here = placements.iter().filter(|p| truth::group(p) == group);
            let keeps = |p: &&Placement| node(&snapshot, &p.node)
                .is_some_and(|node| node.state == Availability::Ready && of(node));
            here.filter(keeps).map(Placement::count).sum()
        };
        let rank = |node: &NodeState, fewer: u32| {
            let counts = (
                own(&|other| domain(process, other) == domain(process, node)) - fewer,
                own(&|other| other.name == node.name) - fewer,
            );
            let met = process.placement.rank.iter().filter(|(r, _)| r.holds(&node.name, &node.labels));
            let score: i32 = met.map(|(_, weight)| weight).sum();
            let spreads = process.placement.spread != Spread::None;
            (spreads.then_some(counts), std::cmp::Reverse(score))
        };
        for change in plan.changes().filter(|change| change.started > 0) {
            let chosen = node(&snapshot, &change.placement.node).expect("known");
            let before_its_last = rank(chosen, 1);
            for other in snapshot.nodes.iter().filter(|node| node.name != chosen.name) {
                let room = has_room(&snapshot, &placements, &group, other);
                // In the same domain it would have been the chosen one that is one less full.
                let of_one = domain(process, other) == domain(process, chosen);
                let (counts, score) = rank(other, 0);
                let counts = counts.map(|(zone, node)| (zone - u32::from(of_one), node));
                prop_assert!(!room || (counts, score) >= before_its_last, "{} beats {}", other.name, chosen.name);
            }
        }
    }

    /// (7) A change of one app does not move another's slots.
    #[test]
    fn a_change_of_one_app_does_not_move_another(mut snapshot in snapshots(false), scale in scale()) {
        // Nothing drains, and nothing leaves: what does moves as soon as there is room.
        snapshot.nodes.retain(|node| node.state != Availability::Draining);
        snapshot.policy.rebalance = None;
        let mut placements = listed(&snapshot.placements);
        placements.iter_mut().for_each(|placement| placement.leaving.clear());
        snapshot.placements = placements.iter().collect();
        settle(&mut snapshot, 200);
        let of_beta = |placements: &Placements| {
            let mut slots = slots(&listed(placements));
            slots.retain(|((app, _, _), _), _| app.as_str() == "beta");
            slots
        };
        let before = of_beta(&snapshot.placements);
        Arc::make_mut(&mut snapshot.apps[0]).app.scale = BTreeMap::from([(release(1), scale)]);
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
            let of_group = placements.iter().filter(|p| truth::group(p) == *group);
            let here = of_group.filter(|p| states.contains(&state_of(&snapshot, &p.node)));
            let ids: Vec<InstanceId> = here.flat_map(Placement::instances).collect();
            ids.iter().filter(|id| snapshot.observed.is_running(id)).count()
        };
        let plan = plan(&snapshot);
        let after = applied(&snapshot.placements, &plan);
        for (group, want) in wanted {
            let draining = [Some(Availability::Draining)];
            let kept = running(&after, &group, &[None, Some(Availability::Ready)]);
            let before = running(&listed(&snapshot.placements), &group, &draining);
            let stays = running(&after, &group, &draining);
            let needed = before.min((want as usize).saturating_sub(kept));
            prop_assert!(stays >= needed, "{group:?}: {stays} of {before}");
        }
    }

    /// (9) When nothing is wanted, everything stops and nothing starts.
    #[test]
    fn nothing_wanted_means_stops_only(mut snapshot in snapshots(true)) {
        for state in snapshot.apps.iter_mut().map(Arc::make_mut) {
            state.app.scale.clear();
            state.app.migration = None;
        }
        let plans = settle(&mut snapshot, 200);
        prop_assert!(plans.iter().flat_map(Plan::changes).all(|change| change.started == 0));
        prop_assert_eq!(snapshot.placements.records_count(), 0);
    }

    /// (10) A part of a plan changes no more records than it may, there are no more parts than there may be, and
    /// the plan says when there is more to do.
    #[test]
    fn a_plan_is_of_bounded_size(snapshot in snapshots(true)) {
        let unbounded = plan(&Snapshot { policy: whole(&snapshot), ..snapshot.clone() });
        let plan = plan(&snapshot);
        let Policy { steps_max, parts_max, .. } = snapshot.policy;
        prop_assert!(plan.parts.len() <= parts_max);
        // A move changes two records, or it does not happen.
        prop_assert!(plan.parts.iter().all(|part| !part.is_empty() && part.len() <= steps_max.max(2)));
        prop_assert_eq!(plan.is_empty(), unbounded.is_empty());
        let in_effect = |plan| slots(&applied(&snapshot.placements, plan));
        prop_assert!(plan.report.deferred || in_effect(&plan) == in_effect(&unbounded));
    }

    /// (12) What moves for the spread is replaced before it stops, a bounded number at a time.
    #[test]
    fn rebalancing_keeps_the_count(snapshot in snapshots(false), skew_max in 1_u32..3, slots_max in 1_u32..4) {
        let mut snapshot = snapshot;
        snapshot.policy = Policy { rebalance: None, ..whole(&snapshot) };
        snapshot.nodes.iter_mut().for_each(|node| node.state = Availability::Ready);
        settle(&mut snapshot, 200);
        snapshot.policy.rebalance = Some(Rebalance { skew_max, slots_max });
        for _ in 0..200 {
            let before = listed(&snapshot.placements);
            let plan = turn(&mut snapshot);
            if plan.is_empty() {
                break;
            }
            let running = |group: &Group, placements: &[Placement]| {
                let here = placements.iter().filter(|p| truth::group(p) == *group);
                let ids: Vec<InstanceId> = here.flat_map(Placement::instances).collect();
                ids.iter().filter(|id| snapshot.observed.is_running(id)).count()
            };
            let after = listed(&snapshot.placements);
            for (group, want) in wanted(&snapshot) {
                let (had, has) = (running(&group, &before), running(&group, &after));
                prop_assert!(has >= had.min(want as usize), "{group:?}: {has} of {had} run");
            }
            let leaving: u32 = after.iter().flat_map(|p| &p.leaving).map(|range| range.count()).sum();
            prop_assert!(leaving <= slots_max, "{leaving} are on their way");
            run_all(&mut snapshot);
        }
        prop_assert!(plan(&snapshot).is_empty(), "it does not come to rest");
    }

    /// (11) In a migration at most a quarter is on its way, and as many old ones stay as new ones are not
    /// ready.
    #[test]
    fn a_migration_goes_at_its_rate(snapshot in snapshots(true)) {
        let alive = |placements: &[Placement], group: &Group| {
            let here = placements.iter().filter(|p| truth::group(p) == *group);
            let here = here.filter(|p| state_of(&snapshot, &p.node) != Some(Availability::Lost));
            let ids: Vec<InstanceId> = here.flat_map(Placement::instances).collect();
            let running = ids.iter().filter(|id| snapshot.observed.is_running(id)).count();
            (ids.len(), running)
        };
        let before = listed(&snapshot.placements);
        let after = applied(&snapshot.placements, &plan(&snapshot));
        for App { name, scale, migration, .. } in snapshot.apps.iter().map(|state| &state.app) {
            let Some(migration) = migration else { continue };
            let Some(to) = scale.get(&migration.to) else { continue };
            for (process, n) in &to.0 {
                let new = (name.clone(), migration.to, process.clone());
                let (placed_before, ready) = alive(&before, &new);
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
                    let (had, now) = (alive(&before, &old).0, alive(&after, &old).0);
                    prop_assert!(now >= had.min(stay), "{old:?}: {now} of {had} stay");
                }
            }
        }
    }
}
