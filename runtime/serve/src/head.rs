//! What the parser does not tell: a head with both Content-Length and Transfer-Encoding.
//!
//! hyper takes the chunks for the frame, drops the length and closes the connection after the answer, as
//! RFC 9112 section 6.1 allows. Whoever wants to refuse such a request finds [`AmbiguousLength`] in its
//! extensions.
//!
//! Known gap: the head of a request that was pipelined behind another one may not be seen whole; then hyper's
//! rule holds.

use std::sync::{Mutex, PoisonError};

use crate::config::HEAD_BYTES_MAX;

/// The request's head had a Content-Length beside its Transfer-Encoding; in the extensions of such requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmbiguousLength;

/// The bytes of the head that is arriving.
#[derive(Debug, Default)]
pub(crate) struct HeadBytes {
    bytes: Mutex<Vec<u8>>,
}

impl HeadBytes {
    /// Takes note of bytes that arrived between two requests.
    pub(crate) fn record(&self, bytes: &[u8]) {
        let mut head = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let room = HEAD_BYTES_MAX.saturating_sub(head.len());
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Whether the head begins so.
    pub(crate) fn starts_with(&self, bytes: &[u8]) -> bool {
        let head = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        head.starts_with(bytes)
    }

    /// Forgets the bytes, and says whether their head has a Content-Length.
    pub(crate) fn had_length(&self, look: Look) -> bool {
        let mut head = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let had = look == Look::Needed && has_length(&head);
        head.clear();
        had
    }
}

/// Whether the bytes need to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Needed,
    Unneeded,
}

fn has_length(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length:";
    bytes
        .split(|byte| *byte == b'\n')
        .skip(1)
        .take_while(|line| !line.is_empty() && *line != b"\r")
        .any(|line| {
            line.get(..NAME.len())
                .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_found_in_the_head_alone() {
        let had = |parts: &[&str]| {
            let head = HeadBytes::default();
            parts.iter().for_each(|part| head.record(part.as_bytes()));
            (head.had_length(Look::Needed), head.had_length(Look::Needed))
        };
        assert_eq!(
            had(&["POST / HTTP/1.1\r\nConte", "nt-LENGTH: 5\r\n\r\n"]),
            (true, false)
        );
        assert_eq!(
            had(&["POST / HTTP/1.1\r\nX: y\r\n\r\nContent-Length: 5\r\n"]),
            (false, false)
        );
        assert_eq!(
            had(&["POST / HTTP/1.1\nX: y\n\nContent-Length: 5\n"]),
            (false, false)
        );
        assert_eq!(had(&["GET /?content-length: HTTP/1.1\r\n\r\n"]), (false, false));
    }
}
