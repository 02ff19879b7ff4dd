//! `gilliam restart`.

use gilliam_model::api::Restart;

use crate::{
    args::Waiting,
    context::Context,
    failure::CommandResult,
    progress::{self, Goal},
};

/// Starts instances anew, without a failed request.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `web`, `web.1`, or everything when absent.
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let app = context.app()?;
    let client = context.client()?;
    let label = format!("Restarting {}", args.target.as_deref().unwrap_or(app.as_str()));
    let instances = client.restart(&app, &Restart { target: args.target }).await?;
    if ui.wants_json() {
        ui.json(&instances)?;
    }
    match args.waiting.limit() {
        Some(limit) => progress::wait_for(ui, &client, &app, &Goal::Everything, &label, limit).await,
        None => {
            ui.note(&format!("{label}; gilliam ps -w shows how far it is"));
            Ok(())
        }
    }
}
