//! Fiber stacks in slots.
#![allow(
    unsafe_code,
    reason = "wasmtime's traits for stacks of the embedder's are unsafe"
)]

use std::{ops::Range, ptr, sync::Arc};

use wasmtime::{StackCreator, StackMemory};

use super::{
    SLAB_FULL,
    region::{Region, Slot},
};

/// Gives out fiber stacks.
#[derive(Debug)]
pub(crate) struct SlabStacks(Arc<Region>);

impl SlabStacks {
    pub(super) fn new(region: Region) -> Self {
        Self(Arc::new(region))
    }
}

// SAFETY: a stack is a slot of its own with a guard page below it, page-aligned and zero: see `Region`.
unsafe impl StackCreator for SlabStacks {
    fn new_stack(&self, bytes: usize, _: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let Some(slot) = self.0.take() else {
            wasmtime::bail!("all stacks {SLAB_FULL}");
        };
        if slot.range().len() < bytes {
            wasmtime::bail!("the slab's stacks have less than {bytes} bytes");
        }
        Ok(Box::new(SlabStack(slot)))
    }
}

#[derive(Debug)]
struct SlabStack(Slot);

// SAFETY: the range is the slot's, which this owns alone and which ends at a page's border; the guard range
// below it faults on every access.
unsafe impl StackMemory for SlabStack {
    fn top(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.0.range().end)
    }

    fn range(&self) -> Range<usize> {
        self.0.range()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let Range { start, end } = self.0.guard_range();
        ptr::with_exposed_provenance_mut(start)..ptr::with_exposed_provenance_mut(end)
    }
}
