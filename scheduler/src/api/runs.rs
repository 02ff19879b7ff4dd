//! Runs: asked for, listed, waited for, stopped.

use std::time::Duration;

use axum::{Extension, Json, extract::State};
use gilliam_model::run::{AskRun, RunInfo, parse_label};
use http::StatusCode;
use serde::Deserialize;

use crate::{
    api::{
        Api,
        auth::Caller,
        extract::{self, AppPath, LastName, Params},
        openapi::Errors,
    },
    attach,
    refusal::Refusal,
    runs,
};

/// Longest wait for the end of a run in one request, below what callers wait for an answer.
const WAIT_MS_MAX: u64 = 20_000;

/// How long to wait.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitParams {
    /// Waits up to so long for its end, at most 20 s.
    wait_ms: u64,
}

/// Lists the runs of an app, newest first: those that have not ended, and the last ends.
#[utoipa::path(get, path = "/v1/apps/{app}/runs", operation_id = "list_runs", tag = "runs",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, description = "Its runs", body = Vec<RunInfo>), Errors))]
pub(crate) async fn list(
    State(api): State<Api>,
    AppPath(app): AppPath,
) -> Result<Json<Vec<RunInfo>>, Refusal> {
    runs::list(&api.shared, &app).await.map(Json)
}

/// Asks for a run: a process that runs to its end once.
#[utoipa::path(post, path = "/v1/apps/{app}/runs", operation_id = "ask_run", tag = "runs",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")), request_body = AskRun,
    responses((status = 201, description = "The run", body = RunInfo), Errors))]
pub(crate) async fn ask(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    AppPath(app): AppPath,
    extract::Json(body): extract::Json<AskRun>,
) -> Result<(StatusCode, Json<RunInfo>), Refusal> {
    let shared = &api.shared;
    let place = body.attach.map(|_| shared.attachments.place()).transpose()?;
    let run = runs::ask(shared, &app, &body, &caller.name).await?;
    if let Some((on_leave, place)) = body.attach.zip(place) {
        shared.attachments.open(attach::id_of(&run), on_leave, place);
    }
    Ok((StatusCode::CREATED, Json(run)))
}

/// Shows a run, at once or when it has ended.
#[utoipa::path(get, path = "/v1/apps/{app}/runs/{run}", operation_id = "show_run", tag = "runs",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("run" = String, Path, description = "`run.3`, or its number"), WaitParams),
    responses((status = 200, description = "The run", body = RunInfo), Errors))]
pub(crate) async fn show(
    State(api): State<Api>,
    AppPath(app): AppPath,
    LastName(run): LastName,
    Params(params): Params<WaitParams>,
) -> Result<Json<RunInfo>, Refusal> {
    let number = number(&run)?;
    let limit = Duration::from_millis(params.wait_ms.min(WAIT_MS_MAX));
    let mut drain = api.drain.clone();
    let run = tokio::select! {
        run = runs::wait(&api.shared, &app, number, limit) => run?,
        _ = drain.requested() => return Err(Refusal::draining()),
    };
    Ok(Json(runs::show(&api.shared, &run)))
}

/// Asks a run to end.
#[utoipa::path(delete, path = "/v1/apps/{app}/runs/{run}", operation_id = "stop_run", tag = "runs",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("run" = String, Path, description = "`run.3`, or its number")),
    responses((status = 202, description = "It was asked to, or has ended", body = RunInfo), Errors))]
pub(crate) async fn stop(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    AppPath(app): AppPath,
    LastName(run): LastName,
) -> Result<(StatusCode, Json<RunInfo>), Refusal> {
    let number = number(&run)?;
    let remark = format!("run.{number} stopped by {}", caller.name);
    let run = runs::stop(&api.shared, &app, number, Some(remark)).await?;
    Ok((StatusCode::ACCEPTED, Json(run)))
}

fn number(text: &str) -> Result<u32, Refusal> {
    parse_label(text).ok_or_else(|| {
        let text = gilliam_model::text::excerpt(text);
        Refusal::malformed(format!("{text:?} is not a run, such as run.3"))
    })
}
