//! What is answered to which request.

use crate::http::{Body, KeepAlive, Request, response};
use std::env;

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

pub fn answer(request: &Request) -> Vec<u8> {
    let keep = if request.keep_alive {
        KeepAlive::Yes
    } else {
        KeepAlive::No
    };
    let send = if request.method == "HEAD" {
        Body::LeaveOut
    } else {
        Body::Send
    };
    match request.path.as_str() {
        "/" => response("200 OK", TEXT, home().as_bytes(), keep, send),
        "/env" => response("200 OK", TEXT, environment().as_bytes(), keep, send),
        "/echo" => {
            let content_type = request.content_type.as_deref().unwrap_or(BYTES);
            response("200 OK", content_type, &request.body, keep, send)
        }
        path => response(
            "404 Not Found",
            TEXT,
            format!("nothing at {path}\n").as_bytes(),
            keep,
            send,
        ),
    }
}

fn home() -> String {
    let value = |name: &str| env::var(name).unwrap_or_else(|_| "(not set)".to_owned());
    format!(
        "hello over TCP, {} of {}, port {}\n",
        value("GILLIAM_INSTANCE"),
        value("GILLIAM_RELEASE"),
        value("PORT")
    )
}

fn environment() -> String {
    env::vars()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect()
}
