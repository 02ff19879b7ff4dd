//! A guest's standard streams: output becomes log lines, input stays open until the instance is asked to
//! stop.
//!
//! Invariant: a write never waits for whoever reads the log, only for one who holds the streams. After so many
//! bytes a writer yields once, so
//! that a flood of host calls, which burns little fuel, cannot hold its thread for long.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::{
    WasiCtxBuilder,
    cli::{IsTerminal, StdinStream, StdoutStream},
    p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult},
};

use crate::{
    attached::{self, Attached, Standard, Tap},
    log::{EntryStream, LineSplitter, LogGate},
    signals::Signals,
};

/// Bytes taken before the writer has to yield; also the most taken by one write.
const SLICE_BYTES_MAX: usize = 64 << 10;
/// What a write counts for at least, so that empty ones end as well.
const WRITE_BYTES_MIN: usize = 64;

/// What a command has for its standard streams, beside the log.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// Its standard input is the notice to end.
    Notice(StopNotice),
    /// Somebody holds them.
    Attached(Box<AttachedStdio>),
}

/// Standard streams that somebody holds.
#[derive(Debug)]
pub(crate) struct AttachedStdio {
    input: attached::Input,
    output: tokio::sync::mpsc::Sender<attached::Piece>,
}

impl Stdio {
    pub(crate) fn attached(Attached { input, output }: Attached, signals: Arc<Signals>) -> Self {
        let input = attached::Input::new(input, signals);
        Self::Attached(Box::new(AttachedStdio { input, output }))
    }

    /// Sets up the streams of a store; without one its standard input is at its end.
    pub(crate) fn set_up(stdio: Option<Self>, wasi: &mut WasiCtxBuilder, gate: &Arc<LogGate>) {
        let (mut out, mut err) = (None, None);
        match stdio {
            None => {}
            Some(Stdio::Notice(notice)) => drop(wasi.stdin(notice)),
            Some(Stdio::Attached(held)) => {
                let AttachedStdio { input, output } = *held;
                out = Some(Tap::new(Standard::Out, output.clone()));
                err = Some(Tap::new(Standard::Err, output));
                wasi.stdin(input);
            }
        }
        wasi.stdout(Output::new(EntryStream::Stdout, gate.clone(), out));
        wasi.stderr(Output::new(EntryStream::Stderr, gate.clone(), err));
    }
}

/// One output stream of one store. Clones share the line being written.
#[derive(Debug, Clone)]
pub(crate) struct Output(Arc<OutputInner>);

#[derive(Debug)]
struct OutputInner {
    gate: Arc<LogGate>,
    splitter: Mutex<LineSplitter>,
    /// Who takes the bytes too, and sets the pace.
    tap: Option<Tap>,
    /// Bytes left before the writer yields.
    slice_bytes: AtomicUsize,
}

impl Output {
    pub(crate) fn new(stream: EntryStream, gate: Arc<LogGate>, tap: Option<Tap>) -> Self {
        let splitter = Mutex::new(LineSplitter::new(stream));
        Self(Arc::new(OutputInner {
            gate,
            splitter,
            tap,
            slice_bytes: AtomicUsize::new(SLICE_BYTES_MAX),
        }))
    }

    fn take(&self, bytes: &[u8]) {
        let cost = bytes.len().max(WRITE_BYTES_MIN);
        let left = self.0.slice_bytes.load(Relaxed).saturating_sub(cost);
        self.0.slice_bytes.store(left, Relaxed);
        self.0
            .splitter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(&self.0.gate, bytes);
    }
}

impl Drop for OutputInner {
    fn drop(&mut self) {
        self.splitter
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .finish(&self.gate);
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        if self.0.slice_bytes.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
            self.0.slice_bytes.store(SLICE_BYTES_MAX, Relaxed);
        }
        if let Some(tap) = &self.0.tap {
            poll_fn(|cx| tap.poll_ready(cx)).await;
        }
    }
}

#[async_trait::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > self.0.slice_bytes.load(Relaxed) {
            return Err(StreamError::trap("write exceeded what check-write allowed"));
        }
        self.take(&bytes);
        if let Some(tap) = &self.0.tap {
            tap.put(bytes);
        }
        Ok(())
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        match &self.0.tap {
            Some(tap) if !tap.is_ready() => Ok(0),
            _ => Ok(self.0.slice_bytes.load(Relaxed)),
        }
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.0.slice_bytes.load(Relaxed);
        if left == 0 {
            self.0.slice_bytes.store(SLICE_BYTES_MAX, Relaxed);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let taken = bytes.len().min(left);
        if let Some(tap) = &self.0.tap {
            ready!(tap.poll_ready(cx));
            tap.put(Bytes::copy_from_slice(&bytes[..taken]));
        }
        self.take(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Standard input of a command: silent while it runs, at its end once the instance is to stop. A guest that
/// reads it hears the notice and can finish what it has; one that never does is stopped without waiting.
#[derive(Debug, Clone)]
pub(crate) struct StopNotice(Arc<Signals>);

impl StopNotice {
    pub(crate) fn new(signals: Arc<Signals>) -> Self {
        Self(signals)
    }
}

impl IsTerminal for StopNotice {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for StopNotice {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        let notice = self.clone();
        Box::new(StopReader {
            stopped: Mutex::new(Box::pin(async move { notice.0.asked_to_stop().await })),
        })
    }
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for StopNotice {
    async fn ready(&mut self) {
        self.0.asked_to_stop().await;
    }
}

#[async_trait::async_trait]
impl InputStream for StopNotice {
    fn read(&mut self, _: usize) -> StreamResult<Bytes> {
        match self.0.hear() {
            true => Err(StreamError::Closed),
            false => Ok(Bytes::new()),
        }
    }
}

struct StopReader {
    /// In a mutex because wasmtime-wasi wants a `Sync` reader; it is never contended.
    stopped: Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl AsyncRead for StopReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let stopped = this.stopped.get_mut().unwrap_or_else(PoisonError::into_inner);
        ready!(stopped.as_mut().poll(cx));
        // Nothing filled in is the end of the stream. Polled again, it is at its end at once.
        *stopped = Box::pin(std::future::ready(()));
        Poll::Ready(Ok(()))
    }
}
