//! Every wasmtime setting, with the reason for each: common ones in `common`, what differs in `config`.

use std::num::NonZeroUsize;

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, RegallocAlgorithm, Strategy,
    WasmBacktraceDetails,
};

use super::EngineKind;
use crate::slab::{STACK_SLOT_BYTES, Slab};

/// Guest stack of one call: what real toolchains need (JavaScript and Python among them).
const WASM_STACK_BYTES_MAX: usize = 512 << 10;
/// Whole fiber: the guest's share and what host calls need on top. Host calls run on the fiber, so this is
/// generous. With its guard page it is half of what one page of page tables maps, so that idle lanes share it.
const FIBER_STACK_BYTES: usize = (1 << 20) - (4 << 10);
/// Guest stack of one call on the slab. Compiled Rust, C and Go keep their data in linear memory and need a
/// few KiB of this one; interpreters of other languages, which recurse, have large images and other engines.
const SLAB_WASM_STACK_BYTES_MAX: usize = 128 << 10;
/// Whole fiber on the slab; its slot has a guard page besides.
const SLAB_FIBER_STACK_BYTES: usize = STACK_SLOT_BYTES - (4 << 10);
/// Address space of one linear memory: with the guard, 32-bit accesses need no bounds check.
pub(super) const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// Guard behind each memory, for the static offsets of loads and stores.
pub(super) const MEMORY_GUARD_BYTES: u64 = 32 << 20;
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
/// Frames in a trap's backtrace; enough to find the fault, small enough for a log line.
const BACKTRACE_FRAMES_MAX: usize = 20;

/// The settings of an engine that allocates on demand, or compiles alone.
pub(super) fn of(kind: EngineKind) -> Config {
    let mut config = common();
    match kind {
        // Without concurrency support a request costs a quarter less; 0.3 cannot run on such an engine.
        EngineKind::HttpP2 | EngineKind::CommandP2 | EngineKind::SlabP2 => {
            config.concurrency_support(false);
            config.wasm_component_model_async(false);
        }
        EngineKind::P3 | EngineKind::SlabP3 => {
            config.concurrency_support(true);
            config.wasm_component_model_async(true);
        }
    }
    if kind.is_slab() {
        // Slots lie side by side without anything in between: every access is checked against the length.
        config.memory_reservation(0);
        config.memory_guard_size(0);
        config.guard_before_linear_memory(false);
        // A memory that outgrows its slot goes to a mapping of its own.
        config.memory_may_move(true);
        // Images need memories that wasmtime maps itself: with them version 48 panics on memories of ours.
        config.memory_init_cow(false);
        config.max_wasm_stack(SLAB_WASM_STACK_BYTES_MAX);
        config.async_stack_size(SLAB_FIBER_STACK_BYTES);
    }
    config
}

/// The same on a pool of `slots`.
pub(super) fn on_pool(kind: EngineKind, slots: u32) -> Config {
    let mut config = of(kind);
    config.allocation_strategy(pool(slots));
    config
}

/// The same with memories and stacks of `slab`.
pub(super) fn on_slab(kind: EngineKind, slab: &Slab) -> Config {
    let mut config = of(kind);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config.with_host_memory(slab.memories.clone());
    config.with_host_stack(slab.stacks.clone());
    config.async_stack_size(slab.stack_bytes);
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
