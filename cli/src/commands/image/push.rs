//! `gilliam image push`.

use serde_json::json;

use super::digest_here;
use crate::{
    context::Context,
    failure::CommandResult,
    image_name::ImageName,
    registry::{Registry, RegistryFlags},
};

/// Copies an image of the cluster to a registry.
///
/// What is there already is not sent again. The image has the same digest there.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image: a digest, its first digits, or a release of the app.
    #[arg(value_name = "DIGEST|vN")]
    image: String,
    /// Where to: HOST/NAME:TAG.
    #[arg(value_name = "REF")]
    reference: String,
    #[command(flatten)]
    registry: RegistryFlags,
}

pub(super) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let name = ImageName::parse(&args.image)?;
    let registry = Registry::open(&args.reference, &args.registry)?;
    let client = context.client()?;
    let digest = digest_here(context, &client, &name).await?;
    registry.push(ui, &client, &digest).await?;
    match ui.wants_json() {
        true => ui.json(&json!({ "digest": digest, "reference": registry.name() })),
        false => ui.data(&format!("{} is {digest}", registry.name())),
    }
}
