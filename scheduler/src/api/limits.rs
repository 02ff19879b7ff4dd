//! Limits: shown, and changed by making a release.

use axum::{Extension, Json, extract::State};
use gilliam_model::{
    api::{LimitsInfo, LimitsPatch, ProcessLimits, ReleaseInfo},
    name::AppName,
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
    shared::Shared,
};

/// Shows the limits of an app's newest release.
#[utoipa::path(get, path = "/v1/apps/{app}/limits", operation_id = "show_limits", tag = "limits",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, description = "Its limits", body = LimitsInfo), Errors))]
pub(crate) async fn show(State(api): State<Api>, AppPath(app): AppPath) -> Result<Json<LimitsInfo>, Refusal> {
    Ok(Json(limits(&api.shared, &app).await?))
}

async fn limits(shared: &Shared, app: &AppName) -> Result<LimitsInfo, Refusal> {
    let Some(latest) = shared.app(app).await?.value.latest else {
        return Ok(LimitsInfo {
            release: None,
            processes: Default::default(),
        });
    };
    let release = release::load(shared, app, latest).await?;
    let image = release::load_image(shared, &release).await?;
    let processes = image.processes.into_iter().map(|(name, process)| {
        let limits = ProcessLimits {
            shape: process.shape,
            limits: release.limits.process(&name, &process).limits,
            set: release.limits.of(&name).map(|(limit, _)| limit).collect(),
            image: process.limits,
        };
        (name, limits)
    });
    Ok(LimitsInfo {
        release: Some(latest),
        processes: processes.collect(),
    })
}

/// Changes limits of a process type: makes a release with the newest image and config.
#[utoipa::path(patch, path = "/v1/apps/{app}/limits", operation_id = "change_limits", tag = "limits",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")), request_body = LimitsPatch,
    responses((status = 201, description = "The new release", body = ReleaseInfo), Errors))]
pub(crate) async fn change_limits(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    AppPath(app): AppPath,
    extract::Json(patch): extract::Json<LimitsPatch>,
) -> Result<(http::StatusCode, Json<ReleaseInfo>), Refusal> {
    releases::create(&api, &app, &caller, Basis::Limits(patch.change), patch.migrate).await
}
