//! One lane: a store with an http component or a worker in it, serving one request, or job, at a time.
//!
//! In flows a request, out flow its head and its body's frames.
//!
//! A 0.2 lane serves `reuse_max` requests: one by default, for isolation between them.
//!
//! Both 0.2 and 0.3 go through here, so that fuel, CPU time, cancellation and memory are accounted per
//! request in the same way. wasmtime-wasi-http's `ProxyHandler` is not used: it drives its stores itself,
//! so a request in it can be neither throttled nor cancelled, and several in one store cannot be told apart
//! in fuel.
//!
//! Invariant: a lane that failed, or whose request was cancelled, is dropped with its store.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use gilliam_model::code::Code;
use wasmtime::{AsContextMut as _, Store};
use wasmtime_wasi_http::{
    WasiBody, WasiHttpView as _, p2::bindings::Proxy, p2::bindings::http::types::Scheme,
    p3::bindings::Service,
};

use crate::{
    exchange::{EndMark, Exchange},
    failure::{self, Failure},
    guest::{self, Guest, Shared},
    held,
    job::{self, Worker},
    load::{Loaded, Open, Pre},
    slots::Slot,
};

/// Requests one 0.3 lane serves before it is replaced: leaks end, and the cost of a fresh one is spread thin.
const P3_USES_MAX: u32 = 128;

/// How often a lane asks again for a slot of a full pool: slots are freed in less time than this under load.
const SLOT_RETRY: Duration = Duration::from_millis(2);

/// One request on its way into a lane.
pub(crate) struct Call {
    /// None once the guest has it. Futures would hold it once more for each function that it is moved through.
    pub(crate) request: Option<http::Request<WasiBody>>,
    pub(crate) exchange: Arc<Exchange>,
}

enum Component {
    P2(Proxy),
    P3(Service),
    Worker(Worker),
}

/// A store with an instantiated http component.
pub(crate) struct Lane {
    store: Store<Guest>,
    component: Component,
    shared: Arc<Shared>,
    uses: u32,
    /// Fuel in the store when it was last accounted.
    fuel: u64,
    /// The request it serves.
    serves: Option<Arc<Exchange>>,
    /// What it runs stays mapped.
    open: Arc<Open>,
    /// The last field: it is free once the store is gone.
    slot: Option<Slot>,
}

impl Lane {
    /// Instantiates the component. Its start code burns fuel of a budget of its own, as large as a
    /// request's. While the pool has no room in spite of the slot, for components may have several memories,
    /// it waits; the caller's deadline bounds that.
    pub(crate) async fn boot(loaded: &Loaded, shared: &Arc<Shared>, slot: Slot) -> Result<Self, Failure> {
        let open = loaded.open().await?;
        loop {
            let mut store = guest::store(loaded.engine(), shared, None);
            match instantiate(&mut store, &open.value, shared).await {
                Ok(component) => {
                    let (shared, fuel) = (shared.clone(), shared.limits().fuel_per_request_max);
                    let mut lane = Lane {
                        store,
                        component,
                        shared,
                        uses: 0,
                        fuel,
                        serves: None,
                        open,
                        slot: Some(slot),
                    };
                    lane.account();
                    return Ok(lane);
                }
                Err(error) if failure::is_pool_full(&error) => {
                    drop(store);
                    if let Some(idle) = loaded.warm().evict() {
                        drop(idle);
                        continue;
                    }
                    shared.log.platform(
                        Code::R22,
                        format_args!("waiting: the node has no free slot ({error:#})"),
                    );
                    tokio::time::sleep(SLOT_RETRY).await;
                }
                Err(error) => return Err(Failure::of(&error, store.data().memory.refused())),
            }
        }
    }

    /// What it occupied in its pool, once its memory is given back.
    pub(crate) fn into_slot(mut self) -> Option<Slot> {
        let slot = self.slot.take();
        drop(self);
        slot
    }

    /// Whether it runs the build that lanes start from now.
    pub(crate) fn is_current(&self, loaded: &Loaded) -> bool {
        loaded.is_current(&self.open)
    }

    /// Bytes of linear memory and tables it holds.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.store.data().memory.charged()
    }

    /// Whether it may serve another request: nothing of the last one is left in it, and it may by its limits.
    /// Never asked after a request that failed.
    pub(crate) fn may_serve_again(&mut self) -> bool {
        let uses_max = match self.component {
            Component::P2(_) | Component::Worker(_) => self.shared.limits().reuse_max,
            Component::P3(_) => P3_USES_MAX,
        };
        let guest = self.store.data_mut();
        self.uses < uses_max && !guest.memory.refused() && held::is_clean(&mut guest.table)
    }

    /// Serves one request to the end of its body and of the guest's work for it. After a failure, or if it is
    /// dropped meanwhile, the lane must not be used again.
    pub(crate) async fn serve(&mut self, call: &mut Call) -> Result<(), Failure> {
        let exchange = call.exchange.clone();
        // Dropped before the lane, so that the body knows of a failure before the store closes its channel.
        let mark = EndMark::new(exchange.clone());
        self.serves = Some(exchange.clone());
        self.uses = self.uses.saturating_add(1);
        let result = self.handle(call).await;
        self.account();
        match result {
            Ok(()) => {
                mark.clean();
                let silent = || Failure::new(Code::H13, "the app ended its work without an answer");
                if exchange.send_head(Err(silent())) {
                    return Err(silent());
                }
                self.serves = None;
                Ok(())
            }
            Err(error) => {
                let failure = Failure::of(&error, self.store.data().memory.refused());
                mark.failed(&failure);
                Err(failure)
            }
        }
    }

    async fn handle(&mut self, call: &mut Call) -> wasmtime::Result<()> {
        self.fuel = self.shared.limits().fuel_per_request_max;
        self.store.set_fuel(self.fuel)?;
        let exchange = call.exchange.clone();
        let Some(request) = call.request.take() else {
            wasmtime::bail!("a request is served once");
        };
        self.store.data_mut().begin(request.headers());
        match &self.component {
            Component::P2(proxy) => {
                let scheme = match request.uri().scheme_str() {
                    Some("https") => Scheme::Https,
                    _ => Scheme::Http,
                };
                let mut view = self.store.data_mut().http();
                let request = view.new_incoming_request(scheme, request)?;
                let out = view.new_response_outparam_from_callback(move |answer| {
                    exchange.send_head(answer.map_err(|error| answered_with_error(&error)));
                })?;
                proxy
                    .wasi_http_incoming_handler()
                    .call_handle(&mut self.store, request, out)
                    .await
            }
            Component::Worker(worker) => {
                let job = job::of_request(&request)?;
                let verdict = worker.handle(&mut self.store, &job).await?;
                exchange.send_head(Ok(job::response(verdict)));
                Ok(())
            }
            Component::P3(service) => {
                let view = self.store.data_mut().http();
                let (request, sent) = wasmtime_wasi_http::p3::Request::from_http(view.hooks, request);
                let request = view.table.push(request)?;
                let serve = async |accessor: &wasmtime::component::Accessor<Guest>| {
                    match service.wasi_http_handler().call_handle(accessor, request).await? {
                        Err(error) => {
                            exchange.send_head(Err(answered_with_error(&error)));
                        }
                        Ok(response) => {
                            let response = accessor.with(|mut access| {
                                let response = access.get().http().table.delete(response)?;
                                response.into_http(access.as_context_mut(), sent)
                            })?;
                            exchange.send_head(Ok(response));
                            // The store moves the body, even one that the guest only passes on.
                            exchange.caller_done().await;
                        }
                    }
                    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                    Ok(())
                };
                self.store.run_concurrent(serve).await?
            }
        }
    }

    /// Books the fuel burnt since the last time, and the memory held.
    fn account(&mut self) {
        let left = self.store.get_fuel().unwrap_or(self.fuel);
        let burnt = self.fuel.saturating_sub(left);
        self.fuel = left;
        self.shared.counters.fuel.fetch_add(burnt, Relaxed);
        let memory = self.memory_bytes();
        if let Some(exchange) = &self.serves {
            exchange.update(|figures| {
                figures.fuel += burnt;
                figures.memory_bytes_peak = figures.memory_bytes_peak.max(memory);
            });
        }
    }
}

async fn instantiate(store: &mut Store<Guest>, pre: &Pre, shared: &Shared) -> wasmtime::Result<Component> {
    store.set_fuel(shared.limits().fuel_per_request_max)?;
    Ok(match pre {
        Pre::HttpP2(pre) => Component::P2(pre.instantiate_async(store).await?),
        Pre::HttpP3(pre) => Component::P3(pre.instantiate_async(store).await?),
        Pre::Job(pre) => Component::Worker(pre.instantiate_async(store).await?),
        Pre::CommandP2(_) | Pre::CommandP3(_) => wasmtime::bail!("a command takes no requests"),
    })
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.account();
        self.shared.log.settle();
    }
}

fn answered_with_error(error: &dyn std::fmt::Debug) -> Failure {
    Failure::new(Code::H13, format!("the app answered with the error {error:?}"))
}
