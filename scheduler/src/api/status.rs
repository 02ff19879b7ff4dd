//! The health check, and the whole cluster at a glance.

use axum::{Json, extract::State};
use gilliam_model::{api::Status, scale::Scale};
use gilliam_store::records;

use crate::{
    api::{Api, openapi::Errors},
    observed::{NodeView, running_by_app},
    refusal::Refusal,
};

/// Says that the control plane answers. Needs no token.
#[utoipa::path(get, path = "/v1/health", operation_id = "health", tag = "status",
    responses((status = 200, description = "ok", body = String, content_type = "text/plain")))]
pub(crate) async fn health() -> &'static str {
    "ok"
}

/// Shows the cluster.
#[utoipa::path(get, path = "/v1/status", operation_id = "status", tag = "status", security(("bearer" = [])),
    responses((status = 200, description = "The cluster", body = Status), Errors))]
pub(crate) async fn status(State(api): State<Api>) -> Result<Json<Status>, Refusal> {
    let (revision, apps) = records::list_apps(&api.shared.store).await?;
    let nodes = api.shared.nodes();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_string(),
        revision: revision.0,
        apps: apps.len() as u64,
        instances_wanted: apps
            .iter()
            .flat_map(|app| app.value.scale.values())
            .map(Scale::total)
            .sum(),
        instances_running: running_by_app(&nodes).values().sum(),
        nodes: nodes.values().map(NodeView::info).collect(),
    }))
}
