//! The node's randomness: jitter and request ids. Neither is a secret.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use http::HeaderValue;

/// A number in 0 ..= 1 that differs from call to call and from node to node.
pub(crate) fn jitter() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(()) >> 32).expect("32 bits");
    f64::from(bits) / f64::from(u32::MAX)
}

/// Makes request ids: 128 bits each, keyed by the system's randomness, cheap to make.
#[derive(Debug, Default)]
pub(crate) struct RequestIds {
    keys: RandomState,
    count: AtomicU64,
}

impl RequestIds {
    pub(crate) fn next(&self) -> HeaderValue {
        let n = self.count.fetch_add(1, Relaxed);
        let text = format!(
            "{:016x}{:016x}",
            self.keys.hash_one((n, 0_u8)),
            self.keys.hash_one((n, 1_u8))
        );
        HeaderValue::try_from(text).expect("hex digits are a header value")
    }
}
