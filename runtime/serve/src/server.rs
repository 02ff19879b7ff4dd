//! The accept loop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::FutureExt as _;
use http::Response;
use http_body::Body;
use hyper::{Request, body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    config::ServeConfig,
    connection,
    drain::{DrainOutcome, DrainSignal},
    listen::{BindError, listen},
    places::{Crowd, Place, Places},
    service::Peer,
};

/// Wait after an accept that failed for want of descriptors or memory: they come back as connections end.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Between two messages that connections cannot be accepted.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A bound server; connections wait in the kernel until it runs.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    config: Arc<ServeConfig>,
}

/// Binds a server, and gives the address it got.
///
/// Must be called within a tokio runtime with IO enabled.
pub fn bind(config: &ServeConfig) -> Result<(Server, SocketAddr), BindError> {
    let (listener, local) = listen(config.address)?;
    Ok((
        Server {
            listener,
            local,
            config: Arc::new(config.clone()),
        },
        local,
    ))
}

impl Server {
    /// Serves until `drain` is asked for and everything in flight is finished or its grace has passed.
    pub async fn run<S, B>(self, service: S, drain: DrainSignal) -> DrainOutcome
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let crowd = Crowd {
            own: Places::new(self.config.connections_max),
            shared: self.config.places.clone(),
        };
        let mut acceptor = Acceptor {
            listener: self.listener,
            crowd: crowd.clone(),
            own: None,
            taken: None,
            told: None,
        };
        // Connections end with this future, however it ends.
        let mut connections = JoinSet::new();
        let open = |connections: &mut JoinSet<()>, accepted: Accepted| {
            let Accepted {
                stream,
                remote,
                places,
            } = accepted;
            let peer = Peer {
                remote,
                local: stream.local_addr().unwrap_or(self.local),
            };
            let (config, crowd) = (self.config.clone(), crowd.clone());
            let serving = connection::serve(stream, peer, service.clone(), config, crowd, drain.clone());
            connections.spawn(async move {
                serving.await;
                drop(places);
            });
        };
        let mut signal = drain.clone();
        let grace = loop {
            tokio::select! {
                biased;
                grace = signal.requested() => break grace,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = acceptor.accept() => open(&mut connections, accepted),
            }
        };
        // What the kernel has already accepted gets an answer, rather than a reset when the socket closes.
        while let Some(accepted) = acceptor.accept().now_or_never() {
            open(&mut connections, accepted);
        }
        drop(acceptor);
        let ended = async { while connections.join_next().await.is_some() {} };
        match tokio::time::timeout(grace, ended).await {
            Ok(()) => DrainOutcome::Finished,
            Err(_) => DrainOutcome::TimedOut {
                connections: connections.len(),
            },
        }
    }

    /// The same for a tower service, such as an axum router.
    pub async fn run_tower<S, B>(self, service: S, drain: DrainSignal) -> DrainOutcome
    where
        S: tower::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError> + Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        self.run(TowerToHyperService::new(service), drain).await
    }
}

struct Accepted {
    stream: TcpStream,
    remote: SocketAddr,
    places: (Place, Option<Place>),
}

/// Takes connections from the kernel, one for each free place.
struct Acceptor {
    listener: TcpListener,
    crowd: Crowd,
    /// What the next connection has so far: kept here, so that [`accept`](Self::accept) is cancel-safe.
    own: Option<Place>,
    taken: Option<(TcpStream, SocketAddr)>,
    /// When a failure was last told.
    told: Option<Instant>,
}

impl Acceptor {
    /// Waits for a free place of the server, a connection, and a free place of those that it shares. The last
    /// comes last, so that a server without clients keeps none from the others. Cancel-safe.
    async fn accept(&mut self) -> Accepted {
        if self.own.is_none() {
            self.own = Some(self.crowd.own.take().await);
        }
        while self.taken.is_none() {
            match self.listener.accept().await {
                Ok(taken) => self.taken = Some(taken),
                // The client gave up while it was queued (accept(2), "Error handling").
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.tell(&error);
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
        let shared = match &self.crowd.shared {
            Some(shared) => Some(shared.take().await),
            None => None,
        };
        let (stream, remote) = self.taken.take().expect("taken above");
        let own = self.own.take().expect("taken above");
        Accepted {
            stream,
            remote,
            places: (own, shared),
        }
    }

    /// Logs a failure, unless one was logged a moment ago: it may last as long as clients like.
    fn tell(&mut self, error: &io::Error) {
        if self.told.is_none_or(|at| at.elapsed() >= TELL_INTERVAL) {
            self.told = Some(Instant::now());
            tracing::warn!(%error, "cannot accept connections");
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
