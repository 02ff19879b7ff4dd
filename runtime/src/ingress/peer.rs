//! Requests that come from other nodes: who may send them, and what they carry of the client's request.
//!
//! In: a request on a connection with a certificate of the cluster. Out: the app, process type and id that
//! the node in front decided on, with the headers as an app gets them.
//!
//! Invariant: a request from another node is answered by instances of this node alone; it is never sent on.
//! Invariant: only nodes are listened to: other parts of the cluster have certificates too.

use gilliam_model::name::{AppName, ProcessName};
use http::{HeaderName, HeaderValue, request::Parts};

use super::headers::{GILLIAM_APP, GILLIAM_PROCESS, X_REQUEST_ID};
use crate::identity::caller;

/// What the node in front decided.
#[derive(Debug)]
pub(super) struct Forwarded {
    pub(super) app: AppName,
    pub(super) process: ProcessName,
    pub(super) request_id: HeaderValue,
}

/// Takes what the node in front decided out of the request's head; none when no node sent it.
pub(super) fn admit(parts: &mut Parts) -> Option<Forwarded> {
    caller(&parts.extensions)?;
    let mut take = |name: HeaderName| parts.headers.remove(name);
    let (app, process) = (take(GILLIAM_APP)?, take(GILLIAM_PROCESS)?);
    Some(Forwarded {
        app: app.to_str().ok()?.parse().ok()?,
        process: process.to_str().ok()?.parse().ok()?,
        request_id: parts.headers.get(X_REQUEST_ID)?.clone(),
    })
}
