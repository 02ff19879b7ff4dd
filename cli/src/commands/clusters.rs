//! `gilliam clusters`.

use std::io::{self, BufRead, IsTerminal, Read};

use clap::Subcommand;
use gilliam_client::Client;
use gilliam_model::digest::Digest;
use serde::Serialize;

use crate::{
    context::Context,
    failure::{CommandError, CommandResult},
    home::Cluster,
};

/// Longest token read from the input; ours have 60 characters.
const TOKEN_BYTES_MAX: u64 = 4 << 10;
const HEADER: &[&str] = &["", "CLUSTER", "API"];

/// Lists the clusters that are known here, or changes them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists them; a star marks the current one.
    List,
    /// Adds one, or replaces its address; the token is read from the input, never from an argument.
    ///
    /// Of a cluster with several servers name them all, with commas between them: any that answers is called.
    Add {
        name: String,
        url: String,
        /// The digest of the cluster's CA, as its control plane prints it: sha256:…
        #[arg(long, value_name = "DIGEST")]
        ca: Option<Digest>,
    },
    /// Makes one the current one.
    Use { name: String },
    /// Forgets one and its token.
    Remove { name: String },
}

/// A line of the list.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    api: &'a str,
    current: bool,
}

pub(crate) fn run(context: &Context<'_>, args: Args) -> CommandResult {
    match args.action.unwrap_or(Action::List) {
        Action::List => list(context),
        Action::Add { name, url, ca } => add(context, &name, &url, ca),
        Action::Use { name } => {
            let is_known = context.home()?.use_cluster(&name)?;
            changed(context, is_known, &name, "is the current cluster")
        }
        Action::Remove { name } => {
            let is_known = context.home()?.remove_cluster(&name)?;
            changed(context, is_known, &name, "is forgotten")
        }
    }
}

fn add(context: &Context<'_>, name: &str, url: &str, ca: Option<Digest>) -> CommandResult {
    check_name(name)?;
    let token = read_token(context)?;
    // Refuses an address or a token that no call could use.
    let client = Client::new(url, &token)?;
    let cluster = Cluster {
        api: client.addresses(),
        ca,
    };
    context.home()?.save_cluster(name, &cluster, &token)?;
    changed(context, true, name, "is added")
}

fn changed(context: &Context<'_>, is_known: bool, name: &str, how: &str) -> CommandResult {
    if !is_known {
        let error = CommandError::failed(format!("no cluster is named {name:?}"));
        return Err(error.hinted("gilliam clusters lists them"));
    }
    context.ui.note(&format!("{name} {how}"));
    Ok(())
}

fn list(context: &Context<'_>) -> CommandResult {
    let ui = context.ui;
    let clusters = context.home()?.clusters()?;
    let listed: Vec<Listed<'_>> = clusters
        .clusters
        .iter()
        .map(|(name, cluster)| Listed {
            name,
            api: &cluster.api,
            current: clusters.current.as_ref().is_some_and(|current| current == name),
        })
        .collect();
    if ui.wants_json() {
        return ui.json(&listed);
    }
    if listed.is_empty() {
        ui.note("no cluster is known");
        ui.hint("gilliam up starts one on this machine");
        return Ok(());
    }
    let star = |is_current| if is_current { "*" } else { " " };
    let row = |c: &Listed<'_>| vec![star(c.current).to_string(), c.name.to_string(), c.api.to_string()];
    ui.table(HEADER, &listed.iter().map(row).collect::<Vec<_>>())
}

fn check_name(name: &str) -> CommandResult {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !name.is_empty() && name.len() <= 63 && name.chars().all(is_fine) {
        true => Ok(()),
        false => Err(CommandError::failed(format!(
            "cluster name {name:?} must be 1 to 63 letters, digits, '-', '_', '.'"
        ))),
    }
}

fn read_token(context: &Context<'_>) -> CommandResult<String> {
    if let Some(token) = &context.environment.token {
        return Ok(token.clone());
    }
    if io::stdin().is_terminal() {
        context.ui.note("paste the token and press enter:");
    }
    let mut token = String::new();
    io::stdin()
        .lock()
        .take(TOKEN_BYTES_MAX)
        .read_line(&mut token)
        .map_err(|e| CommandError::file("cannot read the token", &e))?;
    match token.trim() {
        "" => {
            Err(CommandError::failed("no token on the input").hinted("gilliam clusters add NAME URL < FILE"))
        }
        token => Ok(token.to_string()),
    }
}
