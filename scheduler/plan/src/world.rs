//! The state a plan works on: what is wanted and placed of each group, and what each node has promised.
//!
//! Of a group that stays as it is only counts are looked at; one that changes is opened, and then its slots
//! are known one range after the other.

use std::sync::Arc;

use gilliam_model::{
    instance::Epoch,
    name::{AppName, NodeName, ProcessName},
    release::ReleaseId,
    report::ProcessKey,
    run::Run,
};

use crate::{
    desired,
    held::{Held, Standing},
    instances::InstanceSet,
    node::{Needs, Node, standing},
    parts::{Admission, Allowance},
    placements::{Placements, Record},
    report::{Blocked, Change, Plan, Report},
    slots::SlotSet,
    snapshot::{AppState, Observed, Policy, Snapshot},
};

/// A process type of a release: what is scaled, stopped and placed as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupName<'a> {
    pub(crate) app: &'a AppName,
    pub(crate) release: ReleaseId,
    pub(crate) process: &'a ProcessName,
}

/// Everything of one group.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) name: GroupName<'a>,
    /// How many slots there should be now.
    pub(crate) want: u32,
    /// What an instance takes of its node; `None` when there is no such image or process.
    pub(crate) needs: Option<Needs<'a>>,
    /// As it was read.
    records: &'a [Record],
    /// How its slots stand, before anything changes.
    at_first: Counts,
    /// Its slots by node, once it is opened.
    held: Option<Vec<Held<'a>>>,
}

/// How the slots of a group stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// On nodes that keep them, and not leaving.
    pub(crate) kept: u32,
    /// On draining nodes, or leaving.
    pub(crate) draining: u32,
    /// On lost nodes.
    pub(crate) lost: u32,
}

/// How many slots of a group there are, by what is known of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// On nodes that are not lost.
    pub(crate) placed: u32,
    /// Of those, on nodes that keep them.
    pub(crate) kept: u32,
    /// Of those placed, running.
    pub(crate) running: u32,
    /// Of those placed, on nodes that have not been heard of.
    pub(crate) unheard: u32,
    /// On lost nodes.
    pub(crate) lost: u32,
}

/// The state a plan works on.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) policy: Policy,
    /// The nodes that are known, by name.
    pub(crate) nodes: Vec<Node<'a>>,
    /// Nodes before this place take no slot of any group.
    closed: usize,
    /// Nodes from this place on have no slot.
    empty: usize,
    /// The least memory that an instance of any group needs.
    memory_bytes_least: u64,
    /// Every group, by name.
    pub(crate) groups: Vec<Group<'a>>,
    epoch: Epoch,
    records: Records<'a>,
    allowance: Allowance,
    /// Records that changed in the part that is being made: group, and place in what it holds.
    touched: Vec<(usize, usize)>,
    parts: Vec<Vec<Change>>,
}

/// What it takes to read records.
#[derive(Debug)]
struct Records<'a> {
    names: &'a [NodeName],
    /// The place of a node among those that are known, by its number in the records.
    places: Vec<Option<u32>>,
    observed: &'a Observed,
}

impl<'a> Group<'a> {
    /// Its slots by node; empty before it is opened.
    pub(crate) fn held(&self) -> &[Held<'a>] {
        self.held.as_deref().unwrap_or_default()
    }

    /// How its slots stand by now.
    pub(crate) fn counts(&self) -> Counts {
        let Some(held) = &self.held else {
            return self.at_first;
        };
        let mut counts = Counts::default();
        for held in held {
            counts.add(held.standing, held.count(), held.leaving.count());
        }
        counts
    }

    /// The places of the known nodes that it has slots on, with their counts, as they were read.
    pub(crate) fn counts_at_first(&self, world: &World<'a>) -> impl Iterator<Item = (u32, u32)> {
        let places = &world.records.places;
        let records = self.records.iter();
        records.filter_map(move |record| Some((places[record.node as usize]?, record.count)))
    }

    /// The places of the known nodes that it has slots on by now.
    pub(crate) fn places(&self, world: &World<'a>) -> Vec<u32> {
        match &self.held {
            Some(held) => {
                let with_slots = held.iter().filter(|held| !held.ranges.is_empty());
                with_slots.filter_map(|held| held.place).collect()
            }
            None => self.counts_at_first(world).map(|(place, _)| place).collect(),
        }
    }
}

impl Counts {
    fn add(&mut self, standing: Standing, count: u32, leaving: u32) {
        match standing {
            Standing::Kept => {
                self.kept += count - leaving;
                self.draining += leaving;
            }
            Standing::Draining => self.draining += count,
            Standing::Lost => self.lost += count,
        }
    }
}

impl<'a> World<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot, epoch: Epoch) -> Self {
        let policy = snapshot.policy;
        let mut nodes: Vec<Node<'a>> = snapshot
            .nodes
            .iter()
            .map(|state| Node::new(state, &policy))
            .collect();
        nodes.sort_by_key(|node| &node.state.name);
        let place = |name: &NodeName| {
            let found = nodes.binary_search_by(|node| node.state.name.cmp(name));
            found.ok().and_then(|place| u32::try_from(place).ok())
        };
        let names = snapshot.placements.node_names();
        let records = Records {
            names,
            places: names.iter().map(place).collect(),
            observed: &snapshot.observed,
        };
        let mut world = Self {
            policy,
            nodes,
            closed: 0,
            empty: 0,
            memory_bytes_least: 0,
            groups: Vec::new(),
            epoch,
            records,
            allowance: Allowance::of(&policy),
            touched: Vec::new(),
            parts: Vec::new(),
        };
        world.groups = groups(&snapshot.apps, &snapshot.placements);
        let needs = world.groups.iter().filter_map(|group| group.needs);
        world.memory_bytes_least = needs.map(|needs| needs.memory_bytes).min().unwrap_or(0);
        world.count();
        world.count_runs(&snapshot.runs);
        world.empty = world
            .nodes
            .iter()
            .rposition(|node| node.slots > 0)
            .map_or(0, |last| last + 1);
        world
    }

    /// Counts what each group and node has.
    fn count(&mut self) {
        let nodes = &mut self.nodes;
        for group in &mut self.groups {
            for record in group.records {
                let place = self.records.places[record.node as usize];
                let node = place.map(|place| &mut nodes[place as usize]);
                let standing = standing(node.as_ref().map(|node| node.state));
                group.at_first.add(standing, record.count, record.leaving_count);
                if let Some(node) = node {
                    node.take(group.needs, record.count);
                }
            }
        }
    }

    /// Counts what runs take of the nodes that have them.
    fn count_runs(&mut self, runs: &[Arc<Run>]) {
        for run in runs {
            let place = |name| self.nodes.binary_search_by(|node| node.state.name.cmp(name)).ok();
            if let (Some(work), Some(place)) = (&run.work, run.node().and_then(place)) {
                self.nodes[place].take(Some(Needs::of_run(&work.process)), 1);
            }
        }
    }

    /// The places of nodes that may take something, and from which of them on they have no slot.
    pub(crate) fn open_places(&mut self) -> (usize, usize) {
        let least = self.memory_bytes_least;
        let is_closed = |node: &Node<'_>| {
            let memory = node.memory_promisable.saturating_sub(node.memory_bytes);
            !node.is_ready || node.slots >= node.slots_max || memory < least
        };
        let open = self.nodes[self.closed..].iter().position(|node| !is_closed(node));
        self.closed = open.map_or(self.nodes.len(), |open| self.closed + open);
        (self.closed, self.empty)
    }

    pub(crate) fn find(&self, name: GroupName<'_>) -> Option<usize> {
        self.groups.binary_search_by(|group| group.name.cmp(&name)).ok()
    }

    /// Reads the slots of a group; which of them run is only known where some are to be replaced.
    pub(crate) fn open(&mut self, group: usize) {
        let replaces = self.groups[group].at_first.draining > 0;
        self.read(group, replaces);
    }

    fn read(&mut self, group: usize, with_running: bool) {
        let Group {
            name, records, held, ..
        } = &mut self.groups[group];
        if held.is_some() {
            return;
        }
        let key = ProcessKey {
            app: name.app.clone(),
            release: name.release,
            process: name.process.clone(),
        };
        let running = match with_running && !records.is_empty() {
            true => self.records.observed.running(&key),
            false => Some(InstanceSet::default()),
        };
        let of_record = |record: &Record| {
            let place = self.records.places[record.node as usize];
            let standing = standing(place.map(|place| self.nodes[place as usize].state));
            let node = &self.records.names[record.node as usize];
            Held::of(record, node, place, standing, running.as_ref())
        };
        *held = Some(records.iter().map(of_record).collect());
    }

    pub(crate) fn tally(&mut self, name: GroupName<'_>) -> Tally {
        let mut tally = Tally::default();
        let Some(group) = self.find(name) else {
            return tally;
        };
        self.read(group, true);
        for held in self.groups[group].held() {
            let (count, running) = (held.count(), held.running.count());
            match held.standing {
                Standing::Lost => tally.lost += count,
                Standing::Kept | Standing::Draining => tally.placed += count,
            }
            tally.kept += held.kept_count();
            tally.running += running;
            tally.unheard += if held.is_unheard() { count - running } else { 0 };
        }
        tally
    }

    /// Whether there is more to do than this plan may.
    pub(crate) fn deferred(&self) -> bool {
        self.allowance.deferred()
    }

    /// Whether these records of a group may change together.
    pub(crate) fn admit(&mut self, group: usize, records: &[usize]) -> bool {
        let held = |record: &usize| &self.groups[group].held()[*record];
        let ranges = |records: &mut dyn Iterator<Item = &usize>| -> Vec<usize> {
            records.map(|record| held(record).ranges.len()).collect()
        };
        let part = self.allowance.part();
        let new = ranges(&mut records.iter().filter(|record| held(record).part != part));
        let all = ranges(&mut records.iter());
        match self.allowance.admit(&new, &all) {
            Admission::Same => {}
            Admission::Next => self.end_part(),
            Admission::Deferred => return false,
        }
        let part = self.allowance.part();
        for record in records {
            let Some(held) = self.groups[group].held.as_mut().map(|held| &mut held[*record]) else {
                return false;
            };
            if held.part != part {
                held.part = part;
                self.touched.push((group, *record));
            }
        }
        true
    }

    /// Stops slots of a record; they must be there, and the change admitted.
    pub(crate) fn stop(&mut self, group: usize, record: usize, gone: &SlotSet) {
        let group = &mut self.groups[group];
        let Some(held) = group.held.as_mut().map(|held| &mut held[record]) else {
            return;
        };
        held.stop(gone);
        if let Some(place) = held.place {
            let node = &mut self.nodes[place as usize];
            node.give_back(group.needs, gone.count());
            if node.is_ready {
                self.closed = self.closed.min(place as usize);
            }
        }
    }

    /// Starts slots of a group on a ready node; they must be nowhere, and the change admitted.
    pub(crate) fn start(&mut self, group: usize, record: usize, new: &SlotSet) {
        let group = &mut self.groups[group];
        let Some(held) = group.held.as_mut().map(|held| &mut held[record]) else {
            return;
        };
        held.start(new, self.epoch);
        if let Some(place) = held.place {
            self.nodes[place as usize].take(group.needs, new.count());
            self.empty = self.empty.max(place as usize + 1);
        }
    }

    /// Says of slots that stay that they leave; the change must be admitted.
    pub(crate) fn leave(&mut self, group: usize, record: usize, slots: &SlotSet) {
        if let Some(held) = self.groups[group].held.as_mut() {
            held[record].leaving = held[record].leaving.union(slots);
        }
    }

    /// The record of a group that is opened on a known node that has none yet.
    pub(crate) fn add_record(&mut self, group: usize, place: u32) -> usize {
        let held = self.groups[group].held.get_or_insert_default();
        let name = &self.nodes[place as usize].state.name;
        held.push(Held::new(name, Some(place), Standing::Kept));
        held.len() - 1
    }

    fn end_part(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        let groups = &mut self.groups;
        touched.sort_by_key(|(group, record)| (*group, groups[*group].held()[*record].node));
        let changes = touched.into_iter().filter_map(|(group, record)| {
            let group = &mut groups[group];
            let held = group.held.as_mut()?.get_mut(record)?;
            Some(held.change(group.name, self.epoch))
        });
        let changes: Vec<Change> = changes.collect();
        if !changes.is_empty() {
            self.parts.push(changes);
        }
    }

    pub(crate) fn into_plan(mut self, blocked: Vec<Blocked>) -> Plan {
        self.end_part();
        Plan {
            epoch: self.epoch,
            parts: self.parts,
            report: Report {
                blocked,
                deferred: self.allowance.deferred(),
            },
        }
    }
}

/// Every group that is wanted or placed, by name.
fn groups<'a>(apps: &'a [Arc<AppState>], placements: &'a Placements) -> Vec<Group<'a>> {
    let mut by_name: Vec<&AppState> = apps.iter().map(|state| &**state).collect();
    by_name.sort_by_key(|state| &state.app.name);
    let mut wanted: Vec<(GroupName<'a>, u32)> = by_name
        .iter()
        .flat_map(|state| desired::names(&state.app))
        .collect();
    // Groups are made in the order of their names, and so are their apps found.
    let mut by_name = by_name.into_iter().peekable();
    let mut new = |name: GroupName<'a>, want, records| {
        while by_name.next_if(|state| state.app.name < *name.app).is_some() {}
        let app = by_name.peek().filter(|state| state.app.name == *name.app);
        let needs = app.and_then(|state| {
            let image = state.images.get(&name.release)?;
            Some(Needs::of(name, image.processes.get(name.process)?))
        });
        Group {
            name,
            want,
            needs,
            records,
            at_first: Counts::default(),
            held: None,
        }
    };
    wanted.sort_by_key(|(name, _)| *name);
    wanted.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1 = first.1.max(later.1);
        }
        same
    });
    let mut wanted = wanted.into_iter().peekable();
    let mut groups = Vec::with_capacity(wanted.len());
    for (key, records) in placements.groups() {
        let name = GroupName {
            app: &key.app,
            release: key.release,
            process: &key.process,
        };
        while let Some((before, want)) = wanted.next_if(|(other, _)| *other < name) {
            groups.push(new(before, want, [].as_slice()));
        }
        let want = wanted
            .next_if(|(other, _)| *other == name)
            .map_or(0, |(_, want)| want);
        groups.push(new(name, want, records));
    }
    groups.extend(wanted.map(|(name, want)| new(name, want, [].as_slice())));
    groups
}
