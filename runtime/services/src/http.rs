//! Services by HTTP, for any language and without an SDK: `http://cache.internal/KEY`.
//!
//! In flows a request for one service, out flows its answer; where it came from and whose service it is was settled
//! before. A refusal is JSON with the code, what is wrong and the way out, as the API has it.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use bytes::Bytes;
use gilliam_model::{api::ApiError, code::Code, service::ServiceKind};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};

use crate::{
    Handle, blob, keyvalue,
    sql::{self, Payer},
};

/// The body of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;

/// The header with the code of a refusal.
const GILLIAM_ERROR: &str = "gilliam-error";
/// Bytes of a query that are looked at.
const QUERY_BYTES_MAX: usize = 8 << 10;

/// Answers a request for one service.
pub async fn answer(handle: Handle, request: Request<Body>) -> Response<Body> {
    let answer = match handle {
        Handle::Keyvalue(keyvalue) => match gather(request, keyvalue::VALUE_BYTES_MAX).await {
            Ok(request) => keyvalue::http::answer(&keyvalue, request).await,
            Err(refused) => refused,
        },
        Handle::Sql(database) => match gather(request, sql::http::BODY_BYTES_MAX).await {
            Ok(request) => sql::http::answer(&database, &payer(), request).await,
            Err(refused) => refused,
        },
        Handle::Blob(blobs) => return blob::http::answer(&blobs, request).await,
        Handle::Volume(_) => not_by_http(ServiceKind::Volume),
        Handle::Elsewhere(kind) => not_by_http(kind),
    };
    answer.map(whole)
}

fn not_by_http(kind: ServiceKind) -> Response<Bytes> {
    let message = format!("a {kind} service is not found by HTTP under its own name");
    refuse(Code::S21, message, None)
}

/// Who asks by HTTP is charged for the request, not for the database's threads.
struct Unpaid;

impl Payer for Unpaid {
    fn charge(&self, _cpu: Duration) {}
}

fn payer() -> Arc<dyn Payer> {
    Arc::new(Unpaid)
}

/// A body that is there as a whole.
pub fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The request with its whole body, of at most so many bytes.
async fn gather(request: Request<Body>, bytes_max: usize) -> Result<Request<Bytes>, Response<Bytes>> {
    let too_large = || {
        let message = format!("the body has more than {bytes_max} bytes");
        refuse(Code::A413, message, None)
    };
    let (parts, body) = request.into_parts();
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    match read(body, bytes_max).await {
        Ok(body) => Ok(Request::from_parts(parts, body)),
        Err(ReadError::TooLarge) => Err(too_large()),
        Err(ReadError::BrokeOff) => Err(refuse(Code::A400, "the body broke off".to_string(), None)),
    }
}

/// A body that was not read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is longer than it may be.
    #[error("the body is too large")]
    TooLarge,
    /// Whoever sends it stopped.
    #[error("the body broke off")]
    BrokeOff,
}

/// The whole of a body, of at most so many bytes.
pub async fn read(mut body: Body, bytes_max: usize) -> Result<Bytes, ReadError> {
    let mut whole: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ReadError::BrokeOff)?;
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > bytes_max {
                return Err(ReadError::TooLarge);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.into())
}

/// A refusal as it is answered.
pub(crate) fn refuse(code: Code, message: String, hint: Option<&str>) -> Response<Bytes> {
    let body = ApiError {
        code,
        message,
        hint: hint.map(str::to_string),
    };
    let body = serde_json::to_vec(&body).expect("strings are JSON");
    let mut response = json(body);
    *response.status_mut() = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(GILLIAM_ERROR, HeaderValue::from_static(code.as_str()));
    response
}

/// An answer of JSON.
pub(crate) fn json(body: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Text in which `%41` stands for a byte; none when that makes no UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The parameters of a query, in their order.
pub(crate) fn parameters(query: &str) -> Result<Vec<(String, String)>, Box<Response<Bytes>>> {
    let unreadable = || Box::new(refuse(Code::A400, "the query cannot be read".to_string(), None));
    if query.len() > QUERY_BYTES_MAX {
        return Err(unreadable());
    }
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let read = |text: &str| decode(&text.replace('+', " ")).ok_or_else(unreadable);
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((read(key)?, read(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_and_broken_ones_are_not() {
        for (text, want) in [
            ("a%20b", Some("a b")),
            ("%C3%B6", Some("ö")),
            ("user:1/x", Some("user:1/x")),
            ("%4", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(decode(text).as_deref(), want, "{text}");
        }
        let found = parameters("prefix=a%26b&limit=3&x").expect("a query");
        let want = [("prefix", "a&b"), ("limit", "3"), ("x", "")];
        assert_eq!(
            found,
            want.map(|(key, value)| (key.to_string(), value.to_string()))
        );
    }
}
