//! `gilliam apps`.

use gilliam_model::api::AppInfo;

use crate::{amounts, context::Context, failure::CommandResult};

const HEADER: &[&str] = &["APP", "NEWEST", "RUNS", "RUNNING", "URL"];

/// Lists the cluster's apps.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context<'_>, _args: Args) -> CommandResult {
    let ui = context.ui;
    let apps = context.client()?.apps().await?;
    if ui.wants_json() {
        return ui.json(&apps);
    }
    if apps.is_empty() {
        ui.note("no apps yet");
        ui.hint("gilliam create NAME makes the first");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = apps.iter().map(row).collect();
    ui.table(HEADER, &rows)
}

fn row(app: &AppInfo) -> Vec<String> {
    let or_none = |text: String| if text.is_empty() { "-".to_string() } else { text };
    let wanted: u64 = app.scale.values().map(|scale| scale.total()).sum();
    let scale: Vec<String> = app
        .scale
        .iter()
        .map(|(release, scale)| format!("{release} {scale}"))
        .collect();
    vec![
        app.name.to_string(),
        app.latest
            .map_or_else(|| "-".to_string(), |release| release.to_string()),
        or_none(scale.join(", ")),
        format!(
            "{}/{} running",
            amounts::number(app.running),
            amounts::number(wanted)
        ),
        or_none(app.urls.join(" ")),
    ]
}
