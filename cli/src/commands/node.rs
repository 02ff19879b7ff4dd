//! `gilliam node`: the part that runs guests and takes HTTP, as a process of its own.

use std::{net::SocketAddr, path::PathBuf};

use gilliam_engine::EnginesConfig;
use gilliam_runtime::{ControlAddress, NodeConfig};

use crate::{context::Context, failure::CommandResult, heap, program, server_log, shutdown};

/// Runs a node: an executor of instances and an ingress. `gilliam up` starts one itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the platform's data; the node keeps its own in `node` below it.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// File that names the control plane's address and a token.
    #[arg(long, value_name = "FILE")]
    control: PathBuf,
    /// Where the ingress listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// First port given to web instances; 0 lets the system choose.
    #[arg(long, value_name = "PORT", default_value_t = 10_000)]
    port_base: u16,
    /// The node's name; by default the host's.
    #[arg(long)]
    name: Option<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    server_log::start(context.environment.log.as_deref())?;
    let host = host_name();
    let name = args.name.unwrap_or_else(|| host.clone()).parse()?;
    let compile = vec![program::path().into(), "internal".into(), "compile".into()];
    let engines = EnginesConfig {
        give_back: heap::give_back,
        ..EnginesConfig::default()
    };
    let config = NodeConfig {
        engines,
        host,
        version: crate::VERSION.to_string(),
        port_base: args.port_base,
        ..NodeConfig::new(
            name,
            args.data,
            args.http,
            ControlAddress::File(args.control),
            compile,
        )
    };
    let (node, addresses) = gilliam_runtime::bind(config)?;
    tracing::info!(http = %addresses.http, "listening");
    let outcome = node.run(shutdown::drain_on_signal()).await;
    tracing::info!(?outcome, "ended");
    Ok(())
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
