//! `gilliam image show`.

use gilliam_model::{
    digest::Digest,
    image::{Image, Process},
    images::StoredImage,
    imports::Imports,
    limits::LimitName,
    name::ProcessName,
};

use super::digest_here;
use crate::{
    amounts,
    context::Context,
    failure::CommandResult,
    image_name::ImageName,
    registry::{Registry, RegistryFlags},
};

/// Shows what is in an image: processes with their shapes, components, limits and granted hosts.
#[derive(Debug, clap::Args)]
#[command(after_help = "gilliam image show v3               of a release of the app\n\
    gilliam image show 1a2b3c4d5e6f     one of the app's images, as gilliam images lists them\n\
    gilliam image show sha256:1a2b…     any image of the cluster\n\
    gilliam image show HOST/NAME:TAG    one in a registry")]
pub(crate) struct Args {
    /// The image.
    #[arg(value_name = "DIGEST|vN|REF")]
    image: String,
    #[command(flatten)]
    registry: RegistryFlags,
}

pub(super) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let name = ImageName::parse(&args.image)?;
    let stored = match &name {
        ImageName::Reference(text) => {
            let registry = Registry::open(text, &args.registry)?;
            let pulled = registry.manifest().await?;
            StoredImage {
                digest: pulled.digest,
                image: registry.image(&pulled).await?,
            }
        }
        name => {
            let client = context.client()?;
            client
                .stored_image(&digest_here(context, &client, name).await?)
                .await?
        }
    };
    if ui.wants_json() {
        return ui.json(&stored);
    }
    let StoredImage { digest, image } = stored;
    lines(&digest, &image).iter().try_for_each(|line| ui.data(line))
}

fn lines(digest: &Digest, image: &Image) -> Vec<String> {
    let mut lines = vec![
        format!("image      {digest}"),
        format!("size       {}", amounts::bytes(image.component_bytes())),
    ];
    for (name, process) in &image.processes {
        lines.extend(process_lines(name, process));
    }
    lines
}

fn process_lines(name: &ProcessName, process: &Process) -> Vec<String> {
    let limits: Vec<String> = LimitName::ALL
        .iter()
        .map(|name| format!("{}={}", name.key(), name.show(process.limits.get(*name))))
        .collect();
    let hosts: Vec<String> = process
        .allowed_outbound_hosts
        .iter()
        .map(ToString::to_string)
        .collect();
    let or_none = |text: String| if text.is_empty() { "none".to_string() } else { text };
    let imports = process.imports.iter().flat_map(Imports::iter);
    let own = vec![
        String::new(),
        format!(
            "{:<10} {}, {}",
            name.as_str(),
            process.shape,
            amounts::bytes(process.component_bytes)
        ),
        format!("component  {}", process.component),
        format!("command    {}", process.command),
        format!("args       {}", or_none(process.args.join(" "))),
        format!("limits     {}", limits.join(" ")),
        format!("hosts      {}", or_none(hosts.join(" "))),
    ];
    own.into_iter()
        .chain(imports.map(|name| format!("import     {name}")))
        .collect()
}
