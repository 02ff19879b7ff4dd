//! `gilliam releases`.

use gilliam_model::{Timestamp, api::ReleaseInfo, release::HookStatus};

use crate::{amounts, context::Context, failure::CommandResult};

const HEADER: &[&str] = &["RELEASE", "MADE", "BY", "IMAGE", "RUNS", "MESSAGE"];

/// Lists an app's releases, newest first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many of the newest; all by default.
    #[arg(long, short = 'n', value_name = "COUNT")]
    lines: Option<usize>,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let app = context.app()?;
    let mut releases = context.client()?.releases(&app).await?;
    releases.truncate(args.lines.unwrap_or(usize::MAX));
    if ui.wants_json() {
        return ui.json(&releases);
    }
    if releases.is_empty() {
        ui.note(&format!("{app} has no releases"));
        ui.hint("gilliam deploy makes the first");
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = releases.iter().map(|release| row(release, now)).collect();
    ui.table(HEADER, &rows)
}

fn row(release: &ReleaseInfo, now: Timestamp) -> Vec<String> {
    let runs = match &release.hook {
        Some(HookStatus::Running { run }) => format!("release process runs (run.{run})"),
        Some(HookStatus::Failed { run, .. }) => format!("failed (run.{run})"),
        _ if release.scale.is_empty() => "-".to_string(),
        _ => release.scale.to_string(),
    };
    vec![
        release.id.to_string(),
        amounts::ago(release.created_at, now),
        release.author.clone(),
        release.image.short(),
        runs,
        release.message.lines().next().unwrap_or_default().to_string(),
    ]
}
