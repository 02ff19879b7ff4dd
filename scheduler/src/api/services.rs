//! Services as users see them, and the wait of nodes for questions about those whose data they have.

use std::time::Duration;

use axum::{Extension, Json, extract::State};
use gilliam_model::{
    name::NodeName,
    service::{
        ASK_BYTES_MAX, ASK_JSON_BYTES_MAX, AskService, AwaitQuestions, QUESTIONS_WAIT_MS_MAX, ServiceAnswer,
        ServiceInfo, ServiceQuestions, ServiceVerb, ShareService,
    },
    text::excerpt,
};
use http::StatusCode;
use serde::Deserialize;

use crate::{
    api::{
        Api,
        auth::CallingNode,
        extract::{self, AppPath, Names, Params},
        openapi::Errors,
    },
    refusal::Refusal,
    services,
};

/// What makes sure that nobody destroys what he did not mean.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DestroyParams {
    /// The service's name once more.
    confirm: String,
}

/// Lists the services of an app.
#[utoipa::path(get, path = "/v1/apps/{app}/services", operation_id = "list_services", tag = "services",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, description = "Its services, by name", body = Vec<ServiceInfo>), Errors))]
pub(crate) async fn list(
    State(api): State<Api>,
    AppPath(app): AppPath,
) -> Result<Json<Vec<ServiceInfo>>, Refusal> {
    services::list(&api.shared, &app).await.map(Json)
}

/// Destroys a service with its data.
#[utoipa::path(delete, path = "/v1/apps/{app}/services/{service}", operation_id = "destroy_service",
    tag = "services", security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("service" = String, Path, description = "The service's name"), DestroyParams),
    responses((status = 204, description = "It is gone"), Errors))]
pub(crate) async fn destroy(
    State(api): State<Api>,
    AppPath(app): AppPath,
    path: Names,
    Params(params): Params<DestroyParams>,
) -> Result<StatusCode, Refusal> {
    let name = path.get("service");
    if params.confirm != name {
        let message = format!(
            "{:?} is not the name of the service that is to be destroyed",
            excerpt(&params.confirm)
        );
        return Err(Refusal::invalid(message).hint(format!("confirm={}", excerpt(name))));
    }
    services::destroy(&api.shared, &app, name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shares a service with another app.
#[utoipa::path(post, path = "/v1/apps/{app}/services/{service}/share", operation_id = "share_service",
    tag = "services", security(("bearer" = [])), request_body = ShareService,
    params(("app" = String, Path, description = "The app's name"),
        ("service" = String, Path, description = "The service's name")),
    responses((status = 204, description = "It is shared"), Errors))]
pub(crate) async fn share(
    State(api): State<Api>,
    AppPath(app): AppPath,
    path: Names,
    extract::Json(asked): extract::Json<ShareService>,
) -> Result<StatusCode, Refusal> {
    services::share(&api.shared, &app, path.get("service"), &asked).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a service back from another app.
#[utoipa::path(post, path = "/v1/apps/{app}/services/{service}/unshare", operation_id = "unshare_service",
    tag = "services", security(("bearer" = [])), request_body = ShareService,
    params(("app" = String, Path, description = "The app's name"),
        ("service" = String, Path, description = "The service's name")),
    responses((status = 204, description = "It is no longer shared"), Errors))]
pub(crate) async fn unshare(
    State(api): State<Api>,
    AppPath(app): AppPath,
    path: Names,
    extract::Json(asked): extract::Json<ShareService>,
) -> Result<StatusCode, Refusal> {
    services::unshare(&api.shared, &app, path.get("service"), &asked.with).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a request to a service, as a process makes it to `http://NAME.internal`.
#[utoipa::path(post, path = "/v1/apps/{app}/services/{service}/request", operation_id = "ask_service",
    tag = "services", security(("bearer" = [])), request_body = AskService,
    params(("app" = String, Path, description = "The app's name"),
        ("service" = String, Path, description = "The service's name")),
    responses((status = 200, description = "What it answers", body = ServiceAnswer), Errors))]
pub(crate) async fn request(
    State(api): State<Api>,
    AppPath(app): AppPath,
    path: Names,
    extract::Json(asked): extract::Json<AskService, ASK_JSON_BYTES_MAX>,
) -> Result<Json<ServiceAnswer>, Refusal> {
    if asked.body.0.len() > ASK_BYTES_MAX {
        let message = format!(
            "the body has {} bytes; at most {ASK_BYTES_MAX} go by way of the API",
            asked.body.0.len()
        );
        return Err(Refusal::invalid(message));
    }
    let verb = ServiceVerb::Request(asked);
    let answer = services::ask(&api.shared, &app, path.get("service"), verb).await?;
    Ok(Json(answer))
}

/// Waits until somebody asks a node about a service.
#[utoipa::path(post, path = "/v1/nodes/{node}/questions", operation_id = "await_questions", tag = "nodes",
    security(("bearer" = [])),
    params(("node" = String, Path, description = "The node's name")), request_body = AwaitQuestions,
    responses((status = 200, description = "The questions", body = ServiceQuestions), Errors))]
pub(crate) async fn await_questions(
    State(api): State<Api>,
    Extension(caller): Extension<CallingNode>,
    path: Names,
    extract::Json(asked): extract::Json<AwaitQuestions>,
) -> Result<Json<ServiceQuestions>, Refusal> {
    let node = node(&caller, &path)?;
    let shared = &api.shared;
    let mut drain = api.drain.clone();
    let mut woken = shared.questions.subscribe(&node);
    let found = async {
        loop {
            let questions = shared.questions.waiting(&node);
            if !questions.is_empty() || woken.changed().await.is_err() {
                return questions;
            }
        }
    };
    let longest = Duration::from_millis(asked.wait_ms.min(QUESTIONS_WAIT_MS_MAX));
    let questions = tokio::select! {
        found = found => found,
        () = tokio::time::sleep(longest) => Vec::new(),
        _ = drain.requested() => return Err(Refusal::draining()),
    };
    Ok(Json(ServiceQuestions { questions }))
}

/// Takes a node's answer to a question.
#[utoipa::path(post, path = "/v1/nodes/{node}/answers/{number}", operation_id = "answer_question", tag = "nodes",
    security(("bearer" = [])), request_body = ServiceAnswer,
    params(("node" = String, Path, description = "The node's name"),
        ("number" = u64, Path, description = "The question's number")),
    responses((status = 204, description = "Heard"), Errors))]
pub(crate) async fn answer(
    State(api): State<Api>,
    Extension(caller): Extension<CallingNode>,
    path: Names,
    extract::Json(answer): extract::Json<ServiceAnswer, ASK_JSON_BYTES_MAX>,
) -> Result<StatusCode, Refusal> {
    let node = node(&caller, &path)?;
    let number = path
        .get("number")
        .parse()
        .map_err(|_| Refusal::malformed("the number of a question is a number"))?;
    api.shared.questions.take(&node, number, answer);
    Ok(StatusCode::NO_CONTENT)
}

fn node(caller: &CallingNode, path: &Names) -> Result<NodeName, Refusal> {
    caller.named(path.get("node"))
}
