//! Outgoing requests of guests, 0.2 and 0.3 alike.
//!
//! In flows a request that a guest wants to send, out flows its response or a typed error. Each request is
//! checked against the grants, its host is resolved once, every address is vetted, and the connection goes
//! to a vetted address and no other.
//!
//! Invariant: no connection is made to an address that a grant does not reach; redirects are the guest's to
//! follow, and each of them comes through here again.
//! Invariant: each step has a deadline, and connections open at once are bounded.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gilliam_model::{code::Code, outbound::OutboundHost};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsConnector;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use crate::{
    address,
    config::ProcessConfig,
    internal::{self, Chain, InternalDoor, Leaving, Refusal},
    log::LogGate,
    progress::{Deadlines, Progress, TimedBody},
    throttle::{CpuBucket, Metered},
};

/// Longest time to resolve, connect and shake hands.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Buffer of one connection; also the largest response head.
const CONNECTION_BUFFER_BYTES: usize = 64 << 10;
/// Response headers.
const HEADERS_MAX: usize = 128;
/// Addresses tried of one name.
const ADDRESSES_MAX: usize = 4;

/// The TLS settings of outgoing requests, made once: public roots, ring, TLS 1.2 and 1.3.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    pub(crate) fn new() -> Result<Self, String> {
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.into(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

/// The way out of one instance, shared by its lanes.
pub(crate) struct Outbound {
    process: Arc<ProcessConfig>,
    permits: Arc<Semaphore>,
    log: Arc<LogGate>,
    tls: Tls,
    cpu: Arc<CpuBucket>,
    /// Its way to what is inside the platform, once it has called there.
    door: Mutex<Option<Arc<dyn InternalDoor>>>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("grants", &self.grants())
            .finish_non_exhaustive()
    }
}

/// Where a request goes.
struct Target {
    scheme: &'static str,
    host: String,
    port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl Target {
    fn of(uri: &http::Uri) -> Result<Self, Error> {
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        // What stands before an @ is where readers of a log look for the host.
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let (scheme, default_port) = match uri.scheme_str() {
            Some("http") => ("http", 80),
            Some("https") => ("https", 443),
            _ => return Err(Error::HttpProtocolError),
        };
        let port = match authority.as_str().rsplit_once(':') {
            // An IPv6 address without a port ends in its bracket.
            Some((_, port)) if !port.ends_with(']') => {
                port.parse().map_err(|_| Error::HttpRequestUriInvalid)?
            }
            _ => default_port,
        };
        Ok(Self {
            scheme,
            host: authority.host().to_owned(),
            port,
        })
    }

    /// The host as resolvers and TLS want it.
    fn bare_host(&self) -> &str {
        self.host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(&self.host)
    }
}

impl Outbound {
    pub(crate) fn new(process: Arc<ProcessConfig>, log: Arc<LogGate>, tls: Tls, cpu: Arc<CpuBucket>) -> Self {
        let permits = Arc::new(Semaphore::new(process.limits.outbound_max as usize));
        Self {
            process,
            permits,
            log,
            tls,
            cpu,
            door: Mutex::new(None),
        }
    }

    /// What is to be known of a request that the guest begins to serve.
    pub(crate) fn chain(&self, served: &http::HeaderMap) -> Chain {
        let internal = self.process.internal.as_ref();
        internal.map_or_else(Chain::default, |internal| internal.chain(served))
    }

    /// The instance has ended: what it had inside the platform is given back.
    pub(crate) fn leave(&self, end: Leaving) {
        // Bound, so that it is not told under the lock.
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(door) = door {
            door.leave(end);
        }
    }

    pub(crate) fn grants(&self) -> &[OutboundHost] {
        &self.process.outbound
    }

    /// Whether a guest may open a plain connection to `address`.
    pub(crate) fn allows_socket(&self, address: SocketAddr) -> bool {
        let allowed = self
            .grants()
            .iter()
            .any(|grant| address::allows_socket(grant, address));
        if !allowed {
            self.denied(format_args!("a connection to {address}"));
        }
        allowed
    }

    fn denied(&self, what: fmt::Arguments<'_>) {
        self.log.platform(
            Code::N01,
            format_args!("address denied: {what} is not granted; see allowed_outbound_hosts"),
        );
    }

    /// Sends `request`, or says why not.
    pub(crate) async fn send(
        self: Arc<Self>,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        chain: Chain,
    ) -> Result<http::Response<WasiBody>, Error> {
        let target = Target::of(request.uri())?;
        if let Some(name) = internal::name_in(&target.host) {
            return self.send_inside(&name, &target, request, options, chain).await;
        }
        let grants: Vec<&OutboundHost> = self
            .grants()
            .iter()
            .filter(|grant| grant.covers(target.scheme, &target.host, target.port))
            .collect();
        if grants.is_empty() {
            self.denied(format_args!("{target}"));
            return Err(Error::HttpRequestDenied);
        }
        let permit = self.permit()?;
        let options = options.unwrap_or_default();
        let connect = options
            .connect_timeout
            .map_or(CONNECT_MAX, |asked| asked.min(CONNECT_MAX));
        let (mut sender, connection) = tokio::time::timeout(connect, self.connect(&target, &grants))
            .await
            .map_err(|_| Error::ConnectionTimeout)??;
        let progress = Progress::default();
        let request = origin_form(request, &progress)?;
        let deadlines = Deadlines::of(options);
        let response = tokio::select! {
            response = sender.send_request(request) => response.map_err(Error::Hyper)?,
            () = progress.stalled(deadlines.first_byte) => return Err(Error::ConnectionReadTimeout),
        };
        Ok(response.map(|incoming| {
            let incoming = incoming.map_err(Error::Hyper);
            TimedBody::new(incoming, deadlines, (connection, permit)).boxed_unsync()
        }))
    }

    /// Has a request answered inside the platform.
    async fn send_inside(
        &self,
        name: &str,
        target: &Target,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        chain: Chain,
    ) -> Result<http::Response<WasiBody>, Error> {
        let permit = self.permit()?;
        let (progress, deadlines) = (Progress::default(), Deadlines::of(options.unwrap_or_default()));
        let door = match internal::refused_target(name, target.scheme, target.port) {
            Some(refusal) => Err(refusal),
            None => self.door().ok_or_else(|| Refusal::undeclared(name)),
        };
        let moved = progress.clone();
        let request = internal::inward(request, move || moved.mark());
        let answer = match door {
            Ok(door) => {
                let answer = Metered::new(door.call(name, request, chain), self.cpu.clone(), None);
                // Not within the guest's own turn: another guest may run for the answer.
                let answer = wasmtime_wasi::runtime::spawn(answer);
                tokio::select! {
                    answer = answer => answer.map_err(|panicked| Error::InternalError(Some(panicked.0)))?,
                    () = progress.stalled(deadlines.first_byte) => return Err(Error::ConnectionReadTimeout),
                }
            }
            Err(refusal) => Err(refusal),
        };
        let response = answer.unwrap_or_else(|refusal| {
            self.log
                .platform(refusal.code, format_args!("{}", refusal.line()));
            refusal.response()
        });
        let response = internal::outward(response, HEADERS_MAX)?;
        Ok(response.map(|body| TimedBody::new(body, deadlines, permit).boxed_unsync()))
    }

    fn door(&self) -> Option<Arc<dyn InternalDoor>> {
        let internal = self.process.internal.as_ref()?;
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        Some(
            door.get_or_insert_with(|| internal.enter(self.log.label()))
                .clone(),
        )
    }

    /// One of the requests that may be under way at once.
    fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.permits.clone().try_acquire_owned().map_err(|_| {
            let max = self.process.limits.outbound_max;
            self.log.platform(
                Code::N02,
                format_args!("{max} outbound connections are open, no more allowed"),
            );
            Error::ConnectionLimitReached
        })
    }

    /// Resolves, vets, connects, and shakes hands.
    async fn connect(
        &self,
        target: &Target,
        grants: &[&OutboundHost],
    ) -> Result<(Sender, Connection), Error> {
        let addresses = self.resolve(target, grants).await?;
        let mut last = Error::DestinationNotFound;
        let mut stream = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(connected) => {
                    stream = Some(connected);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    last = Error::ConnectionRefused
                }
                Err(error) => last = Error::Connect(error),
            }
        }
        let stream = stream.ok_or(last)?;
        // A request is written in one or two pieces; waiting to fill packets only delays them.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Stream> = if target.scheme == "https" {
            let name = ServerName::try_from(target.bare_host().to_owned())
                .map_err(|_| Error::HttpRequestUriInvalid)?;
            let connector = TlsConnector::from(self.tls.0.clone());
            Box::new(connector.connect(name, stream).await.map_err(tls_error)?)
        } else {
            Box::new(stream)
        };
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(CONNECTION_BUFFER_BYTES)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(Error::Hyper)?;
        let connection = wasmtime_wasi::runtime::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "outgoing connection ended");
            }
        });
        Ok((sender, connection))
    }

    async fn resolve(&self, target: &Target, grants: &[&OutboundHost]) -> Result<Vec<SocketAddr>, Error> {
        let found = tokio::net::lookup_host((target.bare_host(), target.port))
            .await
            .map_err(|error| {
                self.log
                    .platform(Code::N03, format_args!("cannot resolve {}: {error}", target.host));
                Error::DnsError {
                    rcode: None,
                    info_code: None,
                }
            })?;
        let (mut vetted, mut refused) = (Vec::new(), None);
        for address in found {
            if grants.iter().any(|grant| address::reaches(grant, address.ip())) {
                vetted.push(address);
            } else {
                refused = Some(address);
            }
        }
        match (vetted.is_empty(), refused) {
            (true, Some(address)) => {
                self.denied(format_args!("{target} at {}", address.ip()));
                Err(Error::DestinationIpProhibited)
            }
            (true, None) => Err(Error::DestinationNotFound),
            (false, _) => {
                vetted.truncate(ADDRESSES_MAX);
                Ok(vetted)
            }
        }
    }
}

type Sender = hyper::client::conn::http1::SendRequest<WasiBody>;
/// Dropping it ends the connection.
type Connection = AbortOnDropJoinHandle<()>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn tls_error(error: io::Error) -> Error {
    let certificate = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|inner| matches!(inner, rustls::Error::InvalidCertificate(_)));
    if certificate {
        Error::TlsCertificateError
    } else {
        Error::Tls(error)
    }
}

/// The request as it stands on a connection to the origin: path only; the `host` header is already there.
fn origin_form(
    request: http::Request<WasiBody>,
    progress: &Progress,
) -> Result<http::Request<WasiBody>, Error> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    parts.uri = http::Uri::builder()
        .path_and_query(path)
        .build()
        .map_err(|_| Error::HttpRequestUriInvalid)?;
    let progress = progress.clone();
    let body = body.map_frame(move |frame| {
        progress.mark();
        frame
    });
    Ok(http::Request::from_parts(parts, body.boxed_unsync()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_from_the_authority_alone() {
        let target = |uri: &str| {
            Target::of(&uri.parse().expect(uri))
                .map(|target| target.to_string())
                .ok()
        };
        assert_eq!(
            target("http://example.com/x").as_deref(),
            Some("http://example.com:80")
        );
        assert_eq!(
            target("https://example.com:8443/").as_deref(),
            Some("https://example.com:8443")
        );
        assert_eq!(target("https://[::1]/").as_deref(), Some("https://[::1]:443"));
        assert_eq!(target("http://ok@127.0.0.1/"), None);
        assert_eq!(target("ftp://example.com/"), None);
    }
}
