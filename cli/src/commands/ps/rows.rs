//! The lines of `ps`.

use std::collections::BTreeMap;

use gilliam_model::{
    Timestamp,
    api::{InstanceInfo, ProcessSummary},
    instance::{InstanceReport, InstanceState},
    run::RunInfo,
};

use crate::amounts;

pub(super) const HEADER: &[&str] = &[
    "NAME", "RELEASE", "STATE", "SINCE", "HOST", "PORT", "MEMORY", "FUEL", "NOTE",
];
pub(super) const SUMMARY_HEADER: &[&str] = &[
    "PROCESS",
    "RELEASE",
    "INSTANCES",
    "MEMORY",
    "FUEL",
    "NODES",
    "NOTE",
];
pub(super) const FAILURES_HEADER: &[&str] = &["PROCESS", "RELEASE", "STATE", "INSTANCES", "REASON"];
pub(super) const RUNS_HEADER: &[&str] = &["NAME", "RELEASE", "STATE", "SINCE", "HOST", "COMMAND"];
/// Instances that are named of those that failed alike.
const NAMED_MAX: usize = 3;

/// A line for each run: `run.3  v2  running  (12 s)  on node n1  worker report`.
pub(super) fn runs(runs: &[RunInfo], now: Timestamp) -> Vec<Vec<String>> {
    let row = |run: &RunInfo| {
        let since = run.running_since.unwrap_or(run.asked_at);
        let node = run.node.as_ref();
        vec![
            run.name.clone(),
            run.release.to_string(),
            run.state.as_str().to_string(),
            format!("({})", amounts::age(since, now)),
            node.map_or_else(|| "-".to_string(), |node| format!("on node {node}")),
            run.command.clone(),
        ]
    };
    runs.iter().map(row).collect()
}

/// A line for each process type: `worker  v2  100,000 running (12 s)  2.9 GiB  0.0 M fuel/s  on 1 node`.
pub(super) fn summaries(many: &[&ProcessSummary], now: Timestamp) -> Vec<Vec<String>> {
    many.iter().map(|summary| summary_row(summary, now)).collect()
}

fn summary_row(summary: &ProcessSummary, now: Timestamp) -> Vec<String> {
    let shown = [
        InstanceState::Running,
        InstanceState::Starting,
        InstanceState::Crashed,
        InstanceState::Stopping,
        InstanceState::Unknown,
    ];
    let states = shown.into_iter().filter_map(|state| {
        let count = summary.states.get(&state).filter(|count| **count > 0)?;
        let age = summary
            .newest
            .get(&state)
            .map(|since| format!(" ({})", amounts::age(*since, now)));
        Some(format!(
            "{} {state}{}",
            amounts::number((*count).into()),
            age.unwrap_or_default()
        ))
    });
    let mut notes = Vec::new();
    if summary.count() != summary.wanted {
        notes.push(format!("{} wanted", amounts::number(summary.wanted.into())));
    }
    if summary.restarts > 0 {
        notes.push(amounts::count(summary.restarts, "restart"));
    }
    vec![
        summary.process.to_string(),
        summary.release.to_string(),
        states.collect::<Vec<_>>().join(", "),
        amounts::bytes(summary.memory_bytes),
        amounts::fuel_per_s(summary.fuel_per_s),
        format!("on {}", amounts::count(summary.nodes.len() as u64, "node")),
        notes.join(", "),
    ]
}

/// A line for each reason for which some are not running or failed: those that failed alike together.
pub(super) fn failures(summary: &ProcessSummary, now: Timestamp) -> Vec<Vec<String>> {
    let mut alike: BTreeMap<(bool, String, String), Vec<&InstanceInfo>> = BTreeMap::new();
    for instance in &summary.failures {
        let failure = instance
            .report
            .as_ref()
            .and_then(|report| report.last_failure.as_ref());
        let reason = failure.map_or_else(String::new, |failure| {
            let code = failure.code.map(|code| format!("{code} ")).unwrap_or_default();
            format!("{code}{}", first_line(&failure.message))
        });
        let is_calm = instance.state != InstanceState::Crashed;
        alike
            .entry((is_calm, instance.state.to_string(), reason))
            .or_default()
            .push(instance);
    }
    let row = |((_, state, reason), instances): ((bool, String, String), Vec<&InstanceInfo>)| {
        let named = instances
            .iter()
            .take(NAMED_MAX)
            .map(|instance| instance.name.as_str());
        let mut names = named.collect::<Vec<_>>().join(" ");
        if instances.len() > NAMED_MAX {
            names.push_str(&format!(" and {} more", instances.len() - NAMED_MAX));
        }
        let failures = instances
            .iter()
            .filter_map(|i| i.report.as_ref()?.last_failure.as_ref());
        let newest = failures.map(|failure| failure.at).max();
        let newest = newest
            .map(|at| format!(" ({})", amounts::ago(at, now)))
            .unwrap_or_default();
        vec![
            summary.process.to_string(),
            summary.release.to_string(),
            state,
            names,
            reason + &newest,
        ]
    };
    alike.into_iter().map(row).collect()
}

/// A line for each instance.
pub(super) fn of(instances: &[InstanceInfo], now: Timestamp) -> Vec<Vec<String>> {
    instances.iter().map(|instance| row(instance, now)).collect()
}

fn row(instance: &InstanceInfo, now: Timestamp) -> Vec<String> {
    let report = instance.report.as_ref();
    let of = |make: &dyn Fn(&InstanceReport) -> String| report.map(make).unwrap_or_default();
    vec![
        instance.name.clone(),
        instance.release.to_string(),
        instance.state.to_string(),
        of(&|r| format!("({})", amounts::ago(r.since, now))),
        place(instance),
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

/// Where it runs: by the node's name where that is not the machine's own.
fn place(instance: &InstanceInfo) -> String {
    match instance.node.as_str().eq_ignore_ascii_case(&instance.host) {
        true => format!("on host {}", instance.host),
        false => format!("on node {}", instance.node),
    }
}

/// Restarts and the last failure, when there are any.
fn note(report: &InstanceReport, now: Timestamp) -> String {
    let mut parts = Vec::new();
    // Of an instance that is idle, what it uses says little of what it needs.
    let (peak, now_used) = (
        amounts::bytes(report.memory_bytes_peak),
        amounts::bytes(report.memory_bytes),
    );
    if report.memory_bytes_peak > report.memory_bytes && peak != now_used {
        parts.push(format!("peak {peak}"));
    }
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
            r#"{"name":"web.1","process":"web","release":"v1","node":"mybox","host":"MyBox","state":"running",
            "report":{"id":"a/v1/web.1@1","state":"running","since":"2026-11-21T09:00:00Z","port":10000,
            "memory_bytes":4300000,"memory_bytes_max":134217728,"fuel_per_s":200000,"restarts":0}}"#,
        )
        .expect("instance");
        let want = [
            "web.1",
            "v1",
            "running",
            "(just now)",
            "on host MyBox",
            "port 10000",
        ];
        assert_eq!(row(&instance, now)[..6], want);
        instance.node = "n1".parse().expect("name");
        assert_eq!(row(&instance, now)[4], "on node n1");
        assert_eq!(
            row(&instance, now)[6..],
            ["4.1 MiB / 128 MiB", "0.2 M fuel/s", ""]
        );
        let report = instance.report.as_mut().expect("report");
        report.restarts = 2;
        report.memory_bytes_peak = 5_000_000;
        report.last_failure = serde_json::from_str(
            r#"{"code":"R23","message":"unreachable\n  at x","at":"2026-11-21T08:59:45Z"}"#,
        )
        .expect("failure");
        assert_eq!(
            row(&instance, now)[8],
            "peak 4.8 MiB, 2 restarts, R23 unreachable (20 s ago)"
        );
    }

    #[test]
    fn a_summary_reads_as_one_line_and_failures_alike_as_another() {
        let now: Timestamp = "2026-11-21T09:00:12Z".parse().expect("instant");
        let failed = |slot: u32, state: &str, code: &str| {
            format!(
                r#"{{"name":"worker.{slot}","process":"worker","release":"v2","node":"n","host":"h","state":"{state}",
                "report":{{"id":"a/v2/worker.{slot}@1","state":"{state}","since":"2026-11-21T09:00:00Z",
                "memory_bytes":0,"memory_bytes_max":1,"fuel_per_s":0,"restarts":1,"last_failure":
                {{"code":"{code}","message":"unreachable\n at x","at":"2026-11-21T08:59:4{}Z"}}}}}}"#,
                slot % 10
            )
        };
        let failures = [
            failed(4711, "running", "R15"),
            failed(7, "crashed", "R23"),
            failed(8, "crashed", "R23"),
            failed(9, "crashed", "R23"),
            failed(10, "crashed", "R23"),
        ];
        let summary: ProcessSummary = serde_json::from_str(&format!(
            r#"{{"process":"worker","release":"v2","wanted":100000,
            "states":{{"running":99992,"crashed":4}},"newest":{{"running":"2026-11-21T09:00:00Z"}},
            "memory_bytes":3113851290,"fuel_per_s":0,"restarts":5,"nodes":{{"n":99996}},"failures":[{}]}}"#,
            failures.join(",")
        ))
        .expect("a summary");
        let want = [
            "worker",
            "v2",
            "99,992 running (12 s), 4 crashed",
            "2.9 GiB",
            "0.0 M fuel/s",
            "on 1 node",
            "100,000 wanted, 5 restarts",
        ];
        assert_eq!(summary_row(&summary, now), want);
        let lines: Vec<String> = super::failures(&summary, now)
            .iter()
            .map(|row| row.join("  "))
            .collect();
        let want = [
            "worker  v2  crashed  worker.7 worker.8 worker.9 and 1 more  R23 unreachable (23 s ago)",
            "worker  v2  running  worker.4711  R15 unreachable (31 s ago)",
        ];
        assert_eq!(lines, want);
    }
}
