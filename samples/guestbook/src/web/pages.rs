//! Short answers: what this instance is, what it was given, and a few small services.

use crate::request::Request;
use crate::response::Responder;
use std::fmt::Write;
use std::io;
use std::time::Duration;
use wasip2::cli::environment::get_environment;

pub fn home(respond: Responder) -> io::Result<()> {
    let variables = get_environment();
    let value = |name: &str| {
        let found = variables.iter().find(|(key, _)| key == name);
        found.map_or("(not set)", |(_, value)| value.as_str())
    };
    let page = format!(
        "guestbook\n\napp        {}\nrelease    {}\nprocess    {}\ninstance   {}\nPOOL_SIZE  {}\n",
        value("GILLIAM_APP"),
        value("GILLIAM_RELEASE"),
        value("GILLIAM_PROCESS"),
        value("GILLIAM_INSTANCE"),
        value("POOL_SIZE"),
    );
    respond.text(200, &page)
}

pub fn environment(respond: Responder) -> io::Result<()> {
    let mut page = String::new();
    for (key, value) in get_environment() {
        writeln!(page, "{key}={value}").map_err(io::Error::other)?;
    }
    respond.text(200, &page)
}

/// The headers that reached this instance, one per line.
pub fn headers(request: &Request, respond: Responder) -> io::Result<()> {
    let mut page = String::new();
    for (name, value) in request.headers() {
        writeln!(page, "{name}: {}", String::from_utf8_lossy(&value)).map_err(io::Error::other)?;
    }
    respond.text(200, &page)
}

/// `/log?line=TEXT` prints a line, which shows up in `gilliam logs`.
pub fn log(request: &Request, respond: Responder) -> io::Result<()> {
    match request.param("line") {
        Some(line) => {
            println!("{line}");
            respond.text(200, "logged\n")
        }
        None => respond.text(400, "missing parameter line\n"),
    }
}

/// `/sleep?ms=N` answers after N milliseconds.
pub fn sleep(request: &Request, respond: Responder) -> io::Result<()> {
    match request.number("ms") {
        Ok(ms) => {
            println!("sleeping for {ms} ms");
            std::thread::sleep(Duration::from_millis(ms));
            respond.text(200, &format!("slept {ms} ms\n"))
        }
        Err(line) => respond.text(400, &line),
    }
}
