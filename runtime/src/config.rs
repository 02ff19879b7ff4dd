//! What a node is told at start.

use std::{ffi::OsString, fmt, net::SocketAddr, path::PathBuf};

use gilliam_engine::EnginesConfig;
use gilliam_model::{capacity::Capacity, label::Labels, name::NodeName};

use crate::identity::Identity;

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
    /// Control planes that know this node by its certificate: it reports to all of them.
    Servers {
        /// Their base URLs.
        servers: Vec<String>,
        /// What the node shows them.
        identity: Identity,
    },
}

impl fmt::Debug for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlAddress::File(path) => f.debug_tuple("File").field(path).finish(),
            ControlAddress::Url { api, .. } => {
                f.debug_struct("Url").field("api", api).finish_non_exhaustive()
            }
            ControlAddress::Servers { servers, .. } => f.debug_tuple("Servers").field(servers).finish(),
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
    /// Where a node with an identity takes requests of other nodes; none when it takes none.
    pub peer: Option<SocketAddr>,
    /// Where other nodes find that, when it is not the address itself: behind a translation, or on all
    /// interfaces.
    pub peer_advertised: Option<SocketAddr>,
    /// The control plane.
    pub control: ControlAddress,
    /// The program, and its first arguments, that runs [`crate::compile_child::main`] with the arguments that
    /// follow.
    pub compile_command: Vec<OsString>,
    /// First port given to web instances; 0 lets the system choose each.
    pub port_base: u16,
    /// What placement rules ask for.
    pub labels: Labels,
    /// What instances may be promised, where it is not what the machine has.
    pub capacity: Capacity,
    /// Bytes of blobs and compiled code that are kept of what nothing runs; by the size of the disk without it.
    pub cache_bytes_max: Option<u64>,
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
            peer: None,
            peer_advertised: None,
            labels: Labels::default(),
            capacity: Capacity::default(),
            cache_bytes_max: None,
            engines: EnginesConfig::default(),
            name,
            data,
            http,
            control,
            compile_command,
        }
    }
}
