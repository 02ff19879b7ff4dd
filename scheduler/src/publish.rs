//! Assignments on their way to nodes: the newest one of each, in memory.
//!
//! In: what each node should run, after each turn of the control loop that changed something. Out: for each node a
//! `watch` that holds its newest assignment, on which its sync waits. What nodes have in common is shared; an
//! assignment is written out when it is sent.
//!
//! Invariant: a node's generation grows exactly when what it should do changes, so an unchanged node is not
//! woken.
//! Invariant: a generation is never below the store's revision that it was made from, nor below one that the
//! node has seen (see [`Publisher::raise`]), so a node never refuses what is newest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use gilliam_model::{
    assignment::Assignment,
    image::Process,
    name::{AppName, NodeName},
    queue::{JobTerms, QueueId},
    route::RouteTable,
    run::AssignedRun,
};
use tokio::sync::watch;

use crate::state::{Assigned, AssignedRuns, Placed};

/// The newest assignment of a node; none until the first turn that knows the node.
pub(crate) type Newest = Option<Arc<Orders>>;

/// What a node is to do.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) generation: u64,
    processes: Arc<Vec<Placed>>,
    runs: Arc<Vec<AssignedRun>>,
    routes: Arc<RouteTable>,
}

/// The newest assignment of every node.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    nodes: Mutex<BTreeMap<NodeName, Published>>,
}

#[derive(Debug)]
struct Published {
    newest: watch::Sender<Newest>,
    /// Least generation of the next assignment.
    floor: u64,
}

impl Publisher {
    /// The newest assignment of `node`, and those to come.
    pub(crate) fn subscribe(&self, node: &NodeName) -> watch::Receiver<Newest> {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        nodes
            .entry(node.clone())
            .or_insert_with(Published::new)
            .newest
            .subscribe()
    }

    /// Waits until `node` is to run something that satisfies `is_sought`, for ever or once, or `limit` has passed; says
    /// which.
    pub(crate) async fn finds(
        &self,
        node: &NodeName,
        limit: std::time::Duration,
        is_sought: impl Fn(&Process) -> bool,
    ) -> bool {
        let mut newest = self.subscribe(node);
        let found = newest.wait_for(|newest| {
            newest.as_deref().is_some_and(|orders| {
                let mut processes = orders.processes.iter().map(|placed| &placed.spec.process);
                let mut runs = orders.runs.iter().map(|run| &run.work.process);
                processes.any(&is_sought) || runs.any(&is_sought)
            })
        });
        matches!(tokio::time::timeout(limit, found).await, Ok(Ok(_)))
    }

    /// Publishes what each node should run as of `revision`; one that is known, or waits, and has nothing
    /// assigned is to run none.
    ///
    /// Nodes that have nothing assigned, are not known and do not wait are forgotten.
    pub(crate) fn publish<'a>(
        &self,
        revision: u64,
        routes: &Arc<RouteTable>,
        assigned: &Assigned,
        runs: &AssignedRuns,
        known: impl Iterator<Item = &'a NodeName>,
    ) {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        let known: BTreeSet<&NodeName> = known.collect();
        nodes.retain(|node, published| {
            assigned.contains_key(node)
                || runs.contains_key(node)
                || known.contains(node)
                || published.newest.receiver_count() > 0
        });
        for node in assigned.keys().chain(runs.keys()).chain(known) {
            if !nodes.contains_key(node) {
                nodes.insert(node.clone(), Published::new());
            }
        }
        let (nothing, no_runs) = (Arc::default(), Arc::default());
        for (node, published) in nodes.iter() {
            let processes = assigned.get(node).unwrap_or(&nothing);
            published.publish(revision, routes, processes, runs.get(node).unwrap_or(&no_runs));
        }
    }

    /// Makes sure that the next assignment of `node` has a generation above `seen`.
    ///
    /// For a node that follows a newer assignment than this store can have made: the store was set back to a
    /// backup. What the store says now is what holds, and the node has to be able to take it.
    pub(crate) fn raise(&self, node: &NodeName, seen: u64) {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        let published = nodes.entry(node.clone()).or_insert_with(Published::new);
        published.floor = published.floor.max(seen.saturating_add(1));
    }
}

impl Published {
    fn new() -> Self {
        Self {
            newest: watch::Sender::new(None),
            floor: 0,
        }
    }

    fn publish(
        &self,
        revision: u64,
        routes: &Arc<RouteTable>,
        processes: &Arc<Vec<Placed>>,
        runs: &Arc<Vec<AssignedRun>>,
    ) {
        self.newest.send_if_modified(|newest| {
            let mut generation = revision.max(self.floor);
            if let Some(before) = newest {
                let same_processes =
                    Arc::ptr_eq(&before.processes, processes) || before.processes == *processes;
                let same_routes = Arc::ptr_eq(&before.routes, routes) || before.routes == *routes;
                let same_runs = before.runs == *runs;
                if same_processes && same_routes && same_runs && before.generation >= self.floor {
                    return false;
                }
                generation = generation.max(before.generation + 1);
            }
            *newest = Some(Arc::new(Orders {
                generation,
                processes: processes.clone(),
                runs: runs.clone(),
                routes: routes.clone(),
            }));
            true
        });
    }
}

impl Orders {
    /// Whether the node is to run something of an app.
    pub(crate) fn reach(&self, app: &AppName) -> bool {
        let mut apps = self.processes.iter().map(|Placed { spec, .. }| &spec.app);
        apps.any(|own| own == app) || self.runs.iter().any(|run| run.id.app == *app)
    }

    /// The terms on which the node may take jobs of a queue: those of its workers, for any process of the app may take
    /// some; none when it is to run nothing of the app.
    pub(crate) fn terms_of(&self, queue: &QueueId) -> Option<JobTerms> {
        let workers = self
            .processes
            .iter()
            .map(|Placed { spec, .. }| spec)
            .filter(|spec| spec.app == queue.app && spec.process.takes_jobs_of(&spec.name, queue));
        let terms = workers
            .map(|spec| spec.process.jobs.clone())
            .reduce(|all, terms| all.and(&terms));
        terms.or_else(|| self.reach(&queue.app).then(JobTerms::default))
    }

    /// As they are sent to the node.
    pub(crate) fn assignment(&self) -> Assignment {
        Assignment {
            generation: self.generation,
            processes: self.processes.iter().map(Placed::assigned).collect(),
            runs: Vec::clone(&self.runs),
            routes: RouteTable::clone(&self.routes),
        }
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::route::Route;

    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().expect("name")
    }

    fn routes(host: &str) -> Arc<RouteTable> {
        let route = Route {
            app: "hello".parse().expect("name"),
            process: "web".parse().expect("name"),
        };
        Arc::new(RouteTable {
            hosts: BTreeMap::from([(host.to_string(), route)]),
            ..RouteTable::default()
        })
    }

    /// Publishes that nodes run nothing.
    fn publish(publisher: &Publisher, revision: u64, host: &str, known: &[NodeName]) {
        publisher.publish(
            revision,
            &routes(host),
            &Assigned::new(),
            &AssignedRuns::new(),
            known.iter(),
        );
    }

    fn generation(newest: &mut watch::Receiver<Newest>) -> Option<u64> {
        newest.borrow_and_update().as_ref().map(|a| a.generation)
    }

    #[test]
    fn only_changed_content_makes_a_generation() {
        let publisher = Publisher::default();
        let mut newest = publisher.subscribe(&node("a"));
        assert_eq!(generation(&mut newest), None);
        publish(&publisher, 5, "a", &[]);
        assert_eq!(generation(&mut newest), Some(5));
        publish(&publisher, 9, "a", &[]);
        assert!(!newest.has_changed().expect("open"));
        publish(&publisher, 12, "b", &[]);
        assert_eq!(generation(&mut newest), Some(12));
    }

    #[test]
    fn a_node_ahead_of_a_restored_store_gets_a_generation_above_its_own() {
        let publisher = Publisher::default();
        let mut newest = publisher.subscribe(&node("a"));
        publish(&publisher, 5, "a", &[]);
        publisher.raise(&node("a"), 40);
        publish(&publisher, 5, "a", &[]);
        assert_eq!(generation(&mut newest), Some(41));
        publish(&publisher, 6, "b", &[]);
        assert_eq!(generation(&mut newest), Some(42));
        publish(&publisher, 60, "c", &[]);
        assert_eq!(generation(&mut newest), Some(60));
    }

    #[test]
    fn nodes_that_nobody_knows_any_more_are_forgotten() {
        let publisher = Publisher::default();
        let newest = publisher.subscribe(&node("a"));
        publish(&publisher, 5, "a", &[node("b")]);
        assert_eq!(publisher.nodes.lock().expect("lock").len(), 2);
        drop(newest);
        publish(&publisher, 6, "a", &[]);
        assert!(publisher.nodes.lock().expect("lock").is_empty());
    }
}
