//! Configuration: shown, and changed by making a release.

use axum::{Extension, Json, extract::State};
use gilliam_model::{
    api::{ConfigInfo, ConfigPatch, ReleaseInfo},
    config::Config,
};

use crate::{
    api::{
        Api,
        auth::Caller,
        extract::{self, AppPath},
        openapi::Errors,
        releases,
    },
    refusal::Refusal,
    release::{self, Basis},
};

/// Shows the configuration of an app's newest release.
#[utoipa::path(get, path = "/v1/apps/{app}/config", operation_id = "show_config", tag = "config",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, description = "Its configuration", body = ConfigInfo), Errors))]
pub(crate) async fn show(State(api): State<Api>, AppPath(app): AppPath) -> Result<Json<ConfigInfo>, Refusal> {
    let latest = api.shared.app(&app).await?.value.latest;
    let config = match latest {
        Some(latest) => release::load(&api.shared, &app, latest).await?.config,
        None => Config::default(),
    };
    Ok(Json(ConfigInfo {
        release: latest,
        config,
    }))
}

/// Changes the configuration: makes a release with the newest image.
#[utoipa::path(patch, path = "/v1/apps/{app}/config", operation_id = "change_config", tag = "config",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")), request_body = ConfigPatch,
    responses((status = 201, description = "The new release", body = ReleaseInfo), Errors))]
pub(crate) async fn change_config(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    AppPath(app): AppPath,
    extract::Json(patch): extract::Json<ConfigPatch>,
) -> Result<(http::StatusCode, Json<ReleaseInfo>), Refusal> {
    releases::create(&api, &app, &caller, Basis::Config(patch.change), patch.migrate).await
}
