//! `gilliam uses`: what apps call of one another, and who may call an app.

use std::{collections::BTreeSet, fmt::Write as _};

use clap::{Subcommand, ValueEnum};
use gilliam_model::{
    name::AppName,
    uses::{AppUses, Callers, CallersChange, Use, UseState, UsesGraph},
};

use crate::{context::Context, failure::CommandResult};

const HEADER: &[&str] = &["HOST", "PROCESS", "APP", "STATE"];

/// Shows what the app uses of others, and who may use it.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// All apps of the cluster and what they use of one another.
    #[arg(long)]
    graph: bool,
    /// How the graph is written.
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "graph")]
    format: Format,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each use.
    Text,
    /// For Graphviz: `gilliam uses --graph --format dot | dot -Tsvg`.
    Dot,
    /// For Markdown.
    Mermaid,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lets apps use this one; from then on those that are not named may not.
    Allow {
        /// The apps.
        #[arg(value_name = "APP", required_unless_present = "any")]
        callers: Vec<AppName>,
        /// Every app of the cluster, as it is at first.
        #[arg(long, conflicts_with = "callers")]
        any: bool,
    },
    /// Lets apps use this one no more.
    Deny {
        /// The apps.
        #[arg(value_name = "APP", required = true)]
        callers: Vec<AppName>,
    },
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    match args.verb {
        Some(verb) => permit(context, verb).await,
        None if args.graph => graph(context, args.format).await,
        None => show(context).await,
    }
}

async fn permit(context: &Context<'_>, verb: Verb) -> CommandResult {
    let (ui, client, app) = (context.ui, context.client()?, context.app()?);
    let change = match verb {
        Verb::Allow { callers, any } => CallersChange {
            any,
            allow: callers.into_iter().collect(),
            ..CallersChange::default()
        },
        Verb::Deny { callers } => CallersChange {
            deny: callers.into_iter().collect(),
            ..CallersChange::default()
        },
    };
    let callers = client.change_callers(&app, &change).await?;
    if ui.wants_json() {
        return ui.json(&callers);
    }
    let Callers { callers } = callers;
    ui.data(&who(&app, callers.as_ref()))
}

/// Who may use an app, as a sentence.
fn who(app: &AppName, callers: Option<&BTreeSet<AppName>>) -> String {
    match callers {
        None => format!("every app of the cluster may use {app}"),
        Some(callers) if callers.is_empty() => format!("no other app may use {app}"),
        Some(callers) => {
            let names: Vec<&str> = callers.iter().map(AppName::as_str).collect();
            format!("may use {app}: {}", names.join(", "))
        }
    }
}

async fn show(context: &Context<'_>) -> CommandResult {
    let (ui, client, app) = (context.ui, context.client()?, context.app()?);
    let graph = client.uses().await?;
    let own = graph.apps.iter().find(|one| one.app == app);
    let own = own.cloned().unwrap_or_else(|| AppUses {
        app: app.clone(),
        uses: Vec::new(),
        callers: None,
    });
    if ui.wants_json() {
        return ui.json(&own);
    }
    let rows: Vec<Vec<String>> = own
        .uses
        .iter()
        .map(|used| {
            vec![
                format!("http://{}.internal", used.name),
                used.process.to_string(),
                used.app.to_string(),
                state(used.state).to_string(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        ui.table(HEADER, &rows)?;
    }
    let callers = graph
        .apps
        .iter()
        .filter(|one| one.uses.iter().any(|used| used.app == app));
    let callers: Vec<&str> = callers.map(|one| one.app.as_str()).collect();
    if !callers.is_empty() {
        ui.note(&format!("{app} is used by {}", callers.join(", ")));
    }
    ui.note(&who(&app, own.callers.as_ref()));
    for used in &own.uses {
        let named = Use {
            app: used.app.clone(),
            process: used.process.clone(),
        };
        if let Some((what, hint)) = used.state.remark(&app, &named) {
            ui.hint(&format!("{what}: {hint}"));
        }
    }
    circles(context, &graph);
    Ok(())
}

fn state(state: UseState) -> &'static str {
    match state {
        UseState::Ok => "ok",
        UseState::NoApp => "no such app",
        UseState::NoRelease => "not released",
        UseState::NoProcess => "no such process",
        UseState::NotPermitted => "not permitted",
    }
}

fn circles(context: &Context<'_>, graph: &UsesGraph) {
    for cycle in &graph.cycles {
        let names: Vec<&str> = cycle.iter().chain(cycle.first()).map(AppName::as_str).collect();
        context.ui.hint(&format!(
            "apps call each other in a circle: {}",
            names.join(" -> ")
        ));
    }
}

async fn graph(context: &Context<'_>, format: Format) -> CommandResult {
    let ui = context.ui;
    let graph = context.client()?.uses().await?;
    if ui.wants_json() {
        return ui.json(&graph);
    }
    let drawn = drawn(&graph, format);
    if drawn.is_empty() {
        ui.note("no app uses another");
    }
    for line in drawn.lines() {
        ui.data(line)?;
    }
    circles(context, &graph);
    Ok(())
}

/// The graph, a line for each use.
fn drawn(graph: &UsesGraph, format: Format) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("writing to a String cannot fail");
    match format {
        Format::Text => {}
        Format::Dot => line("digraph uses {".to_string()),
        Format::Mermaid => line("graph LR".to_string()),
    }
    for (app, used) in graph
        .apps
        .iter()
        .flat_map(|app| app.uses.iter().map(move |used| (app, used)))
    {
        let (from, to, name) = (&app.app, &used.app, &used.name);
        let broken = used.state != UseState::Ok;
        line(match (format, broken) {
            (Format::Text, false) => format!("{from} -> {to}/{} ({name}.internal)", used.process),
            (Format::Text, true) => {
                format!(
                    "{from} -> {to}/{} ({name}.internal): {}",
                    used.process,
                    state(used.state)
                )
            }
            (Format::Dot, false) => format!("  \"{from}\" -> \"{to}\" [label=\"{name}\"];"),
            (Format::Dot, true) => {
                format!(
                    "  \"{from}\" -> \"{to}\" [label=\"{name}: {}\", style=dashed];",
                    state(used.state)
                )
            }
            // Names of apps are its own, but for words of the language.
            (Format::Mermaid, false) => format!("  app-{from}[{from}] -->|{name}| app-{to}[{to}]"),
            (Format::Mermaid, true) => {
                format!(
                    "  app-{from}[{from}] -.->|{name}: {}| app-{to}[{to}]",
                    state(used.state)
                )
            }
        });
    }
    if format == Format::Dot {
        line("}".to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use gilliam_model::uses::UseInfo;

    use super::*;

    fn graph() -> UsesGraph {
        let used = |name: &str, app: &str, state| UseInfo {
            name: name.parse().expect("name"),
            app: app.parse().expect("app"),
            process: "web".parse().expect("process"),
            state,
        };
        UsesGraph {
            apps: vec![AppUses {
                app: "shop".parse().expect("app"),
                uses: vec![
                    used("billing", "billing", UseState::Ok),
                    used("mail", "mailer", UseState::NotPermitted),
                ],
                callers: None,
            }],
            cycles: Vec::new(),
        }
    }

    #[test]
    fn the_graph_is_drawn_for_people_and_for_programs() {
        assert_eq!(
            drawn(&graph(), Format::Text),
            "shop -> billing/web (billing.internal)\nshop -> mailer/web (mail.internal): not permitted\n"
        );
        assert_eq!(
            drawn(&graph(), Format::Dot),
            "digraph uses {\n  \"shop\" -> \"billing\" [label=\"billing\"];\n  \"shop\" -> \"mailer\" \
             [label=\"mail: not permitted\", style=dashed];\n}\n"
        );
        assert_eq!(
            drawn(&graph(), Format::Mermaid),
            "graph LR\n  app-shop[shop] -->|billing| app-billing[billing]\n  \
             app-shop[shop] -.->|mail: not permitted| app-mailer[mailer]\n"
        );
    }
}
