//! A connection's socket as HTTP uses it: what was read to tell the protocol is read again, and the watch
//! hears of all progress.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    activity::Activity,
    refusal::{self, Say},
    tls::Stream,
    turn::{self, Mark},
};

/// The stream, with the bytes that were read to tell the protocol, telling the watch of progress.
pub(crate) struct Socket {
    pub(crate) stream: Stream,
    pub(crate) first: Bytes,
    pub(crate) activity: Arc<Activity>,
    /// How heads that cannot be read are answered; none for HTTP/2, which is not told by its text.
    pub(crate) say: Option<Say>,
    /// What is left of such an answer; nothing follows it.
    refusal: Option<Bytes>,
    /// What is to be written now, in its stages; it begins anew with each flush.
    answer: Answer,
}

/// A head and a body of fewer bytes are written as one piece: copying them costs less than a list of pieces
/// does in the kernel.
const JOINED_BYTES_MAX: usize = 1 << 10;

fn write_parts(
    stream: Pin<&mut Stream>,
    cx: &mut Context<'_>,
    parts: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut joined = [0; JOINED_BYTES_MAX];
    let mut length = 0;
    for part in parts {
        let Some(room) = joined.get_mut(length..length + part.len()) else {
            return stream.poll_write_vectored(cx, parts);
        };
        room.copy_from_slice(part);
        length += part.len();
    }
    stream.poll_write(cx, &joined[..length])
}

/// Where what is to be written stands.
enum Answer {
    New,
    PutOff(Mark),
    InTurn,
}

impl Socket {
    pub(crate) fn new(stream: Stream, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            first: Bytes::new(),
            activity,
            say: None,
            refusal: None,
            answer: Answer::New,
        }
    }

    /// Whether what is to be written waits until others had their turn; then the task is woken by itself.
    fn is_put_off(&mut self, cx: &Context<'_>) -> bool {
        match self.answer {
            Answer::New => {
                if let Some(mark) = turn::put_off() {
                    self.answer = Answer::PutOff(mark);
                    cx.waker().wake_by_ref();
                    return true;
                }
            }
            Answer::PutOff(mark) => turn::resume(mark),
            Answer::InTurn => {}
        }
        self.answer = Answer::InTurn;
        false
    }

    /// Writes the server's own refusal in place of `written`, if that is one of hyper's.
    fn refuse(
        &mut self,
        cx: &mut Context<'_>,
        written: &[io::IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>> {
        if self.refusal.is_none()
            && let Some(say) = self.say
            && self.activity.is_unasked()
        {
            self.refusal = refusal::instead_of(written, say, self.activity.body_of());
        }
        let rest = self.refusal.as_mut()?;
        // hyper hears of its bytes once ours are gone: until then it offers them again.
        while rest.has_remaining() {
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Pending => return Some(Poll::Pending),
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(bytes)) => rest.advance(bytes),
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
            }
        }
        Some(Poll::Ready(Ok(written.iter().map(|part| part.len()).sum())))
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            let n = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first[..n]);
            this.first.advance(n);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.activity.read(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl Socket {
    fn note<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match written {
            Poll::Pending => self.activity.blocked(),
            Poll::Ready(_) => self.activity.wrote(),
        }
        written
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_put_off(cx) {
            return Poll::Pending;
        }
        let written = match this.refuse(cx, &[io::IoSlice::new(buf)]) {
            Some(refused) => refused,
            None => Pin::new(&mut this.stream).poll_write(cx, buf),
        };
        this.note(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_put_off(cx) {
            return Poll::Pending;
        }
        let written = match this.refuse(cx, bufs) {
            Some(refused) => refused,
            None => write_parts(Pin::new(&mut this.stream), cx, bufs),
        };
        this.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The connection flushes when it has nothing left to write.
        this.activity.flushed();
        this.answer = Answer::New;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
