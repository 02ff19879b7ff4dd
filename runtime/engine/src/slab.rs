//! Memories and stacks for instances in great number: slots of three large mappings, no memory map each.
//!
//! In flow how many slots there are to be, out flow the two makers that wasmtime asks for memories and stacks.
//! What a slot costs is the pages that its guest touches and their page tables; both go back with the slot.
//!
//! Around a memory there are no guard pages: compiled code checks each access against the memory's length.
//! Beside it lies another tenant's. Whoever wants guard pages runs on another engine.
//!
//! Invariant: unsafe code of the slab is in `region.rs`, `memory.rs` and `stack.rs`, each block with the
//! reason why it is sound.

mod free;
mod memory;
mod region;
mod stack;

use std::{io, sync::Arc};

use free::Layout;
use region::{Guards, Region};

pub(crate) use memory::SlabMemories;
pub(crate) use stack::SlabStacks;

/// Address space of one memory. Page tables of sixteen share a page of the level above.
pub(crate) const MEMORY_SLOT_BYTES: usize = 64 << 20;
/// Address space of a memory that is small yet: it moves to a slot of the other kind when it grows. Eight share one
/// page of page tables, which else costs each as much as a page that its guest touched.
const SMALL_MEMORY_SLOT_BYTES: usize = 256 << 10;
/// Address space of one stack with its guard. Eight share one page of page tables.
pub(crate) const STACK_SLOT_BYTES: usize = 256 << 10;
/// Address space of one instance.
pub(crate) const SLAB_SLOT_BYTES: usize = SMALL_MEMORY_SLOT_BYTES + MEMORY_SLOT_BYTES + STACK_SLOT_BYTES;
/// How the message of a failed start ends when no slot is left.
pub(crate) const SLAB_FULL: &str = "of the slab are taken";
/// Memory maps of one stack where a guard page is a map.
const MAPS_PER_GUARD: u64 = 2;

/// The makers of memories and stacks, and how many of each there are.
#[derive(Debug, Clone)]
pub(crate) struct Slab {
    pub(crate) memories: Arc<SlabMemories>,
    pub(crate) stacks: Arc<SlabStacks>,
    /// Instances that fit.
    pub(crate) slots: u32,
    /// Usable bytes of one stack.
    pub(crate) stack_bytes: usize,
}

/// Why there is no slab.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlabError {
    /// The configuration has no slots for it.
    #[error("it has no slots")]
    Off,
    /// The kernel counts reserved address space as memory.
    #[error("vm.overcommit_memory is 2, which counts address space as memory; set it to 0 or 1")]
    Overcommit,
    /// The kernel refused the address space.
    #[error("the kernel refuses {bytes} bytes of address space: {message}")]
    Reserve {
        /// Bytes asked for.
        bytes: u64,
        /// What it said.
        message: String,
    },
    /// Without guard markers each stack costs memory maps, and there are none left.
    #[error("Linux before 6.13 needs two memory maps for each stack, and {maps} are left")]
    Maps {
        /// Memory maps that may be used.
        maps: u64,
    },
}

impl Slab {
    /// Reserves the address space of `slots` instances; fewer where the kernel has no guard markers and
    /// `maps_left` memory maps are too few.
    pub(crate) fn new(slots: u32, maps_left: u64) -> Result<Self, SlabError> {
        if slots == 0 {
            return Err(SlabError::Off);
        }
        if counts_address_space() {
            return Err(SlabError::Overcommit);
        }
        let (guards, slots) = guards(Region::has_markers(), slots, maps_left);
        if slots == 0 {
            return Err(SlabError::Maps { maps: maps_left });
        }
        let page = rustix::param::page_size();
        let small = region(SMALL_MEMORY_SLOT_BYTES, slots, Guards::None, 0)?;
        let large = region(MEMORY_SLOT_BYTES, slots, Guards::None, 0)?;
        let stacks = region(STACK_SLOT_BYTES, slots, guards, page)?;
        Ok(Self {
            memories: Arc::new(SlabMemories::new(small, large)),
            stacks: Arc::new(SlabStacks::new(stacks)),
            slots,
            stack_bytes: STACK_SLOT_BYTES - page,
        })
    }
}

fn region(slot_bytes: usize, count: u32, guards: Guards, guard_bytes: usize) -> Result<Region, SlabError> {
    let layout = Layout { slot_bytes, count };
    Region::new(layout, guards, guard_bytes).map_err(|error: io::Error| SlabError::Reserve {
        bytes: layout.total_bytes().map_or(u64::MAX, |bytes| bytes as u64),
        message: error.to_string(),
    })
}

/// How stacks are guarded, and how many there can be.
fn guards(has_markers: bool, slots: u32, maps_left: u64) -> (Guards, u32) {
    if has_markers {
        return (Guards::Marker, slots);
    }
    let fit = u32::try_from(maps_left / MAPS_PER_GUARD).unwrap_or(u32::MAX);
    (Guards::Map, slots.min(fit))
}

/// Whether the kernel refuses address space beyond its memory, whatever is asked of it.
fn counts_address_space() -> bool {
    let mode = std::fs::read_to_string("/proc/sys/vm/overcommit_memory");
    mode.is_ok_and(|mode| mode.trim() == "2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_guard_markers_the_memory_maps_say_how_many_stacks_there_are() {
        assert_eq!(guards(true, 1_000_000, 10), (Guards::Marker, 1_000_000));
        assert_eq!(guards(false, 1_000_000, 30_001), (Guards::Map, 15_000));
        assert_eq!(guards(false, 1_000, u64::MAX), (Guards::Map, 1_000));
        assert_eq!(guards(false, 1_000, 1).1, 0);
    }

    #[test]
    fn a_slab_of_no_slots_is_none() {
        assert_eq!(Slab::new(0, u64::MAX).err(), Some(SlabError::Off));
    }
}
