//! Questions about services whose data is here: waited for at every control plane, answered by the services.
//!
//! Invariant: so many questions are answered at once, and no more; the others wait at their control plane.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use gilliam_model::{
    code::Code,
    name::NodeName,
    queue::Payload,
    service::{
        ASK_BYTES_MAX, AskService, AwaitQuestions, QUESTIONS_WAIT_MS_MAX, ServiceAnswer, ServiceQuestion,
        ServiceUsage, ServiceVerb,
    },
};
use gilliam_services::{Services, http as face};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use crate::{
    backoff,
    control::{Control, ControlError},
    entropy,
};

/// Questions that are answered at once: each may hold a body of some mebibytes.
const ANSWERED_MAX: usize = 8;
/// How much longer than asked for a wait may take.
const WAIT_SLACK: Duration = Duration::from_secs(10);
/// Wait after a call that failed.
const RETRY: Duration = Duration::from_millis(500);

/// Answers questions for as long as it is polled.
pub(crate) async fn answer(services: Services, control: Arc<Control>, node: NodeName) {
    let places = Arc::new(Semaphore::new(ANSWERED_MAX));
    let ways = (0..control.count()).map(|way| answer_to(way, &services, &control, &node, &places));
    futures::future::join_all(ways).await;
}

async fn answer_to(
    way: usize,
    services: &Services,
    control: &Arc<Control>,
    node: &NodeName,
    places: &Arc<Semaphore>,
) {
    let mut answering = JoinSet::new();
    loop {
        while answering.try_join_next().is_some() {}
        let questions = match wait(way, control, node).await {
            Ok(questions) => questions,
            Err(error) => {
                tracing::debug!(%error, "questions about services wait for the control plane");
                sleep(backoff::spread(RETRY, entropy::jitter())).await;
                continue;
            }
        };
        for question in questions {
            // The semaphore is never closed.
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let (services, control, node) = (services.clone(), control.clone(), node.clone());
            answering.spawn(async move {
                let number = question.number;
                let answer = one(&services, question).await;
                if let Err(error) = tell(way, &control, &node, number, &answer).await {
                    tracing::debug!(%error, "an answer about a service was not heard");
                }
                drop(place);
            });
        }
    }
}

async fn wait(way: usize, control: &Control, node: &NodeName) -> Result<Vec<ServiceQuestion>, ControlError> {
    let asked = AwaitQuestions {
        wait_ms: QUESTIONS_WAIT_MS_MAX,
    };
    let limit = Duration::from_millis(asked.wait_ms) + WAIT_SLACK;
    let client = control.client_of(way)?;
    match client.await_questions(node, &asked, limit).await {
        Ok(found) => Ok(found.questions),
        Err(error) => {
            control.failed_on(way);
            Err(error.into())
        }
    }
}

async fn tell(
    way: usize,
    control: &Control,
    node: &NodeName,
    number: u64,
    answer: &ServiceAnswer,
) -> Result<(), ControlError> {
    let client = control.client_of(way)?;
    Ok(client.answer_question(node, number, answer).await?)
}

async fn one(services: &Services, question: ServiceQuestion) -> ServiceAnswer {
    let bound = question.service;
    match question.verb {
        ServiceVerb::Request(asked) => match request(asked) {
            Some(request) => {
                let handle = services.handle(&bound.id, &bound.service);
                wire(face::answer(handle, request).await).await
            }
            None => refused(Code::A400, "the request is not one of HTTP"),
        },
        ServiceVerb::Usage => match services.usage(&bound.id, &bound.service).await {
            Ok(usage) => counted(usage),
            Err(error) => refused(Code::S22, &error),
        },
        ServiceVerb::Destroy => match services.destroy(&bound.id).await {
            Ok(()) => ServiceAnswer {
                status: 204,
                ..ServiceAnswer::default()
            },
            Err(error) => {
                tracing::warn!(service = %bound.id, "{error}: {:?}", std::error::Error::source(&error));
                refused(Code::S22, &error.to_string())
            }
        },
    }
}

/// The request that a question carries.
fn request(asked: AskService) -> Option<http::Request<face::Body>> {
    let mut request = http::Request::builder()
        .method(asked.method.as_str())
        .uri(asked.target.as_str());
    for (name, value) in &asked.headers {
        request = request.header(name, value);
    }
    request.body(face::whole(Bytes::from(asked.body.0))).ok()
}

/// An answer as it is sent.
async fn wire(response: http::Response<face::Body>) -> ServiceAnswer {
    let (head, body) = response.into_parts();
    let Ok(body) = face::read(body, ASK_BYTES_MAX).await else {
        let message = format!("the answer has more than {ASK_BYTES_MAX} bytes, or broke off");
        return refused(Code::A413, &message);
    };
    let headers: BTreeMap<String, String> = head
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    ServiceAnswer {
        status: head.status.as_u16(),
        headers,
        body: Payload(body.to_vec()),
    }
}

fn counted(usage: ServiceUsage) -> ServiceAnswer {
    ServiceAnswer {
        status: 200,
        headers: BTreeMap::new(),
        body: Payload(serde_json::to_vec(&usage).expect("numbers are JSON")),
    }
}

fn refused(code: Code, message: &str) -> ServiceAnswer {
    let error = gilliam_model::api::ApiError {
        code,
        message: message.to_owned(),
        hint: None,
    };
    ServiceAnswer {
        status: code.status(),
        headers: BTreeMap::new(),
        body: Payload(serde_json::to_vec(&error).expect("strings are JSON")),
    }
}
