//! `/fetch?url=http://host/path`: a request of our own, with the method, the body and the headers `x-…` of
//! the one that asks for it. The platform decides which hosts may be asked.

use crate::request::{Body, Request};
use crate::response::Responder;
use std::io::{self, Write};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};

/// Bytes that are written at once.
const WRITE_BYTES: usize = 4096;

/// Answers the status that came back, an empty line, and the body.
pub fn fetch(request: Request, respond: Responder) -> io::Result<()> {
    let Some(url) = request.param("url") else {
        return respond.text(400, "missing parameter url\n");
    };
    let response = match ask(&url, request) {
        Ok(response) => response,
        Err(reason) => return respond.text(502, &format!("{url}: {reason}\n")),
    };
    let body = response
        .consume()
        .map_err(|()| io::Error::other("the body was taken before"))?;
    let mut input = Body::new(body)?;
    let mut output = respond.stream(200, &[("content-type", "application/octet-stream")])?;
    write!(output, "{}\n\n", response.status())?;
    while let Some(chunk) = input.next_chunk()? {
        output.write_all(&chunk)?;
    }
    output.finish(None)
}

fn ask(url: &str, asker: Request) -> Result<IncomingResponse, String> {
    let (scheme, authority, path) = split(url).ok_or("not a url that starts with http:// or https://")?;
    // `x-as-NAME: VALUE` is sent as `NAME: VALUE`, whatever that is.
    let passed = |(name, value): (String, Vec<u8>)| {
        let sent = name
            .strip_prefix("x-as-")
            .or(name.starts_with("x-").then_some(&*name))?;
        Some((sent.to_owned(), value))
    };
    let headers: Vec<_> = asker.headers().into_iter().filter_map(passed).collect();
    let headers = Fields::from_list(&headers).map_err(|error| error.to_string())?;
    let request = OutgoingRequest::new(headers);
    let method = asker.method();
    let has_body = !matches!(method, Method::Get | Method::Head);
    request.set_method(&method).map_err(|()| "not a method")?;
    request.set_scheme(Some(&scheme)).map_err(|()| "scheme refused")?;
    request
        .set_authority(Some(authority))
        .map_err(|()| "not a host")?;
    request
        .set_path_with_query(Some(path))
        .map_err(|()| "not a path")?;
    let body = has_body.then(|| request.body()).transpose();
    let body = body.map_err(|()| "the request has no body")?;
    let future = outgoing_handler::handle(request, None).map_err(|code| code.to_string())?;
    if let Some(body) = body {
        send(asker, body).map_err(|error| error.to_string())?;
    }
    future.subscribe().block();
    match future.get() {
        Some(Ok(answer)) => answer.map_err(|code| code.to_string()),
        Some(Err(())) | None => Err("the answer was taken before".to_owned()),
    }
}

/// Passes the body of the request on.
fn send(asker: Request, body: OutgoingBody) -> io::Result<()> {
    let stream = body
        .write()
        .map_err(|()| io::Error::other("the body was taken before"))?;
    let mut input = asker.into_body()?;
    while let Some(chunk) = input.next_chunk()? {
        for piece in chunk.chunks(WRITE_BYTES) {
            stream.blocking_write_and_flush(piece).map_err(io::Error::other)?;
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(io::Error::other)
}

fn split(url: &str) -> Option<(Scheme, &str, &str)> {
    let (scheme, rest) = match url.split_once("://")? {
        ("http", rest) => (Scheme::Http, rest),
        ("https", rest) => (Scheme::Https, rest),
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Some((scheme, authority, if path.is_empty() { "/" } else { path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_scheme_host_and_path() {
        let (scheme, authority, path) = split("https://example.org:8443/a?b=c").unwrap();
        assert!(matches!(scheme, Scheme::Https));
        assert_eq!((authority, path), ("example.org:8443", "/a?b=c"));
        assert_eq!(split("http://localhost").unwrap().2, "/");
        assert!(split("file:///etc/passwd").is_none());
        assert!(split("localhost").is_none());
    }
}
