//! `gilliam deploy`.

use std::{fs, path::PathBuf, time::Duration};

use gilliam_builder::{
    component::{self, COMPONENT_BYTES_MAX},
    offer::Offer,
    procfile::PROCFILE,
};
use gilliam_client::{Client, ClientError, DeployRequest};
use gilliam_model::{api::ReleaseInfo, digest::Digest, images::MakeRelease, name::AppName, route::WEB};

use crate::{
    amounts,
    archive::Archive,
    args::{Waiting, span},
    commands::{building, image, released, scale},
    context::{Context, working_directory},
    failure::{CommandError, CommandResult},
    image_name::ImageName,
    registry::{Artifact, Registry, RegistryFlags},
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
    /// Releases an image and builds nothing: a digest, its first digits, vN, or HOST/NAME:TAG in a registry.
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
    /// How long the `release` process of the Procfile may take.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span)]
    release_timeout: Duration,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    registry: RegistryFlags,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
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
        release_timeout_ms: u64::try_from(args.release_timeout.as_millis()).ok(),
    };
    let to = Target {
        context,
        client: &client,
        app: &app,
    };
    let release = match image {
        Some(ImageName::Reference(name)) => {
            let registry = Registry::open(&name, &args.registry)?;
            to.release_of_registry(&mut request, &registry).await?
        }
        Some(name) => {
            let digest = image::digest_here(context, &client, &name).await?;
            to.release(&request, digest).await?
        }
        None => {
            let archive = building::pack(args.dir, current).await?;
            to.deploy(&mut request, archive).await?
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
    let Some(release) = after.proven(&release).await? else {
        return Ok(());
    };
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

/// Where a release is made.
struct Target<'a> {
    context: &'a Context<'a>,
    client: &'a Client,
    app: &'a AppName,
}

impl Target<'_> {
    /// Sends an archive to be built and released.
    async fn deploy(&self, request: &mut DeployRequest, archive: Archive) -> CommandResult<ReleaseInfo> {
        let ui = self.context.ui;
        for hint in &archive.hints {
            ui.hint(hint);
        }
        ui.note(&format!(
            "Deploying {} to {} ({})",
            archive.origin,
            self.app,
            amounts::bytes(archive.bytes)
        ));
        request.message = request.message.take().or(archive.message);
        let file = tokio::fs::File::from_std(archive.file);
        let events = self.client.deploy(self.app, request, file, archive.bytes).await?;
        building::until_released(ui, events).await
    }

    /// Releases an image that the cluster has.
    async fn release(&self, request: &DeployRequest, image: Digest) -> CommandResult<ReleaseInfo> {
        self.context
            .ui
            .note(&format!("Releasing {image} to {}", self.app));
        let release = MakeRelease {
            image,
            message: request.message.clone(),
            migrate: request.migrate,
        };
        let release = self.client.release_image(self.app, &release).await?;
        released::say_capabilities(self.context.ui, &release);
        Ok(release)
    }

    /// Releases what a registry has: an image as it is, a component alone as the one process of an image.
    async fn release_of_registry(
        &self,
        request: &mut DeployRequest,
        registry: &Registry,
    ) -> CommandResult<ReleaseInfo> {
        let pulled = registry.manifest().await?;
        let named = format!("image {}", registry.name());
        request.message = request.message.take().or(Some(named));
        if let Artifact::Component(layer) = &pulled.artifact {
            let bytes = registry.blob(&pulled, layer, COMPONENT_BYTES_MAX).await?;
            return self
                .deploy(request, component_project(registry, bytes).await?)
                .await;
        }
        let digest = match self.client.stored_image(&pulled.digest).await {
            Ok(stored) => stored.digest,
            Err(ClientError::Api { status: 404, .. }) => {
                image::pull::into_cluster(self.context.ui, self.client, self.app, registry, &pulled).await?
            }
            Err(error) => return Err(error.into()),
        };
        self.release(request, digest).await
    }
}

/// A project of one component, named for what it does.
async fn component_project(registry: &Registry, bytes: Vec<u8>) -> CommandResult<Archive> {
    let checked = component::check(&registry.name(), bytes, &Offer::new());
    let checked = checked.map_err(|error| {
        let failed = CommandError::failed(error.to_string());
        match error.fault.hint() {
            Some(hint) => failed.hinted(hint),
            None => failed,
        }
    })?;
    let process = if checked.shape.is_http() { WEB } else { "worker" };
    let folder = tempfile::tempdir().map_err(|e| CommandError::file("cannot make a temporary folder", &e))?;
    let file = format!("{process}.wasm");
    let write = || {
        fs::write(folder.path().join(&file), &checked.bytes)?;
        fs::write(folder.path().join(PROCFILE), format!("{process}: {file}\n"))
    };
    write().map_err(|e| CommandError::file("cannot write a project of the component", &e))?;
    let mut archive = building::pack(Some(folder.path().to_path_buf()), folder.path().to_path_buf()).await?;
    archive.origin = registry.name();
    Ok(archive)
}
