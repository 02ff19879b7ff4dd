//! A blob service by HTTP, streamed both ways.
//!
//! | request | answer |
//! |---|---|
//! | `GET` · `HEAD /NAME` | the object; `Range: bytes=…` a part of it (206, 416) |
//! | `PUT /NAME` | 201 with the `ETag`; `Content-Type` is kept |
//! | `DELETE /NAME` | 204, whether it was there or not |
//! | `GET /?prefix=P&after=NAME&limit=N` | `{"objects":[{"name","bytes","content_type","put_at"}],"next":…}` |

use std::{
    error::Error as StdError,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use gilliam_model::code::Code;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde::Serialize;

use super::{BlobError, Blobs, Info, Object, limits};
use crate::http::{Body, decode, json, parameters, refuse, whole};

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    bytes: u64,
    content_type: &'a str,
    put_at: u64,
}

#[derive(Serialize)]
struct List<'a> {
    objects: Vec<Listed<'a>>,
    next: Option<&'a str>,
}

/// Answers a request.
pub(crate) async fn answer(blobs: &Blobs, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let Some(name) = decode(path.strip_prefix('/').unwrap_or(path)) else {
        return bad("the name is not UTF-8 text with %-escapes");
    };
    if name.is_empty() {
        return match head.method {
            Method::GET => list(blobs, head.uri.query().unwrap_or("")).await,
            _ => bad("without a name there is only GET, which lists the objects"),
        };
    }
    match head.method {
        Method::GET | Method::HEAD => match blobs.get(&name).await {
            Ok(Some(object)) => found(object, &head.headers, head.method == Method::HEAD),
            Ok(None) => missing(&name),
            Err(error) => refused(&error),
        },
        Method::PUT => {
            let content_type = head.headers.get(header::CONTENT_TYPE);
            let content_type = content_type.and_then(|value| value.to_str().ok());
            let content_type = content_type.unwrap_or("application/octet-stream");
            match blobs.put(&name, content_type, body).await {
                Ok(info) => {
                    let mut response = Response::new(whole(Bytes::new()));
                    *response.status_mut() = StatusCode::CREATED;
                    describe(response.headers_mut(), &info);
                    response
                }
                Err(error) => refused(&error),
            }
        }
        Method::DELETE => match blobs.delete(&name).await {
            Ok(_) => {
                let mut response = Response::new(whole(Bytes::new()));
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Err(error) => refused(&error),
        },
        other => bad(&format!(
            "{other} is nothing to do with an object; GET, HEAD, PUT, DELETE are"
        )),
    }
}

async fn list(blobs: &Blobs, query: &str) -> Response<Body> {
    let parameters = match parameters(query) {
        Ok(parameters) => parameters,
        Err(response) => return (*response).map(whole),
    };
    let get = |name: &str| {
        let found = parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    let limit = match get("limit").map(str::parse) {
        None => limits::LISTED,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => return bad("limit is not a number"),
    };
    let page = match blobs.list(get("prefix").unwrap_or(""), get("after"), limit).await {
        Ok(page) => page,
        Err(error) => return refused(&error),
    };
    let next = page.objects.last().filter(|_| page.has_more);
    let listed = page.objects.iter().map(|(name, info)| Listed {
        name,
        bytes: info.bytes,
        content_type: &info.content_type,
        put_at: info.put_at,
    });
    let list = List {
        objects: listed.collect(),
        next: next.map(|(name, _)| name.as_str()),
    };
    json(serde_json::to_vec(&list).expect("text and numbers are JSON")).map(whole)
}

/// An object, or the part that is asked for.
fn found(object: Object, asked: &HeaderMap, is_head: bool) -> Response<Body> {
    let bytes = object.info.bytes;
    let range = asked.get(header::RANGE).and_then(|range| range.to_str().ok());
    let range = match range.map(|range| range_of(range, bytes)) {
        None | Some(Range::Whole) => None,
        Some(Range::Part(from, to)) => Some((from, to)),
        Some(Range::Beyond) => {
            let message = format!("the object has {bytes} bytes, none of which are asked for");
            let mut response = refuse(Code::A400, message, None).map(whole);
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            set(
                response.headers_mut(),
                header::CONTENT_RANGE,
                format!("bytes */{bytes}"),
            );
            return response;
        }
    };
    let (from, to) = range.unwrap_or((0, bytes));
    let info = object.info.clone();
    let body = match is_head {
        true => whole(Bytes::new()),
        false => Streamed {
            object: object.into(),
            at: from,
            to,
            reads: None,
        }
        .boxed_unsync(),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    describe(headers, &info);
    set(headers, header::CONTENT_TYPE, info.content_type);
    set(headers, header::CONTENT_LENGTH, (to - from).to_string());
    set(headers, header::ACCEPT_RANGES, "bytes".to_owned());
    if range.is_some() {
        set(
            headers,
            header::CONTENT_RANGE,
            format!("bytes {from}-{}/{bytes}", to - 1),
        );
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

fn describe(headers: &mut HeaderMap, info: &Info) {
    let tag = format!("\"{}-{}-{}\"", info.file, info.put_at, info.bytes);
    set(headers, header::ETAG, tag);
    let put_at = UNIX_EPOCH + Duration::from_secs(info.put_at);
    set(headers, header::LAST_MODIFIED, httpdate::fmt_http_date(put_at));
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: String) {
    // A content type that is no header is not told.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// All: no range, or one of a form that may be passed over (several parts, other units).
    Whole,
    /// From a byte to before another.
    Part(u64, u64),
    /// Nothing that there is.
    Beyond,
}

fn range_of(text: &str, bytes: u64) -> Range {
    let Some((first, last)) = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Range::Whole;
    };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last && first < bytes => {
            Range::Part(first, bytes.min(last.saturating_add(1)))
        }
        (Ok(first), Err(_)) if last.trim().is_empty() && first < bytes => Range::Part(first, bytes),
        (Err(_), Ok(count)) if first.trim().is_empty() && count > 0 && bytes > 0 => {
            Range::Part(bytes.saturating_sub(count), bytes)
        }
        (Ok(first), Ok(last)) if first > last => Range::Whole,
        (Ok(_), Ok(_)) => Range::Beyond,
        (Ok(_), Err(_)) if last.trim().is_empty() => Range::Beyond,
        (Err(_), Ok(_)) if first.trim().is_empty() => Range::Beyond,
        _ => Range::Whole,
    }
}

type Reading = Pin<Box<dyn Future<Output = Result<Bytes, BlobError>> + Send>>;

/// A part of an object, read as it is sent.
struct Streamed {
    object: std::sync::Arc<Object>,
    at: u64,
    to: u64,
    reads: Option<Reading>,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let left = this.to - this.at;
        if left == 0 {
            return Poll::Ready(None);
        }
        let (object, at) = (&this.object, this.at);
        let reads = this.reads.get_or_insert_with(|| {
            let object = object.clone();
            Box::pin(async move { object.read(at).await })
        });
        let read = ready!(reads.as_mut().poll(cx));
        this.reads = None;
        let mut piece = match read {
            Ok(piece) if piece.is_empty() => {
                return Poll::Ready(Some(Err("the object's file is cut off".into())));
            }
            Ok(piece) => piece,
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        this.at += piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.to - self.at)
    }
}

fn bad(message: &str) -> Response<Body> {
    refuse(Code::A400, message.to_owned(), None).map(whole)
}

fn missing(name: &str) -> Response<Body> {
    refuse(Code::A404, format!("there is no object {name}"), None).map(whole)
}

fn refused(error: &BlobError) -> Response<Body> {
    let code = match error {
        BlobError::Name | BlobError::Type | BlobError::Broken(_) => Code::A400,
        BlobError::Quota(_) | BlobError::Objects => Code::S20,
        BlobError::Gone => Code::S21,
        BlobError::Failed(_) => Code::S22,
    };
    refuse(code, error.to_string(), error.hint()).map(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_as_http_says() {
        for (text, want) in [
            ("bytes=0-0", Range::Part(0, 1)),
            ("bytes=2-", Range::Part(2, 10)),
            ("bytes=2-100", Range::Part(2, 10)),
            ("bytes=-3", Range::Part(7, 10)),
            ("bytes=-100", Range::Part(0, 10)),
            ("bytes=10-", Range::Beyond),
            ("bytes=10-12", Range::Beyond),
            ("bytes=-0", Range::Beyond),
            ("bytes=5-2", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("rows=0-1", Range::Whole),
            ("bytes=a-b", Range::Whole),
        ] {
            assert_eq!(range_of(text, 10), want, "{text}");
        }
        assert_eq!(range_of("bytes=0-", 0), Range::Beyond);
    }
}
