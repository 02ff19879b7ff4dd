//! A guest's view of the world: what is in its store, and what its imports are linked to.
//!
//! In flow an instance's shared parts, out flow stores ready to instantiate in, with every cap set.
//!
//! Invariant: everything a guest can see comes from its [`InstanceConfig`]; nothing is inherited from the
//! host.

use std::{sync::Arc, time::Instant};

use gilliam_model::{code::Code, limits::Limits, outbound::OutboundHost};
use gilliam_services::Bound;
use http::{HeaderMap, HeaderName};
use wasmtime::{
    Engine, Store, StoreContextMut,
    component::{Linker, Resource, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2::DynPollable};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};
use wasmtime_wasi_io::bindings::wasi::io::poll;

use crate::{
    clock,
    config::InstanceConfig,
    engines::{EngineKind, Engines},
    failure::Failure,
    held::{self, Held, Lines},
    internal::{Chain, Leaving},
    log::LogGate,
    memory::{MemoryMeter, MemoryTally},
    outbound::Outbound,
    outgoing,
    random::{self, RandomSlice},
    slots::Tenant,
    sockets, sql,
    stdio::Stdio,
    streams,
    throttle::CpuBucket,
    usage::{Counters, Usage},
    volumes::{self, Volumes},
};

/// Fuel between two yields: 40 to 100 µs of a core, at 1.5 % of cost.
const YIELD_FUEL: u64 = 1_000_000;
/// Headers that a guest neither sees nor makes: a constant would be made anew for each look.
static FORBIDDEN_HEADERS: [HeaderName; 9] = DEFAULT_FORBIDDEN_HEADERS;
/// Bytes of a body copied out of a guest at once.
pub(crate) const BODY_CHUNK_BYTES_MAX: usize = 64 << 10;

/// What the lanes of one instance share.
#[derive(Debug)]
pub(crate) struct Shared {
    config: InstanceConfig,
    pub(crate) log: Arc<LogGate>,
    pub(crate) memory: Arc<MemoryTally>,
    pub(crate) cpu: Arc<CpuBucket>,
    pub(crate) counters: Counters,
    outbound: Arc<Outbound>,
    started: Instant,
}

impl Shared {
    pub(crate) fn new(engines: &Engines, config: InstanceConfig) -> Result<Arc<Self>, Failure> {
        let process = &config.process;
        let limits = &process.limits;
        limits
            .validate()
            .map_err(|error| Failure::new(Code::A422, error.to_string()))?;
        let now = Instant::now();
        let turns = engines.threads().app(&process.app).instance(limits.cpu_millis);
        let log = Arc::new(LogGate::new(process.clone(), config.label.clone(), now));
        let cpu = Arc::new(CpuBucket::new(limits.cpu_millis, now, turns));
        let outbound = Outbound::new(process.clone(), log.clone(), engines.tls().clone(), cpu.clone());
        Ok(Arc::new(Self {
            memory: Arc::new(MemoryTally::new(limits.memory_bytes_max)),
            cpu,
            counters: Counters::default(),
            outbound: Arc::new(outbound),
            started: now,
            log,
            config,
        }))
    }

    /// The instance in messages.
    pub(crate) fn label(&self) -> &str {
        &self.config.label
    }

    /// Whose slots its lanes are counted with.
    pub(crate) fn tenant(&self) -> &Tenant {
        &self.config.process.app
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.config.process.limits
    }

    /// The services that it is bound to.
    pub(crate) fn bound(&self) -> &Bound {
        &self.config.process.services
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            memory_bytes: self.memory.used(),
            memory_bytes_peak: self.memory.peak(),
            cpu_ns_total: self.cpu.total_ns(),
            ..self.counters.snapshot()
        }
    }

    /// The instance has ended.
    pub(crate) fn leave(&self, end: Leaving) {
        self.outbound.leave(end);
    }

    /// Counts what ended a lane and tells the instance's log.
    pub(crate) fn trapped(&self, failure: &Failure) {
        self.counters.trapped(failure);
        self.log.platform(
            failure.code,
            format_args!("{}: {}", failure.code.title(), failure.message),
        );
    }

    fn wasi(self: &Arc<Self>, stdio: Option<Stdio>) -> WasiCtx {
        let mut wasi = WasiCtx::builder();
        wasi.args(&self.config.process.args);
        for (name, value) in self.config.env() {
            wasi.env(name, value);
        }
        Stdio::set_up(stdio, &mut wasi, &self.log);
        wasi.monotonic_clock(clock::Monotonic { start: self.started });
        wasi.wall_clock(clock::Wall);
        let grants = self.outbound.grants();
        wasi.allow_udp(false);
        wasi.allow_tcp(self.config.listen_port.is_some() || !grants.is_empty());
        // Names are looked up by the host's resolver, which knows internal names too: only where any host
        // is granted.
        wasi.allow_ip_name_lookup(grants.iter().any(OutboundHost::is_any_host));
        let shared = self.clone();
        wasi.socket_addr_check(move |address, reason| {
            let allowed = sockets::allows(shared.config.listen_port, &shared.outbound, address, reason);
            Box::pin(std::future::ready(allowed))
        });
        wasi.build()
    }
}

/// What a store holds besides the guest itself.
pub(crate) struct Guest {
    /// Made when the guest first asks for something of it: small guests never do.
    wasi: Option<WasiCtx>,
    shared: Arc<Shared>,
    /// For `wasi`.
    stdio: Option<Stdio>,
    http: WasiHttpCtx,
    pub(crate) table: ResourceTable,
    pub(crate) held: Held,
    pub(crate) volumes: Volumes,
    pub(crate) random: RandomSlice,
    hooks: Hooks,
    pub(crate) memory: MemoryMeter,
    pub(crate) log: Arc<LogGate>,
    /// Told the fuel that is left whenever the guest waits, for commands, which do nothing but wait and work.
    pub(crate) fuel_probe: Option<FuelProbe>,
}

impl Guest {
    /// What the imports of services work on.
    pub(crate) fn services(&mut self) -> (&mut ResourceTable, &Arc<Shared>) {
        (&mut self.table, &self.shared)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Called with the fuel left in a store.
pub(crate) type FuelProbe = Box<dyn Fn(u64) + Send>;

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Self {
            wasi, shared, stdio, ..
        } = self;
        WasiCtxView {
            ctx: wasi.get_or_insert_with(|| shared.wasi(stdio.take())),
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

struct Hooks {
    outbound: Arc<Outbound>,
    /// The request that is served.
    chain: Chain,
}

impl Guest {
    /// Takes note of a request that is about to be served.
    pub(crate) fn begin(&mut self, served: &HeaderMap) {
        self.hooks.chain = self.hooks.outbound.chain(served);
    }
}

/// What becomes of a guest's own request.
pub(crate) type Sent = Result<
    (
        http::Response<WasiBody>,
        Box<dyn Future<Output = Result<(), Error>> + Send>,
    ),
    Error,
>;

impl WasiHttpHooks for Hooks {
    // Asked for every header of every request, where the filter that it is made of by default is an
    // allocation.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (outbound, chain) = (self.outbound.clone(), self.chain.clone());
        Box::new(async move {
            let response = outbound.send(request, options, chain).await?;
            // The response's body drives and holds its connection; nothing is left to do beside it.
            let beside: Box<dyn Future<Output = Result<(), Error>> + Send> =
                Box::new(std::future::ready(Ok(())));
            Ok((response, beside))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }
}

/// A store for one lane or command, with `fuel` in it and every cap set.
pub(crate) fn store(engine: &Engine, shared: &Arc<Shared>, stdio: Option<Stdio>) -> Store<Guest> {
    let limits = shared.limits();
    let handles_max = limits.handles_max as usize;
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(usize_of(limits.header_bytes_max));
    let mut table = ResourceTable::new();
    table.set_max_capacity(handles_max);
    let guest = Guest {
        wasi: None,
        shared: shared.clone(),
        stdio,
        http,
        table,
        held: Held::default(),
        volumes: Volumes::default(),
        random: RandomSlice::new(limits.random_bytes_max),
        hooks: Hooks {
            outbound: shared.outbound.clone(),
            chain: Chain::default(),
        },
        memory: MemoryMeter::new(shared.memory.clone(), shared.log.clone()),
        log: shared.log.clone(),
        fuel_probe: None,
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.memory);
    store.set_hostcall_fuel(usize_of(limits.hostcall_bytes_max));
    store.set_max_component_handles(handles_max);
    store
        .fuel_async_yield_interval(Some(YIELD_FUEL))
        .expect("every engine of ours counts fuel");
    store
}

/// A limit in bytes, as wasmtime takes it.
fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What every component on an engine of `kind` may import.
pub(crate) fn linker(engine: &Engine, kind: EngineKind) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if kind.is_p3() {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    linker.allow_shadowing(true);
    streams::direct(&mut linker)?;
    outgoing::bodies(&mut linker)?;
    probe_waits(&mut linker)?;
    sockets::bound(&mut linker)?;
    let lines = if kind.is_p3() { Lines::P2AndP3 } else { Lines::P2 };
    random::bound(&mut linker, lines)?;
    held::meter(&mut linker, lines)?;
    sql::add_to_linker(&mut linker)?;
    volumes::add_to_linker(&mut linker)?;
    linker.allow_shadowing(false);
    Ok(linker)
}

/// Puts functions of ours before the two with which guests wait: a store is out of reach while its guest
/// runs, except in host calls, and a guest that has not ended has to wait at some time.
fn probe_waits(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut poll = linker.instance("wasi:io/poll@0.2.12")?;
    poll.func_wrap_async(
        "poll",
        |mut store: StoreContextMut<'_, Guest>, (list,): (Vec<Resource<DynPollable>>,)| {
            probe(&mut store);
            Box::new(async move { Ok((poll::Host::poll(&mut store.data_mut().table, list).await?,)) })
        },
    )?;
    poll.func_wrap_async(
        "[method]pollable.block",
        |mut store: StoreContextMut<'_, Guest>, (pollable,): (Resource<DynPollable>,)| {
            probe(&mut store);
            Box::new(async move { poll::HostPollable::block(&mut store.data_mut().table, pollable).await })
        },
    )
}

fn probe(store: &mut StoreContextMut<'_, Guest>) {
    if store.data().fuel_probe.is_some() {
        let left = store.get_fuel();
        if let (Some(probe), Ok(left)) = (&store.data().fuel_probe, left) {
            probe(left);
        }
    }
}
