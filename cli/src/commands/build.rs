//! `gilliam build`.

mod local;
mod output;

use std::path::PathBuf;

use gilliam_client::Client;
use gilliam_model::{
    digest::Digest,
    image::Image,
    images::StoredImage,
    name::{AppName, ProcessName},
};

use crate::{
    amounts,
    archive::Archive,
    builds_flag::BuildsFlags,
    commands::building,
    context::{Context, working_directory},
    failure::CommandResult,
};
use output::{Place, Source};

/// Builds the project and releases nothing.
///
/// The cluster builds it as for a deploy, and keeps the image: gilliam deploy --image releases it. With --local
/// this machine builds it instead, in the same sandbox; no cluster is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to build as it is; by default HEAD at the top of a git repository, else the working folder.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Drops what earlier builds left first: all is built as for the first time.
    #[arg(long)]
    clean: bool,
    /// Writes the component of a process to this file, or of all into this folder as NAME.wasm.
    #[arg(long, short = 'o', value_name = "FILE.wasm|DIR")]
    output: Option<PathBuf>,
    /// The process whose component is written.
    #[arg(long, value_name = "NAME", requires = "output")]
    process: Option<String>,
    /// Builds on this machine.
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    builds: BuildsFlags,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let current = working_directory()?;
    let process = args
        .process
        .as_deref()
        .map(str::parse::<ProcessName>)
        .transpose()?;
    let place = args.output.clone().map(|path| Place::new(path, process));
    let folder = args
        .dir
        .as_ref()
        .map_or_else(|| current.clone(), |dir| current.join(dir));
    let (digest, image) = if args.local {
        let archive = building::pack(args.dir, current).await?;
        announce(context, &archive);
        let built = local::build(context, &args.builds, &folder, archive, args.clean).await?;
        if let Some(place) = &place {
            output::write(ui, place, &built.image, &Source::Layout(built.layout())).await?;
        }
        (built.digest, built.image)
    } else {
        let (app, client) = (context.app_at(&folder)?, context.client()?);
        let archive = building::pack(args.dir, current).await?;
        announce(context, &archive);
        let (digest, image) = on_cluster(context, &client, &app, archive, args.clean).await?;
        if let Some(place) = &place {
            output::write(ui, place, &image, &Source::Cluster(&client, digest)).await?;
        }
        (digest, image)
    };
    if ui.wants_json() {
        return ui.json(&StoredImage { digest, image });
    }
    ui.data(&digest.to_string())?;
    if !args.local {
        ui.hint(&format!("gilliam deploy --image {} releases it", digest.short()));
    }
    Ok(())
}

fn announce(context: &Context<'_>, archive: &Archive) {
    for hint in &archive.hints {
        context.ui.hint(hint);
    }
    let bytes = amounts::bytes(archive.bytes);
    context.ui.note(&format!("Building {} ({bytes})", archive.origin));
}

async fn on_cluster(
    context: &Context<'_>,
    client: &Client,
    app: &AppName,
    archive: Archive,
    clean: bool,
) -> CommandResult<(Digest, Image)> {
    let file = tokio::fs::File::from_std(archive.file);
    let message = archive.message.as_deref();
    let events = client.build(app, message, clean, file, archive.bytes).await?;
    building::until_built(context.ui, events).await
}
