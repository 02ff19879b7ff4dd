//! The memory limit: the sum of linear memories and tables over all lanes of an instance.
//!
//! In flow the growths that wasmtime asks about, out flows a yes or a no. A refused growth is -1 to the
//! guest and R14 in the log.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use gilliam_model::{code::Code, limits::LimitName};
use wasmtime::ResourceLimiter;

use crate::{log::LogGate, survey::TABLE_ELEMENT_BYTES};

/// Elements of one table.
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Core instances in one store; a component from Python has 14 and one per native library.
const CORE_INSTANCES_MAX: usize = 128;
/// Linear memories in one store.
const MEMORIES_MAX: usize = 16;
/// Tables in one store.
const TABLES_MAX: usize = 64;

/// For messages alone, where a rounded figure will do.
#[allow(clippy::cast_precision_loss, reason = "a message rounds to a tenth")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Bytes in use by all lanes of one instance.
#[derive(Debug)]
pub(crate) struct MemoryTally {
    max: u64,
    used: AtomicU64,
    peak: AtomicU64,
}

impl MemoryTally {
    pub(crate) fn new(max: u64) -> Self {
        Self {
            max,
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }

    fn try_add(&self, bytes: u64) -> bool {
        let added = self.used.try_update(Relaxed, Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= self.max)
        });
        if let Ok(before) = added {
            self.peak.fetch_max(before + bytes, Relaxed);
        }
        added.is_ok()
    }

    fn sub(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

/// The share of one store in its instance's tally; given back when the store is dropped.
#[derive(Debug)]
pub(crate) struct MemoryMeter {
    tally: Arc<MemoryTally>,
    log: Arc<LogGate>,
    charged: u64,
    /// Part of it: what the host holds for the guest.
    held: u64,
    /// The last growth allowed, in case wasmtime then fails to do it.
    last: u64,
    refused: bool,
}

impl MemoryMeter {
    pub(crate) fn new(tally: Arc<MemoryTally>, log: Arc<LogGate>) -> Self {
        Self {
            tally,
            log,
            charged: 0,
            held: 0,
            last: 0,
            refused: false,
        }
    }

    /// Bytes this store holds. Memories and tables never shrink.
    pub(crate) fn charged(&self) -> u64 {
        self.charged
    }

    /// Whether a growth was refused since the store was made.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, bytes: u64) -> bool {
        self.last = 0;
        if self.tally.try_add(bytes) {
            self.charged += bytes;
            self.last = bytes;
            return true;
        }
        if !self.refused {
            self.refused = true;
            let (used, max) = (self.tally.used(), self.tally.max);
            self.log.platform(
                Code::R14,
                format_args!(
                    "memory quota reached: {:.1} MiB in use, {:.1} MiB more refused, limit {}",
                    mib(used),
                    mib(bytes),
                    LimitName::Memory.show(max)
                ),
            );
        }
        false
    }

    /// Charges what the host holds for the guest; false when the limit has no room for it.
    pub(crate) fn set_held(&mut self, bytes: u64) -> bool {
        if bytes <= self.held {
            let less = self.held - bytes;
            self.tally.sub(less);
            self.charged -= less;
            self.held = bytes;
            return true;
        }
        let allowed = self.grow(bytes - self.held);
        self.last = 0;
        if allowed {
            self.held = bytes;
        }
        allowed
    }

    fn give_back(&mut self) {
        self.tally.sub(self.last);
        self.charged -= self.last;
        self.last = 0;
    }
}

impl Drop for MemoryMeter {
    fn drop(&mut self) {
        self.tally.sub(self.charged);
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current) as u64))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.last = 0;
        let bytes = (desired.saturating_sub(current) as u64).saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(desired <= TABLE_ELEMENTS_MAX && self.grow(bytes))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}
