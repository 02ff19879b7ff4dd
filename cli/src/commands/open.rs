//! `gilliam open`.

use crate::{
    context::Context,
    failure::{CommandError, CommandResult},
};

/// Prints where an app answers.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context<'_>, _args: Args) -> CommandResult {
    let app = context.app()?;
    let info = context.client()?.app(&app).await?;
    if context.ui.wants_json() {
        return context.ui.json(&info.urls);
    }
    if info.urls.is_empty() {
        return Err(
            CommandError::failed(format!("{app} answers nowhere")).hinted("gilliam status shows the nodes")
        );
    }
    info.urls.iter().try_for_each(|url| context.ui.data(url))
}
