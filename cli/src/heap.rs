//! The program's allocator, and how its threads give memory back.
//!
//! Invariant: unsafe code of this crate is here alone.

use std::{cell::RefCell, time::Instant};

use gilliam_engine::GiveBack;

/// Guests' fresh instances cost half as much with it as with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

thread_local! {
    static PARKED: RefCell<GiveBack> = const { RefCell::new(GiveBack::new(give_back)) };
}

/// Gives the system what the calling thread keeps, and what any thread has given back.
///
/// Forced: unforced it looks through few of a thread's pages.
#[allow(unsafe_code, reason = "the allocator has no safe way to say it")]
pub(crate) fn give_back() {
    // SAFETY: `mi_collect` may be called on any thread at any time: it looks through the calling thread's own
    // pages, and frees those without a block in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// A thread of the async runtime is about to wait.
pub(crate) fn parked() {
    PARKED.with_borrow_mut(|parked| parked.worked(Instant::now()));
}
