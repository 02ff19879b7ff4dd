//! The standard streams of runs: for the users who hold them, and for the nodes that have the runs.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use gilliam_model::{
    code::Code,
    name::AppName,
    run::{OnLeave, RunId, RunState, parse_label},
};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use crate::{
    api::{
        Api,
        auth::CallingNode,
        extract::{Names, Params},
        openapi::Errors,
    },
    attach::{self, End, Sender, Session},
    refusal::Refusal,
    runs,
    shared::Shared,
};

/// A node may hear of a run before the one who asked for it has the answer.
const SESSION_WAIT: Duration = Duration::from_secs(5);
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Which life of a control plane holds the streams.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HolderParams {
    /// Its name, as the run says.
    control: String,
}

/// Sends the standard input of a run that was asked for with `attach`: the body, until it ends.
#[utoipa::path(post, path = "/v1/apps/{app}/runs/{run}/stdin", operation_id = "send_run_input", tag = "runs",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("run" = String, Path, description = "`run.3`, or its number")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "As it is"),
    responses((status = 204, description = "It was sent, or the run takes no more"), Errors))]
pub(crate) async fn send_input(
    State(api): State<Api>,
    path: Names,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let (_, session) = held(&api.shared, &path).await?;
    let sender = session.input.sender().ok_or_else(|| taken(&path, "input"))?;
    drop(session);
    pass(&api, body, sender).await
}

/// Takes what a run prints that was asked for with `attach`: frames of a byte (1 standard output, 2 standard error), a
/// length of four bytes (big-endian), and as many bytes.
#[utoipa::path(get, path = "/v1/apps/{app}/runs/{run}/output", operation_id = "take_run_output", tag = "runs",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("run" = String, Path, description = "`run.3`, or its number")),
    responses((status = 200, description = "Frames, until the run ends",
        content_type = "application/octet-stream"), Errors))]
pub(crate) async fn take_output(State(api): State<Api>, path: Names) -> Result<Response, Refusal> {
    let (id, session) = held(&api.shared, &path).await?;
    let receiver = session.output.receiver().ok_or_else(|| taken(&path, "output"))?;
    session.heard();
    let (shared, on_leave) = (api.shared.clone(), session.on_leave);
    drop(session);
    let let_go = move |end: End| {
        shared.attachments.close(&id);
        if end == End::Left && on_leave == OnLeave::Stop {
            tokio::spawn(async move {
                let remark = format!("{} stopped: whoever held it is gone", id.label());
                if let Err(error) = runs::stop(&shared, &id.app, id.number, Some(remark)).await {
                    tracing::warn!(run = %id, error = error.into_error().message, "not stopped");
                }
            });
        }
    };
    let chunks = attach::taken(receiver, ending(&api), let_go);
    Ok(([(header::CONTENT_TYPE, BYTES)], Body::from_stream(chunks)).into_response())
}

/// Takes what a user sends to a run of a node, as the run's standard input.
#[utoipa::path(get, path = "/v1/nodes/{node}/runs/{app}/{run}/input", operation_id = "take_run_input", tag = "nodes",
    security(("bearer" = [])),
    params(("node" = String, Path, description = "The node's name"),
        ("app" = String, Path, description = "The app's name"),
        ("run" = String, Path, description = "`run.3`, or its number"), HolderParams),
    responses((status = 200, description = "As it was sent", content_type = "application/octet-stream"), Errors))]
pub(crate) async fn take_input(
    State(api): State<Api>,
    Extension(caller): Extension<CallingNode>,
    path: Names,
    Params(params): Params<HolderParams>,
) -> Result<Response, Refusal> {
    let session = of_node(&api.shared, &caller, &path, &params).await?;
    let receiver = session.input.receiver().ok_or_else(|| taken(&path, "input"))?;
    drop(session);
    let chunks = attach::taken(receiver, ending(&api), |_| {});
    Ok(([(header::CONTENT_TYPE, BYTES)], Body::from_stream(chunks)).into_response())
}

/// Sends what a run of a node prints to the user who holds it, as frames.
#[utoipa::path(post, path = "/v1/nodes/{node}/runs/{app}/{run}/output", operation_id = "send_run_output", tag = "nodes",
    security(("bearer" = [])),
    params(("node" = String, Path, description = "The node's name"),
        ("app" = String, Path, description = "The app's name"),
        ("run" = String, Path, description = "`run.3`, or its number"), HolderParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "Frames"),
    responses((status = 204, description = "It was sent, or nobody takes it any more"), Errors))]
pub(crate) async fn send_output(
    State(api): State<Api>,
    Extension(caller): Extension<CallingNode>,
    path: Names,
    Params(params): Params<HolderParams>,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let session = of_node(&api.shared, &caller, &path, &params).await?;
    let sender = session.output.sender().ok_or_else(|| taken(&path, "output"))?;
    drop(session);
    pass(&api, body, sender).await
}

async fn pass(api: &Api, body: Body, sender: Sender) -> Result<StatusCode, Refusal> {
    let mut drain = api.drain.clone();
    tokio::select! {
        () = attach::pass(body.into_data_stream(), sender) => Ok(StatusCode::NO_CONTENT),
        _ = drain.requested() => Err(Refusal::draining()),
    }
}

/// The end of this control plane.
fn ending(api: &Api) -> impl Future<Output = ()> + Send + use<> {
    let mut drain = api.drain.clone();
    async move {
        drain.requested().await;
    }
}

/// The run that a user holds here.
async fn held(shared: &Shared, path: &Names) -> Result<(RunId, Arc<Session>), Refusal> {
    let (app, number) = run_of(path)?;
    let run = runs::load(shared, &app, number).await?.value;
    let session = shared.attachments.of(&run.info(None));
    let session = session.ok_or_else(|| {
        let message = format!("nobody holds the streams of {} here", run.id.label());
        Refusal::new(Code::A409, message).hint(format!("gilliam logs -f {} shows its lines", run.id.label()))
    })?;
    Ok((run.id, session))
}

/// The session of a run that the calling node has.
async fn of_node(
    shared: &Shared,
    caller: &CallingNode,
    path: &Names,
    params: &HolderParams,
) -> Result<Arc<Session>, Refusal> {
    let node = path.get("node");
    caller.speaks_for(node)?;
    let (app, number) = run_of(path)?;
    let gone = || {
        Refusal::new(
            Code::A404,
            format!("the streams of run.{number} of {app} are not held here"),
        )
    };
    if params.control != shared.life {
        return Err(gone());
    }
    let run = runs::load(shared, &app, number).await?.value;
    let is_its = matches!(&run.state, RunState::Placed { node: of, .. } if of.as_str() == node);
    if !is_its {
        return Err(gone());
    }
    let session = shared.attachments.wait(&run.id, SESSION_WAIT).await;
    session.ok_or_else(gone)
}

fn run_of(path: &Names) -> Result<(AppName, u32), Refusal> {
    let (app, run) = (path.get("app"), path.get("run"));
    let app = app.parse().map_err(|_| Refusal::no_app(app))?;
    let number = parse_label(run).ok_or_else(|| {
        let run = gilliam_model::text::excerpt(run);
        Refusal::malformed(format!("{run:?} is not a run, such as run.3"))
    })?;
    Ok((app, number))
}

fn taken(path: &Names, what: &str) -> Refusal {
    let message = format!("somebody holds the {what} of {} already", path.get("run"));
    Refusal::new(Code::A409, message)
}
