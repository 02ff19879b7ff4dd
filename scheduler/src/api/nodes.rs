//! The node protocol: sync and logs.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use axum::{Extension, Json, extract::State};
use gilliam_model::{
    name::{AppName, NODE_NAME_BYTES_MAX, NodeName},
    report::DetailsWanted,
    sync::{
        LOG_BATCH_LINES_MAX, LogBatch, NodeFacts, PROCESSES_COUNT_MAX, SyncRequest, SyncResponse, WAIT_MS_MAX,
    },
    text::excerpt,
};
use gilliam_store::{keys, records};
use http::StatusCode;

use crate::{
    api::{
        Api,
        auth::CallingNode,
        extract::{self, LastName},
        openapi::Errors,
        skew,
    },
    observed::{NotTaken, Now, Taken},
    peers,
    publish::Orders,
    refusal::Refusal,
    shared::Shared,
};

/// Largest report: 1,000,000 instances of which no two neighbours are in the same state, at some 45 bytes
/// each.
const SYNC_BYTES_MAX: usize = 64 << 20;
/// Largest batch of log lines: a full one of the longest lines, some of them escaped.
const LOGS_BYTES_MAX: usize = 16 << 20;
/// Longest version of gilliam that a node may name.
const VERSION_BYTES_MAX: usize = 64;
/// A waiting node is heard of so many times before it would be held lost: a connection that is held open says
/// nothing about the machine at its other end.
const SYNCS_PER_LOST: u32 = 3;

/// Takes a node's report, and answers with its assignment once that is newer than the one it follows.
#[utoipa::path(post, path = "/v1/nodes/{node}/sync", operation_id = "sync", tag = "nodes",
    security(("bearer" = [])),
    params(("node" = String, Path, description = "The node's name")), request_body = SyncRequest,
    responses((status = 200, description = "The assignment, if it is newer", body = SyncResponse), Errors))]
pub(crate) async fn sync(
    State(api): State<Api>,
    Extension(caller): Extension<CallingNode>,
    LastName(path): LastName,
    extract::Json(request): extract::Json<SyncRequest, SYNC_BYTES_MAX>,
) -> Result<Json<SyncResponse>, Refusal> {
    caller.speaks_for(&path)?;
    check(&path, &request)?;
    let shared = &api.shared;
    let (name, generation) = (request.node.name.clone(), request.generation);
    let is_stranger = request.control != shared.life;
    // Versions are those of one life.
    let follows = request.peers.map(|version| if is_stranger { 0 } else { version });
    let wait = Duration::from_millis(request.wait_ms.min(WAIT_MS_MAX).into())
        .min(shared.config.lost_after / SYNCS_PER_LOST);
    shared.details.take(&name, &request.processes);
    let taken = shared.observed.report(request, Now::read());
    let taken = taken.map_err(|error| not_taken(&name, error))?;
    // Only now: of a node that is not taken nothing is kept.
    let mut newest = shared.publisher.subscribe(&name);
    let is_news = |orders: &Orders| orders.generation > generation;
    let lost_after_ms = u64::try_from(shared.config.lost_after.as_millis()).unwrap_or(u64::MAX);
    let mut answer = SyncResponse {
        control: shared.life.clone(),
        assignment: None,
        resync: taken == Taken::Unfounded,
        details: Vec::new(),
        dead_after_ms: Some(lost_after_ms),
        peers: None,
    };
    if answer.resync {
        return Ok(Json(answer));
    }
    let published = newest.borrow().as_ref().map_or(0, |a| a.generation);
    // What was published here is what holds as of the last reading, which may be later than what it follows.
    if published < generation && shared.followed().0 < generation {
        catch_up(shared, &name, generation).await?;
    }
    let mut drain = api.drain.clone();
    let mut peers = shared.peers.subscribe();
    let arrived = newest.wait_for(|newest| newest.as_deref().is_some_and(|a| is_stranger || is_news(a)));
    tokio::select! {
        biased;
        details = wanted(shared, &name) => answer.details = details,
        _ = arrived => {}
        _ = peers.wait_for(|newest| peers::newer(newest, follows).is_some()) => {}
        () = tokio::time::sleep(wait) => {}
        _ = drain.requested() => {}
    }
    let found = newest.borrow().clone().filter(|assignment| is_news(assignment));
    answer.assignment = found.map(|orders| orders.assignment());
    answer.peers = peers::newer(&peers.borrow(), follows);
    Ok(Json(answer))
}

fn not_taken(node: &NodeName, error: NotTaken) -> Refusal {
    match error {
        NotTaken::TooManyNodes => {
            Refusal::busy("nodes").hint("gilliam nodes forget takes out those that are gone")
        }
        NotTaken::Older { than, is_replaced } => Refusal::older_life(node, than, is_replaced),
    }
}

/// Waits until there is something to ask the node for.
async fn wanted(shared: &Shared, node: &NodeName) -> Vec<DetailsWanted> {
    let mut asked = shared.details.subscribe(node);
    loop {
        asked.mark_unchanged();
        let wanted = shared.details.wanted(node);
        // The sender is kept for as long as this listens.
        if !wanted.is_empty() || asked.changed().await.is_err() {
            return wanted;
        }
    }
}

/// Takes log lines of a node; lines of apps that do not exist are dropped.
#[utoipa::path(post, path = "/v1/nodes/{node}/logs", operation_id = "send_logs", tag = "nodes",
    security(("bearer" = [])),
    params(("node" = String, Path, description = "The node's name")), request_body = LogBatch,
    responses((status = 204, description = "They are kept"), Errors))]
pub(crate) async fn take_logs(
    State(api): State<Api>,
    Extension(caller): Extension<CallingNode>,
    LastName(path): LastName,
    extract::Json(batch): extract::Json<LogBatch, LOGS_BYTES_MAX>,
) -> Result<StatusCode, Refusal> {
    caller.speaks_for(&path)?;
    let lines = batch.lines;
    if lines.len() > LOG_BATCH_LINES_MAX {
        let message = format!(
            "a batch of {} lines; at most {LOG_BATCH_LINES_MAX} are taken",
            lines.len()
        );
        return Err(Refusal::invalid(message));
    }
    let logs = &api.shared.logs;
    let unknown: BTreeSet<&AppName> = lines
        .iter()
        .map(|l| &l.app)
        .filter(|app| !logs.is_open(app))
        .collect();
    for app in unknown {
        if records::load_app(&api.shared.store, app).await?.is_some() {
            logs.open(app);
        }
    }
    lines.into_iter().for_each(|line| logs.append(line));
    Ok(StatusCode::NO_CONTENT)
}

/// Helps a node that follows a newer assignment than the one published here.
///
/// Either another control plane published it, and a turn of the loop reads what that one read; or the store
/// was set back to a backup, and what it says now has to get a generation that the node accepts.
async fn catch_up(shared: &Shared, node: &NodeName, generation: u64) -> Result<(), Refusal> {
    let (revision, _) = shared.store.get(keys::PLAN_EPOCH).await?;
    if revision.0 < generation {
        tracing::warn!(
            %node, generation, %revision,
            "a node is ahead of the store, which must have been set back: what the store says holds"
        );
        shared.publisher.raise(node, generation);
    }
    shared.nudge();
    Ok(())
}

fn check(path: &str, request: &SyncRequest) -> Result<(), Refusal> {
    skew::check(&request.node.name, request.protocol, &request.node.version)?;
    if request.node.name.as_str() != path {
        return Err(Refusal::another_node(path, &request.node.name));
    }
    let count = request.processes.len().max(request.gone.len());
    if count > PROCESSES_COUNT_MAX {
        let message = format!("a report of {count} process types; at most {PROCESSES_COUNT_MAX} are taken");
        return Err(Refusal::invalid(message));
    }
    for process in &request.processes {
        process
            .check()
            .map_err(|error| Refusal::invalid(error.to_string()))?;
    }
    check_facts(&request.node)
}

fn check_facts(facts: &NodeFacts) -> Result<(), Refusal> {
    let bad = |what: &str, value: &dyn std::fmt::Debug| {
        Err(Refusal::invalid(format!(
            "node {} says that its {what} is {value:?}",
            facts.name
        )))
    };
    let printable = |text: &str, bytes_max: usize| {
        !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
    };
    if !printable(&facts.host, NODE_NAME_BYTES_MAX) {
        return bad("host", &excerpt(&facts.host));
    }
    if !printable(&facts.version, VERSION_BYTES_MAX) {
        return bad("version", &excerpt(&facts.version));
    }
    if facts
        .peer
        .as_ref()
        .is_some_and(|peer| peer.parse::<SocketAddr>().is_err())
    {
        return bad("peer address", &facts.peer.as_deref().map(excerpt));
    }
    if facts.http.parse::<SocketAddr>().is_err() {
        return bad("http address", &excerpt(&facts.http));
    }
    if facts.cpus == 0 {
        return bad("number of CPU cores", &facts.cpus);
    }
    if facts.memory_bytes == 0 {
        return bad("memory", &facts.memory_bytes);
    }
    Ok(())
}
