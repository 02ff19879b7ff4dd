//! What must hold: after every event, and once all is healed.

use std::collections::{BTreeMap, BTreeSet};

use gilliam_model::{
    app::App,
    name::{AppName, NodeName, ProcessName},
    placement::Placement,
    release::ReleaseId,
    report::ProcessKey,
};
use gilliam_plan::Policy;
use gilliam_runtime::slots::{Place, SlotSet};
use gilliam_store::{Revision, Store, records};

use crate::{
    node::{Chore, Node},
    users::{Users, wait},
};

/// What is checked of the store, and how far.
#[derive(Debug, Default)]
pub(crate) struct StoreChecks {
    checked: Revision,
    epoch: u64,
    /// Memory that each instance is promised, by nothing else than its image.
    memory_bytes_max: u64,
}

impl StoreChecks {
    pub(crate) fn new(memory_bytes_max: u64) -> Self {
        Self {
            memory_bytes_max,
            ..Self::default()
        }
    }

    /// No slot is in two placements, no node is promised more than it may promise, and the plan's epoch never
    /// goes back.
    pub(crate) fn check(&mut self, store: &Store, nodes: &[Node]) -> Result<(), String> {
        let (revision, placements) = wait(records::list_placements(store)).map_err(|e| e.to_string())?;
        if revision == self.checked {
            return Ok(());
        }
        self.checked = revision;
        let epoch = wait(records::load_epoch(store)).map_err(|e| e.to_string())?;
        let epoch = epoch.map_or(0, |stored| stored.value.0);
        if epoch < self.epoch {
            return Err(format!(
                "the plan's epoch went back from {} to {epoch}",
                self.epoch
            ));
        }
        self.epoch = epoch;
        let placements: Vec<&Placement> = placements.iter().map(|stored| &stored.value).collect();
        one_placement_per_slot(&placements)?;
        self.within_capacity(&placements, nodes)
    }

    fn within_capacity(&self, placements: &[&Placement], nodes: &[Node]) -> Result<(), String> {
        let mut promised: BTreeMap<&NodeName, u64> = BTreeMap::new();
        for placement in placements {
            *promised.entry(&placement.node).or_default() +=
                u64::from(placement.count()) * self.memory_bytes_max;
        }
        let overcommit = u64::from(Policy::default().memory_overcommit);
        for node in nodes {
            let (has, may) = (
                promised.get(&node.name).copied().unwrap_or(0),
                node.facts.memory_bytes * overcommit,
            );
            if has > may {
                return Err(format!(
                    "{} is promised {has} bytes and may be promised {may}",
                    node.name
                ));
            }
        }
        Ok(())
    }
}

/// The first and last slot of a range, and where it is.
type Placed<'a> = (u32, u32, &'a NodeName);

fn one_placement_per_slot(placements: &[&Placement]) -> Result<(), String> {
    let mut groups: BTreeMap<(&AppName, ReleaseId, &ProcessName), Vec<Placed<'_>>> = BTreeMap::new();
    for placement in placements {
        let group = groups
            .entry((&placement.app, placement.release, &placement.process))
            .or_default();
        group.extend(
            placement
                .ranges
                .iter()
                .map(|range| (range.first, range.last, &placement.node)),
        );
    }
    for ((app, release, process), mut ranges) in groups {
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
            return Err(format!(
                "{app} {release} {process}.{} is placed on {} and on {}",
                pair[1].0, pair[0].2, pair[1].2
            ));
        }
    }
    Ok(())
}

/// A node that followed an assignment `before` follows one that is as new now.
pub(crate) fn forward(node: &Node, before: u64) -> Result<(), String> {
    let now = node.generation();
    match now < before {
        true => Err(format!(
            "{} went back from generation {before} to {now}",
            node.name
        )),
        false => Ok(()),
    }
}

/// What a node starts is alive nowhere else: not in the same epoch of its slot.
pub(crate) fn alive_once(nodes: &[Node], here: usize, chores: &[Chore]) -> Result<(), String> {
    for chore in chores {
        let Chore::Start(key, range) = chore else {
            continue;
        };
        for (_, other) in nodes
            .iter()
            .enumerate()
            .filter(|(index, node)| *index != here && node.is_up)
        {
            let alive = other.alive().find(|(other_key, _)| *other_key == key);
            let Some((_, alive)) = alive else { continue };
            let epoch = range.epoch;
            let doubled = range.slots().find(|slot| {
                let place = Place { slot: *slot, epoch };
                alive.states().any(|(_, set)| set.contains(place))
            });
            if let Some(slot) = doubled {
                return Err(format!(
                    "{key}.{slot}@{} starts on {} and is alive on {}",
                    epoch.0, nodes[here].name, other.name
                ));
            }
        }
    }
    Ok(())
}

/// Everything that was acknowledged is there as it was.
pub(crate) fn acknowledged(store: &Store, users: &Users) -> Result<(), String> {
    for ((app, release), message) in &users.acknowledged {
        let found = wait(records::load_release(store, app, *release)).map_err(|e| e.to_string())?;
        match found {
            Some(found) if found.value.message == *message => {}
            Some(found) => {
                return Err(format!(
                    "{app} {release} was {message:?} and is {:?}",
                    found.value.message
                ));
            }
            None => return Err(format!("{app} {release} was acknowledged and is not there")),
        }
    }
    Ok(())
}

/// What users asked for runs, and nothing else; gives how many that are.
pub(crate) fn converged(store: &Store, nodes: &[Node]) -> Result<u64, String> {
    let (_, apps) = wait(records::list_apps(store)).map_err(|e| e.to_string())?;
    let mut alive: BTreeMap<&ProcessKey, SlotSet> = BTreeMap::new();
    let mut running = 0;
    for node in nodes {
        for (key, states) in node.alive() {
            for (state, set) in states.states() {
                if state != gilliam_model::instance::InstanceState::Running {
                    return Err(format!("{} of {key} on {} are {state}", set.count(), node.name));
                }
                running += set.count();
                let all = alive.entry(key).or_default();
                set.ranges().into_iter().for_each(|range| all.insert(range));
            }
        }
    }
    let mut wanted: BTreeSet<ProcessKey> = BTreeSet::new();
    for app in apps.iter().map(|stored| &stored.value) {
        check_app(app, &alive, &mut wanted)?;
    }
    match alive.keys().find(|key| !wanted.contains(*key)) {
        Some(extra) => Err(format!("{extra} runs and nobody asked for it")),
        None => Ok(running),
    }
}

fn check_app(
    app: &App,
    alive: &BTreeMap<&ProcessKey, SlotSet>,
    wanted: &mut BTreeSet<ProcessKey>,
) -> Result<(), String> {
    if let Some(migration) = &app.migration {
        return Err(format!("{} still migrates to {}", app.name, migration.to));
    }
    for (release, scale) in &app.scale {
        for (process, count) in &scale.0 {
            let key = ProcessKey {
                app: app.name.clone(),
                release: *release,
                process: process.clone(),
            };
            let slots: BTreeSet<u32> = alive
                .get(&key)
                .map(|set| set.places().map(|place| place.slot).collect())
                .unwrap_or_default();
            let count = usize::try_from(*count).unwrap_or(usize::MAX);
            if slots.len() != count {
                return Err(format!("{count} of {key} are wanted and {} run", slots.len()));
            }
            if count > 0 {
                wanted.insert(key);
            }
        }
    }
    Ok(())
}
