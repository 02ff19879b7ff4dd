//! The engines of one process.
//!
//! In flows an [`EnginesConfig`], out flow engines with their linkers and the guest threads. Which engine a
//! component gets is decided in `choice.rs`, every wasmtime setting in `settings.rs`.

mod choice;
mod settings;

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Instant};

use gilliam_model::image::Shape;
use wasmtime::{Engine, OptLevel, RegallocAlgorithm, component::Linker};

use crate::{
    compile::{self, Artefact, SettingsHash, Tier},
    give_back::GiveBack,
    guest::Guest,
    inspect::{self, InspectError},
    lane::Lane,
    load::Pre,
    may_run::MayRun,
    outbound::Tls,
    residency::{Keep, Residency},
    slab::{SLAB_SLOT_BYTES, Slab, SlabError},
    slots::Slots,
    sweeper::{self, Sweeper},
    threads::GuestThreads,
    warm::Warm,
};

pub(crate) use choice::Facts;
pub use choice::{EngineChoice, EngineKind};
use settings::{MEMORY_GUARD_BYTES, MEMORY_RESERVATION_BYTES};

/// Address space of all pools and the slab together; x86-64 gives a process 128 TiB and the rest of the process needs
/// some.
const ADDRESS_SPACE_BYTES_MAX: u64 = 120 << 40;
/// Largest function that the fast register allocator gets: it gives each value a place of its own in the frame.
/// The loop of CPython's interpreter (427 KB) then takes so much that a dozen of its frames fill the call stack.
const SINGLE_PASS_FUNCTION_BYTES_MAX: usize = 64 << 10;
/// Memory maps of one slot in use: two of its stack, four of its memory and image.
const MAPS_PER_SLOT: u64 = 6;
/// Memory maps that the rest of the process may need: code of components, commands, threads, the heap.
const MAPS_BESIDE: u64 = 10_000;
/// Memory maps of one slot of a pool while nobody uses it.
const MAPS_PER_IDLE_SLOT: u64 = 2;
/// Memory maps of one command with guard pages.
const MAPS_PER_COMMAND: u64 = 8;
/// Bytes of idle lanes as their limits count them; of a language runtime a tenth of that is resident. A few
/// thousand small ones or a hundred large ones.
const WARM_BYTES_MAX: u64 = 4 << 30;

/// Sizes that depend on the machine.
#[derive(Debug, Clone)]
pub struct EnginesConfig {
    /// Lanes of 0.2 http at once in the whole process. A slot costs two memory maps and 4 GiB of address
    /// space.
    pub http_p2_slots: u32,
    /// Lanes and commands of 0.3 at once in the whole process.
    pub p3_slots: u32,
    /// Commands on the slab at once in the whole process. A slot costs 64 MiB of address space and no memory
    /// until it is used; 0 is no slab.
    pub command_slots: u32,
    /// Threads that run guests beyond their first slice.
    pub guest_threads: NonZeroUsize,
    /// Nice value of those threads, so that ingress, timers and sync go first.
    pub guest_nice: i32,
    /// Memory of idle lanes of one pool that is kept for their next request.
    pub warm_bytes_max: u64,
    /// How much compiled code stays mapped while nobody uses it.
    pub keep_mapped: Keep,
    /// Has the calling thread's allocator give back memory that it keeps; called by threads that wait, now and
    /// then.
    pub give_back: fn(),
    /// Whether guests may run just now.
    pub may_run: MayRun,
}

impl Default for EnginesConfig {
    /// Fits two cores, 8 to 24 GiB and the default `vm.max_map_count` of 65,530: six maps per slot in use.
    fn default() -> Self {
        Self {
            http_p2_slots: 4_000,
            p3_slots: 2_000,
            command_slots: 1_000_000,
            guest_threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            guest_nice: 10,
            warm_bytes_max: WARM_BYTES_MAX,
            keep_mapped: Keep::default(),
            give_back: || {},
            may_run: MayRun::default(),
        }
    }
}

/// Why the engines could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EnginesError {
    /// The pools and the slab ask for more address space than a process has.
    #[error(
        "pools of {slots} slots and a slab of {commands} need more than 120 TiB of address space; \
         use fewer slots"
    )]
    AddressSpace {
        /// Slots asked for in pools.
        slots: u64,
        /// Slots asked for on the slab.
        commands: u64,
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

/// One engine with what every component on it is linked against.
pub(crate) struct KindEngine {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<Guest>,
    pub(crate) settings: SettingsHash,
    /// Of its pool or the slab; as many as there are memory maps for what is allocated on demand.
    pub(crate) slots: Slots,
    /// The idle lanes in them.
    pub(crate) warm: Arc<Warm<Lane>>,
}

struct Inner {
    http_p2: KindEngine,
    p3: KindEngine,
    command_p2: KindEngine,
    slab: Result<OnSlab, SlabError>,
    threads: GuestThreads,
    residency: Arc<Residency<Pre>>,
    tls: Tls,
    _sweeper: Sweeper,
}

/// The engines whose memories and stacks are slots of the slab.
struct OnSlab {
    p2: KindEngine,
    p3: KindEngine,
    slots: u32,
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
        let pools = u64::from(config.http_p2_slots) + u64::from(config.p3_slots);
        check_address_space(pools, u64::from(config.command_slots))?;
        let maps_left = maps_left(pools, maps_allowed())?;
        let slab = OnSlab::new(config, maps_left)?;
        if let Err(error) = &slab {
            tracing::warn!(%error, "no slab: each command takes eight memory maps");
        }
        let http_p2 = pool_engine(EngineKind::HttpP2, config.http_p2_slots, config)?;
        let p3 = pool_engine(EngineKind::P3, config.p3_slots, config)?;
        let commands = u32::try_from(maps_left / MAPS_PER_COMMAND).unwrap_or(u32::MAX);
        let command_p2 = KindEngine::new(
            EngineKind::CommandP2,
            settings::of(EngineKind::CommandP2),
            &Slots::of_commands(commands),
            config,
        )?;
        let threads = GuestThreads::start(
            config.guest_threads,
            config.guest_nice,
            config.give_back,
            config.may_run.clone(),
        )
        .map_err(EnginesError::Threads)?;
        let tls = Tls::new().map_err(EnginesError::Tls)?;
        let residency = Residency::new(config.keep_mapped);
        let sweeper = {
            let (warm, residency) = ([http_p2.warm.clone(), p3.warm.clone()], residency.clone());
            let mut give_back = GiveBack::new(config.give_back);
            sweeper::start(move || {
                warm.iter().for_each(|warm| warm.sweep());
                residency.sweep();
                // Idle or not: what others gave back becomes free memory some time after, at a call like this.
                give_back.worked(Instant::now());
            })
        };
        let sweeper = sweeper.map_err(EnginesError::Threads)?;
        Ok(Self(Arc::new(Inner {
            http_p2,
            p3,
            command_p2,
            slab,
            threads,
            residency,
            tls,
            _sweeper: sweeper,
        })))
    }

    /// The name of the file that holds an artefact's compiled code: it changes with the component, the engine's
    /// settings, the version of wasmtime and the tier, so a stale file is never found.
    ///
    /// # Panics
    ///
    /// When this process has no engine of the artefact's kind: it chooses none that it lacks.
    pub fn code_file_name(&self, artefact: &Artefact) -> String {
        let engine = self
            .kind(artefact.engine)
            .expect("only engines that are there are chosen");
        compile::file_name(artefact, &engine.settings)
    }

    /// The engine that a component gets here. Reads its bytes once: run it where blocking is allowed.
    pub fn choose(&self, component: &[u8], guard_pages: bool) -> Result<EngineChoice, InspectError> {
        let facts = inspect::facts(component)?;
        Ok(choice::choose(facts, guard_pages, self.0.slab.as_ref().err()))
    }

    /// The engines that a component of `shape` may get here, the one it gets in most cases first: for those
    /// who look for compiled code before they have the component.
    pub fn candidates(&self, shape: Shape, guard_pages: bool) -> Vec<EngineKind> {
        EngineKind::candidates(shape, guard_pages || self.0.slab.is_err())
    }

    /// Commands that fit at once as far as the engines are concerned; memory sets a bound of its own.
    pub fn commands_max(&self) -> u32 {
        match &self.0.slab {
            Ok(slab) => slab.slots,
            Err(_) => u32::try_from(self.0.command_p2.slots.total()).unwrap_or(u32::MAX),
        }
    }

    /// Whether small commands run on the slab, which costs no memory maps.
    pub fn has_slab(&self) -> bool {
        self.0.slab.is_ok()
    }

    /// None for an engine of the slab where there is no slab.
    pub(crate) fn kind(&self, kind: EngineKind) -> Option<&KindEngine> {
        let slab = self.0.slab.as_ref().ok();
        match kind {
            EngineKind::HttpP2 => Some(&self.0.http_p2),
            EngineKind::P3 => Some(&self.0.p3),
            EngineKind::CommandP2 => Some(&self.0.command_p2),
            EngineKind::SlabP2 => slab.map(|slab| &slab.p2),
            EngineKind::SlabP3 => slab.map(|slab| &slab.p3),
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

/// An engine of `kind` that compiles and never runs anything: the same settings, but neither pool nor slab, so
/// that it fits a child process with little address space.
///
/// The quick build differs in the compiler's effort alone: its code fits the same engine, checks the same bounds
/// and burns the same fuel. Winch would be quicker, and is not fit for hostile input.
pub(crate) fn compiler(kind: EngineKind, tier: Tier, function_bytes_max: usize) -> wasmtime::Result<Engine> {
    let mut settings = settings::of(kind);
    if tier == Tier::Quick {
        settings.cranelift_opt_level(OptLevel::None);
        if function_bytes_max <= SINGLE_PASS_FUNCTION_BYTES_MAX {
            settings.cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
        }
    }
    Engine::new(&settings)
}

impl OnSlab {
    /// The outer error is ours, the inner one says why this machine has no slab.
    fn new(config: &EnginesConfig, maps_left: u64) -> Result<Result<Self, SlabError>, EnginesError> {
        let slab = match Slab::new(config.command_slots, maps_left) {
            Ok(slab) => slab,
            Err(error) => return Ok(Err(error)),
        };
        let slots = Slots::of_commands(slab.slots);
        let engine = |kind| KindEngine::new(kind, settings::on_slab(kind, &slab), &slots, config);
        Ok(Ok(Self {
            p2: engine(EngineKind::SlabP2)?,
            p3: engine(EngineKind::SlabP3)?,
            slots: slab.slots,
        }))
    }
}

impl KindEngine {
    fn new(
        kind: EngineKind,
        settings: wasmtime::Config,
        slots: &Slots,
        config: &EnginesConfig,
    ) -> Result<Self, EnginesError> {
        let make = || -> wasmtime::Result<Self> {
            let engine = Engine::new(&settings)?;
            let linker = crate::guest::linker(&engine, kind)?;
            Ok(Self {
                settings: SettingsHash::of(&engine),
                engine,
                linker,
                slots: slots.clone(),
                warm: Warm::new(config.warm_bytes_max),
            })
        };
        make().map_err(|error| EnginesError::Engine {
            kind: kind.name(),
            message: format!("{error:#}"),
        })
    }
}

fn pool_engine(kind: EngineKind, slots: u32, config: &EnginesConfig) -> Result<KindEngine, EnginesError> {
    KindEngine::new(kind, settings::on_pool(kind, slots), &Slots::new(slots), config)
}

fn check_address_space(pools: u64, commands: u64) -> Result<(), EnginesError> {
    let pool = pools.saturating_mul(MEMORY_RESERVATION_BYTES + MEMORY_GUARD_BYTES);
    let slab = commands.saturating_mul(SLAB_SLOT_BYTES as u64);
    if pool.saturating_add(slab) <= ADDRESS_SPACE_BYTES_MAX {
        return Ok(());
    }
    let slots = pools;
    Err(EnginesError::AddressSpace { slots, commands })
}

/// Memory maps that commands may take: those that the pools in full use and the rest of the process may need
/// are spoken for. Lanes and commands share the node's cores: idle slots of the pools are counted as such.
fn maps_left(pools: u64, allowed: Option<u64>) -> Result<u64, EnginesError> {
    let Some(allowed) = allowed else {
        return Ok(u64::MAX);
    };
    let needed = pools.saturating_mul(MAPS_PER_SLOT).saturating_add(MAPS_BESIDE);
    if allowed < needed {
        return Err(EnginesError::Maps {
            slots: pools,
            needed,
            allowed,
        });
    }
    Ok(allowed - MAPS_BESIDE - pools * MAPS_PER_IDLE_SLOT)
}

/// None where the kernel does not say; then the pools' own failure has to.
fn maps_allowed() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()?
        .trim()
        .parse()
        .ok()
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
            Err(EnginesError::AddressSpace { slots: 42_000, .. })
        ));
        let config = EnginesConfig {
            command_slots: 2_000_000,
            ..EnginesConfig::default()
        };
        assert!(matches!(
            Engines::new(&config),
            Err(EnginesError::AddressSpace {
                commands: 2_000_000,
                ..
            })
        ));
    }

    #[test]
    fn the_usual_memory_maps_are_enough_for_the_pools_and_thousands_of_guarded_commands() {
        let left = maps_left(6_000, Some(65_530)).expect("enough");
        assert_eq!(left / MAPS_PER_COMMAND, 5_441);
        assert!(matches!(
            maps_left(6_000, Some(45_999)),
            Err(EnginesError::Maps { needed: 46_000, .. })
        ));
        assert_eq!(maps_left(6_000, None).ok(), Some(u64::MAX));
    }

    #[test]
    fn code_depends_on_the_engine_and_on_nothing_that_changes() {
        let settings = |kind| SettingsHash::of(&compiler(kind, Tier::Optimised, 0).expect("engine"));
        for kind in EngineKind::ALL {
            assert_eq!(settings(kind), settings(kind));
            for other in EngineKind::ALL {
                // These two differ in how they allocate, which compiled code does not see.
                let same = [EngineKind::HttpP2, EngineKind::CommandP2];
                let is_same = kind == other || (same.contains(&kind) && same.contains(&other));
                assert_eq!(settings(kind) == settings(other), is_same, "{kind} {other}");
            }
        }
    }

    #[test]
    fn what_the_slab_runs_is_what_was_compiled_for_it() {
        let config = EnginesConfig {
            http_p2_slots: 10,
            p3_slots: 10,
            command_slots: 1_000_000,
            ..EnginesConfig::default()
        };
        let engines = Engines::new(&config).expect("engines");
        for kind in EngineKind::ALL {
            let running = engines.kind(kind).expect("there is a slab");
            let compiling = SettingsHash::of(&compiler(kind, Tier::Optimised, 0).expect("engine"));
            assert_eq!(running.settings, compiling, "{kind}");
        }
        assert_eq!(engines.commands_max(), 1_000_000);
    }
}
