//! The web process of guestbook: answers HTTP requests, one call of `handle` each.
//!
//! It exports `wasi:http/incoming-handler` of WASI 0.2 and is called by whatever serves it; it opens
//! no port. What an instance knows of itself comes from environment variables.

mod bodies;
mod limits;
mod outgoing;
mod pages;
mod request;
mod response;

use request::Request;
use response::Responder;
use std::io;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Guestbook;

wasip2::http::proxy::export!(Guestbook);

impl Guest for Guestbook {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let request = Request::new(request);
        let path = request.path().to_owned();
        if let Err(error) = route(&path, request, Responder::new(out)) {
            // Most often the client has gone away in the middle of a body. The unfinished body is
            // dropped, so nobody takes half an answer for a whole one.
            eprintln!("{path}: {error}");
        }
    }
}

fn route(path: &str, request: Request, respond: Responder) -> io::Result<()> {
    match path {
        "/" => pages::home(respond),
        "/ok" => respond.text(200, "ok\n"),
        "/env" => pages::environment(respond),
        "/headers" => pages::headers(&request, respond),
        "/log" => pages::log(&request, respond),
        "/sleep" => pages::sleep(&request, respond),
        "/echo" => bodies::echo(request, respond),
        "/sink" => bodies::sink(request, respond),
        "/big" => bodies::big(&request, respond),
        "/trailers" => bodies::trailers(request, respond),
        "/fetch" => outgoing::fetch(request, respond),
        "/spin" => limits::spin(),
        "/grow" => limits::grow(&request, respond),
        "/recurse" => limits::recurse(),
        "/flood" => limits::flood(&request, respond),
        "/trap" => limits::trap(),
        _ => respond.text(404, &format!("nothing at {path}\n")),
    }
}
