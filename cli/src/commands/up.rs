//! `gilliam up`.

use crate::{
    failure::{CommandError, CommandResult},
    home::Environment,
};

/// Runs a whole platform on this machine: control plane, node and ingress.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args) -> CommandResult {
    let data = Environment::read().data.unwrap_or_default();
    Err(CommandError::failed(format!(
        "this build holds no server to keep data in {}",
        data.display()
    )))
}
