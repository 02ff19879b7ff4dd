//! The engines of one process: which settings each kind of process gets, and why.
//!
//! This one file decides every wasmtime setting. In flows an [`EnginesConfig`], out flow engines with their
//! linkers and the guest threads. It never looks at a component.
//!
//! Settings common to all engines, with the reason for each, are in `common`; what differs is in
//! `kind_config`.

use std::{fmt, num::NonZeroUsize, sync::Arc};

use gilliam_model::{digest::Digest, image::Shape};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, RegallocAlgorithm,
    Strategy, WasmBacktraceDetails, component::Linker,
};

use crate::{
    compile::{self, SettingsHash},
    guest::Guest,
    load::Pre,
    outbound::Tls,
    residency::{Keep, Residency},
    slots::Slots,
    sweeper::{self, Sweeper},
    threads::GuestThreads,
};

/// Guest stack of one call: what real toolchains need (JavaScript and Python among them).
const WASM_STACK_BYTES_MAX: usize = 512 << 10;
/// Whole fiber: the guest's share and what host calls need on top. Host calls run on the fiber, so this is
/// generous.
const FIBER_STACK_BYTES: usize = 2 << 20;
/// Address space of one linear memory: with the guard, 32-bit accesses need no bounds check.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// Guard behind each memory, for the static offsets of loads and stores.
const MEMORY_GUARD_BYTES: u64 = 32 << 20;
/// Address space of all pools together; x86-64 gives a process 128 TiB and the rest of the process needs
/// some.
const ADDRESS_SPACE_BYTES_MAX: u64 = 120 << 40;
/// Dirty pages of a slot that are zeroed and kept for its next use; beyond it they go back to the kernel.
/// This halves the cost of a fresh instance and keeps the kernel's memory lock out of it; a Rust guest
/// dirties 40 to 100 KiB. Slots are reused last in, first out, so that what is kept follows the load, not
/// the number of slots.
const KEEP_RESIDENT_BYTES: usize = 1 << 20;
/// Table elements in one table: Python's and JavaScript's need over 10,000.
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Core instances per pool slot: a Rust component has 3 or 4, one from Python 14.
const CORE_INSTANCES_PER_SLOT: u32 = 16;
/// Tables per pool slot.
const TABLES_PER_SLOT: u32 = 3;
/// Memory maps of one slot in use: two of its stack, four of its memory and image.
const MAPS_PER_SLOT: u64 = 6;
/// Memory maps that the rest of the process may need: code of components, commands, threads, the heap.
const MAPS_BESIDE: u64 = 10_000;
/// Frames in a trap's backtrace; enough to find the fault, small enough for a log line.
const BACKTRACE_FRAMES_MAX: usize = 20;

/// Sizes that depend on the machine.
#[derive(Debug, Clone)]
pub struct EnginesConfig {
    /// Lanes of 0.2 http at once in the whole process. A slot costs two memory maps and 4 GiB of address
    /// space.
    pub http_p2_slots: u32,
    /// Lanes and commands of 0.3 at once in the whole process.
    pub p3_slots: u32,
    /// Threads that run guests beyond their first slice.
    pub guest_threads: NonZeroUsize,
    /// Nice value of those threads, so that ingress, timers and sync go first.
    pub guest_nice: i32,
    /// How much compiled code stays mapped while nobody uses it.
    pub keep_mapped: Keep,
}

impl Default for EnginesConfig {
    /// Fits two cores, 8 to 24 GiB and the default `vm.max_map_count` of 65,530: six maps per slot in use.
    fn default() -> Self {
        Self {
            http_p2_slots: 4_000,
            p3_slots: 2_000,
            guest_threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            guest_nice: 10,
            keep_mapped: Keep::default(),
        }
    }
}

/// Why the engines could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EnginesError {
    /// The pools ask for more address space than a process has.
    #[error("pools of {slots} slots need more than 120 TiB of address space; use fewer slots")]
    AddressSpace {
        /// Slots asked for.
        slots: u64,
    },
    /// The kernel allows too few memory maps.
    #[error(
        "pools of {slots} slots need {needed} memory maps and the kernel allows {allowed}; \
         raise vm.max_map_count or use fewer slots"
    )]
    Maps {
        /// Slots asked for.
        slots: u64,
        /// Maps they may need.
        needed: u64,
        /// `vm.max_map_count`.
        allowed: u64,
    },
    /// wasmtime refused the settings or the kernel refused the memory.
    #[error("cannot make the {kind} engine: {message}")]
    Engine {
        /// Which engine.
        kind: &'static str,
        /// wasmtime's message.
        message: String,
    },
    /// The guest threads could not be started.
    #[error("cannot start the guest threads")]
    Threads(#[source] std::io::Error),
    /// The TLS configuration for outgoing requests could not be made.
    #[error("cannot set TLS up for outgoing requests: {0}")]
    Tls(String),
}

/// Which engine runs a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 0.2 http: a pool, no concurrency support (17 to 35 % cheaper per request), copy-on-write images.
    HttpP2,
    /// Everything of 0.3: a pool with component-model async.
    P3,
    /// 0.2 commands: allocated on demand. The slab for great numbers of small commands becomes a kind of
    /// its own here: own memory and stack creators, no copy-on-write, 64 MiB slots, 256 KiB stacks.
    CommandP2,
}

impl Kind {
    pub(crate) fn of(shape: Shape) -> Self {
        match shape {
            Shape::HttpP2 => Kind::HttpP2,
            Shape::HttpP3 | Shape::CommandP3 => Kind::P3,
            Shape::CommandP2 => Kind::CommandP2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::HttpP2 => "http-p2",
            Kind::P3 => "p3",
            Kind::CommandP2 => "command-p2",
        }
    }
}

/// One engine with what every component on it is linked against.
pub(crate) struct KindEngine {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<Guest>,
    pub(crate) settings: SettingsHash,
    /// Of its pool; without bound for what has none.
    pub(crate) slots: Slots,
}

struct Inner {
    http_p2: KindEngine,
    p3: KindEngine,
    command_p2: KindEngine,
    threads: GuestThreads,
    residency: Arc<Residency<Pre>>,
    tls: Tls,
    _sweeper: Sweeper,
}

/// One wasmtime engine per kind of process, and the threads that run guests. Cheap to clone.
#[derive(Clone)]
pub struct Engines(Arc<Inner>);

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engines")
            .field("threads", &self.0.threads)
            .finish_non_exhaustive()
    }
}

impl Engines {
    /// Makes the engines and starts the guest threads. Takes about a tenth of a second: the pools reserve
    /// their slots.
    pub fn new(config: &EnginesConfig) -> Result<Self, EnginesError> {
        let slots = u64::from(config.http_p2_slots) + u64::from(config.p3_slots);
        if slots.saturating_mul(MEMORY_RESERVATION_BYTES + MEMORY_GUARD_BYTES) > ADDRESS_SPACE_BYTES_MAX {
            return Err(EnginesError::AddressSpace { slots });
        }
        let needed = slots.saturating_mul(MAPS_PER_SLOT).saturating_add(MAPS_BESIDE);
        if let Some(allowed) = maps_allowed().filter(|allowed| *allowed < needed) {
            return Err(EnginesError::Maps {
                slots,
                needed,
                allowed,
            });
        }
        let http_p2 = kind_engine(Kind::HttpP2, config)?;
        let p3 = kind_engine(Kind::P3, config)?;
        let command_p2 = kind_engine(Kind::CommandP2, config)?;
        let threads =
            GuestThreads::start(config.guest_threads, config.guest_nice).map_err(EnginesError::Threads)?;
        let tls = Tls::new().map_err(EnginesError::Tls)?;
        let residency = Residency::new(config.keep_mapped);
        let sweeper = sweeper::start(&residency, Residency::sweep).map_err(EnginesError::Threads)?;
        Ok(Self(Arc::new(Inner {
            http_p2,
            p3,
            command_p2,
            threads,
            residency,
            tls,
            _sweeper: sweeper,
        })))
    }

    /// The name of the file that holds a component's compiled code: it changes with the component, the
    /// engine's settings and the version of wasmtime, so a stale file is never found.
    pub fn cache_file_name(&self, shape: Shape, digest: &Digest) -> String {
        compile::file_name(digest, &self.kind(shape).settings)
    }

    pub(crate) fn kind(&self, shape: Shape) -> &KindEngine {
        match Kind::of(shape) {
            Kind::HttpP2 => &self.0.http_p2,
            Kind::P3 => &self.0.p3,
            Kind::CommandP2 => &self.0.command_p2,
        }
    }

    pub(crate) fn threads(&self) -> &GuestThreads {
        &self.0.threads
    }

    pub(crate) fn residency(&self) -> &Residency<Pre> {
        &self.0.residency
    }

    pub(crate) fn tls(&self) -> &Tls {
        &self.0.tls
    }
}

/// An engine that compiles for `shape` and never runs anything: the same settings, but no pool, so that it
/// fits a child process with little address space.
pub(crate) fn compiler(shape: Shape) -> wasmtime::Result<Engine> {
    Engine::new(&kind_config(Kind::of(shape)))
}

/// None where the kernel does not say; then the pools' own failure has to.
fn maps_allowed() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn kind_engine(kind: Kind, config: &EnginesConfig) -> Result<KindEngine, EnginesError> {
    let make = || -> wasmtime::Result<KindEngine> {
        let mut settings = kind_config(kind);
        let slots = match kind {
            Kind::HttpP2 => config.http_p2_slots,
            Kind::P3 => config.p3_slots,
            Kind::CommandP2 => u32::MAX,
        };
        if kind != Kind::CommandP2 {
            settings.allocation_strategy(pool(slots));
        }
        let engine = Engine::new(&settings)?;
        let linker = crate::guest::linker(&engine, kind)?;
        let settings = SettingsHash::of(&engine);
        Ok(KindEngine {
            engine,
            linker,
            settings,
            slots: Slots::new(slots),
        })
    };
    make().map_err(|error| EnginesError::Engine {
        kind: kind.name(),
        message: format!("{error:#}"),
    })
}

/// What differs between the engines, apart from how they allocate.
fn kind_config(kind: Kind) -> Config {
    let mut config = common();
    match kind {
        // Without concurrency support a request costs a quarter less; 0.3 cannot run on such an engine.
        Kind::HttpP2 | Kind::CommandP2 => {
            config.concurrency_support(false);
            config.wasm_component_model_async(false);
        }
        Kind::P3 => {
            config.concurrency_support(true);
            config.wasm_component_model_async(true);
        }
    }
    config
}

fn common() -> Config {
    let mut config = Config::new();
    // Cranelift alone: the one compiler whose output is fit for hostile input.
    config.strategy(Strategy::Cranelift);
    config.cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking);
    // Fuel is the deterministic meter and, by its yields, the pre-emption: no epochs are needed on top.
    config.consume_fuel(true);
    config.epoch_interruption(false);
    config.max_wasm_stack(WASM_STACK_BYTES_MAX);
    config.async_stack_size(FIBER_STACK_BYTES);
    // Guard pages on both sides: a miscompiled access faults instead of reaching a neighbour.
    config.memory_reservation(MEMORY_RESERVATION_BYTES);
    config.memory_guard_size(MEMORY_GUARD_BYTES);
    config.guard_before_linear_memory(true);
    // A clean image is mapped, not copied: large language runtimes share their pages.
    config.memory_init_cow(true);
    // No core dump on a trap, for it would hold the guest's secrets: that feature of wasmtime is not even
    // compiled in.
    config.wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX));
    // Never decided by an environment variable.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    // Proposals with young code in the engine, or with a way around the limits. Their support is compiled
    // in, because an engine without it can be aborted by a crafted module; here they are refused at
    // validation.
    config.wasm_threads(false);
    config.wasm_shared_everything_threads(false);
    config.shared_memory(false);
    config.gc_support(false);
    config.wasm_gc(false);
    config.wasm_function_references(false);
    config.wasm_exceptions(false);
    config.wasm_stack_switching(false);
    config.wasm_memory64(false);
    config.wasm_custom_page_sizes(false);
    // The same result on every machine.
    config.relaxed_simd_deterministic(true);
    config
}

fn pool(slots: u32) -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_SLOT))
        .total_memories(slots)
        .total_tables(slots.saturating_mul(TABLES_PER_SLOT))
        .total_stacks(slots)
        .max_memory_size(usize::try_from(MEMORY_RESERVATION_BYTES).unwrap_or(usize::MAX))
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_tables_per_module(4)
        .max_memories_per_module(4)
        // Only what PAGEMAP_SCAN says was touched is reset (Linux 6.7 and later); elsewhere all of it.
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    InstanceAllocationStrategy::Pooling(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_that_cannot_fit_are_refused_before_they_are_made() {
        let config = EnginesConfig {
            http_p2_slots: 40_000,
            ..EnginesConfig::default()
        };
        assert!(matches!(
            Engines::new(&config),
            Err(EnginesError::AddressSpace { slots: 42_000 })
        ));
    }

    #[test]
    fn code_depends_on_the_engine_and_on_nothing_that_changes() {
        let settings = |kind| SettingsHash::of(&Engine::new(&kind_config(kind)).expect("engine"));
        assert_eq!(settings(Kind::HttpP2), settings(Kind::HttpP2));
        assert_ne!(settings(Kind::HttpP2), settings(Kind::P3));
    }
}
