//! The web process: `POST /mails` with `{"to": …, "text": …}` puts a job, and answers when that is durable.

use mailer_mail::{Email, QUEUE};
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::StreamError,
};

/// Longest mail: a job carries 1 MiB.
const BODY_BYTES_MAX: usize = 512 << 10;

struct Web;

wasip2::http::proxy::export!(Web);

impl Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (status, text) = match (request.method(), path) {
            (Method::Get, "/") => (
                200,
                "POST /mails {\"to\": \"ada@example.com\", \"text\": \"…\"}".to_owned(),
            ),
            (Method::Post, "/mails") => match body(&request) {
                Some(body) => enqueue(&body, query.strip_prefix("once=")),
                None => (413, "the mail is too long, or broke off".to_owned()),
            },
            _ => (404, "not found".to_owned()),
        };
        answer(out, status, &text);
    }
}

/// Puts a job; `once` names mails of which one at a time is in the queue.
fn enqueue(body: &[u8], once: Option<&str>) -> (u16, String) {
    let email: Email = match serde_json::from_slice(body) {
        Ok(email) => email,
        Err(error) => return (400, format!("no mail: {error}")),
    };
    let put = gilliam::queue(QUEUE).put(&email);
    let put = match once {
        Some(once) => put.key(once),
        None => put,
    };
    match gilliam::wait(put) {
        Ok(queued) if queued.new => (202, format!("mail {} waits", queued.id)),
        Ok(queued) => (200, format!("mail {} waits already", queued.id)),
        Err(error) => (503, error.to_string()),
    }
}

/// The whole body; none when it is too long or breaks off.
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
        for piece in format!("{text}\n").as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(piece).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
