//! `gilliam destroy`.

use gilliam_model::name::AppName;

use crate::{
    context::{Context, working_directory},
    failure::{CommandError, CommandResult},
    project,
};

/// Removes an app with all its releases and instances.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app; by default this folder's.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Repeats the app's name in place of typing it.
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    /// Does not ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let app: AppName = match &args.name {
        Some(name) => name.parse()?,
        None => context.app()?,
    };
    let client = context.client()?;
    // One that is not there is named before a question is asked.
    let info = client.app(&app).await?;
    if !args.yes {
        confirm(context, &app, args.confirm.as_deref())?;
    }
    client.destroy_app(&app).await?;
    project::forget_app_file(&working_directory()?, &app);
    if ui.wants_json() {
        return ui.json(&info);
    }
    ui.data(&format!("{app} destroyed"))
}

fn confirm(context: &Context<'_>, app: &AppName, given: Option<&str>) -> CommandResult {
    let typed = match given {
        Some(name) => name.to_string(),
        None => {
            let question = format!("This removes {app} with all its releases. Type its name to go on:");
            context.ui.ask(&question)?.ok_or_else(|| {
                CommandError::failed(format!("{app} was not destroyed: there is nobody to ask"))
                    .hinted(format!("pass --confirm {app}"))
            })?
        }
    };
    if typed == app.as_str() {
        return Ok(());
    }
    Err(CommandError::failed(format!(
        "{app} was not destroyed: {typed:?} is not its name"
    )))
}
