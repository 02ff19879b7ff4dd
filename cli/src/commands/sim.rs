//! `gilliam sim`.

use std::time::{Duration, Instant};

use gilliam_sim::{Scenario, Summary};

use crate::{
    context::Context,
    failure::{CommandError, CommandResult},
};

/// Plays a cluster through faults on a virtual clock, with this program's own planner and decisions.
///
/// Nodes and control planes are killed and paused, their links cut one way and both, the store delays and fails, clocks
/// jump, instances and whole releases crash. What must never happen is checked after every event; then all is
/// healed, and what users asked for must come to run. Nothing outside of the program is touched.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "gilliam sim --seed 7 --nodes 100 --hours 24\n\nA seed goes the same way every time: one that \
                  fails is a report that can be repeated."
)]
pub(crate) struct Args {
    /// Decides everything that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plays so many seeds, one after another, from --seed.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    /// Nodes of the cluster.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    nodes: u32,
    /// Control planes on one store.
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=9))]
    servers: u32,
    /// Apps; by default one for every two nodes.
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    apps: Option<u32>,
    /// Virtual hours during which things fail.
    #[arg(long, value_name = "HOURS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=8_760))]
    hours: u32,
}

pub(crate) fn run(context: &Context<'_>, args: &Args) -> CommandResult {
    let ui = context.ui;
    for seed in (args.seed..).take(usize::try_from(args.seeds).unwrap_or(usize::MAX)) {
        let default = Scenario::new(seed, args.nodes);
        let scenario = Scenario {
            planes: args.servers,
            apps: args.apps.unwrap_or(default.apps),
            faults: Duration::from_secs(u64::from(args.hours) * 3_600),
            ..default
        };
        let begun = Instant::now();
        let mut hour = 0;
        let mut progress = |at: Duration| {
            if at.as_secs() / 3_600 > hour {
                hour = at.as_secs() / 3_600;
                ui.note(&format!("seed {seed}: {hour} h of {}", args.hours));
            }
        };
        let played = gilliam_sim::run(&scenario, &mut progress);
        if let Ok(summary) = &played {
            let seconds = begun.elapsed().as_secs_f64();
            let rate = summary.events as f64 / seconds.max(f64::EPSILON);
            ui.note(&format!("seed {seed}: {seconds:.1} s, {rate:.0} events a second"));
        }
        match played {
            Ok(summary) if ui.wants_json() => ui.json(&summary)?,
            Ok(summary) => ui.data(&line(&summary))?,
            Err(violation) => {
                violation.course.iter().for_each(|event| ui.note(event));
                return Err(CommandError::failed(violation.to_string())
                    .hinted("the lines above led to it; the same command does it again: please report it"));
            }
        }
    }
    Ok(())
}

fn line(summary: &Summary) -> String {
    format!(
        "seed {}  survived  {} events, {} turns ({} failed), {} changes, {} kills, {} cuts, {} crashes, {} starts  \
         {} instances run  {}",
        summary.seed,
        summary.events,
        summary.turns,
        summary.turns_failed,
        summary.changes,
        summary.kills,
        summary.cuts,
        summary.crashes,
        summary.starts,
        summary.running,
        summary.fingerprint,
    )
}
