//! Connections to one other node: HTTP/2 over TLS with certificates of both, kept and made again when they
//! end.
//!
//! In: requests for a connection to send on. Out: one that is alive, or at once that the node cannot be
//! reached.
//!
//! Invariant: those who wait for a connection share one attempt and its outcome; an attempt takes at most
//! [`CONNECT_MAX`].
//! Invariant: a node gets at most [`CONNECTIONS_MAX`] connections with [`STREAMS_MAX`] requests each.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use gilliam_model::name::NodeName;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{ejection::Ejection, lent::Lent};

/// Nodes of one cluster are near each other; a request waits so long before it goes elsewhere.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Connections to one node: one fills a link between two machines; more are for requests that stay long.
const CONNECTIONS_MAX: usize = 4;
/// Requests at once on one of them: what the other side takes.
const STREAMS_MAX: usize = 200;
/// A connection that is silent is asked so often whether it is alive, and given as long to answer: a node
/// that was paused or cut off is noticed by requests in progress within the two together.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Flow control: what the other side may send ahead of a client that reads slowly, and ahead of all of them.
/// All streams together stay below the latter: clients that read nothing must not stop the others.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Decoded heads of responses.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;

/// Another node, and the connections to it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) node: NodeName,
    pub(super) address: SocketAddr,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    lanes: [Lane; CONNECTIONS_MAX],
    ejection: Mutex<Ejection>,
    /// Whether the last attempt failed: what is asked for each request is this.
    fails: AtomicBool,
    /// Attempts that failed.
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Lane {
    sender: tokio::sync::Mutex<Option<SendRequest<Lent>>>,
    /// Requests in progress.
    streams: AtomicUsize,
}

/// A stream on one of the connections.
#[derive(Debug)]
pub(super) struct Stream {
    wire: Arc<Wire>,
    lane: usize,
}

/// The node cannot be reached: nothing was sent.
#[derive(Debug)]
pub(super) struct Unreachable;

impl Wire {
    pub(super) fn new(
        node: NodeName,
        address: SocketAddr,
        name: ServerName<'static>,
        tls: Arc<ClientConfig>,
    ) -> Self {
        Self {
            node,
            address,
            name,
            tls,
            lanes: Default::default(),
            ejection: Mutex::default(),
            fails: AtomicBool::new(false),
            failures: AtomicU64::new(0),
        }
    }

    /// Whether requests are to go elsewhere, if they can.
    pub(super) fn is_out(&self) -> bool {
        self.fails.load(Relaxed) && self.ejection().is_out(Instant::now())
    }

    /// A place for one request; none when there are too many.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Stream> {
        (0..CONNECTIONS_MAX).find_map(|lane| {
            let stream = Stream {
                wire: self.clone(),
                lane,
            };
            let before = self.lanes[lane].streams.fetch_add(1, Relaxed);
            (before < STREAMS_MAX).then_some(stream)
        })
    }

    async fn connect(&self) -> io::Result<SendRequest<Lent>> {
        let opened = async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let connector = TlsConnector::from(self.tls.clone());
            let stream = connector.connect(self.name.clone(), stream).await?;
            let handshake = Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_INTERVAL)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_header_list_size(HEADER_LIST_BYTES_MAX)
                .handshake(TokioIo::new(stream))
                .await;
            let (sender, connection) = handshake.map_err(io::Error::other)?;
            // Ends with the connection, or when nobody can send on it any more.
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "the connection to another node broke");
                }
            });
            Ok(sender)
        };
        timeout(CONNECT_MAX, opened)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn ejection(&self) -> MutexGuard<'_, Ejection> {
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// What the request is sent with.
    pub(super) async fn sender(&self) -> Result<SendRequest<Lent>, Unreachable> {
        let wire = &self.wire;
        let failures = wire.failures.load(Acquire);
        let mut kept = wire.lanes[self.lane].sender.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        // While this waited, the attempt of another was in vain.
        if wire.failures.load(Acquire) != failures {
            return Err(Unreachable);
        }
        wire.ejection().attempt(Instant::now() + CONNECT_MAX);
        match wire.connect().await {
            Ok(sender) => {
                wire.ejection().connected();
                wire.fails.store(false, Relaxed);
                *kept = Some(sender.clone());
                Ok(sender)
            }
            Err(error) => {
                let (node, address) = (&wire.node, wire.address);
                tracing::warn!(%error, %node, %address, "cannot reach another node");
                wire.ejection().failed(Instant::now());
                wire.fails.store(true, Relaxed);
                wire.failures.fetch_add(1, Release);
                *kept = None;
                Err(Unreachable)
            }
        }
    }

    pub(super) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.wire.lanes[self.lane].streams.fetch_sub(1, Relaxed);
    }
}
