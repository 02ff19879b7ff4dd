//! Assignments on their way to nodes: the newest one of each, in memory.
//!
//! In: the whole state of the store after each turn of the control loop. Out: for each node a `watch` that
//! holds its newest assignment, on which its sync waits.
//!
//! Invariant: a node's generation grows exactly when what it should do changes, so an unchanged node is not
//! woken.
//! Invariant: a generation is never below the store's revision that it was made from, nor below one that the
//! node has seen (see [`Publisher::raise`]), so a node never refuses what is newest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use gilliam_model::{
    assignment::{AssignedProcess, Assignment},
    name::NodeName,
    route::RouteTable,
};
use tokio::sync::watch;

/// The newest assignment of a node; none until the first turn that knows the node.
pub(crate) type Newest = Option<Arc<Assignment>>;

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

    /// Waits until `node` is to run something that satisfies `is_sought`, or `limit` has passed; says which.
    pub(crate) async fn finds(
        &self,
        node: &NodeName,
        limit: std::time::Duration,
        is_sought: impl Fn(&AssignedProcess) -> bool,
    ) -> bool {
        let mut newest = self.subscribe(node);
        let found = newest.wait_for(|newest| {
            newest
                .as_deref()
                .is_some_and(|assignment| assignment.processes.iter().any(&is_sought))
        });
        matches!(tokio::time::timeout(limit, found).await, Ok(Ok(_)))
    }

    /// Publishes what each node should run as of `revision`; a node without processes is to run none.
    ///
    /// Nodes that are neither listed nor waiting are forgotten.
    pub(crate) fn publish(
        &self,
        revision: u64,
        routes: &RouteTable,
        mut processes: BTreeMap<NodeName, Vec<AssignedProcess>>,
    ) {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        nodes.retain(|node, published| processes.contains_key(node) || published.newest.receiver_count() > 0);
        for node in nodes.keys() {
            processes.entry(node.clone()).or_default();
        }
        for (node, processes) in processes {
            nodes
                .entry(node)
                .or_insert_with(Published::new)
                .publish(revision, routes, processes);
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

    fn publish(&self, revision: u64, routes: &RouteTable, processes: Vec<AssignedProcess>) {
        self.newest.send_if_modified(|newest| {
            let mut generation = revision.max(self.floor);
            if let Some(before) = newest {
                if before.processes == processes
                    && before.routes == *routes
                    && before.generation >= self.floor
                {
                    return false;
                }
                generation = generation.max(before.generation + 1);
            }
            *newest = Some(Arc::new(Assignment {
                generation,
                processes,
                routes: routes.clone(),
            }));
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::route::Route;

    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().expect("name")
    }

    fn routes(host: &str) -> RouteTable {
        let route = Route {
            app: "hello".parse().expect("name"),
            process: "web".parse().expect("name"),
        };
        RouteTable {
            hosts: BTreeMap::from([(host.to_string(), route)]),
        }
    }

    fn generation(newest: &mut watch::Receiver<Newest>) -> Option<u64> {
        newest.borrow_and_update().as_ref().map(|a| a.generation)
    }

    #[test]
    fn only_changed_content_makes_a_generation() {
        let publisher = Publisher::default();
        let mut newest = publisher.subscribe(&node("a"));
        assert_eq!(generation(&mut newest), None);
        publisher.publish(5, &routes("a"), BTreeMap::new());
        assert_eq!(generation(&mut newest), Some(5));
        publisher.publish(9, &routes("a"), BTreeMap::new());
        assert!(!newest.has_changed().expect("open"));
        publisher.publish(12, &routes("b"), BTreeMap::new());
        assert_eq!(generation(&mut newest), Some(12));
    }

    #[test]
    fn a_node_ahead_of_a_restored_store_gets_a_generation_above_its_own() {
        let publisher = Publisher::default();
        let mut newest = publisher.subscribe(&node("a"));
        publisher.publish(5, &routes("a"), BTreeMap::new());
        publisher.raise(&node("a"), 40);
        publisher.publish(5, &routes("a"), BTreeMap::new());
        assert_eq!(generation(&mut newest), Some(41));
        publisher.publish(6, &routes("b"), BTreeMap::new());
        assert_eq!(generation(&mut newest), Some(42));
        publisher.publish(60, &routes("c"), BTreeMap::new());
        assert_eq!(generation(&mut newest), Some(60));
    }

    #[test]
    fn nodes_that_nobody_knows_any_more_are_forgotten() {
        let publisher = Publisher::default();
        let newest = publisher.subscribe(&node("a"));
        publisher.publish(5, &routes("a"), BTreeMap::from([(node("b"), vec![])]));
        assert_eq!(publisher.nodes.lock().expect("lock").len(), 2);
        drop(newest);
        publisher.publish(6, &routes("a"), BTreeMap::new());
        assert!(publisher.nodes.lock().expect("lock").is_empty());
    }
}
