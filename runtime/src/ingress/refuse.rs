//! The answers that the platform makes in an app's place.

use std::fmt::Write as _;

use bytes::Bytes;
use gilliam_model::code::Code;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use http_body_util::Full;

use super::{
    access::Record,
    body::{AppBody, Outgoing},
    headers::{GILLIAM_ERROR, X_REQUEST_ID},
};

const TEXT: &str = "text/plain; charset=utf-8";

/// What the answer to a refused request depends on, kept from the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    json: bool,
    version: Version,
}

impl Asker {
    pub(super) fn of(headers: &HeaderMap, version: Version) -> Self {
        let accept = headers
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let first = accept
            .split(',')
            .map(|kind| kind.split(';').next().unwrap_or_default().trim())
            .next();
        Self {
            json: first.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")),
            version,
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reason {
    pub(super) code: Code,
    pub(super) status: StatusCode,
    pub(super) cause: Option<Code>,
    /// More than the code's title, when there is more that a stranger may know.
    pub(super) detail: Option<&'static str>,
}

impl Reason {
    pub(super) fn of(code: Code) -> Self {
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            code,
            status,
            cause: None,
            detail: None,
        }
    }
}

/// The answer to a request that is refused.
pub(super) fn refuse(reason: Reason, asker: Asker, mut record: Record) -> Response<Outgoing> {
    record.refused(reason.status, reason.code, reason.cause);
    let (kind, text) = match asker.json {
        true => ("application/json", json(&reason, &record)),
        false => (TEXT, plain(&reason, &record)),
    };
    let request_id = record.request_id().clone();
    let length = text.len();
    let body = AppBody::Platform(Full::new(Bytes::from(text)));
    let body = Outgoing::new(body, record, Some(length as u64));
    let mut response = Response::new(body);
    *response.status_mut() = reason.status;
    let headers = response.headers_mut();
    headers.insert(GILLIAM_ERROR, HeaderValue::from_static(reason.code.as_str()));
    headers.insert(X_REQUEST_ID, request_id);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if reason.status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        headers.insert(header::ALLOW, allowed);
    }
    // What follows on a connection that began with a malformed request cannot be trusted.
    if reason.code == Code::H26 && asker.version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to a head that cannot be read: nothing is known of its request, so it belongs to no app.
pub(crate) fn unreadable(status: StatusCode) -> Response<Bytes> {
    let reason = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "the request's head is too large",
        StatusCode::URI_TOO_LONG => "the request's target is too long",
        _ => "the request's head is malformed",
    };
    let text = format!("{} {}\nreason: {reason}\n", Code::H26, Code::H26.title());
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(GILLIAM_ERROR, HeaderValue::from_static(Code::H26.as_str()));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn plain(reason: &Reason, record: &Record) -> String {
    let mut text = format!("{} {}\n", reason.code, reason.code.title());
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            writeln!(text, "{name}: {value}").expect("writing to a String cannot fail");
        }
    };
    field("reason", reason.detail.unwrap_or_default());
    field("app", record.group().map_or("", |group| group.app.as_str()));
    field("host", record.host());
    field("request", record.request_id().to_str().unwrap_or_default());
    text
}

fn json(reason: &Reason, record: &Record) -> String {
    let value = serde_json::json!({
        "code": reason.code,
        "title": reason.code.title(),
        "reason": reason.detail,
        "app": record.group().map(|group| group.app.as_str()),
        "host": record.host(),
        "request_id": record.request_id().to_str().unwrap_or_default(),
    });
    format!("{value}\n")
}
