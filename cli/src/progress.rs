//! Waiting until what was asked for runs: polls the instances, shows how far they are, says why they do not
//! come.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use gilliam_client::{Client, InstanceQuery};
use gilliam_model::{
    api::{InstanceInfo, Instances, ProcessSummary},
    instance::InstanceState,
    name::{AppName, ProcessName},
    release::ReleaseId,
    scale::Scale,
};

use crate::{
    amounts,
    failure::{CommandError, CommandResult},
    ui::Ui,
};

/// Between two looks at first, so that the time that is shown is right; and at most.
const POLL_MIN: Duration = Duration::from_millis(40);
const POLL_MAX: Duration = Duration::from_millis(250);
/// Of more instances not every step is worth a line where lines stay.
const STEPS_SHOWN_MAX: u64 = 200;
/// Between two lines of how far it is with more than [`STEPS_SHOWN_MAX`].
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// An instance that crashed and was started again this often will not run by waiting longer.
const RESTARTS_HOPELESS: u32 = 2;

/// What is waited for.
#[derive(Debug, Clone)]
pub(crate) enum Goal {
    /// These counts of a release run, and no more of them.
    Counts {
        release: ReleaseId,
        counts: BTreeMap<ProcessName, u32>,
    },
    /// Everything moved to a release.
    Migration { to: ReleaseId, scale: Scale },
    /// Everything that should run of the app runs.
    Everything,
}

/// What one look at the instances tells.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Done,
    Waiting {
        running: u64,
        wanted: u64,
        blocked: Option<String>,
    },
    Failed {
        message: String,
        instance: Option<String>,
    },
    /// A newer release is on its way instead.
    Overtaken {
        by: ReleaseId,
    },
}

/// Waits until `goal` holds or `limit` has passed.
///
/// Shows `LABEL… 1/2 running` and at the end `LABEL… done, RESULT in 465 ms`.
pub(crate) async fn wait_for(
    ui: &Ui,
    client: &Client,
    app: &AppName,
    goal: &Goal,
    label: &str,
    limit: Duration,
) -> CommandResult {
    let begin = Instant::now();
    let mut spinner = ui.spinner(label);
    let mut poll = POLL_MIN;
    let mut shown_at: Option<Instant> = None;
    let counts_alone = InstanceQuery {
        limit: Some(0),
        ..InstanceQuery::default()
    };
    loop {
        let asked = Instant::now();
        let look = match client.list_instances(app, &counts_alone).await {
            Ok(instances) => look(goal, &instances),
            // The control plane may be starting anew; what was asked for is recorded.
            Err(error) if error.is_transient() && begin.elapsed() < limit => {
                spinner.show(&format!("{error}; trying again"));
                Look::Waiting {
                    running: 0,
                    wanted: 0,
                    blocked: None,
                }
            }
            Err(error) => return Err(error.into()),
        };
        match look {
            Look::Done => {
                spinner.finish(&format!(
                    "done, {} in {}",
                    goal.result(),
                    amounts::span(begin.elapsed())
                ));
                return Ok(());
            }
            Look::Overtaken { by } => {
                spinner.finish(&format!("overtaken by {by}"));
                return Ok(());
            }
            Look::Failed { message, instance } => {
                spinner.finish("failed");
                let source = instance.map(|name| format!(" {name}")).unwrap_or_default();
                let hint = format!("gilliam logs{source} --app {app} shows what it said");
                return Err(CommandError::failed(message).hinted(hint));
            }
            Look::Waiting {
                running,
                wanted,
                blocked,
            } => {
                let blocked = blocked.map(|reason| format!("; {reason}")).unwrap_or_default();
                let shown = format!(
                    "{}/{} running{blocked}",
                    amounts::number(running),
                    amounts::number(wanted)
                );
                if begin.elapsed() >= limit {
                    spinner.finish("gave up waiting");
                    return Err(late(&shown, limit));
                }
                let is_due = wanted <= STEPS_SHOWN_MAX
                    || spinner.moves()
                    || shown_at.is_none_or(|at| at.elapsed() >= LINE_INTERVAL);
                if wanted > 0 && is_due {
                    spinner.show(&shown);
                    shown_at = Some(Instant::now());
                }
            }
        }
        // A control plane that takes its time is not asked all the time.
        let pause = poll
            .max(asked.elapsed() * 4)
            .min(limit.saturating_sub(begin.elapsed()).max(POLL_MIN));
        tokio::time::sleep(pause).await;
        poll = (poll * 5 / 4).min(POLL_MAX);
    }
}

fn late(shown: &str, limit: Duration) -> CommandError {
    CommandError::failed(format!(
        "not everything runs after {} s: {shown}",
        limit.as_secs()
    ))
    .hinted("the change is recorded and goes on; gilliam ps shows it, --timeout waits longer")
}

impl Goal {
    fn result(&self) -> String {
        match self {
            Goal::Counts { release, counts } => {
                let counts: Vec<String> = counts
                    .iter()
                    .map(|(process, n)| format!("{process}={n}"))
                    .collect();
                format!("{release} {}", counts.join(" "))
            }
            Goal::Migration { to, scale } => format!("{to} {scale}"),
            Goal::Everything => "all running".to_string(),
        }
    }
}

fn look(goal: &Goal, seen: &Instances) -> Look {
    match goal {
        Goal::Counts { release, counts } => {
            let of = |process: &ProcessName| {
                let mut all = seen.processes.iter();
                all.find(|summary| summary.release == *release && summary.process == *process)
            };
            let reached = counts.iter().all(|(process, count)| {
                of(process).map_or((0, 0), |s| (s.count(), running(s))) == (*count, *count)
            });
            // Those beyond the count are on their way out, however often they crashed.
            let staying = |(process, count): (&ProcessName, &u32)| of(process).map_or(0, running).min(*count);
            let failed = counts.iter().find_map(|(process, count)| {
                let failures = of(process)?.failures.iter();
                failures
                    .filter(|i| slot(i).is_none_or(|slot| slot <= *count))
                    .find_map(hopeless)
            });
            let wanted = counts.values().map(|n| u64::from(*n)).sum();
            let running = counts.iter().map(|entry| u64::from(staying(entry))).sum();
            outcome(reached, failed, (running, wanted), seen)
        }
        Goal::Migration { to, scale } => look_at_migration(*to, scale, seen),
        Goal::Everything => {
            let blocked: u64 = seen.blocked.iter().map(|b| u64::from(b.count)).sum();
            let all: u64 = seen
                .processes
                .iter()
                .map(|summary| u64::from(summary.count()))
                .sum();
            let failed = seen
                .processes
                .iter()
                .flat_map(|summary| &summary.failures)
                .find_map(hopeless);
            let running = seen
                .processes
                .iter()
                .map(|summary| u64::from(running(summary)))
                .sum();
            outcome(seen.settled, failed, (running, all + blocked), seen)
        }
    }
}

/// The number in `web.1`.
fn slot(instance: &InstanceInfo) -> Option<u32> {
    instance.name.rsplit_once('.')?.1.parse().ok()
}

fn look_at_migration(to: ReleaseId, scale: &Scale, seen: &Instances) -> Look {
    if let Some(failure) = seen.migration_failure.as_ref().filter(|failure| failure.to == to) {
        let others: BTreeSet<ReleaseId> = seen
            .processes
            .iter()
            .filter(|summary| summary.release != to && summary.count() > 0)
            .map(|summary| summary.release)
            .collect();
        let others: Vec<String> = others.iter().map(ReleaseId::to_string).collect();
        let keeps = match others.len() {
            0 => String::new(),
            1 => format!("; {} keeps running", others[0]),
            _ => format!("; {} keep running", others.join(", ")),
        };
        return Look::Failed {
            message: format!("{to} did not start: {}{keeps}", failure.reason),
            instance: None,
        };
    }
    match &seen.migration {
        None => Look::Done,
        Some(migration) if migration.to > to => Look::Overtaken { by: migration.to },
        Some(_) => {
            let new = seen.processes.iter().filter(|summary| summary.release == to);
            Look::Waiting {
                running: new.map(|summary| u64::from(running(summary))).sum(),
                wanted: scale.total(),
                blocked: blocked(seen),
            }
        }
    }
}

fn outcome(
    reached: bool,
    failed: Option<(String, String)>,
    (running, wanted): (u64, u64),
    seen: &Instances,
) -> Look {
    match failed {
        _ if reached => Look::Done,
        Some((instance, message)) => Look::Failed {
            message,
            instance: Some(instance),
        },
        None => Look::Waiting {
            running,
            wanted,
            blocked: blocked(seen),
        },
    }
}

fn running(summary: &ProcessSummary) -> u32 {
    summary.in_state(InstanceState::Running)
}

/// An instance that crashes again and again, and why.
fn hopeless(instance: &InstanceInfo) -> Option<(String, String)> {
    let report = instance.report.as_ref()?;
    if instance.state != InstanceState::Crashed || report.restarts < RESTARTS_HOPELESS {
        return None;
    }
    let reason = report.last_failure.as_ref().map_or_else(
        || "no reason is known".to_string(),
        |failure| match failure.code {
            Some(code) => format!("{} ({code})", failure.message),
            None => failure.message.clone(),
        },
    );
    let times = report.restarts + 1;
    Some((
        instance.name.clone(),
        format!(
            "{} of {} crashed {times} times: {reason}",
            instance.name, instance.release
        ),
    ))
}

fn blocked(seen: &Instances) -> Option<String> {
    let first = seen.blocked.first()?;
    let reasons: Vec<String> = first
        .reasons
        .iter()
        .map(|(node, reason)| format!("{node}: {reason}"))
        .collect();
    let slots = amounts::count(first.count.into(), "slot");
    Some(format!(
        "{slots} of {} cannot be placed ({})",
        first.process,
        reasons.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Summaries of an app from lines `NAME RELEASE STATE RESTARTS`.
    fn seen(lines: &[&str], rest: &str) -> Instances {
        let mut seen: Instances =
            serde_json::from_str(&format!(r#"{{"instances":[],{rest}}}"#)).expect("instances");
        for line in lines {
            let [name, release, state, restarts] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let process = name.split('.').next().expect("process");
            let instance: InstanceInfo = serde_json::from_str(&format!(
                r#"{{"name":"{name}","process":"{process}","release":"{release}","node":"n","host":"h",
                "state":"{state}","report":{{"id":"a/{release}/{name}@1","state":"{state}",
                "since":"2026-01-01T00:00:00Z","memory_bytes":0,"memory_bytes_max":1,"fuel_per_s":0,
                "restarts":{restarts},"last_failure":{{"code":"R23","message":"unreachable",
                "at":"2026-01-01T00:00:00Z"}}}}}}"#
            ))
            .expect("an instance");
            let same = |s: &ProcessSummary| s.process == instance.process && s.release == instance.release;
            let at = seen.processes.iter().position(same).unwrap_or_else(|| {
                seen.processes.push(summary(process, release));
                seen.processes.len() - 1
            });
            let summary = &mut seen.processes[at];
            *summary.states.entry(instance.state).or_default() += 1;
            summary.failures.push(instance);
        }
        seen
    }

    fn summary(process: &str, release: &str) -> ProcessSummary {
        serde_json::from_str(&format!(
            r#"{{"process":"{process}","release":"{release}","wanted":0,"states":{{}},"newest":{{}},
            "memory_bytes":0,"fuel_per_s":0,"restarts":0,"nodes":{{}},"failures":[]}}"#
        ))
        .expect("a summary")
    }

    const CALM: &str = r#""blocked":[],"settled":true,"migration":null,"migration_failure":null"#;

    fn counts(text: &str) -> Goal {
        let counts = text
            .split(' ')
            .map(|c| gilliam_model::scale::parse_count(c).expect("count"))
            .collect();
        Goal::Counts {
            release: ReleaseId::FIRST,
            counts,
        }
    }

    fn waiting(running: u64, wanted: u64) -> Look {
        Look::Waiting {
            running,
            wanted,
            blocked: None,
        }
    }

    #[test]
    fn counts_are_reached_when_exactly_they_run() {
        let goal = counts("web=2 worker=0");
        assert_eq!(look(&goal, &seen(&[], CALM)), waiting(0, 2));
        assert_eq!(
            look(&goal, &seen(&["web.1 v1 running 0", "web.2 v1 starting 0"], CALM)),
            waiting(1, 2)
        );
        let two = ["web.1 v1 running 0", "web.2 v1 running 0"];
        assert_eq!(look(&goal, &seen(&two, CALM)), Look::Done);
        assert_eq!(
            look(&goal, &seen(&[two[0], two[1], "worker.1 v1 stopping 0"], CALM)),
            waiting(2, 2)
        );
        assert_eq!(
            look(&goal, &seen(&[two[0], two[1], "worker.1 v2 crashed 9"], CALM)),
            Look::Done
        );
    }

    #[test]
    fn a_crash_loop_of_what_is_scaled_fails_and_one_of_another_process_does_not() {
        let goal = counts("web=1");
        assert_eq!(look(&goal, &seen(&["web.1 v1 crashed 1"], CALM)), waiting(0, 1));
        let message = "web.1 of v1 crashed 3 times: unreachable (R23)".to_string();
        let failed = Look::Failed {
            message,
            instance: Some("web.1".to_string()),
        };
        assert_eq!(look(&goal, &seen(&["web.1 v1 crashed 2"], CALM)), failed);
        assert_eq!(
            look(
                &goal,
                &seen(&["web.1 v1 starting 0", "worker.1 v1 crashed 9"], CALM)
            ),
            waiting(0, 1)
        );
    }

    #[test]
    fn a_crash_loop_is_scaled_down_like_anything_else() {
        let crashed = ["worker.1 v1 running 0", "worker.2 v1 crashed 9"];
        assert_eq!(look(&counts("worker=0"), &seen(&crashed, CALM)), waiting(0, 0));
        assert_eq!(look(&counts("worker=1"), &seen(&crashed, CALM)), waiting(1, 1));
    }

    #[test]
    fn a_migration_ends_when_it_is_gone_and_fails_with_its_reason() {
        let to = ReleaseId::FIRST.next();
        let goal = Goal::Migration {
            to,
            scale: serde_json::from_str(r#"{"web":2}"#).expect("scale"),
        };
        let under_way = |to: &str| {
            format!(
                r#""blocked":[],"settled":false,"migration_failure":null,"migration":{{"to":"{to}","from":{{}},
                "fallback":{{}},"started_at":"2026-01-01T00:00:00Z"}}"#
            )
        };
        let lines = ["web.1 v1 running 0", "web.1 v2 running 0"];
        assert_eq!(look(&goal, &seen(&lines, &under_way("v2"))), waiting(1, 2));
        assert_eq!(
            look(&goal, &seen(&lines, &under_way("v3"))),
            Look::Overtaken { by: to.next() }
        );
        assert_eq!(look(&goal, &seen(&["web.1 v2 running 0"], CALM)), Look::Done);
        let failed = r#""blocked":[],"settled":true,"migration":null,"migration_failure":{"to":"v2",
            "reason":"web.1 crashed (R23)","at":"2026-01-01T00:00:00Z"}"#;
        let message = "v2 did not start: web.1 crashed (R23); v1 keeps running".to_string();
        assert_eq!(
            look(&goal, &seen(&["web.1 v1 running 0"], failed)),
            Look::Failed {
                message,
                instance: None
            }
        );
    }

    #[test]
    fn a_slot_without_a_node_says_why() {
        let rest = r#""blocked":[{"release":"v1","process":"web","count":1,"reasons":{"cluster":"no node"}}],
            "settled":false,"migration":null,"migration_failure":null"#;
        let Look::Waiting { wanted, blocked, .. } = look(&Goal::Everything, &seen(&[], rest)) else {
            panic!("waiting")
        };
        assert_eq!(
            (wanted, blocked.as_deref()),
            (1, Some("1 slot of web cannot be placed (cluster: no node)"))
        );
    }
}
