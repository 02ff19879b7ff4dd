//! Where a request has its place: at an instance of this node, or at another node.

use http::{Request, Response};

use super::{
    backend::{Failure, InFlight},
    body::{AppBody, ClientBody},
    share::PeerPlace,
};

/// Until it is dropped, the request counts where it is.
#[derive(Debug)]
pub(crate) enum Place {
    Here(InFlight),
    There(PeerPlace),
}

impl Place {
    /// Sends a request, and waits for the head of its response.
    pub(super) async fn call(&self, request: Request<ClientBody>) -> Result<Response<AppBody>, Failure> {
        match self {
            Place::Here(place) => place.backend().call(request).await,
            // In a box, so that requests that stay here do not carry its future's size along.
            Place::There(place) => Box::pin(place.call(request)).await,
        }
    }

    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, Place::There(_))
    }
}
