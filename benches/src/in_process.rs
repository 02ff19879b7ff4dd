//! The engine without limits, in this process: what limits and metering are compared with.
//!
//! Invariant: with and without differ in nothing but the limits: fuel, its yields, and the meter of memory.

use std::{num::NonZeroUsize, sync::Arc, time::Instant};

use http_body_util::{BodyExt as _, Empty};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, Module, PoolingAllocationConfig, Store, StoreLimits,
    StoreLimitsBuilder,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::bindings::{ProxyPre, http::types::Scheme},
};

use crate::{figure::median, guests};

/// Fuel between two yields, as the platform has it.
const YIELD_FUEL: u64 = 1_000_000;
/// Fuel of one request, which none reaches.
const REQUEST_FUEL: u64 = 20_000_000_000;
const MEMORY_BYTES_MAX: usize = 128 << 20;
/// As the platform has it.
const KEEP_RESIDENT_BYTES: usize = 1 << 20;

/// Whether the limits are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limits {
    With,
    Without,
}

/// A core module of the kernels on an engine that meters nothing and guards memory with pages alone.
pub(crate) struct Kernels {
    store: Store<()>,
    runs: Vec<(wasmtime::TypedFunc<u32, u32>, u32)>,
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels").finish_non_exhaustive()
    }
}

impl Kernels {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Self::compiled().map_err(told)
    }

    fn compiled() -> wasmtime::Result<Self> {
        let engine = Engine::default();
        let module = Module::new(&engine, wat::parse_str(guests::KERNELS)?)?;
        let mut store = Store::new(&engine, ());
        let instance = wasmtime::Instance::new(&mut store, &module, &[])?;
        let runs = guests::ROUNDS.iter().map(|(name, rounds)| {
            let run = instance.get_typed_func::<u32, u32>(&mut store, name)?;
            wasmtime::Result::Ok((run, *rounds))
        });
        let runs = runs.collect::<wasmtime::Result<Vec<_>>>()?;
        Ok(Self { store, runs })
    }

    /// Nanoseconds of one run of a kernel, after one that brings its memory in.
    pub(crate) fn run_ns(&mut self, kernel: usize) -> anyhow::Result<f64> {
        let (run, rounds) = &self.runs[kernel];
        run.call(&mut self.store, *rounds).map_err(told)?;
        let start = Instant::now();
        run.call(&mut self.store, *rounds).map_err(told)?;
        Ok(start.elapsed().as_secs_f64() * 1e9)
    }
}

/// Microseconds of a fresh instance and its answer, with limits and without, and their ratio in each round.
#[derive(Debug)]
pub(crate) struct HttpCost {
    pub(crate) with_us: Vec<f64>,
    pub(crate) without_us: Vec<f64>,
}

/// Microseconds of each of so many answers, each of a fresh instance with its limits, by round: what a node does
/// of a request without network and ingress, from the store to its end.
pub(crate) fn fresh_us(
    component: &[u8],
    path: &str,
    rounds: usize,
    requests: u32,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let web = Web::new(component, path, Limits::With).map_err(told)?;
    runtime()?.block_on(async {
        // Brings the code and the first slot in.
        web.answers_us(1).await.map_err(told)?;
        let mut all = Vec::new();
        for _ in 0..rounds {
            all.push(web.answers_us(requests).await.map_err(told)?);
        }
        Ok(all)
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Measures the hello web process in this process: instance, request, answer, drop; no network, no ingress.
pub(crate) fn http_cost(rounds: usize, requests: u32) -> anyhow::Result<HttpCost> {
    let component = guests::hello()?;
    let with = Web::new(&component, "/", Limits::With).map_err(told)?;
    let without = Web::new(&component, "/", Limits::Without).map_err(told)?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut cost = HttpCost {
            with_us: Vec::new(),
            without_us: Vec::new(),
        };
        for round in 0..=rounds {
            // In turns, and the other first each time: neither has the caches to itself.
            let (a, b) = match round % 2 {
                0 => {
                    let a = with.answers_us(requests).await.map_err(told)?;
                    (a, without.answers_us(requests).await.map_err(told)?)
                }
                _ => {
                    let b = without.answers_us(requests).await.map_err(told)?;
                    (with.answers_us(requests).await.map_err(told)?, b)
                }
            };
            let (a, b) = (median(&a), median(&b));
            if round > 0 {
                cost.with_us.push(a);
                cost.without_us.push(b);
            }
        }
        Ok(cost)
    })
}

/// The engine's errors are of a kind of its own.
fn told(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// What a store holds.
struct Host {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    limits: StoreLimits,
    hooks: Closed,
}

/// Nothing goes out.
struct Closed;

type Sent = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Closed {
    fn send_request(
        &mut self,
        _: hyper::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Sent,
    ) -> Box<dyn Future<Output = Result<(hyper::Response<WasiBody>, Sent), Error>> + Send> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// A web process on an engine of its own.
struct Web {
    engine: Engine,
    proxy: ProxyPre<Host>,
    uri: String,
    limits: Limits,
}

impl Web {
    fn new(component: &[u8], path: &str, limits: Limits) -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_memories(100)
            .total_stacks(100)
            .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
            .table_keep_resident(64 << 10)
            .pagemap_scan(Enabled::Auto);
        let mut config = Config::new();
        config
            .consume_fuel(limits == Limits::With)
            .wasm_backtrace_max_frames(NonZeroUsize::new(20))
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .concurrency_support(false)
            .wasm_component_model_async(false);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        let component = Component::new(&engine, component)?;
        let proxy = ProxyPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self {
            engine,
            proxy,
            uri: format!("http://localhost{path}"),
            limits,
        })
    }

    /// Microseconds of each of so many requests, each in an instance of its own.
    async fn answers_us(&self, requests: u32) -> wasmtime::Result<Vec<f64>> {
        let mut all = Vec::new();
        for _ in 0..requests {
            let start = Instant::now();
            self.request().await?;
            all.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(all)
    }

    async fn request(&self) -> wasmtime::Result<()> {
        let host = Host {
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            limits: StoreLimitsBuilder::new().memory_size(MEMORY_BYTES_MAX).build(),
            hooks: Closed,
        };
        let mut store = Store::new(&self.engine, host);
        if self.limits == Limits::With {
            store.limiter(|host| &mut host.limits);
            store.set_fuel(REQUEST_FUEL)?;
            store.fuel_async_yield_interval(Some(YIELD_FUEL))?;
        }
        let proxy = self.proxy.instantiate_async(&mut store).await?;
        let request = hyper::Request::get(&self.uri)
            .body(Empty::<bytes::Bytes>::new().map_err(|never| -> Error { match never {} }))?;
        let answer = Arc::new(std::sync::Mutex::new(None));
        let place = answer.clone();
        let mut view = store.data_mut().http();
        let request = view.new_incoming_request(Scheme::Http, request)?;
        let out = view.new_response_outparam_from_callback(move |response| {
            if let Ok(mut place) = place.lock() {
                *place = Some(response);
            }
        })?;
        // The body is read while the handler still writes it.
        let handled = proxy
            .wasi_http_incoming_handler()
            .call_handle(&mut store, request, out);
        let read = async {
            loop {
                let taken = answer.lock().ok().and_then(|mut place| place.take());
                match taken {
                    Some(Ok(response)) => break Ok(response.into_body().collect().await.is_ok()),
                    Some(Err(error)) => {
                        break Err(wasmtime::format_err!(
                            "the guest answered with an error: {error:?}"
                        ));
                    }
                    None => tokio::task::yield_now().await,
                }
            }
        };
        let (handled, read) = tokio::join!(handled, read);
        handled?;
        let is_whole = read?;
        wasmtime::ensure!(is_whole, "the body broke off");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_answer_and_every_kernel_runs() {
        let cost = http_cost(1, 3).expect("a measurement");
        assert!(cost.with_us[0] > 0.0 && cost.without_us[0] > 0.0);
        let mut kernels = Kernels::new().expect("kernels");
        assert!(kernels.run_ns(2).expect("fib") > 0.0);
    }
}
