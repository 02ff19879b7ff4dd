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

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Makes request ids: 128 bits each, keyed by the system's randomness, cheap to make.
#[derive(Debug, Default)]
pub(crate) struct RequestIds {
    keys: RandomState,
    count: AtomicU64,
}

impl RequestIds {
    pub(crate) fn next(&self) -> HeaderValue {
        let n = self.count.fetch_add(1, Relaxed);
        let bits = [self.keys.hash_one((n, 0_u8)), self.keys.hash_one((n, 1_u8))];
        let mut text = [0; 32];
        let bytes = bits.iter().flat_map(|half| half.to_be_bytes());
        for (digits, byte) in text.chunks_exact_mut(2).zip(bytes) {
            digits[0] = HEX[usize::from(byte >> 4)];
            digits[1] = HEX[usize::from(byte & 0xf)];
        }
        HeaderValue::from_bytes(&text).expect("hex digits are a header value")
    }
}
