//! The way of guests to what is inside the platform: the app's services and queues, and other apps, each at
//! `http://NAME.internal/`.
//!
//! In flows a guest's outgoing request to such a host, before grants, name resolution and rules for addresses; out
//! flows the answer of whoever holds the other end, [`Internal`], which the node sets for a process type.
//!
//! Invariant: nothing here opens a socket.
//! Invariant: a refusal reaches the guest as an answer with the code and the way out, and its log as a line.
//! Invariant: what the other end does for a guest is charged to the guest's share of CPU time, apart from what it
//! passes on to threads of its own.

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use gilliam_model::{api::ApiError, code::Code, hint::with_hint};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::guest::BODY_CHUNK_BYTES_MAX;

/// What the hosts end in.
const SUFFIX: &str = ".internal";
/// Bytes of an answer's headers, names and values; as much as other answers may have.
const HEADERS_BYTES_MAX: usize = 64 << 10;
/// Of a body that nobody reads to its end so much is read all the same, for so long: more than most requests carry.
const REST_BYTES_MAX: usize = 2 << 20;
const REST_TIME_MAX: Duration = Duration::from_secs(5);
/// The catalogue code of an answer that the platform made.
const GILLIAM_ERROR: HeaderName = HeaderName::from_static("gilliam-error");

/// The body of a request or an answer, streamed.
pub type InternalBody = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;

/// What becomes of a request.
pub type InternalAnswer =
    Pin<Box<dyn Future<Output = Result<Response<InternalBody>, Refusal>> + Send + 'static>>;

/// What is behind `NAME.internal` for the instances of a process type.
pub trait Internal: fmt::Debug + Send + Sync {
    /// What is to be known of the request that a guest serves, by its headers, when it makes one of its own.
    fn chain(&self, served: &HeaderMap) -> Chain;

    /// The door of the instance `label`, made for its first request and dropped when the instance has ended.
    fn enter(&self, label: &str) -> Arc<dyn InternalDoor>;
}

/// One instance's way to what is behind `NAME.internal`.
pub trait InternalDoor: fmt::Debug + Send + Sync {
    /// Answers a request for `NAME`, in lower case. Must not block. The request's target is its path and query, its
    /// headers are as the guest made them. Dropping the answer gives the request up.
    fn call(&self, name: &str, request: Request<InternalBody>, chain: Chain) -> InternalAnswer;

    /// The instance has ended. Said once, of commands: what is called for each request just drops its door.
    fn leave(&self, end: Leaving);
}

/// How an instance came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// The platform stopped it.
    Stopped,
    /// It ended by itself: it returned, exited, trapped, or broke a limit.
    Ended,
}

/// The request that a guest serves while it makes one of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Its id, as the ingress gave it; none for what no request caused.
    pub request_id: Option<HeaderValue>,
    /// How many apps called one another up to this one.
    pub depth: u32,
}

/// Why there is no answer but the platform's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One that has a status.
    pub code: Code,
    /// The thing and the value.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal with a way out.
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// What an app is told of a name that it did not declare.
    pub fn undeclared(name: &str) -> Self {
        let hint = format!(
            "declare it in gilliam.toml: `[services] {name} = {{ type = \"keyvalue\" }}` (or sql, blob) for a service \
             of this app, `[uses] {name} = {{ app = \"{name}\", process = \"web\" }}` for another app"
        );
        Self::new(
            Code::N04,
            format!("{name}{SUFFIX} is not declared by this app"),
            hint,
        )
    }

    /// As the app's log has it.
    pub(crate) fn line(&self) -> String {
        let text = format!("{}: {}", self.code.title(), self.message);
        with_hint(&text, self.hint.as_deref())
    }

    pub(crate) fn response(self) -> Response<InternalBody> {
        let Self { code, message, hint } = self;
        let body = ApiError { code, message, hint };
        let body = serde_json::to_vec(&body).expect("strings are JSON");
        let length = body.len();
        let mut response = Response::new(whole(body));
        *response.status_mut() = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = response.headers_mut();
        headers.insert(GILLIAM_ERROR, HeaderValue::from_static(code.as_str()));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        response
    }
}

/// A body that is there as a whole.
fn whole(body: Vec<u8>) -> InternalBody {
    Full::from(body).map_err(|never| match never {}).boxed_unsync()
}

/// The name in a host that is inside the platform. Hosts with more labels are not: clouds have such names.
pub(crate) fn name_in(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let name = host.strip_suffix(SUFFIX)?;
    (!name.is_empty() && !name.contains('.')).then(|| name.to_owned())
}

/// Why a guest cannot call `name` by this scheme or port.
pub(crate) fn refused_target(name: &str, scheme: &str, port: u16) -> Option<Refusal> {
    let how = match (scheme, port) {
        ("http", 80) => return None,
        ("http", port) => format!("port {port} of {name}{SUFFIX}: inside the platform it is port 80 only"),
        (scheme, _) => {
            format!(
                "{scheme}://{name}{SUFFIX}: inside the platform it is http only, nothing leaves the cluster"
            )
        }
    };
    Some(Refusal::new(
        Code::N04,
        how,
        format!("call http://{name}{SUFFIX}/"),
    ))
}

/// A guest's request as the other end gets it.
pub(crate) fn inward(
    request: Request<WasiBody>,
    on_frame: impl Fn() + Send + Unpin + 'static,
) -> Request<InternalBody> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned();
    parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    let body = Sent {
        inner: Some(body),
        on_frame,
    };
    Request::from_parts(parts, body.boxed_unsync())
}

/// What a guest sends. Whoever answers before the end of it leaves the rest to us: a guest that finds its stream
/// closed while it writes would never look at the answer.
struct Sent<F> {
    /// None once it has ended.
    inner: Option<WasiBody>,
    on_frame: F,
}

impl<F: Fn() + Unpin> Body for Sent<F> {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        (this.on_frame)();
        if !matches!(frame, Some(Ok(_))) {
            this.inner = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        self.inner.as_ref().map_or_else(none, Body::size_hint)
    }
}

impl<F> Drop for Sent<F> {
    fn drop(&mut self) {
        let rest = self.inner.take().filter(|rest| !rest.is_end_stream());
        if let (Some(mut rest), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(REST_TIME_MAX, async move {
                let mut bytes = 0;
                while let Some(Ok(frame)) = rest.frame().await {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                    if bytes > REST_BYTES_MAX {
                        return;
                    }
                }
            }));
        }
    }
}

/// An answer as the guest gets it, if it keeps the limits of any answer.
pub(crate) fn outward(
    response: Response<InternalBody>,
    headers_max: usize,
) -> Result<Response<impl Body<Data = Bytes, Error = Error> + Send>, Error> {
    let headers = response.headers();
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > HEADERS_BYTES_MAX || headers.len() > headers_max {
        return Err(Error::HttpResponseHeaderSectionSize(u32::try_from(bytes).ok()));
    }
    Ok(response.map(|inner| Pieces { inner, rest: None }))
}

/// A body in pieces no larger than those that come from a connection.
struct Pieces {
    inner: InternalBody,
    rest: Option<Bytes>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let mut data = match this.rest.take() {
            Some(rest) => rest,
            None => match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => {
                    tracing::debug!(%error, "an internal answer broke off");
                    return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            },
        };
        if data.len() > BODY_CHUNK_BYTES_MAX {
            this.rest = Some(data.split_off(BODY_CHUNK_BYTES_MAX));
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or(0, Bytes::len) as u64;
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_label_before_internal_is_inside() {
        let name = |host| name_in(host);
        assert_eq!(name("cache.internal").as_deref(), Some("cache"));
        assert_eq!(name("Cache.INTERNAL.").as_deref(), Some("cache"));
        for outside in [
            "internal",
            ".internal",
            "a.ec2.internal",
            "metadata.google.internal",
            "cache.internal.example.com",
            "cacheinternal",
            "cache.internal..",
        ] {
            assert_eq!(name(outside), None, "{outside}");
        }
    }

    #[test]
    fn http_and_port_80_only() {
        assert_eq!(refused_target("cache", "http", 80), None);
        for (scheme, port) in [("https", 443), ("https", 80), ("http", 8080)] {
            let refusal = refused_target("cache", scheme, port).expect("refused");
            assert_eq!(refusal.code, Code::N04);
            assert_eq!(refusal.hint.as_deref(), Some("call http://cache.internal/"));
        }
    }

    #[tokio::test]
    async fn bodies_come_in_pieces_and_whole() {
        let response = Response::new(whole(vec![b'x'; 2 * BODY_CHUNK_BYTES_MAX + 1]));
        let mut body = outward(response, 1).expect("few headers").into_body();
        let mut lengths = Vec::new();
        assert_eq!(
            body.size_hint().exact(),
            Some(2 * BODY_CHUNK_BYTES_MAX as u64 + 1)
        );
        while let Some(frame) = body.frame().await {
            lengths.push(frame.expect("whole").into_data().expect("data").len());
        }
        assert_eq!(lengths, [BODY_CHUNK_BYTES_MAX, BODY_CHUNK_BYTES_MAX, 1]);
    }

    #[test]
    fn headers_of_an_answer_are_bounded() {
        let mut response = Response::new(whole(Vec::new()));
        response.headers_mut().insert(
            "x-a",
            HeaderValue::from_bytes(&[b'a'; HEADERS_BYTES_MAX]).expect("value"),
        );
        assert!(outward(response, 128).is_err());
        let mut response = Response::new(whole(Vec::new()));
        response
            .headers_mut()
            .append("x-a", HeaderValue::from_static("1"));
        response
            .headers_mut()
            .append("x-a", HeaderValue::from_static("2"));
        assert!(outward(response, 1).is_err());
    }
}
