//! The body of what a guest of WASI 0.2 sends, on its way from the guest's writes to whoever reads them.
//!
//! In flow the pieces that a guest writes, out flow frames, with back-pressure: at most [`PIECES_MAX`] pieces lie
//! in between. It does what wasmtime-wasi-http's own body does, in one allocation where that has two channels,
//! for every answer of every guest has one.
//!
//! Invariant: a body that its guest dropped, or finished with other bytes than it announced, ends in an error.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType},
};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi_http::{
    Error, FieldMap, WasiBody,
    p2::{
        bindings::http::types::ErrorCode,
        types::{HostOutgoingRequest, HostOutgoingResponse},
    },
};

use crate::guest::{BODY_CHUNK_BYTES_MAX, Guest};

/// Pieces between a guest and its reader: one to be read, and one that is written meanwhile.
const PIECES_MAX: usize = 2;

/// Whose body it is: errors differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Request,
    Response,
}

impl Message {
    fn size_error(self, bytes: u64) -> ErrorCode {
        match self {
            Message::Request => ErrorCode::HttpRequestBodySize(Some(bytes)),
            Message::Response => ErrorCode::HttpResponseBodySize(Some(bytes)),
        }
    }
}

/// What the three ends of a body share.
#[derive(Debug)]
struct Pipe {
    message: Message,
    /// Bytes announced.
    length: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The first is read next.
    pieces: [Option<Bytes>; PIECES_MAX],
    written: u64,
    end: End,
    /// There may be more pieces.
    has_writer: bool,
    has_reader: bool,
    reads: Option<Waker>,
    writes: Option<Waker>,
}

/// What comes after the last piece.
#[derive(Debug)]
enum End {
    /// Not said yet.
    Open,
    Nothing,
    Trailers(HeaderMap),
    Aborted,
}

impl Pipe {
    fn new(message: Message, length: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            message,
            length,
            state: Mutex::new(State {
                pieces: [None, None],
                written: 0,
                end: End::Open,
                has_writer: true,
                has_reader: true,
                reads: None,
                writes: None,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the reader waits for.
    fn tell_reader(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let waker = state.reads.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The guest's handle of a body, `outgoing-body`. Dropped with its store, without a word of the guest, it ends the
/// body as if that were whole: whoever drops the store says before that it was not.
pub(crate) struct OutgoingBody {
    pipe: Arc<Pipe>,
    /// Until the guest takes it.
    writer: Option<Writer>,
}

impl OutgoingBody {
    fn new(message: Message, length: Option<u64>) -> (Self, WasiBody) {
        let pipe = Pipe::new(message, length);
        let writer = Some(Writer(pipe.clone()));
        let reader = Reader(pipe.clone()).boxed_unsync();
        (Self { pipe, writer }, reader)
    }

    fn finish(mut self, trailers: Option<FieldMap>) -> Result<(), ErrorCode> {
        self.writer = None;
        let written = self.pipe.state().written;
        if self.pipe.length.is_some_and(|length| length != written) {
            self.pipe.tell_reader(|state| state.end = End::Aborted);
            return Err(self.pipe.message.size_error(written));
        }
        let end = trailers.map_or(End::Nothing, |trailers| End::Trailers(trailers.into()));
        self.pipe.tell_reader(|state| state.end = end);
        Ok(())
    }

    fn abort(mut self) {
        self.writer = None;
        self.pipe.tell_reader(|state| state.end = End::Aborted);
    }
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        self.writer = None;
        self.pipe.tell_reader(|state| {
            if matches!(state.end, End::Open) {
                state.end = End::Nothing;
            }
        });
    }
}

/// The stream that a guest writes a body to.
struct Writer(Arc<Pipe>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.tell_reader(|state| state.has_writer = false);
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.pieces.iter().all(Option::is_some)
    }
}

#[async_trait::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        poll_fn(|cx| {
            let mut state = self.0.state();
            if !state.has_reader || !state.is_full() {
                return Poll::Ready(());
            }
            state.writes = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let pipe = &*self.0;
        let length = bytes.len();
        let mut written = 0;
        let mut result = Ok(());
        pipe.tell_reader(|state| {
            let is_too_long = length > BODY_CHUNK_BYTES_MAX || state.is_full();
            if !state.has_reader {
                result = Err(StreamError::Closed);
            } else if is_too_long {
                result = Err(StreamError::trap("write exceeded what check-write allowed"));
            } else {
                let place = state.pieces.iter_mut().find(|piece| piece.is_none());
                *place.expect("it is not full") = Some(bytes);
                state.written += length as u64;
                written = state.written;
            }
        });
        if result.is_ok() && pipe.length.is_some_and(|length| written > length) {
            let error = pipe.message.size_error(written);
            return Err(StreamError::LastOperationFailed(error.into()));
        }
        result
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Every piece goes to the reader at once.
        match self.0.state().has_reader {
            true => Ok(()),
            false => Err(StreamError::Closed),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let state = self.0.state();
        match (state.has_reader, state.is_full()) {
            (false, _) => Err(StreamError::Closed),
            (true, true) => Ok(0),
            (true, false) => Ok(BODY_CHUNK_BYTES_MAX),
        }
    }
}

/// The body as it is read.
struct Reader(Arc<Pipe>);

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.has_reader = false;
        let pieces = std::mem::take(&mut state.pieces);
        let waker = state.writes.take();
        drop(state);
        drop(pieces);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut state = self.0.state();
        let [first, second] = &mut state.pieces;
        if let Some(piece) = first.take() {
            *first = second.take();
            let waker = state.writes.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if state.has_writer || matches!(state.end, End::Open) {
            state.reads = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(match std::mem::replace(&mut state.end, End::Nothing) {
            End::Open | End::Nothing => None,
            End::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            End::Aborted => Some(Err(Error::HttpProtocolError)),
        })
    }
}

/// The length that headers announce; an error where that is no number.
fn announced(headers: &FieldMap) -> Result<Option<u64>, ()> {
    let mut values = headers.get_all(http::header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| ())?;
    // A number may have a sign where it is parsed, but not in a header.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && values.next().is_none();
    match text.parse() {
        Ok(length) if is_number => Ok(Some(length)),
        _ => Err(()),
    }
}

fn body_of(message: Message, headers: &FieldMap, body: &mut Option<WasiBody>) -> Result<OutgoingBody, ()> {
    if body.is_some() {
        return Err(());
    }
    let (ours, reader) = OutgoingBody::new(message, announced(headers)?);
    *body = Some(reader);
    Ok(ours)
}

/// Puts this body in the place of wasmtime-wasi-http's. The linker must allow shadowing.
pub(crate) fn bodies(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:http/types@0.2.12")?;
    types.resource(
        "outgoing-body",
        ResourceType::host::<OutgoingBody>(),
        |mut store, handle| {
            let body = Resource::<OutgoingBody>::new_own(handle);
            store.data_mut().table.delete(body)?.abort();
            Ok(())
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.body",
        |mut store: StoreContextMut<'_, Guest>, (request,): (Resource<HostOutgoingRequest>,)| {
            let table = &mut store.data_mut().table;
            let HostOutgoingRequest { headers, body, .. } = table.get_mut(&request)?;
            Ok((match body_of(Message::Request, headers, body) {
                Ok(body) => Ok(table.push(body)?),
                Err(()) => Err(()),
            },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-response.body",
        |mut store: StoreContextMut<'_, Guest>, (response,): (Resource<HostOutgoingResponse>,)| {
            let table = &mut store.data_mut().table;
            let HostOutgoingResponse { headers, body, .. } = table.get_mut(&response)?;
            Ok((match body_of(Message::Response, headers, body) {
                Ok(body) => Ok(table.push(body)?),
                Err(()) => Err(()),
            },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-body.write",
        |mut store: StoreContextMut<'_, Guest>, (body,): (Resource<OutgoingBody>,)| {
            let table = &mut store.data_mut().table;
            let Some(writer) = table.get_mut(&body)?.writer.take() else {
                return Ok((Err(()),));
            };
            let stream: DynOutputStream = Box::new(writer);
            Ok((Ok(table.push_child(stream, &body)?),))
        },
    )?;
    types.func_wrap(
        "[static]outgoing-body.finish",
        |mut store: StoreContextMut<'_, Guest>,
         (body, trailers): (Resource<OutgoingBody>, Option<Resource<FieldMap>>)| {
            let table = &mut store.data_mut().table;
            let body = table.delete(body)?;
            let trailers = trailers.map(|trailers| table.delete(trailers)).transpose()?;
            Ok((body.finish(trailers),))
        },
    )
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use http_body_util::BodyExt as _;

    use super::*;

    struct NoHooks;

    impl wasmtime_wasi_http::WasiHttpHooks for NoHooks {
        fn send_request(
            &mut self,
            _: http::Request<WasiBody>,
            _: Option<wasmtime_wasi_http::RequestOptions>,
            _: Box<dyn Future<Output = Result<(), Error>> + Send>,
        ) -> Box<dyn Future<Output = crate::guest::Sent> + Send> {
            Box::new(std::future::ready(Err(Error::HttpProtocolError)))
        }
    }

    fn made(length: Option<u64>) -> (OutgoingBody, Box<Writer>, WasiBody) {
        let (mut body, reader) = OutgoingBody::new(Message::Response, length);
        let writer = body.writer.take().expect("not taken yet");
        (body, Box::new(writer), reader)
    }

    fn poll_frame(reader: &mut WasiBody) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(reader).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn pieces_and_trailers_arrive_in_order() {
        let (body, mut writer, reader) = made(None);
        let read = tokio::spawn(reader.collect());
        for piece in ["one ", "two ", "three"] {
            assert!(writer.write_ready().await.expect("open") >= piece.len());
            writer.write(Bytes::from(piece)).expect("there is room");
        }
        drop(writer);
        let mut trailers = FieldMap::new_mutable(1_024);
        trailers
            .append(&mut NoHooks, "x-sum".to_owned(), b"3".to_vec())
            .expect("allowed");
        body.finish(Some(trailers)).expect("no length was announced");
        let all = read.await.expect("no panic").expect("whole");
        assert_eq!(all.trailers().expect("trailers")["x-sum"], "3");
        assert_eq!(all.to_bytes(), "one two three");
    }

    #[test]
    fn a_writer_waits_for_its_reader() {
        let (_body, mut writer, mut reader) = made(None);
        for _ in 0..PIECES_MAX {
            writer.write(Bytes::from_static(b"x")).expect("there is room");
        }
        assert_eq!(writer.check_write().expect("open"), 0);
        assert!(matches!(
            writer.write(Bytes::from_static(b"x")),
            Err(StreamError::Trap(_))
        ));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(writer.ready().as_mut().poll(&mut cx).is_pending());
        assert!(matches!(poll_frame(&mut reader), Poll::Ready(Some(Ok(_)))));
        assert!(writer.ready().as_mut().poll(&mut cx).is_ready());
        drop(reader);
        assert!(matches!(writer.check_write(), Err(StreamError::Closed)));
        assert!(matches!(writer.flush(), Err(StreamError::Closed)));
    }

    #[test]
    fn a_body_of_another_length_than_announced_ends_in_an_error() {
        let (body, mut writer, mut reader) = made(Some(2));
        writer.write(Bytes::from_static(b"x")).expect("within the length");
        drop(writer);
        let short = body.finish(None).map_err(|error| error.to_string());
        assert!(short.is_err(), "{short:?}");
        assert!(matches!(poll_frame(&mut reader), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(poll_frame(&mut reader), Poll::Ready(Some(Err(_)))));

        let (_body, mut writer, _reader) = made(Some(2));
        let long = writer.write(Bytes::from_static(b"xxx"));
        assert!(matches!(long, Err(StreamError::LastOperationFailed(_))));
    }

    #[test]
    fn what_ends_a_body_is_told_after_its_last_piece() {
        let (body, mut writer, mut reader) = made(None);
        writer.write(Bytes::from_static(b"x")).expect("there is room");
        body.abort();
        assert!(matches!(poll_frame(&mut reader), Poll::Ready(Some(Ok(_)))));
        assert!(poll_frame(&mut reader).is_pending(), "its stream is still there");
        drop(writer);
        assert!(matches!(poll_frame(&mut reader), Poll::Ready(Some(Err(_)))));
        assert!(matches!(poll_frame(&mut reader), Poll::Ready(None)));

        let (body, writer, mut reader) = made(None);
        assert!(poll_frame(&mut reader).is_pending());
        drop((body, writer));
        assert!(
            matches!(poll_frame(&mut reader), Poll::Ready(None)),
            "the store went"
        );
    }

    #[test]
    fn lengths_are_digits() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("content-length", http::HeaderValue::from_static(value));
            }
            announced(&FieldMap::new_immutable(&mut NoHooks, headers))
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["20"]), Ok(Some(20)));
        for bad in ["", "+2", "-2", "2 ", "x", "99999999999999999999"] {
            assert_eq!(of(&[bad]), Err(()), "{bad:?}");
        }
        assert_eq!(of(&["2", "2"]), Err(()));
    }
}
