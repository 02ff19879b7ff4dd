//! Crons: listed, fired by hand, paused.

use axum::{Extension, Json, extract::State};
use gilliam_model::{cron::CronInfo, name::AppName, run::RunInfo};
use http::StatusCode;

use crate::{
    api::{
        Api,
        auth::Caller,
        extract::{AppPath, Names},
        openapi::Errors,
    },
    crons,
    refusal::Refusal,
};

/// Lists the crons of an app: what its newest release that runs has run on a schedule.
#[utoipa::path(get, path = "/v1/apps/{app}/crons", operation_id = "list_crons", tag = "crons",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, description = "Its crons, by name", body = Vec<CronInfo>), Errors))]
pub(crate) async fn list(
    State(api): State<Api>,
    AppPath(app): AppPath,
) -> Result<Json<Vec<CronInfo>>, Refusal> {
    crons::list(&api.shared, &app).await.map(Json)
}

/// Has a cron run now, whether it is due or not.
#[utoipa::path(post, path = "/v1/apps/{app}/crons/{cron}/run", operation_id = "run_cron", tag = "crons",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("cron" = String, Path, description = "The cron's name")),
    responses((status = 201, description = "The run", body = RunInfo), Errors))]
pub(crate) async fn run(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: Names,
) -> Result<(StatusCode, Json<RunInfo>), Refusal> {
    let app = app(&path)?;
    let run = crons::fire(&api.shared, &app, path.get("cron"), &caller.name).await?;
    Ok((StatusCode::CREATED, Json(run)))
}

/// Has a cron not fire until it is resumed.
#[utoipa::path(post, path = "/v1/apps/{app}/crons/{cron}/pause", operation_id = "pause_cron", tag = "crons",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("cron" = String, Path, description = "The cron's name")),
    responses((status = 204, description = "It does not fire"), Errors))]
pub(crate) async fn pause(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: Names,
) -> Result<StatusCode, Refusal> {
    crons::pause(&api.shared, &app(&path)?, path.get("cron"), &caller.name, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has a cron fire again; what was due meanwhile is not made up for.
#[utoipa::path(post, path = "/v1/apps/{app}/crons/{cron}/resume", operation_id = "resume_cron", tag = "crons",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("cron" = String, Path, description = "The cron's name")),
    responses((status = 204, description = "It fires when it is due"), Errors))]
pub(crate) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: Names,
) -> Result<StatusCode, Refusal> {
    crons::pause(&api.shared, &app(&path)?, path.get("cron"), &caller.name, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn app(path: &Names) -> Result<AppName, Refusal> {
    let app = path.get("app");
    app.parse().map_err(|_| Refusal::no_app(app))
}
