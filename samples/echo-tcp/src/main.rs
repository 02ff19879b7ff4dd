//! A web process that is an ordinary server: listens on `$PORT` and speaks HTTP/1.1 itself.
//!
//! There are no threads on this target, so one loop waits for all sockets at once and gives each
//! connection its turn when it is ready; none waits for another.

mod connection;
mod http;
mod routes;

use connection::{Connection, Progress};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Each may hold a request and its answer, so this bounds memory; further ones wait in the backlog.
const CONNECTIONS_MAX: usize = 32;
/// A connection that has been silent for this long is closed.
const IDLE_SECONDS_MAX: u64 = 120;

fn main() -> ExitCode {
    match listen().and_then(|listener| serve(&listener)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo-tcp: {error}");
            ExitCode::FAILURE
        }
    }
}

fn listen() -> io::Result<TcpListener> {
    let port = std::env::var("PORT").map_err(|_| io::Error::other("PORT is not set"))?;
    let port: u16 = port
        .parse()
        .map_err(|_| io::Error::other(format!("PORT is not a port: {port}")))?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);
    Ok(listener)
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let ready = wait(listener, &connections)?;
        let now = Instant::now();
        let mut turn = ready.connections.iter();
        connections.retain_mut(|connection| match turn.next() {
            Some(true) => connection.advance(now) == Progress::Open,
            _ => connection.idle(now) < Duration::from_secs(IDLE_SECONDS_MAX),
        });
        if ready.listener {
            accept(listener, &mut connections, now);
        }
    }
}

struct Ready {
    listener: bool,
    connections: Vec<bool>,
}

/// Waits until something can be done, or until it is time to look for idle connections.
fn wait(listener: &TcpListener, connections: &[Connection]) -> io::Result<Ready> {
    let mut sockets: Vec<PollFd<'_>> = connections
        .iter()
        .map(|connection| {
            let wanted = if connection.wants_to_write() {
                PollFlags::OUT
            } else {
                PollFlags::IN
            };
            PollFd::new(connection.socket(), wanted)
        })
        .collect();
    let room = connections.len() < CONNECTIONS_MAX;
    if room {
        sockets.push(PollFd::new(listener, PollFlags::IN));
    }
    let timeout = Timespec {
        tv_sec: IDLE_SECONDS_MAX as i64,
        tv_nsec: 0,
    };
    poll(&mut sockets, Some(&timeout))?;
    let mut ready: Vec<bool> = sockets
        .iter()
        .map(|socket| !socket.revents().is_empty())
        .collect();
    let listener = room && ready.pop().unwrap_or(false);
    Ok(Ready {
        listener,
        connections: ready,
    })
}

fn accept(listener: &TcpListener, connections: &mut Vec<Connection>, now: Instant) {
    while connections.len() < CONNECTIONS_MAX {
        match listener
            .accept()
            .and_then(|(socket, _)| Connection::new(socket, now))
        {
            Ok(connection) => connections.push(connection),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => {
                eprintln!("echo-tcp: accept: {error}");
                return;
            }
        }
    }
}
