//! `gilliam plan`.

use gilliam_model::what_if::{BlockedProcess, Difference, ProcessDifference, Question, WhatIf};

use crate::{
    amounts,
    context::Context,
    failure::{CommandError, CommandResult},
};

/// Nodes that one process type's line names; the rest is counted.
const NODES_NAMED_MAX: usize = 12;
const HEADER: &[&str] = &["APP", "RELEASE", "PROCESS", "SLOTS", "MOVED", "NODES"];

/// Shows what a change would place, move, stop and block; or spreads instances anew.
///
/// A change is `scale [vN] web=400 …`, 'kill NODE', 'drain NODE', 'undrain NODE' or 'rebalance'. Asking changes
/// nothing.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Args {
    /// Shows what would come of a change, which is not made.
    #[arg(long, value_name = "CHANGE")]
    what_if: Option<String>,
    /// Moves instances for a better spread, some at a time, each replaced before it stops.
    #[arg(long)]
    rebalance: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let client = context.client()?;
    let Some(text) = args.what_if.filter(|_| !args.rebalance) else {
        client.rebalance().await?;
        ui.note("instances move for a better spread, some at a time; gilliam ps shows where they are");
        return Ok(());
    };
    let change: WhatIf = text
        .parse()
        .map_err(|error: gilliam_model::what_if::WhatIfError| {
            CommandError::usage(error.to_string()).hinted(error.hint())
        })?;
    let app = match change {
        WhatIf::Scale(_) => Some(context.app()?.to_string()),
        _ => None,
    };
    let difference = client.what_if(&Question { change: text, app }).await?;
    if ui.wants_json() {
        return ui.json(&difference);
    }
    show(context, &difference)
}

fn show(context: &Context<'_>, difference: &Difference) -> CommandResult {
    let ui = context.ui;
    let rows: Vec<Vec<String>> = difference.processes.iter().map(row).collect();
    if !rows.is_empty() {
        ui.table(HEADER, &rows)?;
    }
    for blocked in &difference.blocked {
        ui.data(&title(blocked))?;
        for (node, reason) in &blocked.reasons {
            ui.data(&format!("  {node}: {reason}"))?;
        }
    }
    let Difference {
        placed,
        stopped,
        moved,
        ..
    } = difference;
    let blocked: u64 = difference
        .blocked
        .iter()
        .map(|blocked| u64::from(blocked.count))
        .sum();
    ui.data(&format!(
        "{} placed, {} moved, {} stopped, {} blocked; nothing was changed",
        amounts::number(*placed),
        amounts::number(*moved),
        amounts::number(*stopped),
        amounts::number(blocked),
    ))
}

fn row(process: &ProcessDifference) -> Vec<String> {
    let named = process.nodes.iter().take(NODES_NAMED_MAX);
    let mut nodes: Vec<String> = named
        .map(|node| format!("{} {}→{}", node.node, node.before, node.after))
        .collect();
    if process.nodes.len() > NODES_NAMED_MAX {
        nodes.push(format!("and {} more", process.nodes.len() - NODES_NAMED_MAX));
    }
    vec![
        process.app.to_string(),
        process.release.to_string(),
        process.process.to_string(),
        format!("{}→{}", process.before, process.after),
        format!("{} moved", process.moved),
        nodes.join(", "),
    ]
}

fn title(blocked: &BlockedProcess) -> String {
    let BlockedProcess {
        app,
        release,
        process,
        count,
        before,
        ..
    } = blocked;
    format!("blocked: {count} of {app} {release} {process} ({before} without the change)")
}
