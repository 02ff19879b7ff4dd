//! The smallest web process for WASI 0.2: every request gets the same short text. It uses the bindings as they
//! are and nothing that prints or panics, so a fresh instance for each request costs little more than the platform.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

const TEXT: &[u8] = b"hello from WASI 0.2\n";
const LENGTH: &str = "20";

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let headers = Fields::new();
        // Both names are valid and the fields are new: there is no reason to refuse them.
        let _ = headers.append("content-type", b"text/plain; charset=utf-8");
        let _ = headers.append("content-length", LENGTH.as_bytes());
        let response = OutgoingResponse::new(headers);
        let body = response.body();
        ResponseOutparam::set(out, Ok(response));
        let Ok(body) = body else { return };
        // What is left when the client has gone away has nowhere to go.
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(TEXT);
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
