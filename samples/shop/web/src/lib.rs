//! Requests and answers of `wasi:http` as plain values.

use serde::{Serialize, de::DeserializeOwned};
use wasip2::{
    http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::StreamError,
};

/// Longest body.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes that one write takes.
const WRITE_BYTES_MAX: usize = 4096;

/// A request, whole.
#[derive(Debug)]
pub struct Request {
    method: &'static str,
    path: String,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads it; an answer when its body is too long or breaks off.
    pub fn read(request: &IncomingRequest) -> Result<Self, Answer> {
        let target = request.path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let method = match request.method() {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            _ => "",
        };
        let body = body(request).ok_or_else(|| Answer::text(413, "the body is too long, or broke off"))?;
        Ok(Self { method, path, body })
    }

    /// `GET /a/b` as `("GET", ["a", "b"])`, to be matched.
    pub fn parts(&self) -> (&'static str, Vec<&str>) {
        (
            self.method,
            self.path.split('/').filter(|part| !part.is_empty()).collect(),
        )
    }

    /// The body as JSON; an answer when it is none.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Answer> {
        serde_json::from_slice(&self.body).map_err(|error| Answer::text(400, error))
    }
}

/// An answer, whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Answer {
    pub fn text(status: u16, text: impl ToString) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{}\n", text.to_string()).into_bytes(),
        }
    }

    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self {
                status,
                content_type: "application/json",
                body,
            },
            Err(error) => Self::text(500, error),
        }
    }

    pub fn bytes(content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status: 200,
            content_type,
            body,
        }
    }

    /// Sends it. What is left when the client has gone away has nowhere to go.
    pub fn send(self, out: ResponseOutparam) {
        let headers = Fields::new();
        // The name is valid, and the fields are new.
        let _ = headers.append("content-type", self.content_type.as_bytes());
        let response = OutgoingResponse::new(headers);
        let _ = response.set_status_code(self.status);
        let body = response.body();
        ResponseOutparam::set(out, Ok(response));
        let Ok(body) = body else { return };
        if let Ok(stream) = body.write() {
            for piece in self.body.chunks(WRITE_BYTES_MAX) {
                if stream.blocking_write_and_flush(piece).is_err() {
                    break;
                }
            }
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

fn body(request: &IncomingRequest) -> Option<Vec<u8>> {
    let body = request.consume().ok()?;
    let stream = body.stream().ok()?;
    let mut all = Vec::new();
    loop {
        match stream.blocking_read(BODY_BYTES_MAX as u64) {
            Ok(bytes) if all.len() + bytes.len() <= BODY_BYTES_MAX => all.extend(bytes),
            Err(StreamError::Closed) => return Some(all),
            _ => return None,
        }
    }
}
