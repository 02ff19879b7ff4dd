//! What is placed, by process type: the records of the store in a form that a plan reads without looking at
//! each.
//!
//! In: records, one by one or all at once. Out: for each process type its records in the order of nodes, with
//! their counts. A copy shares what it is a copy of, and costs nothing; the first change of one of two copies costs
//! as much as there are process types.
//!
//! Invariant: records of a process type are in the order of their nodes' names, at most one for each node.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use gilliam_model::{
    name::{AppName, NodeName, ProcessName},
    placement::{Placement, SlotRange},
    release::ReleaseId,
    report::ProcessKey,
};

use crate::report::Plan;

/// Every placement.
#[derive(Debug, Clone, Default)]
pub struct Placements {
    nodes: Arc<Nodes>,
    groups: Arc<BTreeMap<ProcessKey, Arc<Vec<Record>>>>,
    /// Records with slots that are leaving.
    leaving: usize,
}

/// The nodes that hold or held something; a record names its node by its number here.
#[derive(Debug, Clone, Default)]
struct Nodes {
    /// Only looked up, so that its order decides nothing.
    numbers: HashMap<NodeName, u32>,
    names: Vec<NodeName>,
    /// How many records each has.
    records: Vec<u32>,
}

/// The slots of a process type on one node.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Its node's number.
    pub(crate) node: u32,
    /// Number of slots.
    pub(crate) count: u32,
    /// Of those, how many are leaving.
    pub(crate) leaving_count: u32,
    ranges: Ranges,
}

/// Ranges of a record: nearly always one, which then needs no memory of its own.
#[derive(Debug, Clone)]
enum Ranges {
    One(SlotRange),
    Many(Box<Many>),
}

#[derive(Debug, Clone)]
struct Many {
    ranges: Vec<SlotRange>,
    leaving: Vec<SlotRange>,
}

impl Record {
    fn of(node: u32, placement: &Placement) -> Self {
        let ranges = match (placement.ranges.as_slice(), placement.leaving.is_empty()) {
            ([one], true) => Ranges::One(*one),
            _ => Ranges::Many(Box::new(Many {
                ranges: placement.ranges.clone(),
                leaving: placement.leaving.clone(),
            })),
        };
        Self {
            node,
            count: placement.count(),
            leaving_count: placement.leaving.iter().map(SlotRange::count).sum(),
            ranges,
        }
    }

    pub(crate) fn ranges(&self) -> &[SlotRange] {
        match &self.ranges {
            Ranges::One(range) => std::slice::from_ref(range),
            Ranges::Many(many) => &many.ranges,
        }
    }

    pub(crate) fn leaving(&self) -> &[SlotRange] {
        match &self.ranges {
            Ranges::One(_) => &[],
            Ranges::Many(many) => &many.leaving,
        }
    }
}

impl Nodes {
    fn number(&mut self, name: &NodeName) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).expect("fewer nodes than 2^32");
        self.numbers.insert(name.clone(), number);
        self.names.push(name.clone());
        self.records.push(0);
        number
    }
}

impl Placements {
    /// Sets the record of a process type on a node; one without ranges is removed.
    ///
    /// Cheapest in the order of keys.
    pub fn set(&mut self, placement: &Placement) {
        let key = ProcessKey {
            app: placement.app.clone(),
            release: placement.release,
            process: placement.process.clone(),
        };
        self.set_in(key, placement);
    }

    /// Puts a plan into effect.
    pub fn apply(&mut self, plan: &Plan) {
        for change in plan.changes() {
            self.set(&change.placement);
        }
    }

    fn set_in(&mut self, key: ProcessKey, placement: &Placement) {
        if placement.ranges.is_empty() {
            return self.remove(&key, &placement.node);
        }
        let known = self.groups.get(&key);
        let found = known.map_or(Err(0), |records| find(&self.nodes, records, &placement.node));
        let groups = Arc::make_mut(&mut self.groups);
        let records = Arc::make_mut(groups.entry(key).or_default());
        match found {
            Ok(at) => {
                let record = Record::of(records[at].node, placement);
                self.leaving -= usize::from(records[at].leaving_count > 0);
                self.leaving += usize::from(record.leaving_count > 0);
                records[at] = record;
            }
            Err(at) => {
                let nodes = Arc::make_mut(&mut self.nodes);
                let record = Record::of(nodes.number(&placement.node), placement);
                nodes.records[record.node as usize] += 1;
                self.leaving += usize::from(record.leaving_count > 0);
                records.insert(at, record);
            }
        }
    }

    /// Removes the record of a process type on a node, if there is one.
    pub fn remove(&mut self, key: &ProcessKey, node: &NodeName) {
        let Some(records) = self.groups.get(key) else {
            return;
        };
        let Ok(at) = find(&self.nodes, records, node) else {
            return;
        };
        let groups = Arc::make_mut(&mut self.groups);
        let Some(records) = groups.get_mut(key) else {
            return;
        };
        let gone = Arc::make_mut(records).remove(at);
        if records.is_empty() {
            groups.remove(key);
        }
        self.leaving -= usize::from(gone.leaving_count > 0);
        Arc::make_mut(&mut self.nodes).records[gone.node as usize] -= 1;
    }

    /// Every record, in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = Placement> + '_ {
        self.groups
            .iter()
            .flat_map(|(key, records)| records.iter().map(|record| self.placement(key, record)))
    }

    /// The records of one app, in the order of keys.
    pub fn of_app(&self, app: &AppName) -> impl Iterator<Item = Placement> + '_ {
        let app = app.clone();
        let first = ProcessKey {
            app: app.clone(),
            release: ReleaseId::FIRST,
            process: first_name(),
        };
        self.groups
            .range(first..)
            .take_while(move |(key, _)| key.app == app)
            .flat_map(|(key, records)| records.iter().map(|record| self.placement(key, record)))
    }

    /// The process types of one app that have records.
    pub fn keys_of_app(&self, app: &AppName) -> impl Iterator<Item = &ProcessKey> {
        let app = app.clone();
        let first = ProcessKey {
            app: app.clone(),
            release: ReleaseId::FIRST,
            process: first_name(),
        };
        let groups = self.groups.range(first..);
        groups.map(|(key, _)| key).take_while(move |key| key.app == app)
    }

    /// Every process type that has records.
    pub fn keys(&self) -> impl Iterator<Item = &ProcessKey> {
        self.groups.keys()
    }

    /// The nodes that a process type has records on, with its slots there.
    pub fn on_nodes(&self, key: &ProcessKey) -> impl Iterator<Item = (&NodeName, &[SlotRange])> {
        let records = self
            .groups
            .get(key)
            .into_iter()
            .flat_map(|records| records.iter());
        records.map(|record| (&self.nodes.names[record.node as usize], record.ranges()))
    }

    /// The slots of a process type on a node; none where it has no record.
    pub fn ranges(&self, key: &ProcessKey, node: &NodeName) -> Option<&[SlotRange]> {
        let records = self.groups.get(key)?;
        let at = find(&self.nodes, records, node).ok()?;
        Some(records[at].ranges())
    }

    /// Whether slots of any process type are leaving.
    pub fn is_leaving(&self) -> bool {
        self.leaving > 0
    }

    /// The process types with slots that are leaving.
    pub fn leaving_keys(&self) -> impl Iterator<Item = &ProcessKey> {
        // Nearly always there is none, and nothing is looked at.
        let groups = self.is_leaving().then_some(&self.groups);
        let groups = groups.into_iter().flat_map(|groups| groups.iter());
        let leaves = |records: &[Record]| records.iter().any(|record| record.leaving_count > 0);
        groups
            .filter(move |(_, records)| leaves(records))
            .map(|(key, _)| key)
    }

    /// How many records there are.
    pub fn records_count(&self) -> usize {
        self.groups.values().map(|records| records.len()).sum()
    }

    /// The nodes that hold something, in no order.
    pub fn holders(&self) -> impl Iterator<Item = &NodeName> {
        let nodes = self.nodes.names.iter().zip(&self.nodes.records);
        nodes.filter(|(_, records)| **records > 0).map(|(name, _)| name)
    }

    /// The names of nodes by their numbers.
    pub(crate) fn node_names(&self) -> &[NodeName] {
        &self.nodes.names
    }

    /// Every process type with its records.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&ProcessKey, &[Record])> {
        self.groups.iter().map(|(key, records)| (key, records.as_slice()))
    }

    fn placement(&self, key: &ProcessKey, record: &Record) -> Placement {
        Placement {
            app: key.app.clone(),
            release: key.release,
            process: key.process.clone(),
            node: self.nodes.names[record.node as usize].clone(),
            ranges: record.ranges().to_vec(),
            leaving: record.leaving().to_vec(),
        }
    }
}

fn first_name() -> ProcessName {
    "a".parse().expect("the first of all names")
}

/// Where the record of a node is, or would be.
fn find(nodes: &Nodes, records: &[Record], node: &NodeName) -> Result<usize, usize> {
    let name = |record: &Record| &nodes.names[record.node as usize];
    match records.last() {
        // What comes in order is appended.
        Some(last) if name(last) < node => Err(records.len()),
        _ => records.binary_search_by(|record| name(record).cmp(node)),
    }
}

impl<'a> FromIterator<&'a Placement> for Placements {
    fn from_iter<I: IntoIterator<Item = &'a Placement>>(placements: I) -> Self {
        let mut all = Self::default();
        let mut run: Vec<&Placement> = Vec::new();
        for placement in placements {
            let continues = run.last().is_some_and(|last| {
                last.process == placement.process
                    && last.release == placement.release
                    && last.app == placement.app
                    && last.node < placement.node
            });
            if !continues {
                all.add_run(&run);
                run.clear();
            }
            run.push(placement);
        }
        all.add_run(&run);
        all
    }
}

impl FromIterator<Placement> for Placements {
    fn from_iter<I: IntoIterator<Item = Placement>>(placements: I) -> Self {
        let list: Vec<Placement> = placements.into_iter().collect();
        list.iter().collect()
    }
}

impl Placements {
    /// Adds records of one process type that are in the order of their nodes.
    fn add_run(&mut self, run: &[&Placement]) {
        let Some(first) = run.first() else { return };
        let key = ProcessKey {
            app: first.app.clone(),
            release: first.release,
            process: first.process.clone(),
        };
        if self.groups.contains_key(&key) || run.iter().any(|placement| placement.ranges.is_empty()) {
            run.iter()
                .for_each(|placement| self.set_in(key.clone(), placement));
            return;
        }
        let nodes = Arc::make_mut(&mut self.nodes);
        let records = run.iter().map(|placement| {
            let node = nodes.number(&placement.node);
            nodes.records[node as usize] += 1;
            Record::of(node, placement)
        });
        let records: Vec<Record> = records.collect();
        self.leaving += records.iter().filter(|record| record.leaving_count > 0).count();
        Arc::make_mut(&mut self.groups).insert(key, Arc::new(records));
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::instance::Epoch;

    use super::*;

    fn placement(app: &str, node: &str, last: u32) -> Placement {
        let range = SlotRange {
            first: 1,
            last,
            epoch: Epoch(1),
        };
        Placement {
            app: app.parse().expect("name"),
            release: ReleaseId::FIRST,
            process: "web".parse().expect("name"),
            node: node.parse().expect("name"),
            ranges: if last == 0 { Vec::new() } else { vec![range] },
            leaving: Vec::new(),
        }
    }

    #[test]
    fn records_are_set_and_removed_in_any_order() {
        let records = [
            placement("b", "n2", 3),
            placement("a", "n9", 1),
            placement("b", "n1", 2),
            placement("b", "n2", 4),
            placement("a", "n9", 0),
            placement("c", "n3", 0),
        ];
        let all: Placements = records.iter().collect();
        let left: Vec<Placement> = all.iter().collect();
        assert_eq!(left, [placement("b", "n1", 2), placement("b", "n2", 4)]);
        assert_eq!(all.records_count(), 2);
        let mut holders: Vec<&str> = all.holders().map(NodeName::as_str).collect();
        holders.sort_unstable();
        assert_eq!(holders, ["n1", "n2"]);
        let of_b: Vec<Placement> = all.of_app(&"b".parse().expect("name")).collect();
        assert_eq!(of_b, left);
        assert_eq!(all.of_app(&"a".parse().expect("name")).count(), 0);
    }

    #[test]
    fn what_is_asked_of_a_process_type_is_found() {
        let mut leaving = placement("b", "n1", 2);
        leaving.leaving = vec![SlotRange {
            first: 1,
            last: 1,
            epoch: Epoch(1),
        }];
        let mut all: Placements = [leaving.clone(), placement("b", "n2", 3), placement("c", "n1", 1)]
            .iter()
            .collect();
        let key = all.keys_of_app(&leaving.app).next().expect("one").clone();
        assert_eq!(all.keys_of_app(&leaving.app).count(), 1);
        assert_eq!(all.keys().count(), 2);
        let nodes: Vec<&str> = all.on_nodes(&key).map(|(node, _)| node.as_str()).collect();
        assert_eq!(nodes, ["n1", "n2"]);
        assert_eq!(all.ranges(&key, &leaving.node), Some(leaving.ranges.as_slice()));
        assert!(all.is_leaving());
        assert_eq!(all.leaving_keys().collect::<Vec<_>>(), [&key]);
        all.set(&placement("b", "n1", 2));
        assert!(!all.is_leaving());
        all.set(&leaving);
        all.remove(&key, &leaving.node);
        assert!(!all.is_leaving() && all.ranges(&key, &leaving.node).is_none());
        assert_eq!(all.leaving_keys().count(), 0);
    }

    #[test]
    fn a_copy_stays_as_it_was() {
        let mut all: Placements = [placement("a", "n1", 1)].iter().collect();
        let before = all.clone();
        all.set(&placement("a", "n2", 2));
        assert_eq!((before.records_count(), all.records_count()), (1, 2));
    }
}
