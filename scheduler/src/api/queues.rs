//! Queues as users see them: put jobs, look at them, and mend what went wrong.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use gilliam_model::{
    Timestamp,
    code::Code,
    name::{AppName, NameError, QueueName},
    queue::{
        JobDetails, JobId, JobInfo, JobState, JobsChanged, NewJob, PAYLOAD_BYTES_MAX, Payload, Priority,
        PutJob, QueueId, QueueInfo,
    },
    text::excerpt,
};
use gilliam_queue::{Put, Queues};
use http::StatusCode;
use serde::Deserialize;

use crate::{
    api::{
        Api,
        extract::{self, AppPath, Names, Params},
        openapi::Errors,
    },
    refusal::Refusal,
    shared::Shared,
};

/// Jobs listed unless it is said how many.
const JOBS_LISTED: usize = 20;
/// Jobs listed at most.
const JOBS_LISTED_MAX: usize = 1_000;

/// How a job is put.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PutParams {
    /// While a job of this key waits or runs, another one is not put.
    key: Option<String>,
    /// Not before so many milliseconds from now.
    delay_ms: Option<u64>,
    /// How urgent it is: -128 to 127, 0 by default; a higher one goes first.
    priority: Option<i8>,
    /// Attempts until it is dead: 1 to 25.
    attempts: Option<u32>,
}

/// Which jobs.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobsParams {
    /// Their state.
    state: JobState,
    /// How many at most: 20 by default, up to 1,000.
    limit: Option<usize>,
}

/// One job, or all dead ones.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RetryParams {
    /// The job; all dead ones when none is named.
    id: Option<String>,
}

/// Which jobs to remove.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PurgeParams {
    /// Those of this state; all that wait when none is named, dead ones stay.
    state: Option<JobState>,
}

/// Lists the queues of an app.
#[utoipa::path(get, path = "/v1/apps/{app}/queues", operation_id = "list_queues", tag = "queues",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, description = "Its queues, by name", body = Vec<QueueInfo>), Errors))]
pub(crate) async fn list(
    State(api): State<Api>,
    AppPath(app): AppPath,
) -> Result<Json<Vec<QueueInfo>>, Refusal> {
    api.shared.app(&app).await?;
    Ok(Json(api.shared.queues()?.list(&app).await?))
}

/// Shows a queue.
#[utoipa::path(get, path = "/v1/apps/{app}/queues/{queue}", operation_id = "show_queue", tag = "queues",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("queue" = String, Path, description = "The queue's name")),
    responses((status = 200, description = "The queue", body = QueueInfo), Errors))]
pub(crate) async fn show(State(api): State<Api>, path: Names) -> Result<Json<QueueInfo>, Refusal> {
    let at = At::of(&api.shared, &path).await?;
    let info = at.queues.info(&at.queue).await?;
    info.map(Json).ok_or_else(|| at.missing())
}

/// Puts a job into a queue: the body is what the worker is given, as it is.
#[utoipa::path(post, path = "/v1/apps/{app}/queues/{queue}/jobs", operation_id = "put_job", tag = "queues",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("queue" = String, Path, description = "The queue's name"), PutParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The payload"),
    responses((status = 201, description = "It is in the queue", body = PutJob),
        (status = 200, description = "A job of its key is there already (Q10)", body = PutJob), Errors))]
pub(crate) async fn put(
    State(api): State<Api>,
    path: Names,
    Params(params): Params<PutParams>,
    body: Body,
) -> Result<Response, Refusal> {
    let at = At::of(&api.shared, &path).await?;
    let payload = extract::whole(body, PAYLOAD_BYTES_MAX).await?;
    let now = Timestamp::now();
    let job = NewJob {
        payload,
        key: params.key,
        not_before: params.delay_ms.map(|delay| after(now, delay)),
        priority: Priority(params.priority.unwrap_or_default()),
        attempts_max: params.attempts,
    };
    let put = at.queues.put(&at.queue, vec![job], now).await?;
    let put = put
        .first()
        .copied()
        .ok_or_else(|| Refusal::internal(&"a job was put and not answered"))?;
    let (status, new) = match put {
        Put::New(_) => (StatusCode::CREATED, true),
        Put::Exists(_) => (StatusCode::OK, false),
    };
    Ok((status, Json(PutJob { id: put.id(), new })).into_response())
}

/// Lists jobs of a queue.
#[utoipa::path(get, path = "/v1/apps/{app}/queues/{queue}/jobs", operation_id = "list_jobs", tag = "queues",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("queue" = String, Path, description = "The queue's name"), JobsParams),
    responses((status = 200, description = "Its jobs of the state", body = Vec<JobInfo>), Errors))]
pub(crate) async fn jobs(
    State(api): State<Api>,
    path: Names,
    Params(params): Params<JobsParams>,
) -> Result<Json<Vec<JobInfo>>, Refusal> {
    let at = At::of(&api.shared, &path).await?;
    let most = params.limit.unwrap_or(JOBS_LISTED).min(JOBS_LISTED_MAX);
    Ok(Json(at.queues.jobs(&at.queue, params.state, most).await?))
}

/// Shows a job with its payload.
#[utoipa::path(get, path = "/v1/apps/{app}/queues/{queue}/jobs/{id}", operation_id = "show_job", tag = "queues",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("queue" = String, Path, description = "The queue's name"),
        ("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job", body = JobDetails), Errors))]
pub(crate) async fn job(State(api): State<Api>, path: Names) -> Result<Json<JobDetails>, Refusal> {
    let at = At::of(&api.shared, &path).await?;
    let id = path.get("id");
    let id: JobId = id.parse().map_err(|_| at.no_job(id))?;
    let found = at.queues.job(&at.queue, id).await?;
    let (info, payload) = found.ok_or_else(|| at.no_job(&id.to_string()))?;
    Ok(Json(JobDetails {
        info,
        payload: Payload(payload),
    }))
}

/// Has dead jobs begin anew: one, or all.
#[utoipa::path(post, path = "/v1/apps/{app}/queues/{queue}/retry", operation_id = "retry_jobs", tag = "queues",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("queue" = String, Path, description = "The queue's name"), RetryParams),
    responses((status = 200, description = "How many", body = JobsChanged), Errors))]
pub(crate) async fn retry(
    State(api): State<Api>,
    path: Names,
    Params(params): Params<RetryParams>,
) -> Result<Json<JobsChanged>, Refusal> {
    let at = At::of(&api.shared, &path).await?;
    let id = params
        .id
        .as_deref()
        .map(|id| id.parse().map_err(|_| at.no_job(id)));
    let id: Option<JobId> = id.transpose()?;
    let jobs = at.queues.retry(&at.queue, id, Timestamp::now()).await?;
    match id {
        Some(id) if jobs == 0 => Err(Refusal::new(
            Code::A404,
            format!("{} has no dead job {id}", at.queue.queue),
        )
        .hint(format!("gilliam queue {} dead lists them", at.queue.queue))),
        _ => Ok(Json(JobsChanged { jobs })),
    }
}

/// Has a queue give out no jobs.
#[utoipa::path(post, path = "/v1/apps/{app}/queues/{queue}/pause", operation_id = "pause_queue", tag = "queues",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("queue" = String, Path, description = "The queue's name")),
    responses((status = 204, description = "It gives out none"), Errors))]
pub(crate) async fn pause(State(api): State<Api>, path: Names) -> Result<StatusCode, Refusal> {
    let at = At::of(&api.shared, &path).await?;
    at.queues.pause(&at.queue, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has a queue give out jobs again.
#[utoipa::path(post, path = "/v1/apps/{app}/queues/{queue}/resume", operation_id = "resume_queue", tag = "queues",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("queue" = String, Path, description = "The queue's name")),
    responses((status = 204, description = "It gives them out"), Errors))]
pub(crate) async fn resume(State(api): State<Api>, path: Names) -> Result<StatusCode, Refusal> {
    let at = At::of(&api.shared, &path).await?;
    at.queues.pause(&at.queue, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes jobs that no worker has.
#[utoipa::path(delete, path = "/v1/apps/{app}/queues/{queue}/jobs", operation_id = "purge_queue", tag = "queues",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("queue" = String, Path, description = "The queue's name"), PurgeParams),
    responses((status = 200, description = "How many", body = JobsChanged), Errors))]
pub(crate) async fn purge(
    State(api): State<Api>,
    path: Names,
    Params(params): Params<PurgeParams>,
) -> Result<Json<JobsChanged>, Refusal> {
    let at = At::of(&api.shared, &path).await?;
    let states = match params.state {
        Some(JobState::Running) => {
            let message = "jobs that run are not removed: workers have them";
            return Err(Refusal::invalid(message).hint("scale the worker to 0 first, or let them end"));
        }
        Some(state) => vec![state],
        None => vec![JobState::Ready, JobState::Scheduled],
    };
    let jobs = at.queues.purge(&at.queue, &states).await?;
    Ok(Json(JobsChanged { jobs }))
}

/// The queue that a path names, of an app that is there.
struct At<'a> {
    queues: &'a Queues,
    queue: QueueId,
}

impl<'a> At<'a> {
    async fn of(shared: &'a Shared, path: &Names) -> Result<Self, Refusal> {
        let (app, queue) = (path.get("app"), path.get("queue"));
        let app: AppName = app.parse().map_err(|_| Refusal::no_app(app))?;
        let queue: QueueName = queue
            .parse()
            .map_err(|error: NameError| Refusal::invalid(error.to_string()))?;
        shared.app(&app).await?;
        Ok(Self {
            queues: shared.queues()?,
            queue: QueueId { app, queue },
        })
    }

    fn missing(&self) -> Refusal {
        let QueueId { app, queue } = &self.queue;
        let message = format!("nothing was ever put into {queue} of {app}");
        Refusal::new(Code::A404, message).hint(format!(
            "gilliam queue lists the queues of the app; gilliam queue {queue} put '{{}}' makes this one"
        ))
    }

    fn no_job(&self, id: &str) -> Refusal {
        let message = format!("{} has no job {}", self.queue.queue, excerpt(id));
        Refusal::new(Code::A404, message)
            .hint("a job that is done is gone; gilliam queue NAME jobs lists those that wait")
    }
}

fn after(now: Timestamp, delay_ms: u64) -> Timestamp {
    now.checked_add(Duration::from_millis(delay_ms))
        .unwrap_or(Timestamp::MAX)
}
