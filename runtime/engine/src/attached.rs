//! Standard streams of a command in the hands of somebody else: bytes both ways, as fast as the slower side.
//!
//! In flow bytes for the guest's standard input, out flow pieces of what it writes, in order. Its lines go to the log
//! all the same.
//!
//! Invariant: no more than [`PIECES_MAX`] pieces wait each way: a guest that writes faster waits.
//! Invariant: once nobody takes pieces any more, nothing waits for that: the guest goes on.
//! Invariant: its standard input ends also when it is asked to end.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc::{self, OwnedPermit, error::SendError, error::TryRecvError},
};
use wasmtime_wasi::{
    cli::{IsTerminal, StdinStream},
    p2::{InputStream, Pollable, StreamError, StreamResult},
};

use crate::signals::Signals;

/// Pieces that wait each way: of at most 64 KiB each, half a megabyte.
const PIECES_MAX: usize = 8;

/// What a guest wrote to one of its streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// To which.
    pub stream: Standard,
    /// What.
    pub bytes: Bytes,
}

/// A stream that a guest writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Whoever sent a guest its standard input is gone before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the standard input was cut off")]
pub struct InputCut;

/// The guest's side of its standard streams.
#[derive(Debug)]
pub struct Attached {
    /// What it reads.
    pub(crate) input: mpsc::Receiver<Result<Bytes, InputCut>>,
    /// What it writes.
    pub(crate) output: mpsc::Sender<Piece>,
}

/// The other side.
#[derive(Debug)]
pub struct Holder {
    /// For the guest to read, in pieces of at most 64 KiB; its standard input ends when this is dropped.
    pub input: mpsc::Sender<Result<Bytes, InputCut>>,
    /// What the guest wrote; ends with it.
    pub output: mpsc::Receiver<Piece>,
}

/// The two sides of a command's standard streams.
pub fn attach() -> (Attached, Holder) {
    let (to_guest, input) = mpsc::channel(PIECES_MAX);
    let (output, from_guest) = mpsc::channel(PIECES_MAX);
    let holder = Holder {
        input: to_guest,
        output: from_guest,
    };
    (Attached { input, output }, holder)
}

// === output ===

type Reserving = Pin<Box<dyn Future<Output = Result<OwnedPermit<Piece>, SendError<()>>> + Send>>;

/// Takes what is written to one stream, a piece for each place that there is.
pub(crate) struct Tap {
    stream: Standard,
    sender: mpsc::Sender<Piece>,
    place: Mutex<Place>,
}

#[derive(Default)]
struct Place {
    taken: Option<OwnedPermit<Piece>>,
    reserving: Option<Reserving>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Tap {
    pub(crate) fn new(stream: Standard, sender: mpsc::Sender<Piece>) -> Self {
        Self {
            stream,
            sender,
            place: Mutex::default(),
        }
    }

    /// Waits until a piece can be put.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.taken.is_some() || self.sender.is_closed() {
            return Poll::Ready(());
        }
        let sender = &self.sender;
        let reserving = place
            .reserving
            .get_or_insert_with(|| Box::pin(sender.clone().reserve_owned()));
        let reserved = ready!(reserving.as_mut().poll(cx));
        // An error says that nobody takes pieces any more.
        place.taken = reserved.ok();
        place.reserving = None;
        Poll::Ready(())
    }

    /// Whether a piece can be put now.
    pub(crate) fn is_ready(&self) -> bool {
        self.poll_ready(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    /// Puts a piece, for which there is a place unless nobody takes any.
    pub(crate) fn put(&self, bytes: Bytes) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.is_empty() {
            return;
        }
        if let Some(permit) = place.taken.take() {
            let stream = self.stream;
            permit.send(Piece { stream, bytes });
        }
    }
}

// === input ===

/// Standard input that somebody sends. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    state: Arc<tokio::sync::Mutex<InputState>>,
    signals: Arc<Signals>,
}

#[derive(Debug)]
struct InputState {
    from: mpsc::Receiver<Result<Bytes, InputCut>>,
    rest: Bytes,
    end: Option<Result<(), InputCut>>,
}

impl InputState {
    fn take(&mut self, piece: Option<Result<Bytes, InputCut>>) {
        match piece {
            Some(Ok(piece)) => self.rest = piece,
            Some(Err(cut)) => self.end = Some(Err(cut)),
            None => self.end = Some(Ok(())),
        }
    }
}

impl Input {
    pub(crate) fn new(from: mpsc::Receiver<Result<Bytes, InputCut>>, signals: Arc<Signals>) -> Self {
        let state = InputState {
            from,
            rest: Bytes::new(),
            end: None,
        };
        Self {
            state: Arc::new(tokio::sync::Mutex::new(state)),
            signals,
        }
    }

    /// Waits until there is something to read, or nothing any more. Cancel-safe.
    async fn fill(&self) {
        let mut state = self.state.lock().await;
        while state.rest.is_empty() && state.end.is_none() {
            tokio::select! {
                biased;
                () = self.signals.asked_to_stop() => state.end = Some(Ok(())),
                piece = state.from.recv() => state.take(piece),
            }
        }
    }

    /// Up to `bytes_max` bytes that are there; none at the end.
    fn take(&self, bytes_max: usize) -> Result<Option<Bytes>, InputCut> {
        let is_to_stop = self.signals.hear();
        // Whoever waits with the lock gets what comes.
        let Ok(mut state) = self.state.try_lock() else {
            return Ok(Some(Bytes::new()));
        };
        if is_to_stop {
            state.end.get_or_insert(Ok(()));
            state.rest.clear();
        }
        while state.rest.is_empty() {
            if let Some(end) = state.end {
                return end.map(|()| None);
            }
            match state.from.try_recv() {
                Ok(piece) => state.take(Some(piece)),
                Err(TryRecvError::Empty) => return Ok(Some(Bytes::new())),
                Err(TryRecvError::Disconnected) => state.take(None),
            }
        }
        let count = state.rest.len().min(bytes_max);
        Ok(Some(state.rest.split_to(count)))
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(Reader {
            input: self.clone(),
            filling: Mutex::default(),
        })
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.fill().await;
    }
}

#[async_trait::async_trait]
impl InputStream for Input {
    fn read(&mut self, bytes_max: usize) -> StreamResult<Bytes> {
        match self.take(bytes_max) {
            Ok(bytes) => bytes.ok_or(StreamError::Closed),
            Err(cut) => Err(StreamError::LastOperationFailed(cut.into())),
        }
    }
}

/// The same for WASI 0.3.
struct Reader {
    input: Input,
    /// In a mutex because wasmtime-wasi wants a `Sync` reader; it is never contended.
    filling: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let filling = this.filling.get_mut().unwrap_or_else(PoisonError::into_inner);
            if let Some(future) = filling {
                ready!(future.as_mut().poll(cx));
                *filling = None;
            }
            match this.input.take(buffer.remaining()) {
                // Nothing filled in is the end of the stream.
                Ok(None) => return Poll::Ready(Ok(())),
                Err(cut) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, cut))),
                Ok(Some(bytes)) if bytes.is_empty() && buffer.remaining() > 0 => {
                    let input = this.input.clone();
                    *filling = Some(Box::pin(async move { input.fill().await }));
                }
                Ok(Some(bytes)) => {
                    buffer.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, executor::block_on, future::poll_fn};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn a_writer_waits_for_whoever_takes_pieces_and_not_for_nobody() {
        let (Attached { output, input }, mut holder) = attach();
        let tap = Tap::new(Standard::Err, output);
        for n in 0..PIECES_MAX {
            assert!(tap.is_ready(), "place {n}");
            tap.put(Bytes::from(vec![u8::try_from(n).expect("few")]));
        }
        assert!(!tap.is_ready());
        let first = block_on(holder.output.recv()).expect("a piece");
        assert_eq!((first.stream, &first.bytes[..]), (Standard::Err, &[0][..]));
        assert!(tap.is_ready());
        tap.put(Bytes::from_static(b"last"));
        assert!(poll_fn(|cx| tap.poll_ready(cx)).now_or_never().is_none());
        drop((holder, input));
        assert_eq!(poll_fn(|cx| tap.poll_ready(cx)).now_or_never(), Some(()));
        tap.put(Bytes::from_static(b"to nobody"));
    }

    #[test]
    fn input_comes_as_it_is_until_its_end_or_the_notice() {
        let signals = Arc::new(Signals::default());
        let (Attached { input, .. }, holder) = attach();
        let mut stdin = Input::new(input, signals.clone());
        assert_eq!(stdin.read(8).expect("nothing yet"), Bytes::new());
        holder
            .input
            .try_send(Ok(Bytes::from_static(b"\0\xffabc")))
            .expect("room");
        block_on(stdin.ready());
        assert_eq!(stdin.read(2).expect("bytes"), &b"\0\xff"[..]);
        assert_eq!(stdin.read(8).expect("bytes"), &b"abc"[..]);
        drop(holder);
        block_on(stdin.ready());
        assert!(matches!(stdin.read(8), Err(StreamError::Closed)));

        let (Attached { input, .. }, holder) = attach();
        let mut stdin = Input::new(input, signals.clone());
        signals.ask_to_stop();
        holder
            .input
            .try_send(Ok(Bytes::from_static(b"too late")))
            .expect("room");
        assert!(matches!(stdin.read(8), Err(StreamError::Closed)));
    }

    #[test]
    fn input_that_was_cut_off_is_no_end() {
        let (Attached { input, .. }, holder) = attach();
        let mut stdin = Input::new(input, Arc::new(Signals::default()));
        holder
            .input
            .try_send(Ok(Bytes::from_static(b"half")))
            .expect("room");
        holder.input.try_send(Err(InputCut)).expect("room");
        assert_eq!(stdin.read(8).expect("bytes"), &b"half"[..]);
        for _ in 0..2 {
            assert!(matches!(stdin.read(8), Err(StreamError::LastOperationFailed(_))));
        }
    }

    #[test]
    fn a_reader_of_wasi_0_3_reads_the_same() {
        let (Attached { input, .. }, holder) = attach();
        let mut reader = Box::into_pin(Input::new(input, Arc::new(Signals::default())).async_stream());
        holder
            .input
            .try_send(Ok(Bytes::from_static(b"one")))
            .expect("room");
        holder
            .input
            .try_send(Ok(Bytes::from_static(b"two")))
            .expect("room");
        drop(holder);
        let mut all = Vec::new();
        block_on(reader.read_to_end(&mut all)).expect("bytes");
        assert_eq!(all, b"onetwo");
    }
}
