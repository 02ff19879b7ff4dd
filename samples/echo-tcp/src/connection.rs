//! One connection: reads requests, writes answers, never waits.

use crate::http::{Parsed, parse};
use crate::routes::answer;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const READ_BYTES: usize = 16 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    Open,
    Closed,
}

pub struct Connection {
    socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    close_when_written: bool,
    last_active: Instant,
}

impl Connection {
    pub fn new(socket: TcpStream, now: Instant) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (input, output) = (Vec::new(), Vec::new());
        Ok(Self {
            socket,
            input,
            output,
            written: 0,
            close_when_written: false,
            last_active: now,
        })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub fn wants_to_write(&self) -> bool {
        self.written < self.output.len()
    }

    pub fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_active)
    }

    /// Does all that can be done without waiting.
    pub fn advance(&mut self, now: Instant) -> Progress {
        self.last_active = now;
        match self.work() {
            Ok(()) => Progress::Closed,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Progress::Open,
            Err(_) => Progress::Closed, // the client has gone away
        }
    }

    /// Returns when the connection is at its end; "would block" is when there is nothing more to do now.
    fn work(&mut self) -> io::Result<()> {
        loop {
            self.write_output()?;
            if self.close_when_written {
                return Ok(());
            }
            // One answer at a time: a client that sends many requests and reads no answers gets
            // no further than the first.
            if !self.answer_next() && !self.read_input()? {
                return Ok(());
            }
        }
    }

    fn write_output(&mut self) -> io::Result<()> {
        while self.wants_to_write() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Answers the first request of the input; false if it is not all there yet.
    fn answer_next(&mut self) -> bool {
        match parse(&self.input) {
            Parsed::Partial => false,
            Parsed::Complete(request, used) => {
                self.output = answer(&request);
                self.close_when_written = !request.keep_alive;
                self.input.drain(..used);
                true
            }
            Parsed::Refused(refusal) => {
                self.output = refusal.answer();
                self.close_when_written = true; // where the next request begins is unknown
                true
            }
        }
    }

    /// Reads what is there; false at the end of the client's side.
    fn read_input(&mut self) -> io::Result<bool> {
        let mut chunk = [0; READ_BYTES];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(bytes) => {
                    self.input.extend_from_slice(&chunk[..bytes]);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
