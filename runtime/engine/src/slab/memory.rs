//! Linear memories in slots, and mappings of their own for those that outgrow one.
//!
//! Compiled code checks every access against the memory's length, for there are no guard pages: the engine
//! that uses these is set so (`engines/settings.rs`), and [`MemoryCreator`] refuses any other.
#![allow(
    unsafe_code,
    reason = "wasmtime's traits for memories of the embedder's are unsafe"
)]

use std::{
    ptr, slice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::{
    SLAB_FULL,
    free::copy_sparse,
    region::{Mapping, Region, Slot},
};

/// The most that a 32-bit memory can have.
const MEMORY_BYTES_MAX: usize = 4 << 30;
/// Address space of all memories that outgrew their slots: a guest gets it by growing, without touching it.
const OUTGROWN_BYTES_MAX: usize = 8 << 40;

/// Gives out linear memories.
#[derive(Debug)]
pub(crate) struct SlabMemories {
    regions: Arc<Regions>,
    outgrown: Arc<Outgrown>,
}

/// Where memories start, and where those go on that outgrow a small slot.
#[derive(Debug)]
struct Regions {
    small: Arc<Region>,
    large: Arc<Region>,
}

/// Address space in use outside the slots.
#[derive(Debug, Default)]
struct Outgrown(AtomicUsize);

impl SlabMemories {
    pub(super) fn new(small: Region, large: Region) -> Self {
        let (small, large) = (Arc::new(small), Arc::new(large));
        Self {
            regions: Arc::new(Regions { small, large }),
            outgrown: Arc::default(),
        }
    }

    fn memory(&self, minimum: usize) -> Result<SlabMemory, String> {
        Ok(SlabMemory {
            place: self.regions.place(minimum, &self.outgrown)?,
            bytes: minimum,
            regions: self.regions.clone(),
            outgrown: self.outgrown.clone(),
        })
    }
}

impl Regions {
    /// A place of zeros for so many bytes: the smallest that there is.
    fn place(&self, bytes: usize, outgrown: &Arc<Outgrown>) -> Result<Place, String> {
        for region in [&self.small, &self.large] {
            if bytes <= region.slot_bytes()
                && let Some(slot) = region.take()
            {
                return Ok(Place::Slot(slot));
            }
        }
        match bytes <= self.large.slot_bytes() {
            true => Err(format!("all memories {SLAB_FULL}")),
            false => Ok(Place::Own(Own::new(outgrown, bytes)?)),
        }
    }
}

// SAFETY: a memory starts as `minimum` zeros that nobody else refers to: a free slot reads as zeros and has
// one owner (see `Region`), and so does a new mapping. No guard and no reservation beyond its capacity is
// promised, and an engine that asks for either is refused.
unsafe impl MemoryCreator for SlabMemories {
    fn new_memory(
        &self,
        memory: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved_bytes: Option<usize>,
        guard_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if guard_bytes != 0 || reserved_bytes.unwrap_or(0) != 0 {
            return Err("the slab has no guard pages and reserves nothing".to_owned());
        }
        if memory.is_64() || memory.is_shared() {
            return Err("the slab has neither 64-bit nor shared memories".to_owned());
        }
        Ok(Box::new(self.memory(minimum)?))
    }
}

/// Where a memory's bytes are.
#[derive(Debug)]
enum Place {
    Slot(Slot),
    Own(Own),
}

impl Place {
    fn base(&self) -> usize {
        match self {
            Place::Slot(slot) => slot.range().start,
            Place::Own(own) => own.mapping.base(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Place::Slot(slot) => slot.range().len(),
            Place::Own(own) => own.mapping.bytes(),
        }
    }
}

/// One linear memory.
#[derive(Debug)]
struct SlabMemory {
    place: Place,
    /// What the guest may use of it.
    bytes: usize,
    regions: Arc<Regions>,
    outgrown: Arc<Outgrown>,
}

// SAFETY: `as_ptr` is valid for `byte_capacity` bytes for as long as this lives, and changes in `grow_to`
// alone, when the new size is beyond the capacity. Bytes between the size and the capacity are zero: nobody
// writes beyond the size, and sizes never shrink.
unsafe impl LinearMemory for SlabMemory {
    fn byte_size(&self) -> usize {
        self.bytes
    }

    fn byte_capacity(&self) -> usize {
        self.place.capacity()
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        if bytes > self.place.capacity() {
            let next = self.regions.place(bytes, &self.outgrown);
            let next = next.map_err(wasmtime::Error::msg)?;
            let from: *const u8 = ptr::with_exposed_provenance(self.place.base());
            let to: *mut u8 = ptr::with_exposed_provenance_mut(next.base());
            // SAFETY: `bytes` so far lie within the present place and are initialised (mapped memory is zero
            // until written); the new place has one owner, is larger and apart from it. The guest stands still
            // while its memory grows, and this is `&mut`: nobody else refers to either while these slices live.
            let (from, to) = unsafe {
                (
                    slice::from_raw_parts(from, self.bytes),
                    slice::from_raw_parts_mut(to, next.capacity()),
                )
            };
            copy_sparse(from, to, rustix::param::page_size());
            self.place = next;
        }
        self.bytes = bytes;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.place.base())
    }
}

/// A mapping of one memory's own.
#[derive(Debug)]
struct Own {
    mapping: Mapping,
    outgrown: Arc<Outgrown>,
}

impl Own {
    /// Twice as much at least as a slot or the last one, so that growing page by page does not move it each
    /// time.
    fn new(outgrown: &Arc<Outgrown>, bytes: usize) -> Result<Self, String> {
        let capacity = capacity_for(bytes).ok_or("a memory of more than 4 GiB")?;
        let added = outgrown.0.try_update(Relaxed, Relaxed, |all| {
            all.checked_add(capacity).filter(|all| *all <= OUTGROWN_BYTES_MAX)
        });
        if added.is_err() {
            return Err("memories that outgrew the slab take all of their address space".to_owned());
        }
        match Mapping::new(capacity) {
            Ok(mapping) => Ok(Self {
                mapping,
                outgrown: outgrown.clone(),
            }),
            Err(error) => {
                outgrown.0.fetch_sub(capacity, Relaxed);
                Err(format!("cannot map {capacity} bytes: {error}"))
            }
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.outgrown.0.fetch_sub(self.mapping.bytes(), Relaxed);
    }
}

/// The size of a mapping for a memory of so many bytes.
fn capacity_for(bytes: usize) -> Option<usize> {
    let capacity = bytes.checked_next_power_of_two()?.max(1 << 16);
    (capacity <= MEMORY_BYTES_MAX).then_some(capacity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::{free::Layout, region::Guards};

    #[test]
    fn mappings_double_up_to_what_32_bits_address() {
        assert_eq!(capacity_for((64 << 20) + 1), Some(128 << 20));
        assert_eq!(capacity_for(128 << 20), Some(128 << 20));
        assert_eq!(capacity_for(MEMORY_BYTES_MAX), Some(MEMORY_BYTES_MAX));
        assert_eq!(capacity_for(MEMORY_BYTES_MAX + 1), None);
        assert_eq!(capacity_for(usize::MAX), None);
    }

    fn bytes(memory: &mut SlabMemory) -> &mut [u8] {
        // SAFETY: `byte_size` bytes are there, and the borrow keeps the memory from growing meanwhile.
        unsafe { slice::from_raw_parts_mut(memory.as_ptr(), memory.byte_size()) }
    }

    #[cfg_attr(miri, ignore = "needs real system calls")]
    #[test]
    fn a_memory_outgrows_its_slot_with_its_bytes_and_leaves_the_slot_clean() {
        let one = |slot_bytes| {
            let layout = Layout { slot_bytes, count: 1 };
            Region::new(layout, Guards::None, 0).expect("region")
        };
        let memories = SlabMemories::new(one(1 << 18), one(2 << 20));
        for _ in 0..3 {
            let mut memory = memories.memory(1 << 16).expect("memory");
            let small = memory.as_ptr();
            memory.grow_to(1 << 18).expect("grows within its slot");
            assert_eq!(memory.as_ptr(), small);
            bytes(&mut memory)[(1 << 18) - 1] = 3;
            memory.grow_to(2 << 20).expect("moves to a large slot");
            assert_ne!(memory.as_ptr(), small);
            assert_eq!(std::mem::take(&mut bytes(&mut memory)[(1 << 18) - 1]), 3);
            let mut other = memories.memory(0).expect("the small slot is free again");
            other.grow_to(1 << 18).expect("grows");
            assert!(bytes(&mut other).iter().all(|byte| *byte == 0));
            assert!(memories.memory(0).is_err(), "there is one of each");
            drop(other);
            let place = memory.as_ptr();
            bytes(&mut memory)[0] = 1;
            bytes(&mut memory)[(2 << 20) - 1] = 2;
            memory.grow_to((2 << 20) + (1 << 16)).expect("moves");
            assert_ne!(memory.as_ptr(), place);
            assert_eq!(memory.byte_capacity(), 4 << 20);
            let all = bytes(&mut memory);
            assert_eq!((all[0], all[(2 << 20) - 1]), (1, 2));
            assert_eq!(all.iter().filter(|byte| **byte != 0).count(), 2);
            let mut next = memories.memory(1 << 20).expect("the large slot is free again");
            assert!(bytes(&mut next).iter().all(|byte| *byte == 0));
            assert!(memory.grow_to(MEMORY_BYTES_MAX + 1).is_err());
            assert_eq!(memories.outgrown.0.load(Relaxed), 4 << 20);
        }
        assert_eq!(memories.outgrown.0.load(Relaxed), 0);
    }
}
