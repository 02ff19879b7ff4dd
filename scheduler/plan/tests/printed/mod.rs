//! Plans, records and differences as scripts print them.

use std::{collections::BTreeMap, fmt::Write as _};

use gilliam_model::{
    app::App,
    placement::{Placement, SlotRange},
    release::ReleaseId,
    scale::Scale,
    what_if::Difference,
};
use gilliam_plan::{Change, Plan};

/// What a change would do: a line for each process type, what is blocked, and the sums.
pub(crate) fn difference(difference: &Difference) -> Vec<String> {
    let process = |process: &gilliam_model::what_if::ProcessDifference| {
        let nodes: Vec<String> = process
            .nodes
            .iter()
            .map(|node| format!("{} {}→{}", node.node, node.before, node.after))
            .collect();
        let (app, release, name) = (&process.app, process.release, &process.process);
        let (before, after, nodes) = (process.before, process.after, nodes.join(", "));
        format!("{app} {release} {name} {before}→{after}: {nodes}")
    };
    let mut lines: Vec<String> = difference.processes.iter().map(process).collect();
    for blocked in &difference.blocked {
        let (app, release, process) = (&blocked.app, blocked.release, &blocked.process);
        lines.push(format!("blocked: {} of {app} {release} {process}", blocked.count));
        let reasons = blocked.reasons.iter();
        lines.extend(reasons.map(|(node, reason)| format!("  {node}: {reason}")));
    }
    let Difference {
        placed,
        moved,
        stopped,
        ..
    } = difference;
    lines.push(format!("{placed} placed, {moved} moved, {stopped} stopped"));
    lines
}

pub(crate) fn plan_lines(plan: &Plan) -> Vec<String> {
    let line = |change: &Change| {
        let mut text = String::new();
        if change.started > 0 {
            write!(text, " +{}", change.started).expect("a String");
        }
        if change.stopped > 0 {
            write!(text, " -{}", change.stopped).expect("a String");
        }
        let text = if text.is_empty() {
            String::new()
        } else {
            format!("  ({})", text.trim_start())
        };
        format!("{}{text}", record(&change.placement))
    };
    let mut lines: Vec<String> = plan.changes().map(line).collect();
    for blocked in &plan.report.blocked {
        lines.push(format!(
            "blocked: {} of {} {} {}",
            blocked.count, blocked.app, blocked.release, blocked.process
        ));
        lines.extend(
            blocked
                .reasons
                .iter()
                .map(|(node, reason)| format!("  {node}: {reason}")),
        );
    }
    if plan.report.deferred {
        lines.push("more is to be done".to_string());
    }
    lines
}

pub(crate) fn record(placement: &Placement) -> String {
    let Placement {
        app,
        release,
        process,
        node,
        ranges,
        leaving,
    } = placement;
    let range = |range: &SlotRange| match range.count() {
        1 => format!("{}@{}", range.first, range.epoch.0),
        _ => format!("{}-{}@{}", range.first, range.last, range.epoch.0),
    };
    let ranges: Vec<String> = ranges.iter().map(range).collect();
    let ranges = if ranges.is_empty() {
        "none".to_string()
    } else {
        ranges.join(" ")
    };
    let leaving: Vec<String> = leaving
        .iter()
        .map(|range| format!(", leaving {}-{}", range.first, range.last))
        .collect();
    format!("{node}: {app} {release} {process} {ranges}{}", leaving.concat())
}

pub(crate) fn describe(app: &App) -> String {
    let scales = |scales: &BTreeMap<ReleaseId, Scale>| {
        let each: Vec<String> = scales
            .iter()
            .map(|(release, scale)| format!("{release} {scale}"))
            .collect();
        if each.is_empty() {
            "nothing".to_string()
        } else {
            each.join(", ")
        }
    };
    let mut line = format!("{} wants {}", app.name, scales(&app.scale));
    if let Some(migration) = &app.migration {
        let (from, fallback) = (scales(&migration.from), scales(&migration.fallback));
        write!(
            line,
            "; moves to {} from {from}, else back to {fallback}",
            migration.to
        )
        .expect("a String");
    }
    if let Some(failure) = &app.migration_failure {
        write!(line, "; {} failed: {}", failure.to, failure.reason).expect("a String");
    }
    line
}
