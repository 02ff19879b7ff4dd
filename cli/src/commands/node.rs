//! `gilliam node`: the part that runs guests and takes HTTP, as a process of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use gilliam_model::{capacity::Capacity, join::JoinToken, label::Labels, name::NodeName};
use gilliam_runtime::{ControlAddress, NodeConfig, identity::Identity, join};
use gilliam_serve::drain;

use crate::{
    args::size,
    context::Context,
    failure::{CommandError, CommandResult},
    program, server_log, shutdown,
};

/// Runs a node: an executor of instances and an ingress. `gilliam up` starts one itself.
///
/// On another machine than the control plane's it joins a cluster once, with a token; from then on its certificate,
/// which it keeps in its data folder, lets it in.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the platform's data; the node keeps its own in `node` below it.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// File that names the control plane's address and a token; for the node of `gilliam up`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "join"], required_unless_present = "server")]
    control: Option<PathBuf>,
    /// Servers of the cluster: https://H1:7788,https://H2:7788.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    server: Vec<String>,
    /// The token to join with; needed once. GILLIAM_JOIN is taken when the flag is not given.
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,
    /// A label that placement rules can ask for: zone=a; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// What instances may be promised, where it is not what the machine has: memory=8GiB,cpu=4,instances=1000
    #[arg(long, value_name = "AMOUNTS")]
    capacity: Option<String>,
    /// Where the ingress listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Where it takes requests from other nodes of the cluster [default: the IP address of --http, any free port]
    #[arg(long, value_name = "ADDR", conflicts_with = "control")]
    peer: Option<SocketAddr>,
    /// The address that other nodes reach --peer at, where it is not that itself.
    #[arg(long, value_name = "ADDR", requires = "peer")]
    peer_advertise: Option<SocketAddr>,
    /// First port given to web instances; 0 lets the system choose.
    #[arg(long, value_name = "PORT", default_value_t = 10_000)]
    port_base: u16,
    /// What the node keeps of components that nothing runs, for rollbacks [default: 4GiB or a tenth of the disk]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    cache_size: Option<u64>,
    /// The node's name; by default the host's.
    #[arg(long)]
    name: Option<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    server_log::start(context.environment.log.as_deref())?;
    let labels = Labels::parse(args.label.iter().map(String::as_str))
        .map_err(|e| CommandError::usage(e.to_string()).hinted(e.hint()))?;
    let capacity = args.capacity.as_deref().map(str::parse::<Capacity>).transpose();
    let capacity = capacity
        .map_err(|e| CommandError::usage(e.to_string()).hinted(e.hint()))?
        .unwrap_or_default();
    let host = host_name();
    let (name, control) = match args.control {
        Some(file) => {
            let name = args.name.unwrap_or_else(|| host.clone()).parse()?;
            (name, ControlAddress::File(file))
        }
        None => {
            let token = args.join.as_ref().or(context.environment.join.as_ref());
            let token = token.map(String::as_str);
            let identity = identity(&args.data, &args.server, token, args.name).await?;
            let (name, servers) = (identity.name(), args.server);
            (name, ControlAddress::Servers { servers, identity })
        }
    };
    let compile = vec![program::path().into(), "internal".into(), "compile".into()];
    let is_joined = matches!(control, ControlAddress::Servers { .. });
    let peer = match is_joined {
        true => peer_address(args.peer, args.peer_advertise, args.http)?,
        false => None,
    };
    let config = NodeConfig {
        host,
        version: crate::VERSION.to_string(),
        port_base: args.port_base,
        labels,
        capacity,
        peer,
        peer_advertised: args.peer_advertise,
        cache_bytes_max: args.cache_size,
        ..NodeConfig::new(name.clone(), args.data, args.http, control, compile)
    };
    let (node, addresses) = gilliam_runtime::bind(config)?;
    tracing::info!(http = %addresses.http, "listening");
    if is_joined {
        context.ui.data(&format!("node  {name}"))?;
        context.ui.data(&format!("http  http://{}", addresses.http))?;
    }
    serve(node).await
}

/// Where requests from other nodes come in; none where they could not be told how to reach it.
fn peer_address(
    peer: Option<SocketAddr>,
    advertised: Option<SocketAddr>,
    http: SocketAddr,
) -> CommandResult<Option<SocketAddr>> {
    match peer {
        Some(peer) if peer.ip().is_unspecified() && advertised.is_none() => Err(CommandError::usage(
            format!("--peer {peer} says where to listen, and not where other nodes reach it"),
        )
        .hinted("name this machine's address: --peer-advertise IP:PORT")),
        Some(peer) => Ok(Some(peer)),
        None if http.ip().is_unspecified() => {
            tracing::warn!(%http, "other nodes cannot send requests here: pass --peer IP:PORT");
            Ok(None)
        }
        None => Ok(Some(SocketAddr::new(http.ip(), 0))),
    }
}

/// Runs the node until it is told to end: by a signal, or by the cluster, which wants nothing of it any more.
async fn serve(node: gilliam_runtime::Node) -> CommandResult {
    let dismissal = node.dismissed();
    let mut dismissed = dismissal.clone();
    let (trigger, drain) = drain::channel();
    let ending = tokio::spawn(async move {
        tokio::select! {
            () = shutdown::requested() => {}
            Ok(_) = dismissed.wait_for(Option::is_some) => {}
        }
        trigger.drain(shutdown::GRACE);
        shutdown::second_ends_the_process().await;
    });
    let outcome = node.run(drain).await;
    tracing::info!(?outcome, "ended");
    ending.abort();
    let reason = dismissal.borrow().clone();
    reason.map_or(Ok(()), |reason| {
        Err(CommandError::failed(reason)
            .hinted("gilliam nodes on a user's machine shows who is of the cluster"))
    })
}

/// Who this node is: as it joined, or joining now.
async fn identity(
    data: &Path,
    servers: &[String],
    token: Option<&str>,
    name: Option<String>,
) -> CommandResult<Identity> {
    if let Some(server) = servers.iter().find(|server| !server.starts_with("https://")) {
        return Err(
            CommandError::usage(format!("{server:?} is not the address of a gilliam server"))
                .hinted("write https://HOST:7788"),
        );
    }
    if let Some(identity) = Identity::load(data)? {
        let known = identity.name();
        return match name {
            Some(name) if name != known.as_str() => Err(CommandError::failed(format!(
                "the folder {} holds the identity of node {known}, not of {name}",
                data.display()
            ))
            .hinted("give each node a data folder of its own")),
            _ => Ok(identity),
        };
    }
    let token = token.ok_or_else(|| {
        CommandError::failed(format!(
            "{} holds no identity: this node has not joined",
            data.display()
        ))
        .hinted("pass --join TOKEN; gilliam nodes join-token makes one")
    })?;
    let token: JoinToken = token
        .trim()
        .parse()
        .map_err(|e: gilliam_model::join::JoinTokenError| {
            CommandError::failed(e.to_string()).hinted("gilliam nodes join-token makes one")
        })?;
    let name: NodeName = name.unwrap_or_else(|| host_name().to_lowercase()).parse()?;
    Ok(join::join(servers, &token, &name, crate::VERSION, data).await?)
}

/// This machine's name.
pub(super) fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    if name.is_empty() {
        "localhost".to_string()
    } else {
        name.into_owned()
    }
}
