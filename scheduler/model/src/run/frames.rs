//! What a run prints, on its way to whoever holds its streams: frames of one byte that says which stream, four of the
//! length (big-endian), and the bytes.
//!
//! In: chunks as they come. Out: what was written to which stream, in order.

/// Most bytes of one frame.
pub const FRAME_BYTES_MAX: usize = 64 << 10;
const HEAD_BYTES: usize = 5;

/// A stream that a run writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Bytes that are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what the run prints does not come as it should: {reason}")]
pub struct FrameError {
    reason: &'static str,
}

/// What stands before the bytes of a frame; of at most [`FRAME_BYTES_MAX`] bytes.
///
/// # Panics
/// When there are more.
pub fn frame_head(stream: RunStream, bytes: usize) -> [u8; HEAD_BYTES] {
    assert!(bytes <= FRAME_BYTES_MAX, "a frame of {bytes} bytes");
    let length = u32::try_from(bytes).expect("below the most").to_be_bytes();
    let kind = match stream {
        RunStream::Stdout => 1,
        RunStream::Stderr => 2,
    };
    [kind, length[0], length[1], length[2], length[3]]
}

/// Frames as they arrive.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    done: usize,
}

impl Frames {
    /// Takes a chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.done);
        self.done = 0;
        self.buffer.extend_from_slice(chunk);
    }

    /// The next frame that is there whole.
    pub fn take(&mut self) -> Result<Option<(RunStream, &[u8])>, FrameError> {
        let Some((head, rest)) = self.buffer[self.done..].split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *head;
        let stream = match kind {
            1 => RunStream::Stdout,
            2 => RunStream::Stderr,
            _ => {
                let reason = "a stream that there is not";
                return Err(FrameError { reason });
            }
        };
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            let reason = "a frame is too long";
            return Err(FrameError { reason });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let from = self.done + HEAD_BYTES;
        self.done = from + length;
        Ok(Some((stream, &self.buffer[from..self.done])))
    }

    /// Whether nothing is left over.
    pub fn is_whole(&self) -> bool {
        self.done == self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            cuts in prop::collection::vec(1usize..70, 1..40),
        ) {
            let frames: Vec<(RunStream, Vec<u8>)> = frames
                .into_iter()
                .map(|(out, bytes)| (if out { RunStream::Stdout } else { RunStream::Stderr }, bytes))
                .collect();
            let mut wire = Vec::new();
            for (stream, bytes) in &frames {
                wire.extend(frame_head(*stream, bytes.len()));
                wire.extend(bytes);
            }
            let (mut reader, mut read, mut cuts) = (Frames::default(), Vec::new(), cuts.iter().cycle());
            let mut rest = &wire[..];
            while !rest.is_empty() {
                let cut = rest.len().min(*cuts.next().expect("endless"));
                reader.push(&rest[..cut]);
                rest = &rest[cut..];
                while let Some((stream, bytes)) = reader.take().expect("frames") {
                    read.push((stream, bytes.to_vec()));
                }
            }
            prop_assert!(reader.is_whole());
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn no_bytes_make_it_panic(chunk in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Frames::default();
            reader.push(&chunk);
            while let Ok(Some(_)) = reader.take() {}
        }
    }

    #[test]
    fn half_a_frame_is_not_whole() {
        let mut reader = Frames::default();
        reader.push(&frame_head(RunStream::Stderr, 3));
        reader.push(b"ab");
        assert_eq!(reader.take(), Ok(None));
        assert!(!reader.is_whole());
        reader.push(b"c");
        assert_eq!(reader.take(), Ok(Some((RunStream::Stderr, &b"abc"[..]))));
        reader.push(&[9, 0, 0, 0, 0]);
        assert!(reader.take().is_err());
    }
}
