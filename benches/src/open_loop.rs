//! An open-loop load: requests are due at a fixed rate whatever becomes of those before, as users send them.
//!
//! A latency is counted from the instant a request was due, not from when a busy connection got round to it:
//! a server that stalls is charged for everybody who waited (no coordinated omission).

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::net::TcpStream;

use crate::load::{as_f64, cores_of_machine, exchange, histogram, request_text};

/// A request that has no answer after this has failed.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two requests of one connection to an app beside the measured one.
const HARASS_INTERVAL: Duration = Duration::from_millis(2);

/// How much, how long, to whom.
#[derive(Debug, Clone)]
pub(crate) struct OpenLoop<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    /// Requests due each second.
    pub(crate) rate: f64,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Microseconds from when a request was due until its whole answer.
    pub(crate) latency_us: Histogram<u64>,
    /// Requests without an answer, or with another than 200.
    pub(crate) failures: u64,
}

impl Outcome {
    pub(crate) fn ms_at(&self, quantile: f64) -> f64 {
        as_f64(self.latency_us.value_at_quantile(quantile)) / 1e3
    }
}

/// A second app that is requested meanwhile, one request after another on each connection, whatever it
/// answers.
#[derive(Debug, Clone)]
pub(crate) struct Beside {
    pub(crate) host: String,
    pub(crate) connections: usize,
}

impl OpenLoop<'_> {
    pub(crate) fn run(&self) -> anyhow::Result<Outcome> {
        self.run_beside(None)
    }

    pub(crate) fn run_beside(&self, beside: Option<Beside>) -> anyhow::Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // With a core of its own the load watches the clock; sharing one it sleeps, a millisecond too long at
        // worst.
        let is_alone = cores_of_machine() > 1;
        runtime.block_on(async {
            let start = Instant::now();
            let mut clients = tokio::task::JoinSet::new();
            for n in 0..self.connections {
                clients.spawn(client(
                    self.schedule(n, start),
                    self.address,
                    request_text(self.host, self.path),
                    is_alone,
                ));
            }
            // Ended with the measurement, in whatever state their requests are.
            let mut others = tokio::task::JoinSet::new();
            if let Some(Beside { host, connections }) = beside {
                for _ in 0..connections {
                    others.spawn(harass(self.address, request_text(&host, "/")));
                }
            }
            let mut all = Outcome {
                latency_us: histogram()?,
                failures: 0,
            };
            while let Some(done) = clients.join_next().await {
                let done = done??;
                all.latency_us.add(done.latency_us)?;
                all.failures += done.failures;
            }
            Ok(all)
        })
    }

    /// When the requests of one connection are due: every so many of all.
    fn schedule(&self, n: usize, start: Instant) -> impl Iterator<Item = Instant> + Send + use<> {
        let gap = 1.0 / self.rate;
        let (first, stride) = (as_f64(n as u64), as_f64(self.connections as u64));
        let end = self.duration.as_secs_f64();
        (0u32..)
            .map(move |k| (first + f64::from(k) * stride) * gap)
            .take_while(move |due| *due < end)
            .map(move |due| start + Duration::from_secs_f64(due))
    }
}

/// Requests without end.
async fn harass(address: SocketAddr, request: String) {
    let mut stream = None;
    let mut buffer = Vec::new();
    loop {
        if answer(&mut stream, address, &request, &mut buffer).await.is_err() {
            stream = None;
        }
        // Thousands of refusals a second would measure this load, not the server.
        tokio::time::sleep(HARASS_INTERVAL).await;
    }
}

async fn client(
    schedule: impl Iterator<Item = Instant>,
    address: SocketAddr,
    request: String,
    is_alone: bool,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        latency_us: histogram()?,
        failures: 0,
    };
    let mut stream = None;
    let mut buffer = Vec::with_capacity(16 << 10);
    for due in schedule {
        until(due, is_alone).await;
        let answered = tokio::time::timeout(
            ANSWER_TIME_MAX,
            answer(&mut stream, address, &request, &mut buffer),
        )
        .await;
        if !matches!(answered, Ok(Ok(()))) {
            outcome.failures += 1;
            stream = None;
        }
        let us = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
        outcome.latency_us.saturating_record(us);
    }
    Ok(outcome)
}

async fn until(due: Instant, is_alone: bool) {
    while is_alone && Instant::now() < due {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep_until(due.into()).await;
}

async fn answer(
    stream: &mut Option<TcpStream>,
    address: SocketAddr,
    request: &str,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<()> {
    if stream.is_none() {
        let connected = TcpStream::connect(address).await?;
        connected.set_nodelay(true)?;
        *stream = Some(connected);
    }
    let stream = stream.as_mut().expect("connected above");
    exchange(stream, request, buffer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_the_schedule_evenly() {
        let load = OpenLoop {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            host: "localhost",
            path: "/",
            rate: 100.0,
            connections: 4,
            duration: Duration::from_secs(1),
        };
        let start = Instant::now();
        let mut due: Vec<Duration> = (0..4)
            .flat_map(|n| load.schedule(n, start))
            .map(|at| at - start)
            .collect();
        due.sort();
        assert_eq!(due.len(), 100);
        assert_eq!(due[1], Duration::from_millis(10));
        assert_eq!(due[99], Duration::from_millis(990));
    }

    #[test]
    fn nobody_listening_is_a_failure_of_each_request() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        drop(listener);
        let load = OpenLoop {
            address,
            host: "localhost",
            path: "/",
            rate: 100.0,
            connections: 2,
            duration: Duration::from_millis(100),
        };
        let outcome = load.run().expect("a run");
        assert_eq!((outcome.failures, outcome.latency_us.len()), (10, 10));
    }
}
