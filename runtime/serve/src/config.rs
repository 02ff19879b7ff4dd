//! What a server is told at start.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::Places;

/// Connections at once: each costs a descriptor and about 16 KiB, so 10,000 stay within a small machine.
pub(crate) const CONNECTIONS_MAX: usize = 10_000;
/// Time for a request head to arrive, from its first byte: honest clients send it in one packet.
pub(crate) const HEAD_MS_MAX: u64 = 10_000;
/// Time a connection may be idle between requests: longer than the 55 s after which common clients let go.
pub(crate) const IDLE_MS_MAX: u64 = 60_000;
/// Time a client may leave our writes waiting without reading a byte.
pub(crate) const WRITE_STALL_MS_MAX: u64 = 30_000;
/// What is left of the time for a head, and of idleness, while all places are taken: enough for an honest
/// client's next request over a bad line, and short for those who hold places to keep others out.
pub(crate) const CROWDED_MS_MAX: u64 = 3_000;
/// Header lines in one request; more are answered with 431.
pub(crate) const HEADERS_COUNT_MAX: usize = 100;
/// Bytes of request line and headers; more are answered with 431.
pub(crate) const HEAD_BYTES_MAX: usize = 32 << 10;
/// Connections the kernel holds until they are accepted.
pub(crate) const BACKLOG_COUNT: i32 = 4_096;

/// Who is on the other side of connections of HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Whoever comes.
    Anyone,
    /// Servers of ours, proved by certificates: what they send is what their many clients sent, on a
    /// connection that none of these may end for the others.
    Ours,
}

/// Where to listen, and the limits of clients.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where to listen; port 0 lets the system choose.
    pub address: SocketAddr,
    /// TLS, and whose certificates are taken; none for plain HTTP. Over TLS the service finds a
    /// [`ClientCertificate`](crate::ClientCertificate) in the extensions of each request whose client showed one.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Places that it shares with other servers, besides its own.
    pub places: Option<Places>,
    /// Time for a request head to arrive.
    pub head_timeout: Duration,
    /// Time a connection may be idle between requests.
    pub idle_timeout: Duration,
    /// Time a client may leave our writes waiting.
    pub write_timeout: Duration,
    /// Whose HTTP/2 it is, which decides how much of it one connection may bring.
    pub clients: Clients,
    /// The answer to a head of HTTP/1 that cannot be read, given the status for it: 400, 414 or 431. Such a
    /// request never reaches the service. Its connection is closed. Without this the answer is a bare status.
    pub refusal: Option<fn(StatusCode) -> Response<Bytes>>,
}

impl ServeConfig {
    /// Listens on `address` with the default limits.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            connections_max: CONNECTIONS_MAX,
            places: None,
            head_timeout: Duration::from_millis(HEAD_MS_MAX),
            idle_timeout: Duration::from_millis(IDLE_MS_MAX),
            write_timeout: Duration::from_millis(WRITE_STALL_MS_MAX),
            clients: Clients::Anyone,
            refusal: None,
        }
    }
}
