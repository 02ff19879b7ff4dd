//! Random bytes for guests, bounded in each call and in each slice.
//!
//! wasmtime-wasi 48 bounds a call of WASI 0.2 alone: of 0.3 a guest could ask for all the memory of the host. And
//! a call costs hundreds of microseconds at next to no fuel, so a loop of them would hold its thread.
//!
//! Invariant: no call makes more bytes than the instance's limit allows; after each slice of bytes the caller
//! yields.

use wasmtime::{StoreContextMut, component::Linker};

use crate::{failure::CapReached, guest::Guest, held::Lines};

/// Bytes made before the guest has to yield: about a tenth of a millisecond.
const SLICE_BYTES_MAX: u64 = 64 << 10;

/// What one store may still make.
#[derive(Debug)]
pub(crate) struct RandomSlice {
    call_max: u64,
    /// Bytes made since the guest last yielded for them.
    made: u64,
}

impl RandomSlice {
    /// `call_max` bounds the bytes of one call.
    pub(crate) fn new(call_max: u64) -> Self {
        Self { call_max, made: 0 }
    }

    /// Counts bytes; true when the slice is used up, and begun anew.
    fn take(&mut self, bytes: u64) -> bool {
        self.made = self.made.saturating_add(bytes);
        let is_used_up = self.made >= SLICE_BYTES_MAX;
        if is_used_up {
            self.made = 0;
        }
        is_used_up
    }
}

/// Puts functions of ours before those that make random bytes. The linker must allow shadowing.
pub(crate) fn bound(linker: &mut Linker<Guest>, lines: Lines) -> wasmtime::Result<()> {
    let versions: &[&str] = match lines {
        Lines::P2 => &["0.2.12"],
        Lines::P2AndP3 => &["0.2.12", "0.3.0"],
    };
    for version in versions {
        for (interface, function) in [
            ("random", "get-random-bytes"),
            ("insecure", "get-insecure-random-bytes"),
        ] {
            let mut instance = linker.instance(&format!("wasi:random/{interface}@{version}"))?;
            instance.func_wrap_async(function, |store: StoreContextMut<'_, Guest>, (count,): (u64,)| {
                Box::new(bytes(store, count))
            })?;
        }
    }
    Ok(())
}

async fn bytes(mut store: StoreContextMut<'_, Guest>, count: u64) -> wasmtime::Result<(Vec<u8>,)> {
    let random = &mut store.data_mut().random;
    let max = random.call_max;
    if count > max {
        let text = format!("random_bytes reached: {count} asked for in one call, limit {max}");
        return Err(CapReached(text).into());
    }
    if random.take(count) {
        tokio::task::yield_now().await;
    }
    let mut bytes = vec![0; usize::try_from(count)?];
    getrandom::fill(&mut bytes)?;
    Ok((bytes,))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_used_up_by_one_large_call_or_many_small_ones() {
        let mut slice = RandomSlice::new(1);
        assert!(slice.take(SLICE_BYTES_MAX));
        let calls = (1..).find(|_| slice.take(16)).expect("some call");
        assert_eq!(calls, SLICE_BYTES_MAX / 16);
        assert!(slice.take(u64::MAX));
    }
}
