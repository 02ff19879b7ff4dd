//! `gilliam image pull`, and what `deploy --image` shares with it.

use std::path::{Path, PathBuf};

use gilliam_client::Client;
use gilliam_model::{digest::Digest, name::AppName};
use serde_json::json;

use crate::{
    commands::building,
    context::Context,
    failure::{CommandError, CommandResult},
    registry::{self, Pulled, Registry, RegistryFlags},
    ui::Ui,
};

/// Copies an image from a registry to the cluster, for an app to release; or to a folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image: HOST/NAME:TAG, or HOST/NAME@sha256:….
    #[arg(value_name = "REF")]
    reference: String,
    /// Copies it into the OCI image layout at DIR, and nowhere else.
    #[arg(long, short = 'o', value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryFlags,
}

pub(super) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let registry = Registry::open(&args.reference, &args.registry)?;
    let digest = match &args.output {
        Some(folder) => {
            let pulled = registry.manifest().await?;
            registry.pull(ui, &pulled, folder).await?;
            pulled.digest
        }
        None => {
            let (client, app) = (context.client()?, context.app()?);
            let pulled = registry.manifest().await?;
            into_cluster(ui, &client, &app, &registry, &pulled).await?
        }
    };
    if ui.wants_json() {
        return ui.json(&json!({ "digest": digest, "reference": registry.name() }));
    }
    ui.data(&digest.to_string())?;
    if args.output.is_none() {
        ui.hint(&format!("gilliam deploy --image {}", digest.short()));
    }
    Ok(())
}

/// Copies an image from a registry to the cluster.
pub(in crate::commands) async fn into_cluster(
    ui: &Ui,
    client: &Client,
    app: &AppName,
    registry: &Registry,
    pulled: &Pulled,
) -> CommandResult<Digest> {
    let folder = tempfile::tempdir().map_err(|e| CommandError::file("cannot make a temporary folder", &e))?;
    registry.pull(ui, pulled, folder.path()).await?;
    send(ui, client, app, folder.path(), &registry.name()).await
}

async fn send(ui: &Ui, client: &Client, app: &AppName, layout: &Path, name: &str) -> CommandResult<Digest> {
    let (file, bytes) = registry::archive(layout)?;
    let file = tokio::fs::File::from_std(file);
    let events = client
        .import_image(app, Some(&format!("image {name}")), file, bytes)
        .await?;
    Ok(building::until_built(ui, events).await?.0)
}
