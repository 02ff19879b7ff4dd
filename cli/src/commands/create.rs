//! `gilliam create`.

use gilliam_model::name::AppName;

use crate::{
    context::{Context, working_directory},
    failure::{CommandError, CommandResult},
    project::{self, APP_FILE},
};

/// Creates an app, and remembers it for this folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app's name: lower-case letters, digits and dashes.
    #[arg(value_name = "NAME")]
    name: String,
    /// Writes no `.gilliam.app`.
    #[arg(long)]
    no_file: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let name: AppName = args.name.parse()?;
    let folder = working_directory()?;
    if !args.no_file {
        check_folder(&folder, &name)?;
    }
    let app = context.client()?.create_app(name.as_str()).await?;
    if !args.no_file {
        project::write_app_file(&folder, &name).map_err(|e| {
            CommandError::file(
                format!("{name} was created, but {APP_FILE} cannot be written"),
                &e,
            )
            .hinted(format!("pass --app {name}, or set GILLIAM_APP"))
        })?;
    }
    if ui.wants_json() {
        return ui.json(&app);
    }
    ui.data(&format!("{} created", app.name))?;
    for url in &app.urls {
        ui.note(&format!("it will answer at {url}"));
    }
    ui.hint("gilliam deploy builds and releases the folder");
    Ok(())
}

/// A folder belongs to one app: another one's file is not written over.
fn check_folder(folder: &std::path::Path, name: &AppName) -> CommandResult {
    match project::read_app_file(folder)? {
        Some(other) if other != *name => Err(CommandError::failed(format!(
            "this folder belongs to the app {other} already ({APP_FILE})"
        ))
        .hinted(format!("remove {APP_FILE}, or pass --no-file"))),
        _ => Ok(()),
    }
}
