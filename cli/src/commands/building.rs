//! Archives of projects, and what a cluster makes of them, followed to its end.

use std::path::PathBuf;

use gilliam_client::DeployStream;
use gilliam_model::{
    api::{DeployEvent, ReleaseInfo},
    digest::Digest,
    image::Image,
};

use crate::{
    archive::{self, Archive},
    failure::{CommandError, CommandResult},
    ui::Ui,
};

/// Packs the project at `dir`, or else at `current`.
pub(super) async fn pack(dir: Option<PathBuf>, current: PathBuf) -> CommandResult<Archive> {
    // Reads many files: not on the thread that talks to the network.
    tokio::task::spawn_blocking(move || archive::pack(dir.as_deref(), &current))
        .await
        .map_err(|e| CommandError::failed(format!("packing ended early: {e}")))?
        .map_err(CommandError::from)
}

/// Shows the build until there is a release.
pub(super) async fn until_released(ui: &Ui, mut events: DeployStream) -> CommandResult<ReleaseInfo> {
    loop {
        match events.next().await? {
            Some(DeployEvent::Output { line }) => ui.note(&line),
            Some(DeployEvent::Released { release }) => return Ok(*release),
            Some(DeployEvent::Failed { error }) => return Err(CommandError::refused(&error)),
            Some(DeployEvent::Built { .. }) | None => {
                return Err(CommandError::failed("the build ended without a release"));
            }
        }
    }
}

/// Shows the build until there is an image.
pub(super) async fn until_built(ui: &Ui, mut events: DeployStream) -> CommandResult<(Digest, Image)> {
    loop {
        match events.next().await? {
            Some(DeployEvent::Output { line }) => ui.note(&line),
            Some(DeployEvent::Built { digest, image }) => return Ok((digest, *image)),
            Some(DeployEvent::Failed { error }) => return Err(CommandError::refused(&error)),
            Some(DeployEvent::Released { .. }) | None => {
                return Err(CommandError::failed("the build ended without an image"));
            }
        }
    }
}
