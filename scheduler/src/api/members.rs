//! Nodes as operators see and change them: which there are, what is placed on each; emptied, used again, forgotten.
//!
//! Invariant: what an operator asks for is a record in the store; the control loop does it, on whichever control plane
//! plans.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{Json, extract::State};
use gilliam_model::{
    Timestamp,
    api::NodeState,
    instance::InstanceState,
    limits::Limits,
    name::NodeName,
    node::{Node, NodeDetails, NodeSummary, PlacedProcess},
    sync::NodeFacts,
};
use gilliam_store::{Check, CommitError, Expect, keys, records, records::Stored};
use http::StatusCode;

use crate::{
    api::{Api, extract::LastName, openapi::Errors},
    observed::NodeView,
    refusal::Refusal,
    shared::Shared,
    state::{Placed, State as Known},
};

/// Tries of a change that others changed meanwhile; each lost one means that another was done.
const TRIES_MAX: usize = 5;

/// Lists the nodes.
#[utoipa::path(get, path = "/v1/nodes", operation_id = "list_nodes", tag = "cluster", security(("bearer" = [])),
    responses((status = 200, description = "By name", body = Vec<NodeSummary>), Errors))]
pub(crate) async fn list(State(api): State<Api>) -> Result<Json<Vec<NodeSummary>>, Refusal> {
    let fleet = Fleet::read(&api.shared).await?;
    let names = fleet.names();
    Ok(Json(names.into_iter().map(|name| fleet.summary(name)).collect()))
}

/// Shows a node with what is placed on it.
#[utoipa::path(get, path = "/v1/nodes/{node}", operation_id = "show_node", tag = "cluster",
    security(("bearer" = [])), params(("node" = String, Path, description = "The node's name")),
    responses((status = 200, description = "The node", body = NodeDetails), Errors))]
pub(crate) async fn show(
    State(api): State<Api>,
    LastName(name): LastName,
) -> Result<Json<NodeDetails>, Refusal> {
    details(&api.shared, &name).await.map(Json)
}

/// Has a node emptied: each of its instances stops once another node runs its replacement.
#[utoipa::path(post, path = "/v1/nodes/{node}/drain", operation_id = "drain_node", tag = "cluster",
    security(("bearer" = [])), params(("node" = String, Path, description = "The node's name")),
    responses((status = 200, description = "The node", body = NodeDetails), Errors))]
pub(crate) async fn drain(
    State(api): State<Api>,
    LastName(name): LastName,
) -> Result<Json<NodeDetails>, Refusal> {
    change(&api.shared, &name, |node| {
        node.draining_since.get_or_insert_with(Timestamp::now);
    })
    .await?;
    details(&api.shared, &name).await.map(Json)
}

/// Has a node take instances again.
#[utoipa::path(post, path = "/v1/nodes/{node}/undrain", operation_id = "undrain_node", tag = "cluster",
    security(("bearer" = [])), params(("node" = String, Path, description = "The node's name")),
    responses((status = 200, description = "The node", body = NodeDetails), Errors))]
pub(crate) async fn undrain(
    State(api): State<Api>,
    LastName(name): LastName,
) -> Result<Json<NodeDetails>, Refusal> {
    change(&api.shared, &name, |node| node.draining_since = None).await?;
    details(&api.shared, &name).await.map(Json)
}

/// Puts a node that is gone out of the cluster: its certificate opens nothing any more.
#[utoipa::path(delete, path = "/v1/nodes/{node}", operation_id = "forget_node", tag = "cluster",
    security(("bearer" = [])), params(("node" = String, Path, description = "The node's name")),
    responses((status = 204, description = "It is forgotten"), Errors))]
pub(crate) async fn forget(State(api): State<Api>, LastName(name): LastName) -> Result<StatusCode, Refusal> {
    let shared = &api.shared;
    let name = known_name(shared, &name).await?;
    if shared.nodes().get(&name).is_some_and(NodeView::is_ready) {
        let refusal = Refusal::new(
            gilliam_model::code::Code::A409,
            format!("node {name} is alive: what it runs would go on"),
        );
        return Err(refusal.hint(format!(
            "gilliam nodes drain {name}, end its process, then forget it"
        )));
    }
    change(shared, name.as_str(), |node| {
        node.identity = None;
        node.draining_since = None;
        node.forgotten_at.get_or_insert_with(Timestamp::now);
    })
    .await?;
    shared.observed.forget(&name);
    Ok(StatusCode::NO_CONTENT)
}

/// Changes what is decided of a node.
async fn change(shared: &Shared, name: &str, change: impl Fn(&mut Node)) -> Result<(), Refusal> {
    let name = known_name(shared, name).await?;
    let key = keys::node(&name);
    for _ in 0..TRIES_MAX {
        let stored = records::load::<Node>(&shared.store, &key).await?;
        let before = stored.as_ref().map(|stored| stored.value.clone());
        let mut node = before.clone().unwrap_or_else(|| Node::new(name.clone()));
        change(&mut node);
        if before.as_ref() == Some(&node) {
            return Ok(());
        }
        let check = Check {
            key: key.clone(),
            expect: Expect::unchanged(stored.map(|stored| stored.revision)),
        };
        match shared
            .store
            .commit(&[check], &[records::put(key.clone(), &node)])
            .await
        {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::busy("changes of this node"))
}

/// A node that is known: of the store, heard of, or with something placed on it.
async fn known_name(shared: &Shared, name: &str) -> Result<NodeName, Refusal> {
    let parsed: NodeName = name.parse().map_err(|_| Refusal::no_node(name))?;
    let fleet = Fleet::read(shared).await?;
    match fleet.names().contains(&parsed) {
        true => Ok(parsed),
        false => Err(Refusal::no_node(name)),
    }
}

async fn details(shared: &Shared, name: &str) -> Result<NodeDetails, Refusal> {
    let name: NodeName = name.parse().map_err(|_| Refusal::no_node(name))?;
    let fleet = Fleet::read(shared).await?;
    if !fleet.names().contains(&name) {
        return Err(Refusal::no_node(name.as_str()));
    }
    Ok(NodeDetails {
        node: fleet.summary(&name),
        processes: fleet
            .placed(&name)
            .iter()
            .map(|placed| fleet.process(&name, placed))
            .collect(),
    })
}

/// All that is known of nodes at one moment.
struct Fleet {
    now: Timestamp,
    decided: BTreeMap<NodeName, Node>,
    seen: BTreeMap<NodeName, NodeView>,
    state: Arc<Known>,
}

impl Fleet {
    async fn read(shared: &Shared) -> Result<Self, Refusal> {
        let (_, decided) = records::list::<Node>(&shared.store, keys::NODES).await?;
        let decided = decided
            .into_iter()
            .map(|Stored { value, .. }| (value.name.clone(), value));
        Ok(Self {
            now: Timestamp::now(),
            decided: decided.collect(),
            seen: shared.nodes(),
            state: shared.known().unwrap_or_default(),
        })
    }

    /// Nodes that are of the cluster, and those that something is placed on still.
    fn names(&self) -> BTreeSet<&NodeName> {
        let decided = self.decided.values().filter(|node| node.forgotten_at.is_none());
        let decided = decided.map(|node| &node.name);
        decided
            .chain(self.seen.keys())
            .chain(self.state.assigned.keys())
            .collect()
    }

    fn placed(&self, name: &NodeName) -> &[Placed] {
        self.state.placed_on(name)
    }

    fn summary(&self, name: &NodeName) -> NodeSummary {
        let (decided, seen) = (self.decided.get(name), self.seen.get(name));
        let placed = self.placed(name);
        let promised = |each: fn(&Limits) -> u64| -> u64 {
            placed
                .iter()
                .map(|placed| each(&placed.spec.process.limits).saturating_mul(placed.count().into()))
                .fold(0, u64::saturating_add)
        };
        let reports = || {
            seen.into_iter()
                .flat_map(NodeView::current)
                .map(|(_, report)| report)
        };
        let silent = seen.map(|seen| self.now.duration_since(seen.seen_at).as_millis());
        NodeSummary {
            name: name.clone(),
            state: seen.map_or(NodeState::Lost, |seen| seen.state),
            draining_since: decided.and_then(|node| node.draining_since),
            joined_at: decided.and_then(|node| Some(node.identity.as_ref()?.joined_at)),
            seen_at: seen.map(|seen| seen.seen_at),
            silent_ms: silent.map(|silent| u64::try_from(silent).unwrap_or(0)),
            facts: seen.map(|seen| NodeFacts::clone(&seen.facts)),
            placed: placed.iter().map(|placed| u64::from(placed.count())).sum(),
            running: reports()
                .map(|report| u64::from(report.count(InstanceState::Running)))
                .sum(),
            memory_used_bytes: reports().map(|report| report.memory_bytes).sum(),
            memory_promised_bytes: promised(|limits| limits.memory_bytes_max),
            cpu_promised_millis: promised(|limits| limits.cpu_millis.into()),
        }
    }

    fn process(&self, name: &NodeName, placed: &Placed) -> PlacedProcess {
        let key = placed.key();
        let seen = self.seen.get(name).filter(|seen| seen.is_ready());
        let report = seen.and_then(|seen| seen.reports.get(&key));
        PlacedProcess {
            placed: placed.count(),
            running: report.map_or(0, |report| report.count(InstanceState::Running)),
            memory_used_bytes: report.map_or(0, |report| report.memory_bytes),
            app: key.app,
            release: key.release,
            process: key.process,
        }
    }
}
