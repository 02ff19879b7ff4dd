//! Jobs: what a worker is called with, what it says, and what becomes of those that come to no verdict.

mod support;

use gilliam_engine::{CallError, HttpInstance, JobCall, Verdict};
use gilliam_model::{code::Code, image::Shape, limits::Limits};
use support::{DEADLINE, OBEYS, job_guest, loaded, shape_of, start};

async fn worker(limits: Limits) -> HttpInstance {
    let loaded = loaded(&job_guest("", OBEYS));
    assert_eq!(shape_of(&loaded), Shape::Job);
    start(&loaded, limits).await.0
}

async fn work(instance: &HttpInstance, payload: &str) -> Result<Verdict, CallError> {
    let job = JobCall {
        id: "7".to_owned(),
        queue: "emails".to_owned(),
        payload: payload.as_bytes().to_vec(),
        attempt: 1,
    };
    tokio::time::timeout(DEADLINE, instance.work(job))
        .await
        .expect("it ends")
}

async fn said(instance: &HttpInstance, payload: &str) -> Verdict {
    work(instance, payload).await.expect("a verdict")
}

#[tokio::test]
async fn a_worker_is_given_the_payload_and_its_verdict_comes_back() {
    let instance = worker(Limits::default()).await;
    assert_eq!(said(&instance, "done").await, Verdict::Done);
    let retry = Verdict::Retry {
        reason: "remote is away".to_owned(),
        after_ms: None,
    };
    assert_eq!(said(&instance, "remote is away").await, retry);
    let Verdict::Retry { after_ms, .. } = said(&instance, "again").await else {
        panic!("no retry");
    };
    assert_eq!(after_ms, Some(1_500));
    let discard = Verdict::Discard {
        reason: "x is unknown".to_owned(),
    };
    assert_eq!(said(&instance, "x is unknown").await, discard);
    let usage = instance.usage();
    assert_eq!(
        (usage.requests_total, usage.in_flight, usage.traps_total),
        (4, 0, 0)
    );
    assert!(usage.fuel_total > 0);
}

#[tokio::test]
async fn a_job_that_traps_loops_or_takes_too_much_is_an_error_and_the_next_one_is_done() {
    let instance = worker(Limits {
        memory_bytes_max: 1 << 20,
        fuel_per_request_max: 10_000_000,
        ..Limits::default()
    })
    .await;
    for (order, code) in [("t", Code::R23), ("l", Code::R20), ("m", Code::R14)] {
        let error = work(&instance, order).await.expect_err(order);
        assert_eq!(error.code, code, "{order}: {}", error.message);
        assert_eq!(said(&instance, "done").await, Verdict::Done);
    }
    assert_eq!(instance.usage().traps_total, 3);
}

#[tokio::test]
async fn a_job_that_takes_too_long_is_ended() {
    let instance = worker(Limits {
        request_ms_max: 100,
        fuel_per_request_max: 1_000_000_000_000,
        ..Limits::default()
    })
    .await;
    let error = work(&instance, "l").await.expect_err("too long");
    assert_eq!(error.code, Code::H12);
    assert_eq!(said(&instance, "done").await, Verdict::Done);
}

#[tokio::test]
async fn a_worker_gets_no_requests() {
    let instance = worker(Limits::default()).await;
    let error = instance.call(support::get("/")).await.expect_err("refused");
    assert_eq!(error.code, Code::R23);
}
