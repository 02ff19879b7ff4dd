//! One request to the app's queues, which are at `http://queues.internal`. Nothing leaves the node for it.

use wasip2::http::{
    outgoing_handler,
    types::{Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme},
};
use wasip2::io::streams::StreamError;

/// Bytes that are written or read at once.
const CHUNK_BYTES: usize = 4_096;

/// Posts a body, and gives the status and body of the answer.
pub fn post(path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), String> {
    let headers = Fields::new();
    let length = body.len().to_string().into_bytes();
    headers
        .set("content-length", &[length])
        .map_err(|error| error.to_string())?;
    let request = OutgoingRequest::new(headers);
    let set = request
        .set_method(&Method::Post)
        .and_then(|()| request.set_scheme(Some(&Scheme::Http)))
        .and_then(|()| request.set_authority(Some("queues.internal")))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map_err(|()| format!("{path} is no path"))?;
    let outgoing = request.body().map_err(|()| "the request has no body")?;
    let answer = outgoing_handler::handle(request, None).map_err(|code| code.to_string())?;
    let stream = outgoing.write().map_err(|()| "the body cannot be written")?;
    for chunk in body.chunks(CHUNK_BYTES) {
        stream
            .blocking_write_and_flush(chunk)
            .map_err(|error| error.to_string())?;
    }
    drop(stream);
    OutgoingBody::finish(outgoing, None).map_err(|code| code.to_string())?;
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(response)) => read(response.map_err(|code| code.to_string())?),
        Some(Err(())) | None => Err("the answer was taken before".to_owned()),
    }
}

fn read(response: IncomingResponse) -> Result<(u16, Vec<u8>), String> {
    let status = response.status();
    let body = response.consume().map_err(|()| "the answer has no body")?;
    let stream = body.stream().map_err(|()| "the answer cannot be read")?;
    let mut whole = Vec::new();
    loop {
        match stream.blocking_read(CHUNK_BYTES as u64) {
            Ok(chunk) => whole.extend(chunk),
            Err(StreamError::Closed) => return Ok((status, whole)),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}
