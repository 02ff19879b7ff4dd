//! Answers that come line by line: one JSON document a line (NDJSON).

use std::{fmt, marker::PhantomData, time::Duration};

use gilliam_model::{api::DeployEvent, log::LogLine};
use reqwest::Response;
use serde::de::DeserializeOwned;

use crate::{Client, ClientError};

/// Longest line of a stream: a log line (8 KiB) in JSON, at worst six bytes for one, with room for a
/// release's message.
const STREAM_LINE_BYTES_MAX: usize = 128 << 10;
/// Longest silence in the answer to a deploy: the slowest step of a build prints nothing for some minutes.
const DEPLOY_IDLE_MAX: Duration = Duration::from_secs(15 * 60);

/// The events of one deploy, in order; the last is `Released`, `Built` or `Failed`.
#[derive(Debug)]
pub struct DeployStream {
    lines: Lines<DeployEvent>,
    ended: bool,
}

/// The lines of an app's log, oldest first.
#[derive(Debug)]
pub struct LogStream {
    lines: Lines<LogLine>,
}

/// The lines of one answer, parsed.
struct Lines<T> {
    client: Client,
    response: Response,
    /// What came of the answer and is not yet parsed; `done` bytes of it are.
    buffer: Vec<u8>,
    done: usize,
    /// How much of the buffer is known to hold no line end.
    scanned: usize,
    idle_max: Option<Duration>,
    parsed: PhantomData<fn() -> T>,
}

impl DeployStream {
    pub(crate) fn new(client: Client, response: Response) -> Self {
        Self {
            lines: Lines::new(client, response, Some(DEPLOY_IDLE_MAX)),
            ended: false,
        }
    }

    /// The next event; none after the last. An answer that ends before its last event is an error.
    pub async fn next(&mut self) -> Result<Option<DeployEvent>, ClientError> {
        if self.ended {
            return Ok(None);
        }
        let event = self.lines.next().await?;
        match &event {
            Some(DeployEvent::Output { .. }) => {}
            Some(DeployEvent::Released { .. } | DeployEvent::Built { .. } | DeployEvent::Failed { .. }) => {
                self.ended = true
            }
            None => {
                let url = self.lines.client.base_url().to_string();
                return Err(ClientError::Interrupted { url, source: None });
            }
        }
        Ok(event)
    }
}

impl LogStream {
    pub(crate) fn new(client: Client, response: Response) -> Self {
        Self {
            lines: Lines::new(client, response, None),
        }
    }

    /// The next line; none at the end. With `follow` it waits as long as it takes.
    pub async fn next(&mut self) -> Result<Option<LogLine>, ClientError> {
        self.lines.next().await
    }
}

impl<T> fmt::Debug for Lines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Lines<T> {
    fn new(client: Client, response: Response, idle_max: Option<Duration>) -> Self {
        Self {
            client,
            response,
            buffer: Vec::new(),
            done: 0,
            scanned: 0,
            idle_max,
            parsed: PhantomData,
        }
    }

    async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(offset) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                let end = self.scanned + offset;
                let line = self.done..end;
                self.done = end + 1;
                self.scanned = self.done;
                if !self.buffer[line.clone()].trim_ascii().is_empty() {
                    return self.parse(&self.buffer[line]).map(Some);
                }
                continue;
            }
            self.buffer.drain(..self.done);
            self.done = 0;
            self.scanned = self.buffer.len();
            if self.buffer.len() > STREAM_LINE_BYTES_MAX {
                return Err(self
                    .client
                    .protocol(format!("a line is longer than {STREAM_LINE_BYTES_MAX} bytes")));
            }
            match self.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.trim_ascii().is_empty() => return Ok(None),
                None => {
                    let line = std::mem::take(&mut self.buffer);
                    self.scanned = 0;
                    return self.parse(&line).map(Some);
                }
            }
        }
    }

    async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, ClientError> {
        let read = self.response.chunk();
        let chunk = match self.idle_max {
            None => read.await,
            Some(idle) => tokio::time::timeout(idle, read)
                .await
                .map_err(|_| ClientError::Timeout {
                    url: self.client.base_url().to_string(),
                })?,
        };
        chunk.map_err(|source| self.client.broken(source))
    }

    fn parse(&self, line: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(line).map_err(|e| self.client.protocol(format!("a line cannot be read: {e}")))
    }
}
