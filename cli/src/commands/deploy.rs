//! `gilliam deploy`.

use std::path::PathBuf;

use gilliam_client::{Client, DeployRequest};
use gilliam_model::{
    api::{DeployEvent, ReleaseInfo},
    images::MakeRelease,
    name::AppName,
};

use crate::{
    amounts,
    archive::{self, Archive},
    args::Waiting,
    commands::{image, released, scale},
    context::{Context, working_directory},
    failure::{CommandError, CommandResult},
    image_name::ImageName,
    ui::Ui,
};

/// Builds the project and releases it.
///
/// What the previous release ran moves to the new one. Deploys HEAD at the top of a git repository;
/// elsewhere, or with DIR, the folder as it is, less what .gitignore and .gilliamignore name. A .wasm that
/// the Procfile names is always included.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to deploy as it is.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Releases an image that is there, and builds nothing: a digest, its first digits, or vN.
    #[arg(long, value_name = "IMAGE", conflicts_with = "dir")]
    image: Option<String>,
    /// Says what changed.
    #[arg(long, short = 'm', value_name = "TEXT")]
    message: Option<String>,
    /// Scales the new release: web=1.
    #[arg(long, value_name = "PROCESS=COUNT", num_args = 1)]
    scale: Vec<String>,
    /// Leaves what runs on its release.
    #[arg(long)]
    no_migrate: bool,
    /// Drops the app's build cache first: all is built as for the first time.
    #[arg(long, conflicts_with = "image")]
    clean: bool,
    #[command(flatten)]
    waiting: Waiting,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let counts = scale::parse_counts(&args.scale)?;
    let current = working_directory()?;
    let app = context.app_at(
        args.dir
            .as_ref()
            .map(|dir| current.join(dir))
            .as_deref()
            .unwrap_or(&current),
    )?;
    let image = args.image.as_deref().map(ImageName::parse).transpose()?;
    let client = context.client()?;
    let mut request = DeployRequest {
        message: args.message.clone(),
        migrate: !args.no_migrate,
        clean: args.clean,
    };
    let release = match image {
        Some(image) => release_image(context, &client, &app, &request, &image).await?,
        None => {
            let archive = pack(args.dir, current).await?;
            for hint in &archive.hints {
                ui.hint(hint);
            }
            ui.note(&format!(
                "Deploying {} to {app} ({})",
                archive.origin,
                amounts::bytes(archive.bytes)
            ));
            request.message = request.message.or_else(|| archive.message.clone());
            build(ui, &client, &app, &request, archive).await?
        }
    };
    let after = released::After {
        context,
        client: &client,
        app: &app,
        waiting: &args.waiting,
    };
    if counts.is_empty() {
        return after.finish(&release).await;
    }
    after.announce(&release)?;
    if release.migrating {
        after.wait_for_migration(&release).await?;
    }
    scale::change(
        context,
        &client,
        &app,
        Some(release.id),
        counts,
        &args.waiting,
        scale::Print::Nothing,
    )
    .await
}

/// Releases an image that the cluster has.
async fn release_image(
    context: &Context<'_>,
    client: &Client,
    app: &AppName,
    request: &DeployRequest,
    image: &ImageName,
) -> CommandResult<ReleaseInfo> {
    let digest = image::digest_here(context, client, image).await?;
    context.ui.note(&format!("Releasing {digest} to {app}"));
    let release = MakeRelease {
        image: digest,
        message: request.message.clone(),
        migrate: request.migrate,
    };
    let release = client.release_image(app, &release).await?;
    released::say_capabilities(context.ui, &release);
    Ok(release)
}

async fn pack(dir: Option<PathBuf>, current: PathBuf) -> CommandResult<Archive> {
    // Reads many files: not on the thread that talks to the network.
    tokio::task::spawn_blocking(move || archive::pack(dir.as_deref(), &current))
        .await
        .map_err(|e| CommandError::failed(format!("packing ended early: {e}")))?
        .map_err(CommandError::from)
}

/// Sends the archive and shows the build until there is a release.
async fn build(
    ui: &Ui,
    client: &Client,
    app: &AppName,
    request: &DeployRequest,
    archive: Archive,
) -> CommandResult<ReleaseInfo> {
    let file = tokio::fs::File::from_std(archive.file);
    let mut events = client.deploy(app, request, file, archive.bytes).await?;
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
