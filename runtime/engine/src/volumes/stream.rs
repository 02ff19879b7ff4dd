//! What a guest writes into a file of a volume, piece by piece.
//!
//! Invariant: one piece is on its way at a time; until it is written the guest may not hand over the next.

use std::{fs::File, io, sync::Arc};

use bytes::Bytes;
use gilliam_services::volume::{At, Volume};
use wasmtime_wasi::{
    p2::{OutputStream, Pollable, StreamError, StreamResult},
    runtime::AbortOnDropJoinHandle,
};

use super::blocking;
use crate::guest::{BODY_CHUNK_BYTES_MAX, Shared};

/// A file being written.
pub(super) struct VolumeStream {
    volume: Volume,
    file: Arc<File>,
    shared: Arc<Shared>,
    at: At,
    state: State,
}

enum State {
    Ready,
    /// A piece is being written; where it ends is said.
    Writes(AbortOnDropJoinHandle<io::Result<u64>>),
    Failed(io::Error),
    Closed,
}

impl VolumeStream {
    pub(super) fn new(volume: Volume, file: Arc<File>, shared: Arc<Shared>, at: At) -> Self {
        Self {
            volume,
            file,
            shared,
            at,
            state: State::Ready,
        }
    }

    fn failed(&mut self) -> StreamResult<()> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
            State::Closed => Err(StreamError::Closed),
            other => {
                self.state = other;
                Ok(())
            }
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for VolumeStream {
    async fn ready(&mut self) {
        if let State::Writes(task) = &mut self.state {
            self.state = match task.await {
                Ok(end) => {
                    if let At::Offset(at) = &mut self.at {
                        *at = end;
                    }
                    State::Ready
                }
                Err(error) => State::Failed(error),
            };
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for VolumeStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.failed()?;
        if matches!(self.state, State::Writes(_)) || bytes.len() > BODY_CHUNK_BYTES_MAX {
            return Err(StreamError::trap("write exceeded what check-write allowed"));
        }
        let (volume, file, at) = (self.volume.clone(), self.file.clone(), self.at);
        let write = blocking(self.shared.clone(), move || volume.write(&file, &bytes, at));
        self.state = State::Writes(wasmtime_wasi::runtime::spawn(write));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.failed()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.failed()?;
        Ok(match self.state {
            State::Writes(_) => 0,
            _ => BODY_CHUNK_BYTES_MAX,
        })
    }
}
