//! `gilliam server`: the control plane of a cluster, alone: it runs no guest.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use gilliam_model::{join::TTL_SECONDS, token::Role};
use gilliam_scheduler::{Cluster, Handle, Secure};

use crate::{
    args::{dead_after, span},
    context::Context,
    failure::{CommandError, CommandResult},
    plane_flags::PlaneFlags,
    server_log, shutdown,
    ui::Ui,
};

/// The name of the token that is made at the first start: the author of what its holder changes.
const USER: &str = "admin";

/// Runs the control plane of a cluster: the API over TLS, for users and for nodes that join with a token.
///
/// The first start makes the cluster's CA, and prints how users and nodes come in. Several servers on one store are one
/// control plane: any may end.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of what the control plane keeps [default: ~/.local/share/gilliam]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the API listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7788")]
    api: SocketAddr,
    /// HOST:PORT at which users and nodes reach it; may be given several times [default: the address of --api]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Vec<String>,
    /// Silence after which a node is held dead, and its instances start elsewhere; from 1s to 1h.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = dead_after)]
    dead_after: Duration,
    /// How long certificates of nodes and servers are good; each is renewed when half of that is over.
    #[arg(long, value_name = "TIME", default_value = "720h", value_parser = span)]
    certificate_life: Duration,
    /// Prints a new token of an administrator, for when the first one is lost.
    #[arg(long)]
    admin_token: bool,
    #[command(flatten)]
    plane: PlaneFlags,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    server_log::start(context.environment.log.as_deref())?;
    let (config, store) = args.plane.open(context, args.data, args.api).await?;
    let config = gilliam_scheduler::Config {
        lost_after: args.dead_after,
        shares_store: args.plane.store.etcd(&context.environment)?.is_some(),
        ..config
    };
    let mut advertise = args.advertise;
    if advertise.is_empty() && args.api.port() != 0 && !args.api.ip().is_unspecified() {
        advertise.push(args.api.to_string());
    }
    let secure = Secure {
        advertise: advertise.clone(),
        certificate_life: args.certificate_life,
    };
    let (control, api, cluster) = gilliam_scheduler::bind_secure(config, store, secure).await?;
    let reached = advertise
        .first()
        .cloned()
        .unwrap_or_else(|| match api.ip().is_unspecified() {
            true => format!("{}:{}", super::node::host_name(), api.port()),
            false => api.to_string(),
        });
    let handle = control.handle();
    let running = control.run(shutdown::drain_on_signal());
    let greeting = greet(context.ui, &handle, &cluster, &reached, args.admin_token);
    let (_, greeted) = tokio::join!(running, greeting);
    greeted
}

/// What an operator needs next. What is secret is shown once: at the first start, or when it is asked for.
async fn greet(
    ui: &Ui,
    handle: &Handle,
    cluster: &Cluster,
    reached: &str,
    wants_token: bool,
) -> CommandResult {
    let ca = cluster.ca;
    ui.data(&format!("api    https://{reached}"))?;
    ui.data(&format!("ca     {ca}"))?;
    if cluster.is_new || wants_token {
        let token = handle.issue_token(USER, Role::Admin).await?;
        ui.data(&format!("token  {token}"))?;
    }
    ui.data(&format!(
        "users  gilliam clusters add NAME https://{reached} --ca {ca}   (with the token on its input)"
    ))?;
    let join = if cluster.is_new {
        let made = handle.invite(USER, Duration::from_secs(TTL_SECONDS)).await;
        made.map_err(|error| CommandError::refused(&error))?.token
    } else {
        "TOKEN".to_string()
    };
    ui.data(&format!(
        "nodes  gilliam node --server https://{reached} --join {join} --data DIR --name NAME"
    ))?;
    ui.note("each node needs a join token of its own: gilliam nodes join-token makes one");
    Ok(())
}
