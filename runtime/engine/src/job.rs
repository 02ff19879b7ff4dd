//! Jobs: what a component that exports `gilliam:worker/handler` is called with, and what it says.
//!
//! A job goes the way of a request (`http.rs`, `lane.rs`): a lane of its own, the same limits and accounts.
//! It travels as a request without a body that has the job with it, and the answer as a response without one
//! that has the verdict.

use std::sync::Arc;

use bytes::Bytes;
use gilliam_model::{code::Code, image::Shape};
use http_body_util::Empty;
use wasmtime::{
    Store,
    component::{ComponentExportIndex, ComponentType, Instance, InstancePre, Lift, Lower, TypedFunc},
};
use wasmtime_wasi_http::WasiBody;

use crate::{body::request_body, failure::Failure, guest::Guest};

/// One job, as a worker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobCall {
    /// The same at every attempt.
    pub id: String,
    /// The queue's name.
    pub queue: String,
    /// What the sender sent.
    pub payload: Vec<u8>,
    /// 1 at the first attempt.
    pub attempt: u32,
}

/// What a worker says of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// It is to be tried again.
    Retry {
        /// Why.
        reason: String,
        /// Not before this many milliseconds.
        after_ms: Option<u64>,
    },
    /// It is never to be tried again.
    Discard {
        /// Why.
        reason: String,
    },
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Job<'a> {
    id: &'a str,
    queue: &'a str,
    payload: &'a [u8],
    attempt: u32,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum JobError {
    #[component(name = "retry")]
    Retry(String),
    #[component(name = "retry-after")]
    RetryAfter(u64),
    #[component(name = "discard")]
    Discard(String),
}

type Handle<'a> = TypedFunc<(Job<'a>,), (Result<(), JobError>,)>;

/// A linked component whose handler was found.
pub(crate) struct WorkerPre {
    pre: InstancePre<Guest>,
    handle: ComponentExportIndex,
}

/// The handler of an instance.
pub(crate) struct Worker {
    instance: Instance,
    handle: ComponentExportIndex,
}

impl WorkerPre {
    pub(crate) fn new(pre: InstancePre<Guest>) -> wasmtime::Result<Self> {
        let component = pre.component();
        let types = component.component_type();
        let name = types
            .exports(pre.engine())
            .map(|(name, _)| name)
            .find(|name| name.starts_with(Shape::Job.export()))
            .ok_or_else(|| wasmtime::format_err!("it does not export {}", Shape::Job.export()))?;
        let lacking = || wasmtime::format_err!("its export {name} has no function handle");
        let interface = component.get_export_index(None, name).ok_or_else(lacking)?;
        let handle = component
            .get_export_index(Some(&interface), "handle")
            .ok_or_else(lacking)?;
        Ok(Self { pre, handle })
    }

    pub(crate) async fn instantiate_async(&self, store: &mut Store<Guest>) -> wasmtime::Result<Worker> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        // Of the wrong type it is refused here, and not at the first job.
        let _: Handle<'_> = instance.get_typed_func(&mut *store, self.handle)?;
        Ok(Worker {
            instance,
            handle: self.handle,
        })
    }
}

impl Worker {
    pub(crate) async fn handle(&self, store: &mut Store<Guest>, job: &JobCall) -> wasmtime::Result<Verdict> {
        let handle: Handle<'_> = self.instance.get_typed_func(&mut *store, self.handle)?;
        let job = Job {
            id: &job.id,
            queue: &job.queue,
            payload: &job.payload,
            attempt: job.attempt,
        };
        let (result,) = handle.call_async(&mut *store, (job,)).await?;
        Ok(match result {
            Ok(()) => Verdict::Done,
            Err(JobError::Retry(reason)) => Verdict::Retry {
                reason,
                after_ms: None,
            },
            Err(JobError::RetryAfter(after_ms)) => Verdict::Retry {
                reason: format!("the worker asked to try again after {after_ms} ms"),
                after_ms: Some(after_ms),
            },
            Err(JobError::Discard(reason)) => Verdict::Discard { reason },
        })
    }
}

/// A request that carries a job.
pub(crate) fn request(job: JobCall) -> http::Request<Empty<Bytes>> {
    let mut request = http::Request::new(Empty::new());
    *request.uri_mut() = http::Uri::from_static("http://job");
    request.extensions_mut().insert(Arc::new(job));
    request
}

/// The job that a request carries.
pub(crate) fn of_request(request: &http::Request<WasiBody>) -> wasmtime::Result<Arc<JobCall>> {
    let job = request.extensions().get::<Arc<JobCall>>().cloned();
    job.ok_or_else(|| wasmtime::format_err!("a worker is called with jobs, not with requests"))
}

/// A response that carries a verdict.
pub(crate) fn response(verdict: Verdict) -> http::Response<WasiBody> {
    let mut response = http::Response::new(request_body(Empty::new()));
    response.extensions_mut().insert(verdict);
    response
}

/// The verdict that a response carries.
pub(crate) fn of_response<B>(response: &http::Response<B>) -> Result<Verdict, Failure> {
    let verdict = response.extensions().get::<Verdict>().cloned();
    verdict.ok_or_else(|| Failure::new(Code::R99, "the worker answered with a response"))
}
