//! The way of a build to the registries of its language, and to nothing else.
//!
//! ```text
//! in the sandbox: tool -> 127.0.0.1:PORT -> `forward` -> a socket in the file system
//! in the build child:                                    `proxy` -> the listed hosts alone
//! ```
//!
//! The sandbox has a network of its own, with nothing but loopback in it. What `forward` is not asked for cannot
//! leave: the socket is all that leads out, and who decides stands at its other end, outside.
//!
//! Invariant: no host is reached that is not listed, by that name and port.

mod forward;
mod host;
mod loopback;
mod proxy;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use forward::forward;
pub use host::{Host, HostError, NOBODY, Registries};
pub(crate) use loopback::raise;
pub(crate) use proxy::Proxy;

/// Where the proxy listens in a sandbox, which has all ports for itself.
pub(crate) const PORT: u16 = 3_128;
/// Where a sandbox shows the socket.
pub(crate) const SOCKET: &str = "/network";
/// Connections of a build at once: package managers open a dozen.
const CONNECTIONS_MAX: usize = 48;

/// What a sandbox is let out to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Where the socket is made, on the host.
    pub socket: PathBuf,
    /// Who may be reached.
    pub hosts: Vec<Host>,
}
