//! `gilliam cron`: what an app has run on a schedule.

use clap::Subcommand;
use gilliam_model::{
    Timestamp,
    cron::{CronInfo, CronSpec},
    name::CronName,
};

use crate::{amounts, context::Context, failure::CommandResult};

const HEADER: &[&str] = &[
    "NAME", "SCHEDULE", "MEANS", "ZONE", "NEXT", "LAST", "RUNS", "NOTE",
];

/// Lists an app's crons, and fires or pauses one.
///
/// A cron is declared in gilliam.toml, and is that of the newest release that runs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "[cron]\ncleanup = { schedule = \"0 3 * * *\", run = \"worker cleanup\", timezone = \
                  \"Europe/Stockholm\" }\n\ngilliam runs lists what they ran; gilliam logs run.3 shows its lines."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists them.
    List,
    /// Has one run now, whether it is due or not.
    Run {
        /// The cron.
        #[arg(value_name = "NAME")]
        name: CronName,
    },
    /// Has one not fire until it is resumed.
    Pause {
        /// The cron.
        #[arg(value_name = "NAME")]
        name: CronName,
    },
    /// Has one fire again; what was due meanwhile is not made up for.
    Resume {
        /// The cron.
        #[arg(value_name = "NAME")]
        name: CronName,
    },
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let app = context.app()?;
    let client = context.client()?;
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let crons = client.crons(&app).await?;
            if ui.wants_json() {
                return ui.json(&crons);
            }
            if crons.is_empty() {
                ui.note(&format!("{app} has no crons"));
                ui.hint("declare one in gilliam.toml, under [cron], and deploy");
                return Ok(());
            }
            let now = Timestamp::now();
            let rows: Vec<Vec<String>> = crons.iter().map(|cron| row(cron, now)).collect();
            ui.table(HEADER, &rows)
        }
        Action::Run { name } => {
            let run = client.run_cron(&app, &name).await?;
            if ui.wants_json() {
                return ui.json(&run);
            }
            ui.hint(&format!("gilliam logs -f {} shows its lines", run.name));
            ui.data(&run.name)
        }
        Action::Pause { name } => {
            client.pause_cron(&app, &name, true).await?;
            ui.note(&format!("{name} does not fire"));
            ui.undo(&format!("gilliam cron resume {name}"));
            Ok(())
        }
        Action::Resume { name } => {
            client.pause_cron(&app, &name, false).await?;
            ui.note(&format!("{name} fires when it is due"));
            Ok(())
        }
    }
}

fn row(info: &CronInfo, now: Timestamp) -> Vec<String> {
    let CronSpec {
        schedule,
        timezone,
        run,
        ..
    } = &info.cron;
    let next = match (&info.next_local, info.next_at) {
        (Some(local), Some(at)) => format!("{local} (in {})", amounts::age(now, at)),
        _ => "-".to_string(),
    };
    let last = info.last_at.map_or("-".to_string(), |at| amounts::ago(at, now));
    vec![
        info.name.to_string(),
        schedule.clone(),
        info.words.clone(),
        timezone.clone(),
        next,
        last,
        run.join(" "),
        note(info, now),
    ]
}

/// How the last run ended, or what keeps the next one.
fn note(info: &CronInfo, now: Timestamp) -> String {
    let mut notes = Vec::new();
    if let Some(paused) = &info.paused {
        notes.push(format!(
            "paused by {} {}",
            paused.by,
            amounts::ago(paused.at, now)
        ));
    }
    if let Some(run) = &info.last_run {
        notes.push(match &info.last_end {
            Some(end) => format!("{run} {}", end.outcome),
            None => format!("{run} runs"),
        });
    }
    if let Some(passed) = &info.passed_over {
        notes.push(format!(
            "passed over {}: {}",
            amounts::ago(passed.due, now),
            passed.reason
        ));
    }
    let text = notes.join("; ");
    text.lines().next().unwrap_or_default().to_string()
}
