//! The node protocol's part about jobs that a node's instances put.

use axum::{Extension, Json, extract::State};
use gilliam_model::{
    Timestamp,
    code::Code,
    queue::{BATCH_BYTES_MAX, BATCH_MAX, PutAnswer, PutInto, PutJob, PutJobs, PutsAnswered},
};
use gilliam_queue::Put;

use crate::{
    api::{
        Api,
        auth::CallingNode,
        extract::{self, LastName},
        openapi::Errors,
    },
    refusal::Refusal,
};

/// Largest body: as many payloads as go together, as JSON has them.
const PUTS_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

/// Puts jobs of a node's instances into queues of their apps.
#[utoipa::path(post, path = "/v1/nodes/{node}/puts", operation_id = "put_jobs", tag = "nodes",
    security(("bearer" = [])),
    params(("node" = String, Path, description = "The node's name")), request_body = PutJobs,
    responses((status = 200, description = "What became of each", body = PutsAnswered), Errors))]
pub(crate) async fn put(
    State(api): State<Api>,
    Extension(caller): Extension<CallingNode>,
    LastName(path): LastName,
    extract::Json(asked): extract::Json<PutJobs, PUTS_BYTES_MAX>,
) -> Result<Json<PutsAnswered>, Refusal> {
    let node = caller.named(&path)?;
    let shared = &api.shared;
    let queues = shared.queues()?;
    let count = asked.puts.len();
    if count > BATCH_MAX {
        let message = format!("{count} puts at once; at most {BATCH_MAX} are heard");
        return Err(Refusal::invalid(message));
    }
    let orders = shared.publisher.subscribe(&node).borrow().clone();
    let now = Timestamp::now();
    let orders = &orders;
    let puts = asked.puts.into_iter().map(|PutInto { queue, jobs }| async move {
        if !orders.as_ref().is_some_and(|orders| orders.reach(&queue.app)) {
            let message = format!("the node runs nothing of {}", queue.app);
            return PutAnswer::Refused(Refusal::new(Code::A404, message).into_error());
        }
        let jobs = jobs.into_iter().map(|job| job.at(now)).collect();
        match queues.put(&queue, jobs, now).await {
            Ok(put) => PutAnswer::Put {
                jobs: put
                    .into_iter()
                    .map(|put| PutJob {
                        id: put.id(),
                        new: matches!(put, Put::New(_)),
                    })
                    .collect(),
            },
            Err(error) => PutAnswer::Refused(Refusal::from(error).into_error()),
        }
    });
    // Together, so that they are committed together.
    let puts = futures::future::join_all(puts).await;
    Ok(Json(PutsAnswered { puts }))
}
