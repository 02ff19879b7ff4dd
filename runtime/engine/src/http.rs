//! Instances that serve http requests, and those that do jobs, which go the same way.
//!
//! In flow requests, out flow responses; each request runs in a lane of its own, at most `concurrency_max`
//! at once, and at most `backlog_max` wait in front. A request's first slice runs where it arrived; what
//! does not end there moves to the guest threads.
//!
//! Invariant: `call` returns within `request_ms_max`, whatever the guest does.
//! Invariant: a request that is given up (dropped call, dropped body, deadline) ends its guest.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use gilliam_model::code::Code;
use http_body::Body;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::Instant,
};
use wasmtime_wasi_http::WasiBody;

use crate::{
    body::{ResponseBody, request_body},
    config::InstanceConfig,
    exchange::{Caller, CallerSide, Exchange},
    failure::{CallError, Failure, StartError},
    guest::Shared,
    job::{self, JobCall, Verdict},
    lane::{Call, Lane},
    load::Loaded,
    ride::Ride,
    slots::{Patience, Slot},
    throttle::Metered,
    usage::{RequestUsage, Usage},
    warm::Lot,
};

/// How long a guest may go on after its response's body has ended.
const LINGER_MAX: Duration = Duration::from_secs(10);
/// CPU time of a first slice that is short enough to run where the request arrived; fuel bounds it to a
/// tenth of this, unless the guest spends its fuel on costly host calls or bulk operations.
const FIRST_SLICE_MAX: Duration = Duration::from_millis(1);
/// Requests that go straight to the guest threads after one whose first slice was too long.
const FIRST_SLICE_PENALTY: u32 = 200;

/// A running http process: `call` it. Dropping it ends what it is doing.
pub struct HttpInstance {
    inner: Arc<Inner>,
}

struct Inner {
    loaded: Loaded,
    shared: Arc<Shared>,
    lanes: Arc<Semaphore>,
    lanes_max: u32,
    /// Its idle lanes.
    warm: Arc<Lot<Lane>>,
    draining: AtomicBool,
    killed: Killed,
    /// Requests left whose first slice does not run where they arrive.
    first_slice_penalty: AtomicU32,
}

impl fmt::Debug for HttpInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpInstance")
            .field("label", &self.inner.shared.label())
            .finish_non_exhaustive()
    }
}

impl HttpInstance {
    /// Boots the component once, on the guest threads, and keeps that lane for the first request. Fails
    /// with R10 after `boot_ms_max`, with the guest's own failure when it traps or is refused memory, with
    /// A422 for a bad configuration.
    pub async fn start(loaded: &Loaded, config: InstanceConfig) -> Result<Self, StartError> {
        let shared = Shared::new(loaded.engines(), config)?;
        let boot_max = Duration::from_millis(shared.limits().boot_ms_max);
        let slot = boot_slot(loaded, &shared, boot_max).await?;
        let threads = loaded.engines().threads();
        let boot = {
            let (loaded, cpu, shared) = (loaded.clone(), shared.cpu.clone(), shared.clone());
            let boot = async move { Lane::boot(&loaded, &shared, slot).await };
            threads.spawn(&cpu, boot)
        };
        let lane = match tokio::time::timeout(boot_max, boot).await {
            Ok(Some(Ok(Ok(lane)))) => lane,
            Ok(Some(Ok(Err(failure)))) => return Err(failure.into()),
            Ok(Some(Err(panicked))) => return Err(Failure::panicked(&panicked).into()),
            Ok(None) => {
                return Err(Failure::new(Code::R99, "the guest threads are shut down").into());
            }
            Err(_) => {
                let message = format!("not ready after {} ms", shared.limits().boot_ms_max);
                return Err(Failure::new(Code::R10, message).into());
            }
        };
        let lanes_max = lanes_max(&shared, lane.memory_bytes());
        let inner = Inner {
            loaded: loaded.clone(),
            lanes: Arc::new(Semaphore::new(lanes_max as usize)),
            lanes_max,
            warm: loaded.warm().lot(shared.limits().idle_ms_max),
            draining: AtomicBool::new(false),
            killed: Killed::default(),
            first_slice_penalty: AtomicU32::new(0),
            shared,
        };
        inner.park(lane);
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Serves one request. Its body, or the error, knows what it used. Must run within a tokio
    /// runtime. Dropping the future or the response's body ends the guest.
    pub async fn call<B>(&self, request: http::Request<B>) -> Result<http::Response<ResponseBody>, CallError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let start = Instant::now();
        let limits = self.inner.shared.limits();
        let deadline = start + Duration::from_millis(limits.request_ms_max);
        if request.uri().authority().is_none() && !request.headers().contains_key(http::header::HOST) {
            return Err(Failure::new(Code::H26, "the request names no host").into());
        }
        let permit = self.admit(deadline).await?;
        let is_head = request.method() == http::Method::HEAD;
        let request = request.map(request_body);
        let exchange = Arc::new(Exchange::default());
        let caller = CallerSide::new(exchange.clone());
        let call = Call {
            request: Some(request),
            exchange: exchange.clone(),
        };
        let finish = Finish::new(self.inner.clone(), exchange.clone(), start, permit);
        let mut ride = Ride::new(
            Box::pin(drive(call, finish)),
            self.inner.loaded.engines().clone(),
            self.inner.shared.cpu.clone(),
            exchange.clone(),
        );
        let penalty = &self.inner.first_slice_penalty;
        if penalty
            .try_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_ok()
        {
            ride.hand_over();
        }
        // Made when there is something to wait for: most heads are there at the first poll.
        let mut late = None;
        let wait = poll_fn(|cx| {
            ride.poll(cx);
            if let Poll::Ready(head) = exchange.poll_head(cx) {
                return Poll::Ready(Some(head));
            }
            let late = late.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            late.as_mut().poll(cx).map(|()| None)
        });
        let head = match wait.await {
            Some(Some(head)) => head.and_then(checked),
            Some(None) => Err(Failure::new(Code::H13, "the instance was stopped")),
            None => {
                let ms = limits.request_ms_max;
                let failure = Failure::new(Code::H12, format!("no response head after {ms} ms"));
                self.inner.shared.trapped(&failure);
                Err(failure)
            }
        };
        if ride.longest() > FIRST_SLICE_MAX {
            penalty.store(FIRST_SLICE_PENALTY, Relaxed);
        }
        let response = match head {
            Ok(response) => response,
            Err(failure) => {
                let usage = Some(RequestUsage::new(exchange));
                return Err(CallError {
                    usage,
                    ..failure.into()
                });
            }
        };
        let content_length = response
            .headers()
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let bodyless = is_head || matches!(response.status().as_u16(), 204 | 304);
        Ok(response.map(|body| ResponseBody::new(body, exchange, caller, ride, content_length, bodyless)))
    }

    /// Does one job. An error says that the component did not come to a verdict: it trapped, took too long or
    /// too much. Otherwise as [`HttpInstance::call`].
    pub async fn work(&self, job: JobCall) -> Result<Verdict, CallError> {
        let response = self.call(job::request(job)).await?;
        let verdict = job::of_response(&response);
        // The lane is done when its body is.
        let _ = http_body_util::BodyExt::collect(response.into_body()).await;
        Ok(verdict?)
    }

    /// What it uses and has used.
    pub fn usage(&self) -> Usage {
        self.inner.shared.usage()
    }

    /// Takes no more requests and waits until those in progress have ended, their bodies included.
    pub async fn drain(&self) {
        self.inner.draining.store(true, Relaxed);
        // Waiters are served in order, so this comes after every request that was let in.
        let _all = self.inner.lanes.acquire_many(self.inner.lanes_max).await;
    }

    /// Takes no more requests and ends those in progress.
    pub fn kill(&self) {
        self.inner.draining.store(true, Relaxed);
        self.inner.killed.set();
        self.inner.warm.close();
    }

    async fn admit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        let Inner {
            shared,
            lanes,
            draining,
            ..
        } = &*self.inner;
        if draining.load(Relaxed) {
            return Err(Failure::new(Code::H14, "the instance is stopping"));
        }
        shared.counters.requests.fetch_add(1, Relaxed);
        match lanes.clone().try_acquire_owned() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(Failure::new(Code::H14, "the instance is stopping")),
            Err(TryAcquireError::NoPermits) => {}
        }
        let backlog_max = shared.limits().backlog_max;
        let Some(_place) = Place::take(shared, backlog_max) else {
            let message = format!(
                "{} requests in progress and {backlog_max} waiting",
                self.inner.lanes_max
            );
            shared
                .log
                .platform(Code::H11, format_args!("{}: {message}", Code::H11.title()));
            return Err(Failure::new(Code::H11, message));
        };
        match tokio::time::timeout_at(deadline, lanes.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Failure::new(Code::H14, "the instance is stopping")),
            Err(_) => {
                let ms = shared.limits().request_ms_max;
                let failure = Failure::new(Code::H12, format!("waited {ms} ms for a lane"));
                shared.log.platform(
                    Code::H12,
                    format_args!("{}: {}", Code::H12.title(), failure.message),
                );
                Err(failure)
            }
        }
    }
}

impl Drop for HttpInstance {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for a slot for an instance's first lane; there are no more instances than the node admits, and each
/// waits in its turn.
async fn boot_slot(loaded: &Loaded, shared: &Shared, wait_max: Duration) -> Result<Slot, StartError> {
    let slots = loaded.slots();
    let idle = || loaded.warm().evict()?.into_slot();
    let slot = slots.take(shared.tenant(), idle, Patience::Start(wait_max));
    slot.await.map_err(|_| {
        let message = format!("all {} slots of the node are taken", slots.total());
        Failure::new(Code::R22, message).into()
    })
}

/// As many lanes as the memory limit has room for, each at the size it has after its boot: a request then
/// waits for a lane instead of failing for want of memory.
fn lanes_max(shared: &Shared, lane_bytes: u64) -> u32 {
    let room = shared.limits().memory_bytes_max / lane_bytes.max(1);
    u32::try_from(room)
        .unwrap_or(u32::MAX)
        .min(shared.limits().concurrency_max)
        .max(1)
}

/// One request from its lane's start to its end, cut short when nobody waits for it any more.
async fn drive(mut call: Call, finish: Finish) {
    let Finish { inner, exchange, .. } = &finish;
    let shared = &inner.shared;
    let served = serve(inner, &mut call);
    let metered = pin!(Metered::new(served, shared.cpu.clone(), Some(exchange.clone())));
    let is_given_up = || exchange.caller() == Caller::Gone || inner.killed.is_so();
    let given_up = || given_up(exchange, &inner.killed);
    let failure = match until(is_given_up, given_up, metered).await {
        None | Some(Ok(Ok(()))) => return,
        Some(Ok(Err(failure))) => failure,
        Some(Err(panicked)) => {
            let failure = Failure::panicked(&panicked);
            exchange.broke_off(Some(&failure));
            failure
        }
    };
    shared.trapped(&failure);
    exchange.update(|figures| figures.failure = Some(failure.code));
    exchange.send_head(Err(failure));
}

/// Serves a request in a lane that was kept or a new one, and keeps the lane if it may serve again.
async fn serve(inner: &Inner, call: &mut Call) -> Result<(), Failure> {
    let busy = inner.shared.counters.in_flight.load(Relaxed);
    let parked = inner.warm.take(busy);
    let mut lane = match parked.filter(|lane| lane.is_current(&inner.loaded)) {
        Some(lane) => lane,
        None => Lane::boot(&inner.loaded, &inner.shared, inner.slot().await?).await?,
    };
    lane.serve(call).await?;
    if lane.may_serve_again() {
        inner.park(lane);
    }
    Ok(())
}

/// The output of `work`, or none once `ended` ends. That is made when there is something to wait for, for most
/// requests are done at the first poll; `is_over` says what it would say before.
async fn until<F: Future, E: Future>(
    is_over: impl Fn() -> bool,
    ended: impl Fn() -> E,
    mut work: Pin<&mut F>,
) -> Option<F::Output> {
    let mut end = None;
    poll_fn(|cx| {
        let is_over = match &mut end {
            Some(end) => E::poll(Pin::as_mut(end), cx).is_ready(),
            None => is_over(),
        };
        if is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if end.is_none() {
            let mut first = Box::pin(ended());
            // What has come meanwhile wakes nobody; from here on it does.
            if first.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            end = Some(first);
        }
        Poll::Pending
    })
    .await
}

/// Ends when the caller is gone, when the instance is killed, or some time after the body's end.
async fn given_up(exchange: &Exchange, killed: &Killed) {
    let caller = async {
        if exchange.caller_done().await == Caller::HasAll {
            tokio::time::sleep(LINGER_MAX).await;
        }
    };
    tokio::select! {
        () = caller => {}
        () = killed.wait() => {}
    }
}

/// Whether an instance was killed.
#[derive(Default)]
struct Killed {
    is_so: AtomicBool,
    told: Notify,
}

impl Killed {
    fn set(&self) {
        self.is_so.store(true, Release);
        self.told.notify_waiters();
    }

    fn is_so(&self) -> bool {
        self.is_so.load(Acquire)
    }

    async fn wait(&self) {
        loop {
            let told = self.told.notified();
            if self.is_so() {
                return;
            }
            told.await;
        }
    }
}

/// A head that can be sent on.
fn checked(response: http::Response<WasiBody>) -> Result<http::Response<WasiBody>, Failure> {
    let status = response.status().as_u16();
    if (200..600).contains(&status) {
        return Ok(response);
    }
    Err(Failure::new(
        Code::H17,
        format!("the app answered with status {status}"),
    ))
}

impl Inner {
    /// A slot for a new lane: a free one, that of an idle lane, or the next that comes free.
    async fn slot(&self) -> Result<Slot, Failure> {
        let idle = || {
            let idle = self.loaded.warm().evict();
            if idle.is_none() {
                let waiting = format_args!("waiting: the node has no free slot");
                self.shared.log.platform(Code::R22, waiting);
            }
            idle?.into_slot()
        };
        let slots = self.loaded.slots();
        slots.take(self.shared.tenant(), idle, Patience::Request).await
    }

    /// Keeps a lane for the next request, if it may be kept.
    fn park(&self, lane: Lane) {
        let may_idle = !self.draining.load(Relaxed) && self.loaded.slots().may_idle();
        if may_idle {
            let bytes = lane.memory_bytes();
            let surplus = self.warm.park(lane, bytes);
            drop(surplus);
        }
    }
}

/// A place in the backlog.
struct Place<'a>(&'a Shared);

impl<'a> Place<'a> {
    fn take(shared: &'a Shared, backlog_max: u32) -> Option<Self> {
        let waiting = &shared.counters.waiting;
        let taken = waiting.try_update(Relaxed, Relaxed, |waiting| {
            (waiting < u64::from(backlog_max)).then_some(waiting + 1)
        });
        taken.ok().map(|_| Self(shared))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.counters.waiting.fetch_sub(1, Relaxed);
    }
}

/// Ends the accounts of one request, however it ended.
struct Finish {
    inner: Arc<Inner>,
    exchange: Arc<Exchange>,
    start: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Finish {
    fn new(inner: Arc<Inner>, exchange: Arc<Exchange>, start: Instant, permit: OwnedSemaphorePermit) -> Self {
        inner.shared.counters.in_flight.fetch_add(1, Relaxed);
        Self {
            inner,
            exchange,
            start,
            _permit: permit,
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.exchange
            .update(|figures| figures.wall = self.start.elapsed());
        self.exchange.finish();
        self.exchange.close_head();
        self.inner.shared.counters.in_flight.fetch_sub(1, Relaxed);
    }
}
