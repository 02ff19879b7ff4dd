//! `gilliam runs`: the one-off runs of an app.

use clap::Subcommand;
use gilliam_model::{
    Timestamp,
    run::{RunInfo, parse_label},
};

use crate::{
    amounts,
    context::Context,
    failure::{CommandError, CommandResult},
};

const HEADER: &[&str] = &[
    "NAME", "RELEASE", "STATE", "ASKED", "BY", "NODE", "COMMAND", "NOTE",
];

/// Lists an app's one-off runs, or stops one.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The last 50 runs that ended are listed for a day; gilliam logs run.3 shows the lines of one."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists them, newest first.
    List,
    /// Asks one to end.
    Stop {
        /// `run.3`, or its number.
        #[arg(value_name = "RUN")]
        run: String,
    },
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let app = context.app()?;
    let client = context.client()?;
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let runs = client.runs(&app).await?;
            if ui.wants_json() {
                return ui.json(&runs);
            }
            if runs.is_empty() {
                ui.note(&format!("{app} has no runs"));
                ui.hint("gilliam run worker ARGS runs a process of the newest release once");
                return Ok(());
            }
            let now = Timestamp::now();
            let rows: Vec<Vec<String>> = runs.iter().map(|run| row(run, now)).collect();
            ui.table(HEADER, &rows)
        }
        Action::Stop { run } => {
            let number = parse_label(&run).ok_or_else(|| {
                let text = format!("{run:?} is not a run, such as run.3");
                CommandError::usage(text).hinted("gilliam runs lists them")
            })?;
            let stopped = client.stop_run(&app, number).await?;
            match &stopped.outcome {
                Some(outcome) => ui.note(&format!("{} has ended: {outcome}", stopped.name)),
                None => ui.note(&format!("{} is asked to end", stopped.name)),
            }
            match ui.wants_json() {
                true => ui.json(&stopped),
                false => Ok(()),
            }
        }
    }
}

fn row(run: &RunInfo, now: Timestamp) -> Vec<String> {
    let note = run.outcome.as_ref().map(ToString::to_string);
    vec![
        run.name.clone(),
        run.release.to_string(),
        run.state.as_str().to_string(),
        amounts::ago(run.asked_at, now),
        run.author.clone(),
        run.node
            .as_ref()
            .map_or_else(|| "-".to_string(), ToString::to_string),
        run.command.clone(),
        note.unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default()
            .to_string(),
    ]
}
