//! One connection: which protocol it speaks, and its life until it is closed.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use http::Response;
use http_body::Body;
use hyper::{Request, body::Incoming, server::conn::http1, server::conn::http2, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    activity::{Activity, Protocol, Verdict},
    config::{CROWDED_MS_MAX, Clients, HEAD_BYTES_MAX, HEADERS_COUNT_MAX, ServeConfig},
    drain::DrainSignal,
    places::Crowd,
    service::{Counted, Peer},
    socket::Socket,
    tls,
};

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// HTTP/1 read and write buffers grow to this: twice the largest head, and 64 KiB is where larger reads stop
/// paying.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// HTTP/2 streams at once on a connection.
const H2_STREAMS_MAX: u32 = 100;
/// HTTP/2 flow control: what a client may send ahead of the reader, per stream and connection.
const H2_STREAM_WINDOW_BYTES: u32 = 64 << 10;
const H2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Decoded HTTP/2 header list; smaller than HTTP/1's head, for HPACK amplifies.
const H2_HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// HTTP/2 streams reset by the client before we took them ("rapid reset"); one more ends the connection.
const H2_PENDING_RESETS_MAX: usize = 20;
/// HTTP/2 streams that we had to reset for the client's errors; one more ends the connection.
const H2_LOCAL_RESETS_MAX: usize = 100;
/// The same for connections of our own servers: streams of many clients, with heads of HTTP/1 and what a
/// proxy adds. What clients reset is reset here too, so any of them could have a connection ended by a lower
/// limit; and all streams together cannot use the connection's window up, or those that stand still would
/// stop the others.
const OURS_STREAMS_MAX: u32 = 250;
const OURS_STREAM_WINDOW_BYTES: u32 = 64 << 10;
const OURS_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const OURS_HEADER_LIST_BYTES_MAX: u32 = 64 << 10;
const OURS_RESETS_MAX: usize = 10_000;
const OURS_PING_INTERVAL: Duration = Duration::from_secs(5);
/// HTTP/2 pings to quiet clients, so that vanished ones are noticed.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// What a connection that was accepted just before a drain gets to send its request.
const LATE_REQUEST: Duration = Duration::from_millis(200);
/// How often a connection's limits are looked at, at most: their resolution.
const WATCH_INTERVAL_MAX: Duration = Duration::from_secs(5);
const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(20);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves a connection until it is closed by either side, or drained.
pub(crate) async fn serve<S, B>(
    stream: TcpStream,
    peer: Peer,
    service: S,
    config: Arc<ServeConfig>,
    crowd: Crowd,
    drain: DrainSignal,
) where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    // Answers are written whole; Nagle would hold back the last packet of each until the client acknowledges.
    let _ = stream.set_nodelay(true);
    let opening = tls::accept(stream, config.tls.clone(), config.head_timeout);
    let Some((stream, certificate)) = opened(opening, &crowd, drain.clone()).await else {
        return;
    };
    let activity = Activity::new();
    let mut socket = Socket::new(stream, activity.clone());
    let Some(protocol) = protocol_of(&mut socket, &config, &crowd, drain.clone()).await else {
        return;
    };
    if protocol == Protocol::Http1 {
        socket.say = config.refusal;
    }
    let clients = config.clients;
    let service = Counted {
        inner: service,
        peer,
        certificate,
        activity: activity.clone(),
    };
    let io = TokioIo::new(socket);
    let watch = Watch {
        activity,
        protocol,
        config,
        crowd,
    };
    match protocol {
        Protocol::Http1 => {
            watch
                .drive(http1_builder().serve_connection(io, service), drain)
                .await
        }
        Protocol::Http2 => {
            watch
                .drive(http2_builder(clients).serve_connection(io, service), drain)
                .await
        }
    }
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The watch keeps head and idle time apart, which this setting does not.
        .header_read_timeout(None)
        .max_headers(HEADERS_COUNT_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
}

fn http2_builder(clients: Clients) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    if clients == Clients::Ours {
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(OURS_STREAMS_MAX)
            .initial_stream_window_size(OURS_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(OURS_CONNECTION_WINDOW_BYTES)
            .max_header_list_size(OURS_HEADER_LIST_BYTES_MAX)
            .max_pending_accept_reset_streams(OURS_RESETS_MAX)
            .max_local_error_reset_streams(OURS_RESETS_MAX)
            .keep_alive_interval(OURS_PING_INTERVAL)
            .keep_alive_timeout(OURS_PING_INTERVAL);
        return builder;
    }
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .max_header_list_size(H2_HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(H2_LOCAL_RESETS_MAX)
        .keep_alive_interval(H2_PING_INTERVAL);
    builder
}

/// The protocol of a new connection; none when it sends nothing in time.
async fn protocol_of(
    socket: &mut Socket,
    config: &ServeConfig,
    crowd: &Crowd,
    mut drain: DrainSignal,
) -> Option<Protocol> {
    let mut sniffing = std::pin::pin!(timeout(config.idle_timeout, sniff(socket, config.head_timeout)));
    let sniffed = tokio::select! {
        biased;
        sniffed = sniffing.as_mut() => sniffed,
        () = full(crowd) => return None,
        // A request that is already on its way is still answered.
        _ = drain.requested() => timeout(LATE_REQUEST, sniffing).await.ok()?,
    };
    sniffed.ok()?.ok()
}

/// What `opening` gives, unless others wait for the place meanwhile, or a drain leaves it no time.
async fn opened<T>(
    opening: impl Future<Output = Option<T>>,
    crowd: &Crowd,
    mut drain: DrainSignal,
) -> Option<T> {
    let mut opening = std::pin::pin!(opening);
    tokio::select! {
        biased;
        opened = opening.as_mut() => opened,
        () = full(crowd) => None,
        _ = drain.requested() => timeout(LATE_REQUEST, opening).await.ok()?,
    }
}

/// Returns once others wait for the place of a connection that has had the least time of one.
async fn full(crowd: &Crowd) {
    loop {
        sleep(Duration::from_millis(CROWDED_MS_MAX)).await;
        if crowd.is_full() {
            return;
        }
    }
}

/// Reads until the first bytes tell the protocol. What was read is read again by the connection.
async fn sniff(socket: &mut Socket, head_timeout: Duration) -> io::Result<Protocol> {
    let mut first = BytesMut::with_capacity(H2_PREFACE.len());
    let mut limited = (&mut socket.stream).take(H2_PREFACE.len() as u64);
    if limited.read_buf(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let deadline = Instant::now() + head_timeout;
    while first.len() < H2_PREFACE.len() && H2_PREFACE.starts_with(&first) {
        let read = tokio::time::timeout_at(deadline, limited.read_buf(&mut first)).await;
        if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
            break;
        }
    }
    socket.activity.read(&first);
    let protocol = if first == H2_PREFACE {
        Protocol::Http2
    } else {
        Protocol::Http1
    };
    socket.first = first.freeze();
    Ok(protocol)
}

struct Watch {
    activity: Arc<Activity>,
    protocol: Protocol,
    config: Arc<ServeConfig>,
    crowd: Crowd,
}

impl Watch {
    async fn drive<C: GracefulConnection>(self, connection: C, mut drain: DrainSignal) {
        let config = &self.config;
        let shortest = config
            .head_timeout
            .min(config.idle_timeout)
            .min(config.write_timeout);
        let interval = (shortest / 4).clamp(WATCH_INTERVAL_MIN, WATCH_INTERVAL_MAX);
        let mut finishing = false;
        let mut connection = std::pin::pin!(connection);
        let mut tick = std::pin::pin!(sleep(interval));
        loop {
            tokio::select! {
                biased;
                // How a client ends its connection is its own affair.
                _ = connection.as_mut() => return,
                _ = drain.requested(), if !finishing => {
                    finishing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = tick.as_mut() => {
                    tick.as_mut().reset(Instant::now() + interval);
                    match self.activity.verdict(config, self.protocol, self.crowd.is_full()) {
                        Verdict::Keep => {}
                        Verdict::Finish if finishing => return,
                        Verdict::Finish => {
                            finishing = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        Verdict::Cut(reason) => {
                            tracing::debug!(reason, "connection cut");
                            return;
                        }
                    }
                }
            }
        }
    }
}
