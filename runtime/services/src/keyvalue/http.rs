//! A key-value service by HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `GET` · `HEAD /KEY` | the value; its version as `ETag` |
//! | `PUT /KEY?ttl=60s` | 204 with the new `ETag`; `If-Match`, `If-None-Match: *`: only if it is so (412) |
//! | `DELETE /KEY` | 204, whether it was there or not; `If-Match` as above |
//! | `POST /KEY?increment=N` | the sum |
//! | `GET /?prefix=P&after=K&limit=N` | `{"keys":[…],"next":…}` |

use bytes::Bytes;
use gilliam_model::{code::Code, quantity::Unit};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;

use super::{KeyValue, KeyValueError, LIST_MAX, Page, Ttl, Value, When, Written};
use crate::http::{decode, json, parameters, refuse};

/// Keys that a list has unless it is said.
const LISTED: usize = 100;
/// What a TTL is that never ends.
const EVER: &str = "never";

#[derive(Serialize)]
struct Listed {
    keys: Vec<String>,
    next: Option<String>,
}

/// A refusal; boxed, since it is rare.
type Refused = Box<Response<Bytes>>;

/// Answers a request.
pub(crate) async fn answer(keyvalue: &KeyValue, request: Request<Bytes>) -> Response<Bytes> {
    match done(keyvalue, request).await {
        Ok(response) => response,
        Err(refused) => *refused,
    }
}

async fn done(keyvalue: &KeyValue, request: Request<Bytes>) -> Result<Response<Bytes>, Refused> {
    let (head, body) = request.into_parts();
    let parameters = parameters(head.uri.query().unwrap_or(""))?;
    let path = head.uri.path();
    let key = decode(path.strip_prefix('/').unwrap_or(path));
    let key = key.ok_or_else(|| bad("the key is not UTF-8 text with %-escapes".to_string()))?;
    if key.is_empty() {
        return match head.method {
            Method::GET => list(keyvalue, &parameters).await,
            other => Err(bad(format!("{other} without a key; GET lists the keys"))),
        };
    }
    match head.method {
        Method::GET | Method::HEAD => {
            only(&parameters, &[])?;
            let found = keyvalue.get(&key).await.map_err(refused)?;
            found.map(value).ok_or_else(|| missing(&key))
        }
        Method::PUT => {
            only(&parameters, &["ttl"])?;
            let ttl = match get(&parameters, "ttl") {
                Some(text) => ttl(text)?,
                None => Ttl::Default,
            };
            let when = when(&head.headers)?;
            let set = keyvalue.set(&key, body.to_vec(), ttl, when).await;
            written(&key, set.map_err(refused)?)
        }
        Method::DELETE => {
            only(&parameters, &[])?;
            let deleted = keyvalue.delete(&key, when(&head.headers)?).await;
            written(&key, deleted.map_err(refused)?)
        }
        Method::POST => {
            only(&parameters, &["increment"])?;
            let by = get(&parameters, "increment").unwrap_or("1");
            let by = by
                .parse()
                .map_err(|_| bad(format!("increment={by} is not a whole number of 64 bits")))?;
            let sum = keyvalue.increment(&key, by).await.map_err(refused)?;
            Ok(json(sum.to_string().into_bytes()))
        }
        other => Err(bad(format!(
            "{other} is not a method of a key; GET, HEAD, PUT, DELETE and POST are"
        ))),
    }
}

async fn list(keyvalue: &KeyValue, parameters: &[(String, String)]) -> Result<Response<Bytes>, Refused> {
    only(parameters, &["prefix", "after", "limit"])?;
    let limit = match get(parameters, "limit") {
        None => LISTED,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIST_MAX).contains(limit))
            .ok_or_else(|| bad(format!("limit={text} is not a number from 1 to {LIST_MAX}")))?,
    };
    let (prefix, after) = (
        get(parameters, "prefix").unwrap_or(""),
        get(parameters, "after").filter(|after| !after.is_empty()),
    );
    let Page { keys, next } = keyvalue.list(prefix, after, limit).await.map_err(refused)?;
    let body = serde_json::to_vec(&Listed { keys, next }).expect("strings are JSON");
    Ok(json(body))
}

fn value(value: Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(value.bytes));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::ETAG, etag(value.version));
    response
}

fn written(key: &str, written: Written) -> Result<Response<Bytes>, Refused> {
    match written {
        Written::Done(version) => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            if version != 0 {
                response.headers_mut().insert(header::ETAG, etag(version));
            }
            Ok(response)
        }
        Written::Unmet(there) => {
            let message = match there {
                Some(version) => {
                    format!("{key:?} has version {version}, which is not what the write depends on")
                }
                None => format!("{key:?} is not there, which is not what the write depends on"),
            };
            let hint = Some("read it again and decide anew");
            let mut response = refuse(Code::A412, message, hint);
            if let Some(version) = there {
                response.headers_mut().insert(header::ETAG, etag(version));
            }
            Err(Box::new(response))
        }
    }
}

fn etag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits fit a header")
}

/// What must be so for a write.
fn when(headers: &HeaderMap) -> Result<When, Refused> {
    let text = |name: HeaderName| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or("?").trim())
    };
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(When::Always),
        (Some("*"), None) => Ok(When::Present),
        (None, Some("*")) => Ok(When::Absent),
        (Some(tag), None) => {
            let version = tag.trim_matches('"').parse();
            // What is no version of ours is there nowhere.
            Ok(When::Version(version.unwrap_or(0)))
        }
        _ => Err(bad(
            "a write depends on If-Match or on If-None-Match: *".to_string()
        )),
    }
}

fn ttl(text: &str) -> Result<Ttl, Refused> {
    if text == EVER {
        return Ok(Ttl::Ever);
    }
    let millis = Unit::Millis.parse(text).filter(|millis| *millis > 0);
    millis
        .map(Ttl::Millis)
        .ok_or_else(|| bad(format!("ttl={text} is not {} or {EVER}", Unit::Millis.expected())))
}

fn get<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = parameters.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str())
}

/// A parameter that is not known would be without the effect that its author hopes for.
fn only(parameters: &[(String, String)], known: &[&str]) -> Result<(), Refused> {
    match parameters.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        Some((unknown, _)) => Err(bad(format!("{unknown:?} is not known here"))),
        None => Ok(()),
    }
}

fn bad(message: String) -> Refused {
    Box::new(refuse(Code::A400, message, None))
}

fn missing(key: &str) -> Refused {
    Box::new(refuse(Code::A404, format!("there is no key {key:?}"), None))
}

fn refused(error: KeyValueError) -> Refused {
    Box::new(refuse(error.code(), error.to_string(), error.hint()))
}
