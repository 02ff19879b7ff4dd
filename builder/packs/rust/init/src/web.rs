//! The web process: called once for each request.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Web;

wasip2::http::proxy::export!(Web);

impl Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        match path {
            "/" => answer(out, 200, &format!("Hello, {}!\n", name())),
            _ => answer(out, 404, "not found\n"),
        }
    }
}

/// Config is the environment: gilliam config NAME=you
fn name() -> String {
    std::env::var("NAME").unwrap_or_else(|_| "world".to_string())
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let headers = Fields::new();
    // The name is valid, and the fields are new.
    let _ = headers.append("content-type", b"text/plain; charset=utf-8");
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        // What is left when the client has gone away has nowhere to go. At most 4,096 bytes are taken at once.
        for piece in text.as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(piece).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
