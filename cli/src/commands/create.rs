//! `gilliam create`.

use std::path::Path;

use gilliam_model::name::AppName;

use crate::{
    archive,
    commands::git,
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
    /// Writes no `.gilliam.app`, and adds no git remote.
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
        ui.json(&app)?;
    } else {
        ui.data(&format!("{} created", app.name))?;
        for url in &app.urls {
            ui.note(&format!("it will answer at {url}"));
        }
    }
    match args.no_file || !archive::git::is_inside_repository(&folder) {
        true => ui.hint("gilliam deploy builds and releases the folder"),
        false => set_remote(context, &folder, &name).await,
    }
    Ok(())
}

/// In a repository the app can be pushed to as well; without git the folder is as good.
async fn set_remote(context: &Context<'_>, folder: &Path, name: &AppName) {
    let ui = context.ui;
    match git::set_remote(context, folder, name).await {
        Ok(url) => {
            ui.note(&format!("git remote {} is {url}", git::REMOTE));
            ui.hint("git push gilliam main builds and releases the branch; gilliam deploy does so with HEAD");
        }
        Err(error) => {
            ui.note(&format!("no git remote was added: {}", error.message));
            ui.hint("gilliam deploy builds and releases the folder");
        }
    }
}

/// A folder belongs to one app: another one's file is not written over.
fn check_folder(folder: &Path, name: &AppName) -> CommandResult {
    match project::read_app_file(folder)? {
        Some(other) if other != *name => Err(CommandError::failed(format!(
            "this folder belongs to the app {other} already ({APP_FILE})"
        ))
        .hinted(format!("remove {APP_FILE}, or pass --no-file"))),
        _ => Ok(()),
    }
}
