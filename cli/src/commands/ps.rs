//! `gilliam ps`: a line for each instance of process types with few, a summary and what is wrong with those
//! that have many, and pages of those.

mod rows;

use std::time::Duration;

use gilliam_client::{Client, ClientError, InstanceQuery};
use gilliam_model::{
    Timestamp,
    api::{INSTANCES_COUNT_MAX, InstanceInfo, Instances, ProcessSummary},
    name::{AppName, ProcessName},
};

use crate::{
    amounts,
    commands::hints,
    context::Context,
    failure::{CommandError, CommandResult},
    ui::Ui,
};

/// Between two looks with `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A control plane that is away for a minute will not come back by itself.
const FAILURES_MAX: u32 = 60;

/// Lists an app's instances.
///
/// For each: release, state, host and port, memory, fuel per second, restarts and the last failure. Of a
/// process type with more than 200 instances a summary is shown, and what is wrong with some; its instances
/// are listed by name and by page.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "gilliam ps worker --from 5000 --limit 50\n\nWithout a process type, those with up to 200 \
                        instances are listed whole. gilliam ps worker.4711 shows a single one."
)]
pub(crate) struct Args {
    /// A process type or an instance: `worker`, `worker.4711`.
    #[arg(value_name = "PROCESS[.N]")]
    target: Option<String>,
    /// Lists every instance, however many there are.
    #[arg(long, conflicts_with_all = ["from", "limit"])]
    all: bool,
    /// Begins the list of a process type with this number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    from: Option<u32>,
    /// Lists at most so many instances of a process type.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: Option<u32>,
    /// Shows them again at every change, until interrupted.
    #[arg(long, short = 'w')]
    watch: bool,
}

/// What to show.
#[derive(Debug, Clone)]
enum View {
    /// Everything, in short.
    Overview,
    /// Everything, one by one.
    All(Option<ProcessName>),
    /// A page of a process type.
    Page(InstanceQuery),
    /// One instance.
    One(ProcessName, u32),
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let watch = args.watch;
    let app = context.app()?;
    let client = context.client()?;
    let view = args.view(&client, &app).await?;
    let mut seen = view.fetch(&client, &app).await?;
    if !watch {
        view.show(ui, &app, &seen)?;
        return hints::show(ui, &client, &app, &seen).await;
    }
    loop {
        ui.clear()?;
        view.show(ui, &app, &seen)?;
        hints::show(ui, &client, &app, &seen).await?;
        seen = next(ui, &client, &app, &view, &seen).await?;
    }
}

/// Waits for the next look that is worth showing.
async fn next(
    ui: &Ui,
    client: &Client,
    app: &AppName,
    view: &View,
    seen: &Instances,
) -> CommandResult<Instances> {
    let mut failures = 0;
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        match view.fetch(client, app).await {
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
    let sums = |s: &ProcessSummary| (s.process.clone(), s.release, s.states.clone(), s.restarts);
    a.instances.iter().map(key).eq(b.instances.iter().map(key))
        && a.processes.iter().map(sums).eq(b.processes.iter().map(sums))
        && a.runs == b.runs
        && a.blocked == b.blocked
}

// === impl Args ===

impl Args {
    async fn view(self, client: &Client, app: &AppName) -> CommandResult<View> {
        let (process, slot) = match &self.target {
            None => (None, None),
            Some(text) => parse(text).map(|(process, slot)| (Some(process), slot))?,
        };
        let wants_page = self.from.is_some() || self.limit.is_some();
        Ok(match (process, slot) {
            (Some(_), Some(_)) if self.all || wants_page => {
                return Err(CommandError::usage("a single instance has no pages")
                    .hinted("name the process type alone: gilliam ps worker --from 5000"));
            }
            (Some(process), Some(slot)) => View::One(process, slot),
            (process, None) if self.all => View::All(process),
            (None, _) if !wants_page => View::Overview,
            (process, _) => View::Page(InstanceQuery {
                process: Some(match process {
                    Some(process) => process,
                    None => the_large_one(&client.instances(app).await?)?,
                }),
                from: self.from,
                limit: self.limit.map(|limit| limit as usize),
                release: None,
            }),
        })
    }
}

/// Parses `worker` or `worker.4711`.
fn parse(text: &str) -> CommandResult<(ProcessName, Option<u32>)> {
    let Some((process, slot)) = text.rsplit_once('.') else {
        return Ok((text.parse()?, None));
    };
    let number = Some(slot).filter(|s| !s.starts_with('0') && s.bytes().all(|b| b.is_ascii_digit()));
    match number.and_then(|slot| slot.parse().ok()) {
        Some(number) => Ok((process.parse()?, Some(number))),
        None => Err(CommandError::usage(format!(
            "{text:?} is neither a process type nor an instance, such as worker or worker.4711"
        ))),
    }
}

/// The one process type that is not listed whole: what `--from` without a name means.
fn the_large_one(seen: &Instances) -> CommandResult<ProcessName> {
    let large: Vec<&ProcessName> = seen
        .processes
        .iter()
        .filter(|s| !is_listed(s, seen))
        .map(|s| &s.process)
        .collect();
    match large.as_slice() {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => Ok((*first).clone()),
        _ => Err(CommandError::usage("--from and --limit need a process type")
            .hinted("gilliam ps worker --from 5000 --limit 50")),
    }
}

/// Whether every instance of a process type is listed.
fn is_listed(summary: &ProcessSummary, seen: &Instances) -> bool {
    let mine = seen
        .instances
        .iter()
        .filter(|i| i.process == summary.process && i.release == summary.release);
    mine.count() as u64 >= u64::from(summary.count())
}

// === impl View ===

impl View {
    async fn fetch(&self, client: &Client, app: &AppName) -> Result<Instances, ClientError> {
        match self {
            View::Overview => client.instances(app).await,
            View::All(process) => all(client, app, process.as_ref()).await,
            View::Page(query) => client.list_instances(app, query).await,
            View::One(process, slot) => {
                let query = InstanceQuery {
                    process: Some(process.clone()),
                    from: Some(*slot),
                    limit: Some(1),
                    release: None,
                };
                let mut seen = client.list_instances(app, &query).await?;
                let name = format!("{process}.{slot}");
                seen.instances.retain(|instance| instance.name == name);
                seen.next = None;
                Ok(seen)
            }
        }
    }

    fn show(&self, ui: &Ui, app: &AppName, seen: &Instances) -> CommandResult {
        if ui.wants_json() {
            return ui.json(seen);
        }
        let now = Timestamp::now();
        match self {
            View::One(process, slot) if seen.instances.is_empty() => {
                let error = CommandError::failed(format!("{app} has no instance {process}.{slot}"));
                return Err(error.hinted("gilliam ps shows what there is"));
            }
            View::One(..) => return ui.table(rows::HEADER, &rows::of(&seen.instances, now)),
            _ => {}
        }
        if !seen.runs.is_empty() && !matches!(self, View::Page(_)) {
            ui.table(rows::RUNS_HEADER, &rows::runs(&seen.runs, now))?;
        }
        let is_empty = seen.processes.iter().all(|summary| summary.count() == 0) && seen.instances.is_empty();
        if is_empty && seen.blocked.is_empty() && seen.runs.is_empty() {
            return self.show_nothing(ui, app);
        }
        let many = seen.processes.iter().filter(|summary| !is_listed(summary, seen));
        let many: Vec<&ProcessSummary> = many.collect();
        let is_overview = !matches!(self, View::All(_));
        if is_overview && !many.is_empty() {
            ui.table(rows::SUMMARY_HEADER, &rows::summaries(&many, now))?;
        }
        if matches!(self, View::Overview) {
            let failures: Vec<Vec<String>> = many
                .iter()
                .flat_map(|summary| rows::failures(summary, now))
                .collect();
            if !failures.is_empty() {
                ui.table(rows::FAILURES_HEADER, &failures)?;
            }
        }
        if !seen.instances.is_empty() {
            ui.table(rows::HEADER, &rows::of(&seen.instances, now))?;
        }
        self.show_rest(ui, seen, &many);
        Ok(())
    }

    fn show_nothing(&self, ui: &Ui, app: &AppName) -> CommandResult {
        let process = match self {
            View::All(process) => process.as_ref(),
            View::Page(query) => query.process.as_ref(),
            _ => None,
        };
        let of = process
            .map(|process| format!(" of {process}"))
            .unwrap_or_default();
        ui.note(&format!("{app} has no instances{of}"));
        let process = process.map_or("web", ProcessName::as_str);
        ui.hint(&format!(
            "gilliam scale {process}=1 starts one of the newest release"
        ));
        Ok(())
    }

    /// What is not placed, what moves, and how to see more.
    fn show_rest(&self, ui: &Ui, seen: &Instances, many: &[&ProcessSummary]) {
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
        match (self, seen.next, many.first()) {
            (
                View::Page(InstanceQuery {
                    process: Some(process),
                    ..
                }),
                Some(next),
                _,
            ) => {
                ui.hint(&format!(
                    "gilliam ps {process} --from {next} shows more, --all every one"
                ));
            }
            (View::Overview, _, Some(summary)) => {
                ui.hint(&format!("gilliam ps {} lists its instances", summary.process));
            }
            _ => {}
        }
    }
}

/// Every instance of the app or of one process type, page by page.
async fn all(
    client: &Client,
    app: &AppName,
    process: Option<&ProcessName>,
) -> Result<Instances, ClientError> {
    let summaries = InstanceQuery {
        process: process.cloned(),
        limit: Some(0),
        ..InstanceQuery::default()
    };
    let mut seen = client.list_instances(app, &summaries).await?;
    for summary in seen.processes.iter().filter(|summary| summary.count() > 0) {
        let mut from = Some(1);
        while from.is_some() {
            let page = InstanceQuery {
                process: Some(summary.process.clone()),
                release: Some(summary.release),
                from,
                limit: Some(INSTANCES_COUNT_MAX),
            };
            let page = client.list_instances(app, &page).await?;
            seen.instances.extend(page.instances);
            from = page.next;
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_type_and_an_instance_are_told_apart() {
        let read = |text: &str| {
            parse(text)
                .map(|(process, slot)| (process.to_string(), slot))
                .map_err(|e| e.message)
        };
        assert_eq!(read("worker"), Ok(("worker".to_string(), None)));
        assert_eq!(read("worker.4711"), Ok(("worker".to_string(), Some(4711))));
        for bad in [
            "worker.",
            "worker.0",
            "worker.x",
            "worker.1.2",
            "worker.99999999999",
            "W",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
