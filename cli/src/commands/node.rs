//! `gilliam node`.

use crate::failure::{CommandError, CommandResult};

/// Runs a node of a cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args) -> CommandResult {
    Err(CommandError::failed("this build holds no server"))
}
