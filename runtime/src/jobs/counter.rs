//! The queues of an app by HTTP, for its own instances: `http://queues.internal/NAME/…`.
//!
//! | request | answer |
//! |---|---|
//! | `POST /NAME/jobs?key=&delay_ms=&priority=&attempts=` | 201 `{"id":"18","new":true}`, 200 for a known key |
//! | `POST /NAME/batch`, `[{"payload":base64,"key":…},…]` | 201 `{"jobs":[{"id":…,"new":…},…]}`, all or none |
//! | `POST /NAME/take?max=1&wait_ms=20000` | 200 `{"jobs":[{"id","lease","attempt","payload"}]}` |
//! | `POST /NAME/jobs/ID/done\|retry\|discard\|extend?lease=N` | 200 `{"dead":false}`, 409 Q11 |
//!
//! Invariant: the app is the caller's own; nothing in a request names one.

use std::{sync::Arc, time::Duration};

use gilliam_engine::{InternalBody, Refusal};
use gilliam_model::{
    api::ApiError,
    code::Code,
    name::QueueName,
    queue::{
        BATCH_BYTES_MAX, BATCH_MAX, ERROR_BYTES_MAX, Heard, JobId, JobToPut, LEASE, LeaseId, Outcome,
        PAYLOAD_BYTES_MAX, Payload, PutAnswer, TakenJob, TakenJobs,
    },
    text::excerpt,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Desk, desk::Unheard, puts::PutError};

/// Jobs that one request takes at most.
const TAKE_MAX: u32 = 100;
/// Longest wait for jobs, and what it is unless it is said: below what any answer may take.
const WAIT_MS_MAX: u64 = 25_000;
const WAIT_MS: u64 = 20_000;
/// Bytes of a batch to put as JSON: base64 takes a third more.
const BATCH_JSON_BYTES_MAX: usize = BATCH_BYTES_MAX / 3 * 4;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Put,
    PutBatch,
    Take,
    Say(JobId, Verb),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Done,
    Retry,
    Discard,
    Extend,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PutQuery {
    key: Option<String>,
    delay_ms: Option<u64>,
    priority: Option<i8>,
    attempts: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TakeQuery {
    max: Option<u32>,
    wait_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SayQuery {
    lease: u32,
    #[serde(default)]
    after_ms: Option<u64>,
    #[serde(default)]
    for_ms: Option<u64>,
}

#[derive(Serialize)]
struct Batch<T> {
    jobs: T,
}

#[derive(Serialize)]
struct Said {
    /// It went among the dead letters.
    dead: bool,
}

/// Answers an instance's request.
pub(crate) async fn answer(
    desk: Arc<Desk>,
    request: Request<InternalBody>,
) -> Result<Response<InternalBody>, Refusal> {
    let (parts, body) = request.into_parts();
    let (queue, asked) = asked(parts.uri.path())?;
    if parts.method != Method::POST {
        let message = format!("{} of {}", parts.method, excerpt(parts.uri.path()));
        return Err(Refusal::new(Code::A400, message, "queues are asked by POST"));
    }
    match asked {
        Asked::Put => put(&desk, &queue, &parts, body).await,
        Asked::PutBatch => put_batch(&desk, &queue, &parts, body).await,
        Asked::Take => {
            let query: TakeQuery = query(&parts)?;
            let max = query.max.unwrap_or(1).clamp(1, TAKE_MAX);
            let wait = Duration::from_millis(query.wait_ms.unwrap_or(WAIT_MS).min(WAIT_MS_MAX));
            let taken = desk
                .take(&queue, max, wait)
                .await
                .into_iter()
                .map(|job| TakenJob {
                    id: job.id,
                    lease: job.lease,
                    attempt: job.attempt,
                    payload: job.payload,
                });
            let jobs = taken.collect();
            Ok(json(StatusCode::OK, &TakenJobs { jobs }))
        }
        Asked::Say(id, verb) => say(&desk, &queue, (id, verb), &parts, body).await,
    }
}

/// What a path means.
fn asked(path: &str) -> Result<(QueueName, Asked), Refusal> {
    let unknown = || {
        let hint = "POST /NAME/jobs, /NAME/batch, /NAME/take, /NAME/jobs/ID/done, retry, discard or extend";
        Refusal::new(
            Code::A404,
            format!("queues.internal has no {}", excerpt(path)),
            hint,
        )
    };
    let parts: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let (name, asked) = match parts.as_slice() {
        [name, "jobs"] => (name, Asked::Put),
        [name, "batch"] => (name, Asked::PutBatch),
        [name, "take"] => (name, Asked::Take),
        [name, "jobs", id, verb] => {
            let verb = match *verb {
                "done" => Verb::Done,
                "retry" => Verb::Retry,
                "discard" => Verb::Discard,
                "extend" => Verb::Extend,
                _ => return Err(unknown()),
            };
            let id = id.parse().map_err(|_| unknown())?;
            (name, Asked::Say(id, verb))
        }
        _ => return Err(unknown()),
    };
    let queue = name.parse::<QueueName>();
    let queue = queue.map_err(|error| Refusal::new(Code::A422, error.to_string(), "such as emails"))?;
    Ok((queue, asked))
}

async fn put(
    desk: &Desk,
    queue: &QueueName,
    parts: &Parts,
    body: InternalBody,
) -> Result<Response<InternalBody>, Refusal> {
    let query: PutQuery = query(parts)?;
    let _room = desk.puts().room(announced(parts, PAYLOAD_BYTES_MAX)).await;
    let payload = whole(body, PAYLOAD_BYTES_MAX).await?;
    let job = JobToPut {
        payload: Payload(payload),
        key: query.key,
        delay_ms: query.delay_ms,
        priority: query.priority,
        attempts: query.attempts,
    };
    let put = put_all(desk, queue, vec![job]).await?;
    let put = put
        .into_iter()
        .next()
        .ok_or_else(|| unavailable(PutError::Unknown))?;
    let status = if put.new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(json(status, &put))
}

async fn put_batch(
    desk: &Desk,
    queue: &QueueName,
    parts: &Parts,
    body: InternalBody,
) -> Result<Response<InternalBody>, Refusal> {
    let _room = desk.puts().room(announced(parts, BATCH_JSON_BYTES_MAX)).await;
    let bytes = whole(body, BATCH_JSON_BYTES_MAX).await?;
    let jobs: Vec<JobToPut> = serde_json::from_slice(&bytes).map_err(|error| {
        let hint = "a list such as [{\"payload\":\"aGk=\",\"key\":\"order-7\"}], with payloads as base64";
        Refusal::new(Code::A400, format!("the batch cannot be read: {error}"), hint)
    })?;
    if jobs.len() > BATCH_MAX {
        let message = format!("{} jobs in a batch; at most {BATCH_MAX} go together", jobs.len());
        return Err(Refusal::new(Code::A422, message, "put them in several batches"));
    }
    let jobs = put_all(desk, queue, jobs).await?;
    Ok(json(StatusCode::CREATED, &Batch { jobs }))
}

async fn put_all(
    desk: &Desk,
    queue: &QueueName,
    jobs: Vec<JobToPut>,
) -> Result<Vec<gilliam_model::queue::PutJob>, Refusal> {
    match desk.put(queue, jobs).await {
        Ok(PutAnswer::Put { jobs }) => Ok(jobs),
        Ok(PutAnswer::Refused(error)) => Err(refused(error)),
        Err(error) => Err(unavailable(error)),
    }
}

async fn say(
    desk: &Desk,
    queue: &QueueName,
    (id, verb): (JobId, Verb),
    parts: &Parts,
    body: InternalBody,
) -> Result<Response<InternalBody>, Refusal> {
    let query: SayQuery = query(parts)?;
    let reason = whole(body, ERROR_BYTES_MAX).await?;
    let error = String::from_utf8_lossy(&reason).into_owned();
    let outcome = match verb {
        Verb::Done => Outcome::Done,
        Verb::Retry => Outcome::Retry {
            error,
            after_ms: query.after_ms,
        },
        Verb::Discard => Outcome::Discard { error },
        Verb::Extend => Outcome::Extend {
            for_ms: query
                .for_ms
                .unwrap_or(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX)),
        },
    };
    match desk.say(queue, (id, LeaseId(query.lease)), outcome).await {
        Ok(Heard::Kept) => Ok(json(StatusCode::OK, &Said { dead: false })),
        Ok(Heard::Dead) => Ok(json(StatusCode::OK, &Said { dead: true })),
        Ok(Heard::Lost) | Err(Unheard::NotHeld) => Err(Refusal::new(
            Code::Q11,
            format!(
                "job {id} of {queue} is not this instance's under lease {}",
                query.lease
            ),
            "another worker may have it: leave it, and extend leases of long jobs in time",
        )),
        Err(Unheard::Silence) => Err(Refusal::new(
            Code::S13,
            format!("what became of job {id} of {queue} is not known: the control plane does not answer"),
            "it is told when that is back; until then the lease goes on",
        )),
    }
}

fn refused(error: ApiError) -> Refusal {
    let ApiError { code, message, hint } = error;
    Refusal { code, message, hint }
}

fn unavailable(error: PutError) -> Refusal {
    let (message, hint) = match error {
        PutError::Refused(error) => return refused(error),
        PutError::Unreachable => (
            "the control plane does not answer: nothing was put",
            "put it again later",
        ),
        PutError::Unknown => (
            "the control plane broke off: it is not known whether the jobs were put",
            "put them again; those with a key are put once",
        ),
    };
    Refusal::new(Code::S13, message, hint)
}

/// The query of a request.
fn query<T: DeserializeOwned>(parts: &Parts) -> Result<T, Refusal> {
    let text = parts.uri.query().unwrap_or_default();
    serde_urlencoded::from_str(text).map_err(|error| {
        let message = format!("the query {:?} cannot be read: {error}", excerpt(text));
        Refusal {
            code: Code::A400,
            message,
            hint: None,
        }
    })
}

/// How large a body is at most.
fn announced(parts: &Parts, bytes_max: usize) -> usize {
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    length.unwrap_or(bytes_max).min(bytes_max)
}

async fn whole(mut body: InternalBody, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal {
            code: Code::A400,
            message: format!("the body broke off: {error}"),
            hint: None,
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > bytes_max {
            let message = format!("the body has more than {bytes_max} bytes");
            let hint = "put what is large into a blob, and its name into the job";
            return Err(Refusal::new(Code::A413, message, hint));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<InternalBody> {
    let body = serde_json::to_vec(value).expect("the model's types are JSON");
    let length = body.len();
    let body = Full::from(body).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_is_asked() {
        let check = |path: &str, want: Result<(&str, Asked), Code>| {
            let got = asked(path);
            let got = got
                .as_ref()
                .map(|(queue, asked)| (queue.as_str(), asked.clone()))
                .map_err(|refusal| refusal.code);
            assert_eq!(got, want, "{path}");
        };
        check("/emails/jobs", Ok(("emails", Asked::Put)));
        check("/emails/batch", Ok(("emails", Asked::PutBatch)));
        check("/emails/take", Ok(("emails", Asked::Take)));
        check(
            "/emails/jobs/18/extend",
            Ok(("emails", Asked::Say(JobId(18), Verb::Extend))),
        );
        for unknown in [
            "/",
            "/emails",
            "/emails/jobs/",
            "/emails/jobs/x/done",
            "/emails/jobs/18/undone",
        ] {
            check(unknown, Err(Code::A404));
        }
        check("/E%20/jobs", Err(Code::A422));
    }

    #[test]
    fn queries_are_strict() {
        let parse = |uri: &str| {
            let (parts, ()) = Request::post(uri).body(()).expect("request").into_parts();
            query::<PutQuery>(&parts).map(|query| query.key)
        };
        assert_eq!(parse("/emails/jobs"), Ok(None));
        assert_eq!(parse("/emails/jobs?key=a%20b"), Ok(Some("a b".to_owned())));
        for bad in ["/emails/jobs?kye=a", "/emails/jobs?delay_ms=-1"] {
            assert_eq!(parse(bad).expect_err(bad).code, Code::A400);
        }
    }
}
