//! `gilliam ps`.

use std::time::Duration;

use gilliam_client::Client;
use gilliam_model::{
    Timestamp,
    api::{InstanceInfo, Instances},
    instance::{InstanceReport, InstanceState},
    name::AppName,
};

use crate::{amounts, context::Context, failure::CommandResult, ui::Ui};

/// Between two looks with `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A control plane that is away for a minute will not come back by itself.
const FAILURES_MAX: u32 = 60;
const HEADER: &[&str] = &[
    "NAME", "RELEASE", "STATE", "SINCE", "HOST", "PORT", "MEMORY", "FUEL", "NOTE",
];

/// Lists an app's instances.
///
/// For each: release, state, host and port, memory, fuel per second, restarts and the last failure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shows them again at every change, until interrupted.
    #[arg(long, short = 'w')]
    watch: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let app = context.app()?;
    let client = context.client()?;
    let mut seen = client.instances(&app).await?;
    if !args.watch {
        return show(ui, &app, &seen);
    }
    loop {
        ui.clear()?;
        show(ui, &app, &seen)?;
        seen = next(ui, &client, &app, &seen).await?;
    }
}

/// Waits for the next look that is worth showing.
async fn next(ui: &Ui, client: &Client, app: &AppName, seen: &Instances) -> CommandResult<Instances> {
    let mut failures = 0;
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        match client.instances(app).await {
            // A terminal shows the amounts of now; a pipe only gets what it has not yet read.
            Ok(next) if ui.out_is_terminal() || !is_alike(seen, &next) => return Ok(next),
            Ok(_) => failures = 0,
            Err(error) if error.is_transient() && failures < FAILURES_MAX => {
                if failures == 0 {
                    ui.note(&format!("{error}; asking again"));
                }
                failures += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether two looks show the same instances in the same states.
fn is_alike(a: &Instances, b: &Instances) -> bool {
    let key = |i: &InstanceInfo| {
        let report = i.report.as_ref();
        (
            i.name.clone(),
            i.release,
            i.state,
            i.node.clone(),
            report.map(|r| (r.id.clone(), r.restarts)),
        )
    };
    a.instances.iter().map(key).eq(b.instances.iter().map(key)) && a.blocked == b.blocked
}

fn show(ui: &Ui, app: &AppName, seen: &Instances) -> CommandResult {
    if ui.wants_json() {
        return ui.json(seen);
    }
    let now = Timestamp::now();
    if seen.instances.is_empty() && seen.blocked.is_empty() {
        ui.note(&format!("{app} has no instances"));
        ui.hint("gilliam scale web=1 starts one of the newest release");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = seen.instances.iter().map(|instance| row(instance, now)).collect();
    if !rows.is_empty() {
        ui.table(HEADER, &rows)?;
    }
    for blocked in &seen.blocked {
        let reasons: Vec<String> = blocked
            .reasons
            .iter()
            .map(|(node, why)| format!("{node}: {why}"))
            .collect();
        let slots = amounts::count(blocked.count.into(), "instance");
        ui.note(&format!(
            "{slots} of {} {} without a node ({})",
            blocked.process,
            blocked.release,
            reasons.join(", ")
        ));
    }
    if let Some(migration) = &seen.migration {
        ui.note(&format!("moving to {}", migration.to));
    }
    if let Some(failure) = &seen.migration_failure {
        ui.note(&format!("{} did not start: {}", failure.to, failure.reason));
    }
    Ok(())
}

fn row(instance: &InstanceInfo, now: Timestamp) -> Vec<String> {
    let report = instance.report.as_ref();
    let of = |make: &dyn Fn(&InstanceReport) -> String| report.map(make).unwrap_or_default();
    vec![
        instance.name.clone(),
        instance.release.to_string(),
        instance.state.to_string(),
        of(&|r| format!("({})", amounts::ago(r.since, now))),
        format!("on host {}", instance.host),
        of(&|r| r.port.map(|port| format!("port {port}")).unwrap_or_default()),
        of(&|r| {
            format!(
                "{} / {}",
                amounts::bytes(r.memory_bytes),
                amounts::bytes(r.memory_bytes_max)
            )
        }),
        of(&|r| amounts::fuel_per_s(r.fuel_per_s)),
        of(&|r| note(r, now)),
    ]
}

/// Restarts and the last failure, when there are any.
fn note(report: &InstanceReport, now: Timestamp) -> String {
    let mut parts = Vec::new();
    if report.restarts > 0 {
        parts.push(amounts::count(report.restarts.into(), "restart"));
    }
    if let Some(failure) = &report.last_failure {
        let code = failure.code.map(|code| format!("{code} ")).unwrap_or_default();
        parts.push(format!(
            "{code}{} ({})",
            first_line(&failure.message),
            amounts::ago(failure.at, now)
        ));
    }
    if let Some(retry) = report.retry_at.filter(|_| report.state == InstanceState::Crashed) {
        let seconds = (retry.as_second() - now.as_second()).max(0);
        parts.push(format!("starts again in {seconds} s"));
    }
    parts.join(", ")
}

/// A trap's message goes on with its backtrace, which is in the log.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_as_the_guide_prints_it() {
        let now: Timestamp = "2026-11-21T09:00:05Z".parse().expect("instant");
        let mut instance: InstanceInfo = serde_json::from_str(
            r#"{"name":"web.1","process":"web","release":"v1","node":"n","host":"mybox","state":"running",
            "report":{"id":"a/v1/web.1@1","state":"running","since":"2026-11-21T09:00:00Z","port":10000,
            "memory_bytes":4300000,"memory_bytes_max":134217728,"fuel_per_s":200000,"restarts":0}}"#,
        )
        .expect("instance");
        let want = [
            "web.1",
            "v1",
            "running",
            "(just now)",
            "on host mybox",
            "port 10000",
        ];
        assert_eq!(row(&instance, now)[..6], want);
        assert_eq!(
            row(&instance, now)[6..],
            ["4.1 MiB / 128 MiB", "0.2 M fuel/s", ""]
        );
        let report = instance.report.as_mut().expect("report");
        report.restarts = 2;
        report.last_failure = serde_json::from_str(
            r#"{"code":"R23","message":"unreachable\n  at x","at":"2026-11-21T08:59:45Z"}"#,
        )
        .expect("failure");
        assert_eq!(row(&instance, now)[8], "2 restarts, R23 unreachable (20 s ago)");
    }
}
