//! Answers: a short text in one go, or a body that is written bit by bit.

use std::io::{self, Write};
use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::OutputStream;

/// The right to answer one request, once.
pub struct Responder {
    out: ResponseOutparam,
}

impl Responder {
    pub fn new(out: ResponseOutparam) -> Self {
        Self { out }
    }

    pub fn text(self, status: u16, text: &str) -> io::Result<()> {
        let length = text.len().to_string();
        let headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", &length),
        ];
        let mut body = self.stream(status, &headers)?;
        body.write_all(text.as_bytes())?;
        body.finish(None)
    }

    /// Sends the head of the answer; the body follows as it is written.
    pub fn stream(self, status: u16, headers: &[(&str, &str)]) -> io::Result<ResponseBody> {
        let fields: Vec<_> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        let fields = Fields::from_list(&fields).map_err(io::Error::other)?;
        let response = OutgoingResponse::new(fields);
        response
            .set_status_code(status)
            .map_err(|()| io::Error::other("no such status"))?;
        let owner = response
            .body()
            .map_err(|()| io::Error::other("the body was taken before"))?;
        ResponseOutparam::set(self.out, Ok(response));
        let stream = owner
            .write()
            .map_err(|()| io::Error::other("the body is being written already"))?;
        Ok(ResponseBody { stream, owner })
    }
}

/// The body of an answer. Dropped before `finish`, it reaches the client as broken off.
pub struct ResponseBody {
    // Declared before its owner: the stream is a child of the body and must be dropped first.
    stream: OutputStream,
    owner: OutgoingBody,
}

impl ResponseBody {
    pub fn finish(self, trailers: Option<Fields>) -> io::Result<()> {
        drop(self.stream);
        OutgoingBody::finish(self.owner, trailers).map_err(io::Error::other)
    }
}

impl Write for ResponseBody {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Waits while the client reads more slowly than we write.
        Write::write(&mut self.stream, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(&mut self.stream)
    }
}
