//! One mapping of equal slots, and the system calls on it.
//!
//! Address space is reserved once, without swap or memory behind it; a page costs memory from its first touch
//! until its slot is given back.
//!
//! Invariant: a slot that is free reads as zeros; one that could not be cleared is never given out again.
//! Invariant: a [`Slot`] is the only owner of its range, and its range lies within the mapping.
#![allow(
    unsafe_code,
    reason = "memory of guests is mapped, cleared and guarded by the kernel"
)]

use std::{
    io,
    ops::Range,
    ptr,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

use super::free::{FreeList, Layout, Taken};

/// Slots begin at multiples of it, so that the kernel can take back the page tables of a slot with its pages.
const ALIGNMENT_BYTES: usize = 2 << 20;
/// Makes pages fault by a marker in the page table alone, without a memory map each; Linux 6.13 and later.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// How the lowest page of a slot is kept from being touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guards {
    /// There is none.
    None,
    /// A marker in the page table.
    Marker,
    /// A map without access: two maps for each slot.
    Map,
}

/// Equal slots in one mapping.
#[derive(Debug)]
pub(super) struct Region {
    mapping: Mapping,
    /// Of the first slot, counted from the mapping's start.
    offset: usize,
    layout: Layout,
    guards: Guards,
    guard_bytes: usize,
    free: Mutex<FreeList>,
}

impl Region {
    /// Reserves address space for the slots of `layout`.
    pub(super) fn new(layout: Layout, guards: Guards, guard_bytes: usize) -> io::Result<Self> {
        let bytes = layout.total_bytes().and_then(|b| b.checked_add(ALIGNMENT_BYTES));
        let mapping = Mapping::new(bytes.ok_or(io::ErrorKind::OutOfMemory)?)?;
        // A huge page would be 2 MiB of memory for the first byte that a guest touches.
        mapping.advise(Advice::LinuxNoHugepage)?;
        // A core dump would hold the guests' secrets, and a child of this process has no use for their pages.
        mapping.advise(Advice::LinuxDontDump)?;
        mapping.advise(Advice::LinuxDontFork)?;
        Ok(Self {
            offset: mapping.base.next_multiple_of(ALIGNMENT_BYTES) - mapping.base,
            mapping,
            layout,
            guards,
            guard_bytes,
            free: Mutex::new(FreeList::new(layout.count, group(layout, guards))),
        })
    }

    /// Bytes of one slot that its owner may touch.
    pub(super) fn slot_bytes(&self) -> usize {
        self.layout.slot_bytes - self.guard_bytes
    }

    /// A slot of zeros; none when all are taken or the kernel refuses its guard.
    pub(super) fn take(self: &Arc<Self>) -> Option<Slot> {
        let taken = self.free.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let index = match taken {
            Taken::Used(index) => index,
            Taken::Fresh(index) => {
                if let Err(error) = self.guard(index) {
                    tracing::error!(%error, index, "cannot guard a slot; it stays unused");
                    return None;
                }
                index
            }
        };
        let region = self.clone();
        Some(Slot { region, index })
    }

    /// Whether the kernel has guards by markers.
    pub(super) fn has_markers() -> bool {
        let page = rustix::param::page_size();
        Mapping::new(page).is_ok_and(|mapping| mapping.guard(0..page, Guards::Marker).is_ok())
    }

    /// Where a slot lies in the mapping.
    fn range(&self, slot: u32) -> Range<usize> {
        let range = self.layout.range(slot);
        self.offset + range.start..self.offset + range.end
    }

    fn guard(&self, slot: u32) -> io::Result<()> {
        let start = self.range(slot).start;
        self.mapping.guard(start..start + self.guard_bytes, self.guards)
    }
}

/// A slot in use. Cleared and given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    region: Arc<Region>,
    index: u32,
}

impl Slot {
    /// Addresses that its owner may touch: all above the guard.
    pub(super) fn range(&self) -> Range<usize> {
        let range = self.region.range(self.index);
        let base = self.region.mapping.base;
        base + range.start + self.region.guard_bytes..base + range.end
    }

    /// Addresses of the guard below it.
    pub(super) fn guard_range(&self) -> Range<usize> {
        let end = self.range().start;
        end - self.region.guard_bytes..end
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let range = self.region.range(self.index);
        let used = range.start + self.region.guard_bytes..range.end;
        if let Err(error) = self.region.mapping.clear(used) {
            tracing::error!(%error, slot = self.index, "cannot clear a slot; it stays unused");
            return;
        }
        let mut free = self.region.free.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = free.give_back(self.index) else {
            return;
        };
        if group.len() > 1 {
            // Their page tables go with a call for all that they map. Under the lock: nobody may take one meanwhile.
            let all = self.region.range(group.start).start..self.region.range(group.end - 1).end;
            if let Err(error) = self.region.mapping.clear(all) {
                tracing::debug!(%error, "page tables of free slots stay");
            }
        }
    }
}

/// Slots that share a page of page tables which can go when all of them are free; a marker keeps it.
fn group(layout: Layout, guards: Guards) -> u32 {
    let slots = ALIGNMENT_BYTES / layout.slot_bytes;
    match guards {
        Guards::None => u32::try_from(slots.max(1)).unwrap_or(1),
        Guards::Marker | Guards::Map => 1,
    }
}

/// Private memory of this process, readable and writable, zero until written. Unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    /// Its address; exposed, for pointers are made from it.
    base: usize,
    bytes: usize,
}

impl Mapping {
    /// Maps `bytes`, a multiple of the page size, without anything behind them.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), bytes, access, flags) }?;
        Ok(Self {
            base: base.expose_provenance(),
            bytes,
        })
    }

    /// The address of its first byte.
    pub(super) fn base(&self) -> usize {
        self.base
    }

    /// Its size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn pointer(&self, range: &Range<usize>) -> *mut std::ffi::c_void {
        assert!(range.start <= range.end && range.end <= self.bytes);
        ptr::with_exposed_provenance_mut(self.base + range.start)
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        debug_assert!(
            advice != Advice::LinuxDontNeed,
            "clearing has a function of its own"
        );
        // SAFETY: the range is this whole mapping, and the advice given (no huge pages, no dump, no fork)
        // changes no byte that this process sees.
        Ok(unsafe { madvise(self.pointer(&(0..self.bytes)), self.bytes, advice) }?)
    }

    /// Turns the range into zeros that cost no memory.
    fn clear(&self, range: Range<usize>) -> io::Result<()> {
        // SAFETY: the range lies within this mapping (`pointer` asserts it). Only the drop of a `Slot` calls
        // this: with the slot's own range, whose one owner, a memory or stack that wasmtime has let go of, is
        // gone; or with that of slots that are all free, while it holds the lock that gives them out. So nobody
        // refers to these bytes.
        Ok(unsafe { madvise(self.pointer(&range), range.len(), Advice::LinuxDontNeed) }?)
    }

    /// Makes every access to the range fault.
    fn guard(&self, range: Range<usize>, guards: Guards) -> io::Result<()> {
        let (start, bytes) = (self.pointer(&range), range.len());
        match guards {
            Guards::None => Ok(()),
            Guards::Marker => {
                // SAFETY: the range lies within this mapping (`pointer` asserts it), at the bottom of a slot
                // that nobody has had yet and below what `Slot::range` gives out: no reference to it exists
                // or will. The kernel drops its pages and marks it; it survives MADV_DONTNEED.
                match unsafe { libc::madvise(start, bytes, MADV_GUARD_INSTALL) } {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            }
            Guards::Map => {
                // SAFETY: as above; the range loses its access rights and keeps its address.
                Ok(unsafe { mprotect(start, bytes, MprotectFlags::empty()) }?)
            }
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, which nobody else unmaps. Its slots hold it by `Arc`, and a memory of its
        // own is dropped by its one owner: nobody refers to it any more.
        let unmapped = unsafe { munmap(self.pointer(&(0..self.bytes)), self.bytes) };
        debug_assert!(unmapped.is_ok(), "the mapping was there");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _};

    use super::*;

    /// Whether an access to `address` would fault: asked of the kernel, for a load of ours could not come back.
    fn is_guarded(address: usize) -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
        let mut closed = maps.lines().filter(|line| line.contains(" ---p "));
        let in_closed_map = closed.any(|line| {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let (start, end) = range.expect("a range");
            let hex = |digits| usize::from_str_radix(digits, 16).expect("hexadecimal");
            (hex(start)..hex(end)).contains(&address)
        });
        // This way of reading does not mind a map's access rights; a marker stops it.
        let memory = File::open("/proc/self/mem").expect("own memory");
        in_closed_map || memory.read_at(&mut [0], address as u64).is_err()
    }

    fn write(address: usize, byte: u8) {
        // SAFETY: tests write into slots that they own.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(address).write(byte) };
    }

    fn read(address: usize) -> u8 {
        // SAFETY: tests read slots that they own.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(address).read() }
    }

    #[cfg_attr(miri, ignore = "needs real system calls")]
    #[test]
    fn guards_hold_and_outlive_clearing_and_the_rest_reads_as_zeros() {
        let page = rustix::param::page_size();
        let layout = Layout {
            slot_bytes: 256 << 10,
            count: 8,
        };
        for guards in [Guards::Marker, Guards::Map] {
            if guards == Guards::Marker && !Region::has_markers() {
                continue;
            }
            let region = Arc::new(Region::new(layout, guards, page).expect("region"));
            for _ in 0..20 {
                let slots: Vec<Slot> = std::iter::from_fn(|| region.take()).collect();
                assert_eq!(slots.len(), 8);
                for slot in &slots {
                    let (guard, range) = (slot.guard_range(), slot.range());
                    let ends = [guard.start, guard.end - 1];
                    assert!(ends.into_iter().all(is_guarded), "{guards:?}");
                    assert!(!is_guarded(range.start) && !is_guarded(range.end - 1));
                    for address in [range.start, range.start + page, range.end - 1] {
                        assert_eq!(read(address), 0);
                        write(address, 0xa5);
                    }
                }
            }
        }
    }

    /// Bytes of this process's page tables.
    fn table_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("own memory");
        let line = status.lines().find_map(|line| line.strip_prefix("VmPTE:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a number") << 10
    }

    #[cfg_attr(miri, ignore = "needs real system calls")]
    #[test]
    fn neighbours_that_share_page_tables_keep_their_bytes_until_the_last_has_gone() {
        let layout = Layout {
            slot_bytes: 256 << 10,
            count: 16_000,
        };
        let region = Arc::new(Region::new(layout, Guards::None, 0).expect("region"));
        let mut slots: Vec<Slot> = std::iter::from_fn(|| region.take()).collect();
        for slot in &slots {
            write(slot.range().start, 7);
        }
        let used = table_bytes();
        let mut kept = Vec::new();
        while let Some(slot) = slots.pop() {
            if slots.len().is_multiple_of(800) {
                kept.push(slot);
            }
        }
        assert_eq!(kept.len(), 20);
        assert!(kept.iter().all(|slot| read(slot.range().start) == 7));
        // 2,000 tables, of which 20 are needed; other tests use some too.
        let left = used.saturating_sub(table_bytes());
        assert!(
            left > 1_500 * 4096 || !frees_tables(),
            "{left} bytes of page tables came back"
        );
        let again = region.take().expect("a slot");
        assert_eq!(read(again.range().start), 0);
    }

    /// Whether the kernel gives empty page tables back (Linux 6.14).
    fn frees_tables() -> bool {
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy();
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
        (next(), next()) >= (6, 14)
    }

    #[cfg_attr(miri, ignore = "needs real system calls")]
    #[test]
    fn memory_comes_back_with_the_slots() {
        let layout = Layout {
            slot_bytes: 64 << 20,
            count: 1_000,
        };
        let region = Arc::new(Region::new(layout, Guards::None, 0).expect("region"));
        let slots: Vec<Slot> = std::iter::from_fn(|| region.take()).collect();
        let addresses = slots.iter().flat_map(|slot| slot.range().step_by(4 << 20));
        let addresses: Vec<usize> = addresses.collect();
        let pagemap = File::open("/proc/self/pagemap").expect("own pages");
        // Bit 63 says that there is memory behind a page, bit 62 that it is swapped out.
        let has_memory = |address: &&usize| {
            let mut entry = [0; 8];
            let at = **address / rustix::param::page_size() * entry.len();
            pagemap.read_exact_at(&mut entry, at as u64).expect("an entry");
            u64::from_ne_bytes(entry) >> 62 != 0
        };
        addresses.iter().for_each(|address| write(*address, 1));
        assert_eq!(addresses.iter().filter(has_memory).count(), 16_000);
        drop(slots);
        assert_eq!(addresses.iter().filter(has_memory).count(), 0);
    }
}
