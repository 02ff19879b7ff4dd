//! `gilliam image`: one image, wherever it is.

pub(in crate::commands) mod pull;
mod push;
mod show;

use clap::Subcommand;
use gilliam_client::Client;
use gilliam_model::digest::Digest;

use crate::{
    context::Context,
    failure::{CommandError, CommandResult},
    image_name::{self, ImageName},
};

/// Shows an image, or copies one to or from a registry.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Show(show::Args),
    Push(push::Args),
    Pull(pull::Args),
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    match args.verb {
        Verb::Show(args) => show::run(context, args).await,
        Verb::Push(args) => push::run(context, args).await,
        Verb::Pull(args) => pull::run(context, args).await,
    }
}

/// The digest of an image of the cluster; what is in a registry has none here.
pub(in crate::commands) async fn digest_here(
    context: &Context<'_>,
    client: &Client,
    name: &ImageName,
) -> CommandResult<Digest> {
    match name {
        ImageName::Digest(digest) => Ok(*digest),
        ImageName::Short(digits) => {
            image_name::among(client, &context.app()?, image_name::beginning(digits), digits).await
        }
        ImageName::Release(release) => {
            let is_meant = image_name::of_release(*release);
            image_name::among(client, &context.app()?, is_meant, &release.to_string()).await
        }
        ImageName::Reference(text) => Err(CommandError::usage(format!(
            "{text} names an image in a registry"
        ))
        .hinted("gilliam image pull fetches it; gilliam deploy --image releases it")),
    }
}
