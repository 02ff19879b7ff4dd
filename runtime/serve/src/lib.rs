//! One accept loop for every server of gilliam: HTTP/1.1 and HTTP/2 (by prior knowledge, or agreed on in TLS) on
//! one port, with TLS or without.
//!
//! In flow a service (hyper's, or tower's through [`Server::run_tower`]) and a [`drain::DrainSignal`]; out
//! flows a [`DrainOutcome`], which says whether everything in flight was finished. The service finds a
//! [`Peer`] in the extensions of each request.
//!
//! Invariant: every wait on a client has a limit (see [`ServeConfig`]): head, idleness, a peer that does not
//! read.
//! Invariant: a connection is served only when a place for it is free, so descriptors cannot run out here;
//! when there is none, idle connections end early.
//! Invariant: a head that cannot be read is answered in the words of [`ServeConfig::refusal`].
//! Invariant: nothing here looks at hosts, paths or bodies.

mod activity;
mod config;
mod connection;
pub mod drain;
mod head;
mod listen;
mod places;
mod refusal;
mod server;
mod service;
mod socket;
mod tls;
mod turn;

pub use config::{Clients, ServeConfig};
pub use drain::{DrainOutcome, DrainSignal, DrainTrigger};
pub use head::AmbiguousLength;
pub use hyper_util::service::TowerToHyperService;
pub use listen::BindError;
pub use places::Places;
pub use server::{Server, bind};
pub use service::{CountedBody, Peer};
pub use tls::ClientCertificate;
