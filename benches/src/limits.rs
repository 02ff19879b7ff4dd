//! `bench limits`: what limits and metering cost, and how exact a CPU share is.
//!
//! Six kernels run as a web process (memory from the pool) and as a command (memory from the slab where the
//! node has one) of a real platform, and time themselves; the same code runs in this process on an engine
//! that limits nothing. Of each the fastest run counts, for noise only ever adds. What a request pays is
//! measured in this process alone, with and without, because a platform without limits does not exist.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::{
    account::cpu_ns_of_threads,
    child::Cores,
    figure::{Figure, Goal, Report},
    guests,
    in_process::{self, Kernels},
    load::as_f64,
    platform::{App, Platform, get},
    session::Session,
};

const BENCH: &str = "limits";
/// Kernels need 18 MiB; requests that compute for long must not be ended for it.
const KERNELS: &str = "memory = \"64MiB\"\nfuel_per_request = \"1T\"";
/// CPU shares in percent of a core.
const SHARES: [u32; 5] = [2, 10, 25, 50, 90];
/// How long a share is watched, as often as the mode says.
const WINDOW: Duration = Duration::from_secs(1);
/// Before a share is watched its first burst is over.
const SETTLE: Duration = Duration::from_millis(500);

pub(crate) fn run(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    http(session, report).context("the cost of a request's limits")?;
    let platform = Platform::start(session, Cores::First)?;
    kernels(session, &platform, report).context("kernels")?;
    shares(session, &platform, report).context("CPU shares")
}

fn http(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    session.note("limits: a request with and without them");
    let cost = in_process::http_cost(session.pick(7, 15), session.pick(1_000, 5_000))?;
    let percent = |(with, without): (&f64, &f64)| 100.0 * (with / without - 1.0);
    let ratios: Vec<f64> = cost.with_us.iter().zip(&cost.without_us).map(percent).collect();
    let add = |name: &str, values: &[f64], unit| Figure::median(BENCH, name, values, unit);
    report.add(add(
        "http: a fresh instance and its answer, limited",
        &cost.with_us,
        "us",
    ));
    report.add(add("http: the same without limits", &cost.without_us, "us"));
    report.add(add("http: cost of the limits", &ratios, "%").goal(Goal::AtMost(3.0)));
    Ok(())
}

fn kernels(session: &Session<'_>, platform: &Platform<'_>, report: &mut Report) -> anyhow::Result<()> {
    session.note("limits: six kernels");
    let rounds = session.pick(5, 11);
    let component = guests::kernels_http()?;
    let app = App {
        name: "kernels",
        process: "web",
        component: &component,
        limits: KERNELS,
    };
    let project = platform.deploy(&app)?;
    platform.scale(&project, "web=1")?;
    session.wait("the kernels", || {
        get(platform.http, "kernels.localhost", "/2").ok()
    })?;
    let mut native = Kernels::new()?;
    let mut best = vec![[f64::INFINITY; 3]; guests::ROUNDS.len()];
    for _ in 0..rounds {
        for (kernel, best) in best.iter_mut().enumerate() {
            session.check()?;
            best[0] = best[0].min(native.run_ns(kernel)?);
            let said = get(platform.http, "kernels.localhost", &format!("/{kernel}"))?;
            best[1] = best[1].min(String::from_utf8_lossy(&said).trim().parse::<f64>()?);
        }
    }
    platform.scale(&project, "web=0")?;
    on_slab(session, platform, rounds, &mut best)?;
    for (setting, name, goal) in [(1, "pool", 1.45), (2, "slab", 1.6)] {
        let mut product = 1.0;
        for (best, (kernel, _)) in best.iter().zip(guests::ROUNDS) {
            let ratio = best[setting] / best[0];
            ensure!(ratio.is_finite(), "{kernel} was not measured on the {name}");
            product *= ratio;
            report.add(Figure::new(
                BENCH,
                format!("{kernel}: {name} / unlimited"),
                ratio,
                "x",
            ));
        }
        let mean = f64::powf(product, 1.0 / as_f64(best.len() as u64));
        let figure = Figure::new(BENCH, format!("kernels: geometric mean, {name}"), mean, "x");
        report.add(figure.goal(Goal::AtMost(goal)));
    }
    Ok(())
}

/// The kernels as a command, which says in its log how long each took.
fn on_slab(
    session: &Session<'_>,
    platform: &Platform<'_>,
    rounds: u32,
    best: &mut [[f64; 3]],
) -> anyhow::Result<()> {
    let component = guests::kernels_command(rounds)?;
    let app = App {
        name: "kernels-command",
        process: "worker",
        component: &component,
        limits: "memory = \"32MiB\"\nexit_timeout = \"0s\"",
    };
    let project = platform.deploy(&app)?;
    platform.scale(&project, "worker=1")?;
    let wanted = rounds as usize * best.len();
    let lines = session.wait("the kernels' log", || {
        let log = platform.run(&project, &["logs", "-n", "1000", "worker"]).ok()?;
        let lines: Vec<(usize, f64)> = log.lines().filter_map(kernel_line).collect();
        (lines.len() >= wanted).then_some(lines)
    })?;
    for (kernel, ns) in lines {
        if let Some(best) = best.get_mut(kernel) {
            best[2] = best[2].min(ns);
        }
    }
    platform.scale(&project, "worker=0")?;
    Ok(())
}

/// `… kernel 3 1234567`: the kernel and its nanoseconds.
fn kernel_line(line: &str) -> Option<(usize, f64)> {
    let (_, rest) = line.split_once("kernel ")?;
    let (kernel, ns) = rest.split_once(' ')?;
    Some((kernel.parse().ok()?, ns.trim().parse().ok()?))
}

/// A loop without end under each share: what the node's threads have had of a core, less what they have
/// without it.
fn shares(session: &Session<'_>, platform: &Platform<'_>, report: &mut Report) -> anyhow::Result<()> {
    let component = guests::command("", "", "(loop $l (br $l)) (unreachable)")?;
    let node = platform.node_pid()?;
    let watch = || -> anyhow::Result<f64> {
        let (before, start) = (cpu_ns_of_threads(node)?, std::time::Instant::now());
        session.pass(WINDOW)?;
        let used = as_f64(cpu_ns_of_threads(node)?.saturating_sub(before));
        Ok(100.0 * used / (start.elapsed().as_secs_f64() * 1e9))
    };
    let idle = watch()?;
    for share in SHARES {
        session.note(&format!("limits: a share of {share} % of a core"));
        let (name, limits) = (format!("share-{share}"), share_limits(share));
        let app = App {
            name: &name,
            process: "worker",
            component: &component,
            limits: &limits,
        };
        let project = platform.deploy(&app)?;
        platform.scale(&project, "worker=1")?;
        session.pass(SETTLE)?;
        let windows = (0..session.pick(2, 5)).map(|_| Ok((watch()? - idle).max(0.0)));
        let got = windows.collect::<anyhow::Result<Vec<f64>>>()?;
        let figure = Figure::median(BENCH, format!("cpu: asked {share} %, got"), &got, "%");
        report.add(figure.goal(Goal::About(f64::from(share), 10.0)));
        platform.scale(&project, "worker=0")?;
    }
    Ok(())
}

fn share_limits(percent: u32) -> String {
    format!("cpu = {:.2}\nexit_timeout = \"0s\"", f64::from(percent) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_says_its_number_and_time() {
        assert_eq!(
            kernel_line("2026-11-21T09:00:00Z app[worker.1]: kernel 3 1234567"),
            Some((3, 1_234_567.0))
        );
        assert_eq!(kernel_line("something else"), None);
        assert_eq!(share_limits(2), "cpu = 0.02\nexit_timeout = \"0s\"");
    }
}
