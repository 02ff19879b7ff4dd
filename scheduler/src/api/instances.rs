//! Instances: what should run joined with what nodes report. What `ps` lists, and what `--wait` waits for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{Json, extract::State};
use gilliam_model::{
    api::{InstanceInfo, Instances},
    app::App,
    instance::{InstanceId, InstanceReport, InstanceState},
    name::{AppName, NodeName, ProcessName},
    placement::Placement,
    release::ReleaseId,
};
use gilliam_store::{Revision, keys, records};

use crate::{
    api::{Api, extract::AppPath, openapi::Errors},
    observed::NodeView,
    refusal::Refusal,
    shared::{Planned, Shared},
};

/// Lists the instances of an app, and says whether all of it is as wanted.
#[utoipa::path(get, path = "/v1/apps/{app}/instances", operation_id = "list_instances", tag = "instances",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, description = "Its instances", body = Instances), Errors))]
pub(crate) async fn list(State(api): State<Api>, AppPath(app): AppPath) -> Result<Json<Instances>, Refusal> {
    load(&api.shared, &app).await.map(Json)
}

/// Reads the instances of an app.
pub(crate) async fn load(shared: &Shared, app: &AppName) -> Result<Instances, Refusal> {
    let (app_key, placements_key) = (keys::app(app), keys::placements_of(app));
    let (_, mut lists) = shared.store.ranges(&[&app_key, &placements_key]).await?;
    let placements: Vec<_> = records::decode_all::<Placement>(lists.pop().unwrap_or_default())?;
    let found = lists
        .pop()
        .unwrap_or_default()
        .into_iter()
        .find(|entry| entry.key == app_key);
    let stored = found.ok_or_else(|| Refusal::no_app(app.as_str()))?;
    let stored = records::decode::<App>(stored)?;
    let placements: Vec<Placement> = placements.into_iter().map(|p| p.value).collect();
    Ok(join(
        &stored.value,
        stored.revision,
        &placements,
        &shared.nodes(),
        &shared.planned(),
    ))
}

fn join(
    app: &App,
    revision: Revision,
    placements: &[Placement],
    nodes: &BTreeMap<NodeName, NodeView>,
    planned: &Arc<Planned>,
) -> Instances {
    let placed = placed(placements, nodes);
    let expected: BTreeSet<(&NodeName, &InstanceId)> =
        placed.iter().map(|(node, id, _)| (*node, id)).collect();
    let others: Vec<_> = unexpected(app, nodes, &expected);
    // A plan that is older than the app's last change says nothing of what is wanted now.
    let is_planned = planned.revision >= revision;
    let blocked = planned
        .blocked
        .get(&app.name)
        .filter(|_| is_planned)
        .cloned()
        .unwrap_or_default();
    let settled = others.is_empty() && app.migration.is_none() && as_wanted(app, &placed);
    let mut instances: Vec<(InstanceId, InstanceInfo)> = placed
        .into_iter()
        .chain(others)
        .map(|(node, id, report)| {
            let info = describe(node, &id, report, nodes);
            (id, info)
        })
        .collect();
    instances.sort_by(|(a, _), (b, _)| a.cmp(b));
    Instances {
        instances: instances.into_iter().map(|(_, info)| info).collect(),
        blocked,
        settled,
        migration: app.migration.clone(),
        migration_failure: app.migration_failure.clone(),
    }
}

type Found<'a> = (&'a NodeName, InstanceId, Option<&'a InstanceReport>);

/// What the planner decided, with the report of each instance by the node it was placed on.
fn placed<'a>(placements: &'a [Placement], nodes: &'a BTreeMap<NodeName, NodeView>) -> Vec<Found<'a>> {
    let of = |placement: &'a Placement| {
        let reports = nodes
            .get(&placement.node)
            .filter(|n| n.is_ready())
            .map(|n| &*n.reports);
        placement.instances().map(move |id| {
            let report = reports.and_then(|r| r.get(&id));
            (&placement.node, id, report)
        })
    };
    placements.iter().flat_map(of).collect()
}

/// What nodes report and nobody placed there: it is on its way out.
fn unexpected<'a>(
    app: &App,
    nodes: &'a BTreeMap<NodeName, NodeView>,
    expected: &BTreeSet<(&NodeName, &InstanceId)>,
) -> Vec<Found<'a>> {
    let of = |(name, node): (&'a NodeName, &'a NodeView)| node.current().map(move |report| (name, report));
    nodes
        .iter()
        .flat_map(of)
        .filter(|(name, report)| report.id.app == app.name && !expected.contains(&(*name, &report.id)))
        .map(|(name, report)| (name, report.id.clone(), Some(report)))
        .collect()
}

/// Whether exactly the wanted counts are placed, and each of them runs.
fn as_wanted(app: &App, placed: &[Found<'_>]) -> bool {
    let mut counts: BTreeMap<(ReleaseId, &ProcessName), u32> = BTreeMap::new();
    for (_, id, report) in placed {
        if report.is_none_or(|r| r.state != InstanceState::Running) {
            return false;
        }
        *counts.entry((id.release, &id.process)).or_default() += 1;
    }
    let wanted = app
        .scale
        .iter()
        .flat_map(|(release, scale)| scale.0.iter().map(move |(p, n)| ((*release, p), *n)));
    counts == wanted.filter(|(_, n)| *n > 0).collect()
}

fn describe(
    node: &NodeName,
    id: &InstanceId,
    report: Option<&InstanceReport>,
    nodes: &BTreeMap<NodeName, NodeView>,
) -> InstanceInfo {
    InstanceInfo {
        name: id.label(),
        process: id.process.clone(),
        release: id.release,
        node: node.clone(),
        host: nodes
            .get(node)
            .map_or_else(|| node.to_string(), |n| n.facts.host.clone()),
        state: report.map_or(InstanceState::Starting, |r| r.state),
        report: report.cloned(),
    }
}
