//! A closed-loop load of small GET requests on kept connections, cheap enough not to be what is measured.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How much load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) duration: Duration,
    pub(crate) connections: usize,
}

/// What the load saw.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// Microseconds from request to whole answer.
    pub(crate) latency_us: Histogram<u64>,
}

impl Seen {
    pub(crate) fn per_second(&self) -> f64 {
        as_f64(self.requests) / self.elapsed.as_secs_f64()
    }

    pub(crate) fn us_at(&self, quantile: f64) -> f64 {
        as_f64(self.latency_us.value_at_quantile(quantile))
    }
}

/// A count as a number to divide; exact below 2^53.
#[allow(clippy::cast_precision_loss, reason = "counts here stay far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Keeps the load off the core that servers are pinned to.
pub(crate) fn pin_to_last_core() {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cores_of_machine() - 1);
    // A machine that refuses still measures, with more noise.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Cores of the machine, wherever this thread may run.
pub(crate) fn cores_of_machine() -> usize {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpu.lines()
        .filter(|line| line.starts_with("processor"))
        .count()
        .max(1)
}

/// A GET request as it is sent.
pub(crate) fn request_text(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")
}

impl Load {
    /// Sends `GET path` with `host` until the time is over; any answer but 200 is an error.
    pub(crate) fn run(&self, address: SocketAddr, host: &str, path: &str) -> anyhow::Result<Seen> {
        let request = request_text(host, path);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let start = Instant::now();
            let end = start + self.duration;
            let mut clients = tokio::task::JoinSet::new();
            for _ in 0..self.connections {
                clients.spawn(client(address, request.clone(), end));
            }
            let mut all = histogram()?;
            while let Some(histogram) = clients.join_next().await {
                all.add(histogram??)?;
            }
            Ok(Seen {
                requests: all.len(),
                elapsed: start.elapsed(),
                latency_us: all,
            })
        })
    }
}

async fn client(address: SocketAddr, request: String, end: Instant) -> anyhow::Result<Histogram<u64>> {
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let mut histogram = histogram()?;
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(histogram);
        }
        exchange(&mut stream, &request, &mut buffer).await?;
        let elapsed = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
        histogram.saturating_record(elapsed);
    }
}

/// Room for latencies of 1 µs to a minute, three digits of each.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

/// Sends a request and reads its whole answer.
pub(crate) async fn exchange(
    stream: &mut TcpStream,
    request: &str,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<()> {
    stream.write_all(request.as_bytes()).await?;
    buffer.clear();
    loop {
        let n = stream.read_buf(buffer).await?;
        ensure!(n > 0, "the server closed the connection");
        if let Some(length) = answer_length(buffer)? {
            ensure!(length == buffer.len(), "more bytes than one answer");
            return Ok(());
        }
    }
}

/// The length of the answer at the start of `bytes`, when all of it is there.
fn answer_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head])?;
    ensure!(text.starts_with("HTTP/1.1 200"), "not 200: {text}");
    let start = head + 4;
    for line in text.lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            let end = start + value.trim().parse::<usize>()?;
            return Ok((bytes.len() >= end).then_some(end));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            // Small bodies end with the last chunk; an answer longer than the buffer arrives in more reads.
            return Ok(bytes.ends_with(b"0\r\n\r\n").then_some(bytes.len()));
        }
    }
    bail!("an answer without a length: {text}")
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_measured_by_length_or_last_chunk() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        assert_eq!(answer_length(whole).expect("whole"), Some(whole.len()));
        assert_eq!(answer_length(&whole[..whole.len() - 1]).expect("part"), None);
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        assert_eq!(answer_length(chunked).expect("chunked"), Some(chunked.len()));
        assert_eq!(answer_length(&chunked[..chunked.len() - 5]).expect("part"), None);
        assert!(answer_length(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
