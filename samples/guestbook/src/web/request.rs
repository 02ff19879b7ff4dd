//! A request as the routes read it: path, query parameters, headers, body.

use std::io;
use wasip2::http::types::{Fields, IncomingBody, IncomingRequest, Method};
use wasip2::io::streams::{InputStream, StreamError};

/// How much of a body is asked for at a time; what the instance holds of a body of any length.
pub const CHUNK_BYTES: u64 = 64 * 1024;

pub struct Request {
    inner: IncomingRequest,
    target: String,
}

impl Request {
    pub fn new(inner: IncomingRequest) -> Self {
        let target = inner.path_with_query().unwrap_or_else(|| "/".to_owned());
        Self { inner, target }
    }

    /// The path, as it was sent, without the query.
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The value of a query parameter, percent-decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        param(query, name)
    }

    /// A query parameter that is a number; the error is a line for the client.
    pub fn number(&self, name: &str) -> Result<u64, String> {
        let value = self
            .param(name)
            .ok_or_else(|| format!("missing parameter {name}\n"))?;
        value
            .parse()
            .map_err(|_| format!("parameter {name} is not a number: {value}\n"))
    }

    pub fn method(&self) -> Method {
        self.inner.method()
    }

    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.inner.headers().entries()
    }

    /// The values of one header, joined as a list.
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.inner.headers().get(name);
        let values: Vec<_> = values
            .iter()
            .map(|value| String::from_utf8_lossy(value))
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub fn into_body(self) -> io::Result<Body> {
        let body = self
            .inner
            .consume()
            .map_err(|()| io::Error::other("the body was taken before"))?;
        Body::new(body)
    }
}

/// The body of a request, or of an answer to a request of ours.
pub struct Body {
    // Declared before its owner: the stream is a child of the body and must be dropped first.
    stream: InputStream,
    owner: IncomingBody,
}

impl Body {
    pub fn new(owner: IncomingBody) -> io::Result<Self> {
        let stream = owner
            .stream()
            .map_err(|()| io::Error::other("the body is being read already"))?;
        Ok(Self { stream, owner })
    }

    /// Waits for the next bytes; `None` at the end.
    pub fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.stream.blocking_read(CHUNK_BYTES) {
            Ok(chunk) => Ok(Some(chunk)),
            Err(StreamError::Closed) => Ok(None),
            Err(StreamError::LastOperationFailed(error)) => Err(io::Error::other(error.to_debug_string())),
        }
    }

    /// What follows the body; call it when the body has been read to its end.
    pub fn trailers(self) -> io::Result<Option<Fields>> {
        drop(self.stream);
        let future = IncomingBody::finish(self.owner);
        future.subscribe().block();
        match future.get() {
            Some(Ok(Ok(trailers))) => Ok(trailers),
            Some(Ok(Err(code))) => Err(io::Error::other(code)),
            Some(Err(())) | None => Err(io::Error::other("the trailers were taken before")),
        }
    }
}

fn param(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| percent_decode(value))
}

/// Replaces `+` and `%XX`; what is not a valid escape stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], escape.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_name_and_decoded() {
        let query = "url=http%3A%2F%2Flocalhost%3A80%2F%3Fa%3Db&flag&line=a+b%20c";
        assert_eq!(param(query, "url").as_deref(), Some("http://localhost:80/?a=b"));
        assert_eq!(param(query, "flag").as_deref(), Some(""));
        assert_eq!(param(query, "line").as_deref(), Some("a b c"));
        assert_eq!(param(query, "fla"), None);
    }

    #[test]
    fn what_is_no_escape_stays() {
        assert_eq!(percent_decode("100%"), "100%");
        assert_eq!(percent_decode("%zz%4"), "%zz%4");
    }
}
