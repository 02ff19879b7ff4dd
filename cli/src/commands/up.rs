//! `gilliam up`: the whole platform on one machine: the control plane here, its node as a child process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use gilliam_model::{
    Timestamp,
    token::{Role, Token},
};
use gilliam_scheduler::Handle;
use gilliam_serve::{DrainOutcome, DrainTrigger, drain};

use crate::{
    args::size,
    context::Context,
    control_file::ControlFile,
    failure::{CommandError, CommandResult},
    home::{Cluster, Home},
    node_process::{NodeCommand, NodeProcess, keep_running},
    plane_flags::PlaneFlags,
    server_log, shutdown,
    ui::Ui,
};

/// The cluster that `up` writes into the user's home.
const CLUSTER: &str = "local";
/// The name of the token that `up` makes for the user: the author of what they change.
const USER: &str = "admin";
/// A token that ends within this time is replaced: `up` may run for longer than tokens live, and a store that takes no
/// writes for some days must not cost the node its token.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often the tokens are looked at while `up` runs.
const RENEW_INTERVAL: Duration = Duration::from_secs(3600);

/// Runs the platform on this machine: control plane, node and ingress.
///
/// Prints the two addresses once both answer, and runs until Ctrl-C. What it keeps is in the data folder; a killed `up`
/// leaves its node serving, and the next `up` on the same folder takes it back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of everything the platform keeps [default: ~/.local/share/gilliam]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the API listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7788")]
    api: SocketAddr,
    /// Where the ingress listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// First port given to web instances; 0 lets the system choose.
    #[arg(long, value_name = "PORT", default_value_t = 10_000)]
    port_base: u16,
    /// What the node keeps of components that nothing runs, for rollbacks [default: 4GiB or a tenth of the disk]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    cache_size: Option<u64>,
    /// The node's name; by default the host's.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    plane: PlaneFlags,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    server_log::start(context.environment.log.as_deref())?;
    let home = context.home()?;
    let (config, store) = args.plane.open(context, args.data, args.api).await?;
    let data = config.data.clone();
    let (control, api) = gilliam_scheduler::bind_on(config, store)?;
    let handle = control.handle();
    let api = format!("http://{api}");
    write_control_file(&handle, &data, &api).await?;
    let (trigger, drain) = drain::channel();
    // The API answers before the node starts, so that the node's first sync finds it.
    let control = tokio::spawn(control.run(drain));
    // Looked at before the node starts: a credential that others can read is refused, and nothing is changed.
    home.token(CLUSTER)?;
    let command = NodeCommand {
        data,
        http: args.http,
        port_base: args.port_base,
        cache_bytes_max: args.cache_size,
        name: args.name.unwrap_or_else(super::node::host_name),
    };
    // A signal that comes while the node starts waits until there is a node to end: else that would stay.
    let mut asked_to_end = std::pin::pin!(shutdown::requested());
    if futures::poll!(asked_to_end.as_mut()).is_ready() {
        return Ok(());
    }
    let mut node = NodeProcess::find_or_start(&command).await?;
    // Only now: an `up` that does not start must not become the cluster that its user speaks to.
    if let Err(error) = write_credential(&handle, &home, &api).await {
        node.end_if_started_here().await;
        return Err(error);
    }
    let ui = context.ui;
    if let Err(unread) = say_where(ui, &api, node.http) {
        // Whoever started this is gone, and nobody knows of the node.
        node.end_if_started_here().await;
        return Err(unread);
    }

    tokio::select! {
        () = keep_running(&command, &mut node) => {}
        () = keep_tokens(&handle, &command.data, &home, &api) => {}
        () = asked_to_end => {}
    }
    ui.note("ending: requests in flight are finished; Ctrl-C again ends at once");
    let killer = node.killer();
    tokio::select! {
        ended = end(node, trigger, control) => ended,
        () = shutdown::requested() => {
            killer.kill();
            Ok(())
        }
    }
}

/// Replaces the tokens of the node and the user before they end.
async fn keep_tokens(handle: &Handle, data: &Path, home: &Home, api: &str) {
    loop {
        tokio::time::sleep(RENEW_INTERVAL).await;
        let node = write_control_file(handle, data, api).await;
        let user = write_credential(handle, home, api).await;
        for error in [node, user].into_iter().filter_map(Result::err) {
            tracing::warn!(error = error.message, "cannot renew a token");
        }
    }
}

/// The two addresses, for a person or a program.
fn say_where(ui: &Ui, api: &str, http: SocketAddr) -> CommandResult {
    ui.data(&format!("api   {api}"))?;
    let port = http.port();
    ui.data(&format!(
        "http  http://{http}   (apps at http://APP.localhost:{port})"
    ))
}

/// Ends the node first: while it finishes its requests the control plane still answers.
async fn end(
    node: NodeProcess,
    trigger: DrainTrigger,
    control: tokio::task::JoinHandle<DrainOutcome>,
) -> CommandResult {
    node.end().await?;
    trigger.drain(shutdown::GRACE);
    control
        .await
        .map_err(|e| CommandError::failed(format!("the control plane ended badly: {e}")))?;
    Ok(())
}

/// Keeps the node's token when the store still knows it, else makes one.
async fn write_control_file(handle: &Handle, data: &Path, api: &str) -> CommandResult {
    let known = ControlFile::read(data).map(|file| file.token);
    let token = token(handle, known, "node", Role::Node).await?;
    let file = ControlFile {
        api: api.to_string(),
        token,
    };
    file.write(data)
        .map_err(|e| CommandError::file("cannot write the control file", &e))
}

/// Keeps the user's credential when the store still knows it, else makes one.
async fn write_credential(handle: &Handle, home: &Home, api: &str) -> CommandResult {
    let token = token(handle, home.token(CLUSTER)?, USER, Role::Admin).await?;
    let cluster = Cluster {
        api: api.to_string(),
        ca: None,
    };
    home.save_cluster(CLUSTER, &cluster, &token)?;
    Ok(())
}

async fn token(handle: &Handle, known: Option<String>, name: &str, role: Role) -> CommandResult<String> {
    if let Some(text) = known
        && let Some(token) = handle.verify_token(&text).await?
        && is_lasting(&token, role, Timestamp::now())
    {
        return Ok(text);
    }
    Ok(handle.issue_token(name, role).await?)
}

/// Whether a good token serves its purpose for some time to come.
fn is_lasting(token: &Token, role: Role, now: Timestamp) -> bool {
    let renew_at = token
        .expires_at
        .checked_sub(RENEW_BEFORE)
        .unwrap_or(Timestamp::MIN);
    token.role == role && now < renew_at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_replaced_while_it_is_still_good() {
        let at = |day: i64| Timestamp::from_second(day * 24 * 3600).expect("an instant");
        let token = Token {
            id: "id".to_string(),
            name: "node".to_string(),
            role: Role::Node,
            secret_sha256: String::new(),
            created_at: at(0),
            expires_at: at(365),
        };
        assert!(is_lasting(&token, Role::Node, at(334)));
        assert!(!is_lasting(&token, Role::Node, at(336)));
        assert!(!is_lasting(&token, Role::Admin, at(1)));
    }
}
