//! What a node is told at start.

use std::{ffi::OsString, fmt, net::SocketAddr, path::PathBuf};

use gilliam_engine::EnginesConfig;
use gilliam_model::name::NodeName;

/// First port of web instances, by default.
pub(crate) const PORT_BASE: u16 = 10_000;

/// Where the control plane is.
#[derive(Clone)]
pub enum ControlAddress {
    /// A JSON file `{"api":"http://127.0.0.1:7788","token":"…"}`, read again whenever a call fails, so that a
    /// control plane that comes back elsewhere is found.
    File(PathBuf),
    /// A fixed address.
    Url {
        /// The API's base URL.
        api: String,
        /// A node token.
        token: String,
    },
}

impl fmt::Debug for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlAddress::File(path) => f.debug_tuple("File").field(path).finish(),
            ControlAddress::Url { api, .. } => {
                f.debug_struct("Url").field("api", api).finish_non_exhaustive()
            }
        }
    }
}

/// A node's settings.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name in the cluster.
    pub name: NodeName,
    /// The machine's host name, as users see it.
    pub host: String,
    /// gilliam's version.
    pub version: String,
    /// The platform's data folder; the node keeps its own in `node` below it.
    pub data: PathBuf,
    /// Where the ingress listens.
    pub http: SocketAddr,
    /// The control plane.
    pub control: ControlAddress,
    /// The program, and its first arguments, that runs [`crate::compile_child::main`] with the arguments that
    /// follow.
    pub compile_command: Vec<OsString>,
    /// First port given to web instances; 0 lets the system choose each.
    pub port_base: u16,
    /// Sizes of the engine.
    pub engines: EnginesConfig,
}

impl NodeConfig {
    /// A node with default settings.
    pub fn new(
        name: NodeName,
        data: PathBuf,
        http: SocketAddr,
        control: ControlAddress,
        compile_command: Vec<OsString>,
    ) -> Self {
        Self {
            host: name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            port_base: PORT_BASE,
            engines: EnginesConfig::default(),
            name,
            data,
            http,
            control,
            compile_command,
        }
    }
}
