//! Apps: list, create, show, destroy.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Json, extract::State};
use gilliam_model::{
    Timestamp,
    api::{AppInfo, CreateApp},
    app::App,
    name::{AppName, NodeName},
    route::LOCAL_DOMAIN,
};
use gilliam_store::{Check, keys, records};
use http::StatusCode;

use crate::{
    api::{Api, extract, extract::AppPath, openapi::Errors},
    build_cache,
    change::{Decision, change},
    observed::{NodeView, running_by_app},
    refusal::Refusal,
    services,
    shared::Shared,
    sweep,
};

/// Lists every app.
#[utoipa::path(get, path = "/v1/apps", operation_id = "list_apps", tag = "apps", security(("bearer" = [])),
    responses((status = 200, description = "Every app, by name", body = Vec<AppInfo>), Errors))]
pub(crate) async fn list(State(api): State<Api>) -> Result<Json<Vec<AppInfo>>, Refusal> {
    let (_, apps) = records::list_apps(&api.shared.store).await?;
    let nodes = api.shared.nodes();
    let running = running_by_app(&nodes);
    Ok(Json(
        apps.into_iter()
            .map(|app| info(app.value, &nodes, &running))
            .collect(),
    ))
}

/// Creates an app, without releases.
#[utoipa::path(post, path = "/v1/apps", operation_id = "create_app", tag = "apps",
    security(("bearer" = [])), request_body = CreateApp,
    responses((status = 201, description = "The new app", body = AppInfo), Errors))]
pub(crate) async fn create(
    State(api): State<Api>,
    extract::Json(body): extract::Json<CreateApp>,
) -> Result<(StatusCode, Json<AppInfo>), Refusal> {
    let shared = &api.shared;
    let name: AppName = body.name.parse().map_err(|e| Refusal::invalid(format!("{e}")))?;
    let app = change(shared, &name, || async {
        if records::load_app(&shared.store, &name).await?.is_some() {
            return Err(Refusal::app_exists(&name));
        }
        // An app of this name may have been destroyed a moment ago: nothing of it may show up in the new one.
        sweep::app(shared, &name).await?;
        let app = App::new(name.clone(), Timestamp::now());
        let checks = vec![Check::absent(keys::app(&name))];
        Ok(Decision {
            checks,
            writes: vec![records::put_app(&app)],
            remark: Some("created".to_string()),
            answer: app,
        })
    })
    .await?;
    Ok((
        StatusCode::CREATED,
        Json(info(app, &shared.nodes(), &BTreeMap::new())),
    ))
}

/// Shows an app.
#[utoipa::path(get, path = "/v1/apps/{app}", operation_id = "show_app", tag = "apps",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, description = "The app", body = AppInfo), Errors))]
pub(crate) async fn show(State(api): State<Api>, AppPath(app): AppPath) -> Result<Json<AppInfo>, Refusal> {
    let app = api.shared.app(&app).await?;
    let nodes = api.shared.nodes();
    Ok(Json(info(app.value, &nodes, &running_by_app(&nodes))))
}

/// Destroys an app: its releases, its instances, its log. Images stay until they are collected.
#[utoipa::path(delete, path = "/v1/apps/{app}", operation_id = "destroy_app", tag = "apps",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 204, description = "It is gone"), Errors))]
pub(crate) async fn destroy(State(api): State<Api>, AppPath(app): AppPath) -> Result<StatusCode, Refusal> {
    let shared = &api.shared;
    let destroyed = change(shared, &app, || decide_destroy(shared, &app)).await?;
    shared.logs.close(&app);
    build_cache::forget(shared, &destroyed);
    super::git::forget(shared, &app).await;
    services::forget(shared, &destroyed).await;
    // The app is gone, acknowledged or not: what did not fit into that commit is removed now, or else by the
    // loop.
    if let Err(refusal) = sweep::app(shared, &app).await {
        let error = refusal.into_error().message;
        tracing::warn!(%app, error, "records of a destroyed app are left for later");
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn decide_destroy(shared: &Shared, app: &AppName) -> Result<Decision<App>, Refusal> {
    let stored = shared.app(app).await?;
    services::check_unused(&stored.value)?;
    let epoch = records::load_epoch(&shared.store).await?;
    let mut writes = vec![records::delete(stored.key.clone())];
    writes.extend(sweep::some_of(shared, app).await?);
    let mut checks = vec![stored.unchanged()];
    // A plan that was made while the app was there must not place it again.
    if let Some(epoch) = epoch {
        writes.push(records::put_epoch(epoch.value.next()));
        checks.push(epoch.unchanged());
    }
    Ok(Decision {
        checks,
        writes,
        remark: None,
        answer: stored.value,
    })
}

fn info(app: App, nodes: &BTreeMap<NodeName, NodeView>, running: &BTreeMap<AppName, u64>) -> AppInfo {
    AppInfo {
        running: running.get(&app.name).copied().unwrap_or(0),
        urls: urls(&app.name, nodes),
        name: app.name,
        created_at: app.created_at,
        latest: app.latest,
        scale: app.scale,
        migration: app.migration,
        migration_failure: app.migration_failure,
    }
}

/// Where the ingresses of the nodes answer for the app; the port is left out where clients do not need it.
pub(super) fn urls(app: &AppName, nodes: &BTreeMap<NodeName, NodeView>) -> Vec<String> {
    let ready = nodes.values().filter(|node| node.is_ready());
    let ports: BTreeSet<&str> = ready
        .filter_map(|n| n.facts.http.rsplit_once(':'))
        .map(|(_, p)| p)
        .collect();
    let url = |port| match port {
        "80" => format!("http://{app}.{LOCAL_DOMAIN}"),
        port => format!("http://{app}.{LOCAL_DOMAIN}:{port}"),
    };
    ports.into_iter().map(url).collect()
}
