//! Typed calls of gilliam's API: one method for each endpoint of [`gilliam_model::api`].
//!
//! In go validated nouns of the model, out come the API's types or a [`ClientError`] that callers can branch
//! on. The command line and the nodes use it alike.
//!
//! Invariant: no environment variable, file or clock of the host is read here; proxies of the environment are
//! ignored.
//! Invariant: every answer is bounded, in bytes or by the caller, and the token is sent to the base URLs
//! alone: no redirect is followed, and it is never printed.

mod apps;
mod attach;
mod call;
mod crons;
mod error;
mod images;
mod nodes;
mod queues;
mod runs;
mod servers;
mod services;
mod stream;
mod trust;
mod uses;

pub use apps::{DeployRequest, InstanceQuery, LogQuery};
pub use attach::{RunInput, RunOutput};
pub use call::Client;
pub use error::ClientError;
pub use queues::PutOptions;
pub use stream::{DeployStream, LogStream};
pub use trust::{ClusterVerifier, Trust};
