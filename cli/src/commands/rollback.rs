//! `gilliam rollback`.

use gilliam_model::{api::Rollback, release::ReleaseId};

use crate::{
    args::Waiting,
    commands::released,
    context::Context,
    failure::{CommandError, CommandResult},
};

/// Goes back to an older release.
///
/// Makes a new one with its image and config, and what runs moves to that.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The release to go back to; by default the one before the newest.
    #[arg(value_name = "vN")]
    to: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let to = args.to.as_deref().map(str::parse::<ReleaseId>).transpose();
    let to = to.map_err(|e| CommandError::usage(e.to_string()))?;
    let app = context.app()?;
    let client = context.client()?;
    let release = client
        .rollback(
            &app,
            &Rollback {
                to: to.map(|to| to.to_string()),
            },
        )
        .await?;
    let after = released::After {
        context,
        client: &client,
        app: &app,
        waiting: &args.waiting,
    };
    if !release.capabilities.is_empty() {
        context
            .ui
            .note(&format!("{} {}", release.id, release.capabilities));
    }
    after.finish(&release).await
}
