//! Bodies of any length, in and out, a chunk in memory at a time.

use crate::request::{CHUNK_BYTES, Request};
use crate::response::Responder;
use std::io::{self, Write};
use wasip2::http::types::Fields;

/// Sends the request's body back as it arrives.
pub fn echo(request: Request, respond: Responder) -> io::Result<()> {
    let content_type = content_type(&request);
    let mut input = request.into_body()?;
    let mut output = respond.stream(200, &[("content-type", &content_type)])?;
    while let Some(chunk) = input.next_chunk()? {
        output.write_all(&chunk)?;
    }
    output.finish(None)
}

/// Reads the request's body to its end and answers how long it was.
pub fn sink(request: Request, respond: Responder) -> io::Result<()> {
    let mut input = request.into_body()?;
    let mut bytes = 0_usize;
    while let Some(chunk) = input.next_chunk()? {
        bytes += chunk.len();
    }
    respond.text(200, &format!("{bytes}\n"))
}

/// `/big?bytes=N` answers N bytes.
pub fn big(request: &Request, respond: Responder) -> io::Result<()> {
    let mut left = match request.number("bytes") {
        Ok(bytes) => bytes,
        Err(line) => return respond.text(400, &line),
    };
    let length = left.to_string();
    let headers = [
        ("content-type", "application/octet-stream"),
        ("content-length", &length),
    ];
    let mut output = respond.stream(200, &headers)?;
    let chunk = [b'g'; CHUNK_BYTES as usize];
    while left > 0 {
        let now = left.min(CHUNK_BYTES);
        output.write_all(&chunk[..now as usize])?;
        left -= now;
    }
    output.finish(None)
}

/// Sends body and trailers back, and a trailer of its own: `x-body-bytes`, the length.
pub fn trailers(request: Request, respond: Responder) -> io::Result<()> {
    // HTTP/1.1 passes on only the trailers that are announced in the head.
    let announced = match request.header("trailer") {
        Some(names) => format!("{names}, x-body-bytes"),
        None => "x-body-bytes".to_owned(),
    };
    let content_type = content_type(&request);
    let mut input = request.into_body()?;
    let mut output = respond.stream(200, &[("content-type", &content_type), ("trailer", &announced)])?;
    let mut bytes = 0_usize;
    while let Some(chunk) = input.next_chunk()? {
        output.write_all(&chunk)?;
        bytes += chunk.len();
    }
    let trailers = Fields::new();
    if let Some(received) = input.trailers()? {
        for (name, value) in received.entries() {
            trailers.append(&name, &value).map_err(io::Error::other)?;
        }
    }
    trailers
        .append("x-body-bytes", bytes.to_string().as_bytes())
        .map_err(io::Error::other)?;
    output.finish(Some(trailers))
}

fn content_type(request: &Request) -> String {
    request
        .header("content-type")
        .unwrap_or_else(|| "application/octet-stream".to_owned())
}
