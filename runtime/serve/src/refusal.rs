//! The answers to heads that cannot be read.
//!
//! hyper makes those itself, without calling a service: a bare status. They are known by being the only thing
//! that is ever written to a connection of HTTP/1 without a request, and are written anew with what the
//! server's owner has to say.
//!
//! Invariant: a byte that belongs to the answer of a request is never replaced.
//! Known gap: a refusal that shares its write with the end of the answer before it stays bare.

use std::io::{IoSlice, Write as _};

use bytes::Bytes;
use http::{Response, StatusCode, header};

/// Says what the answer to such a head is; given is the status that hyper chose.
pub(crate) type Say = fn(StatusCode) -> Response<Bytes>;

/// Bytes of a refusal by hyper, at most: it has a status line and three headers.
const BARE_BYTES_MAX: usize = 512;

/// Whether a body may follow the head of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyOf {
    Any,
    /// HEAD is answered without one.
    Head,
}

/// The answer to write in place of a refusal of hyper's, when `written` is one.
pub(crate) fn instead_of(written: &[IoSlice<'_>], say: Say, body_of: BodyOf) -> Option<Bytes> {
    if written.iter().map(|part| part.len()).sum::<usize>() > BARE_BYTES_MAX {
        return None;
    }
    let bare: Vec<u8> = written.iter().flat_map(|part| part.iter().copied()).collect();
    let bare = std::str::from_utf8(&bare).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = bare.split("\r\n");
    let (version, rest) = lines.next()?.split_once(' ')?;
    let status: StatusCode = rest.get(..3)?.parse().ok()?;
    if !version.starts_with("HTTP/1.") || !status.is_client_error() {
        return None;
    }
    let date = lines.find(|line| line.starts_with("date: "));
    tracing::debug!(%status, "a request head cannot be read");
    Some(encode(version, date, say(status), body_of))
}

fn encode(version: &str, date: Option<&str>, response: Response<Bytes>, body_of: BodyOf) -> Bytes {
    let (parts, body) = response.into_parts();
    let mut out = Vec::with_capacity(BARE_BYTES_MAX + body.len());
    let mut line = |line: &[&[u8]]| {
        line.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(b"\r\n");
    };
    let reason = parts.status.canonical_reason().unwrap_or_default();
    line(&[
        version.as_bytes(),
        b" ",
        parts.status.as_str().as_bytes(),
        b" ",
        reason.as_bytes(),
    ]);
    for (name, value) in &parts.headers {
        // The frame is made here.
        if *name != header::CONTENT_LENGTH && *name != header::CONNECTION {
            line(&[name.as_str().as_bytes(), b": ", value.as_bytes()]);
        }
    }
    if let Some(date) = date {
        line(&[date.as_bytes()]);
    }
    // What follows on a connection that began so cannot be trusted.
    line(&[b"connection: close"]);
    write!(out, "content-length: {}\r\n\r\n", body.len()).expect("writing to a Vec cannot fail");
    if body_of == BodyOf::Any {
        out.extend_from_slice(&body);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str =
        "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: D\r\n\r\n";

    fn say(status: StatusCode) -> Response<Bytes> {
        let response = Response::builder()
            .status(status)
            .header("x-code", "1")
            .header("content-length", "9");
        response.body(Bytes::from_static(b"no\n")).expect("response")
    }

    fn instead(parts: &[&str], body_of: BodyOf) -> Option<String> {
        let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part.as_bytes())).collect();
        instead_of(&parts, say, body_of).map(|bytes| String::from_utf8(bytes.to_vec()).expect("text"))
    }

    #[test]
    fn a_bare_refusal_is_made_whole() {
        let head = "HTTP/1.1 400 Bad Request\r\nx-code: 1\r\ndate: D\r\nconnection: close\r\n\
                    content-length: 3\r\n\r\n";
        let whole = format!("{head}no\n");
        assert_eq!(instead(&[BARE], BodyOf::Any).as_deref(), Some(&*whole));
        let (one, two) = BARE.split_at(20);
        assert_eq!(instead(&[one, two], BodyOf::Any).as_deref(), Some(&*whole));
        assert_eq!(instead(&[BARE], BodyOf::Head).as_deref(), Some(head));
    }

    #[test]
    fn nothing_else_is_taken_for_a_refusal() {
        let long = format!(
            "HTTP/1.1 400 Bad Request\r\nx: {}\r\n\r\n",
            "x".repeat(BARE_BYTES_MAX)
        );
        for other in [
            "",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno",
            "0\r\n\r\n",
            "400 \r\n\r\n",
            &BARE[..40],
            &long,
        ] {
            assert_eq!(instead(&[other], BodyOf::Any), None, "{other:?}");
        }
    }
}
