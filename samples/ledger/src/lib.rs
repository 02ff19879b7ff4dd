//! The web process of ledger: accounts in a database, through `gilliam:sql`, and receipts as files in a volume,
//! through `std::fs` as anywhere else.
//!
//! The last part of a path is what is asked, the query its arguments, the body what is to be kept.

mod accounts;
mod files;
mod sql;

use std::collections::HashMap;

use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::StreamError,
};

struct Ledger;

wasip2::http::proxy::export!(Ledger);

/// What is answered: a status and a text.
type Answer = (u16, String);

impl Guest for Ledger {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let arguments = query.split('&').filter_map(|pair| pair.split_once('='));
        let arguments: HashMap<&str, &str> = arguments.collect();
        let argument = |name: &str| arguments.get(name).copied().unwrap_or_default();
        let answer = match path {
            "/sql" => sql::one(&text(&request), argument("db")),
            "/open" => accounts::open(argument("name"), argument("amount")),
            "/transfer" => accounts::transfer(argument("from"), argument("to"), argument("amount")),
            "/balances" => accounts::balances(),
            "/abandon" => accounts::abandon(),
            "/queries" => sql::queries(argument("n"), &text(&request)),
            "/files" => files::files(argument("do"), argument("path"), argument("to"), &body(&request)),
            _ => (404, format!("nothing at {path}")),
        };
        send(out, answer);
    }
}

/// The whole body of a request.
fn body(request: &IncomingRequest) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(body) = request.consume() else { return bytes };
    let Ok(stream) = body.stream() else { return bytes };
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => return bytes,
            Err(StreamError::LastOperationFailed(error)) => {
                eprintln!("the request broke off: {}", error.to_debug_string());
                return bytes;
            }
        }
    }
}

fn text(request: &IncomingRequest) -> String {
    String::from_utf8_lossy(&body(request)).into_owned()
}

fn send(out: ResponseOutparam, (status, text): Answer) {
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain; charset=utf-8");
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    // What is left when the client has gone away has nowhere to go.
    if let Ok(stream) = body.write() {
        for piece in text.as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(piece).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
