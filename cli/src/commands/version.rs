//! `gilliam version`.

use serde::Serialize;

use crate::{context::Context, failure::CommandResult};

/// Prints the versions of this program and of the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Versions {
    client: &'static str,
    server: Option<String>,
}

pub(crate) async fn run(context: &Context<'_>, _args: Args) -> CommandResult {
    let ui = context.ui;
    // Nobody needs a cluster to learn the version of a program.
    let server = match context.client() {
        Ok(client) => client.status().await.ok().map(|status| status.version),
        Err(_) => None,
    };
    let versions = Versions {
        client: env!("CARGO_PKG_VERSION"),
        server,
    };
    if ui.wants_json() {
        return ui.json(&versions);
    }
    ui.data(&format!("gilliam {}", versions.client))?;
    versions
        .server
        .map_or(Ok(()), |server| ui.data(&format!("server {server}")))
}
