//! The accept loop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::FutureExt as _;
use http::Response;
use http_body::Body;
use hyper::{Request, body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{
    config::ServeConfig,
    connection,
    drain::{DrainOutcome, DrainSignal},
    listen::{BindError, listen},
    service::Peer,
};

/// Wait after an accept that failed for want of descriptors or memory: they come back as connections end.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

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
        let places = Arc::new(Semaphore::new(self.config.connections_max));
        // Connections end with this future, however it ends.
        let mut connections = JoinSet::new();
        let open = |connections: &mut JoinSet<()>, accepted: Accepted| {
            let Accepted {
                stream,
                remote,
                place,
            } = accepted;
            let peer = Peer {
                remote,
                local: stream.local_addr().unwrap_or(self.local),
            };
            let serving =
                connection::serve(stream, peer, service.clone(), self.config.clone(), drain.clone());
            connections.spawn(async move {
                serving.await;
                drop(place);
            });
        };
        let mut signal = drain.clone();
        let grace = loop {
            tokio::select! {
                biased;
                grace = signal.requested() => break grace,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = accept(&self.listener, &places) => open(&mut connections, accepted),
            }
        };
        // What the kernel has already accepted gets an answer, rather than a reset when the socket closes.
        while let Some(accepted) = accept(&self.listener, &places).now_or_never() {
            open(&mut connections, accepted);
        }
        drop(self.listener);
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
    place: OwnedSemaphorePermit,
}

/// Waits for a free place, then for a connection. Cancel-safe: a connection is not taken without its place.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Accepted {
    let place = places
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                return Accepted {
                    stream,
                    remote,
                    place,
                };
            }
            // The client gave up while it was queued (accept(2), "Error handling").
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
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
