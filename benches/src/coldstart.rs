//! `bench coldstart`: how long the first answer of an instance takes.
//!
//! By default every request of a 0.2 process has a fresh instance, so the first answer is any answer. What
//! the node adds is its latency on one connection less that of native hyper, taken in turns: the whole way
//! through the ingress is in it, not the instance alone.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{
    child::Cores,
    density::web_guests,
    figure::{Figure, Goal, Report, median},
    guests, http, in_process,
    load::{Load, Seen, as_f64, histogram},
    peers::Peer,
    platform::{App, Platform, get},
    session::Session,
};

const BENCH: &str = "coldstart";
const ROUNDS: usize = 5;
/// A node keeps the code of so many apps mapped that nobody uses: of more, asked in turn, none finds its own.
const MAPPED_APPS_MAX: u32 = 1_000;

pub(crate) fn run(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    in_node(session, report).context("instances without network and ingress")?;
    loaded(session, report).context("instances whose code is loaded")?;
    deploys(session, report).context("deploys")?;
    many_apps(session, report).context("many apps")
}

/// p50 and p99 of what the node adds, for a guest.
struct Goals {
    p50_us: Option<f64>,
}

fn goals(name: &str) -> Goals {
    Goals {
        p50_us: match name {
            "hello" | "rust" => Some(15.0),
            "js" => Some(250.0),
            "python" => Some(2_000.0),
            _ => None,
        },
    }
}

/// The same without network and ingress, in this process: store, instance, answer, end.
fn in_node(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    session.note("coldstart: fresh instances in this process");
    for (name, component, path) in web_guests(session)? {
        session.check()?;
        let mut rounds = in_process::fresh_us(&component, &path, ROUNDS, session.pick(100, 400))?;
        rounds.iter_mut().for_each(|us| us.sort_by(f64::total_cmp));
        let p50: Vec<f64> = rounds.iter().map(|us| median(us)).collect();
        let p99: Vec<f64> = rounds.iter().map(|us| us[us.len() * 99 / 100]).collect();
        let goal = goals(&name).p50_us;
        let (p99_goal, what) = (
            goal.map(|_| 3.0 * median(&p50)),
            format!("fresh instance in the node ({name})"),
        );
        report.add(with(
            Figure::median(BENCH, format!("{what}: p50"), &p50, "us"),
            goal,
        ));
        report.add(with(
            Figure::median(BENCH, format!("{what}: p99"), &p99, "us"),
            p99_goal,
        ));
    }
    Ok(())
}

/// The first answer of a fresh instance whose code is in memory, as a client sees it.
fn loaded(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    session.note("coldstart: fresh instances with their code loaded");
    let platform = Platform::start(session, Cores::First)?;
    let mut body = Vec::new();
    let mut apps = Vec::new();
    for (name, component, path) in web_guests(session)? {
        let app = App {
            name: &name,
            process: "web",
            component: &component,
            limits: http::WIDE,
        };
        let project = platform.deploy(&app)?;
        platform.scale(&project, "web=1")?;
        let host = format!("{name}.localhost");
        body = session.wait(&name, || get(platform.http, &host, &path).ok())?;
        apps.push((name.clone(), host, path, Vec::new()));
    }
    let native = Peer::native(session, &body)?;
    let load = Load {
        duration: session.load_time() / 2,
        connections: 1,
    };
    let mut natives: Vec<Seen> = Vec::new();
    for round in 0..=ROUNDS {
        let seen = load.run(native.address, "localhost", "/")?;
        natives.push(seen);
        for (_, host, path, seen) in &mut apps {
            session.check()?;
            seen.push(load.run(platform.http, host, path)?);
        }
        if round == 0 {
            natives.clear();
            apps.iter_mut().for_each(|(.., seen)| seen.clear());
        }
    }
    for (name, _, _, seen) in &apps {
        added(report, name, seen, &natives);
    }
    let p50: Vec<f64> = natives.iter().map(|seen| seen.us_at(0.5)).collect();
    report.add(Figure::median(BENCH, "native hyper: whole answer p50", &p50, "us").of_peer());
    Ok(())
}

fn added(report: &mut Report, name: &str, seen: &[Seen], natives: &[Seen]) {
    let goals = goals(name);
    let at = |quantile: f64| -> Vec<f64> {
        seen.iter()
            .zip(natives)
            .map(|(ours, native)| ours.us_at(quantile) - native.us_at(quantile))
            .collect()
    };
    let (p50, p99) = (at(0.5), at(0.99));
    let figure = Figure::median(
        BENCH,
        format!("fresh instance, loaded ({name}): added p50"),
        &p50,
        "us",
    );
    report.add(with(figure, goals.p50_us));
    let figure = Figure::median(
        BENCH,
        format!("fresh instance, loaded ({name}): added p99"),
        &p99,
        "us",
    );
    let p50 = median(&p50);
    report.add(with(figure, goals.p50_us.map(|_| 3.0 * p50)));
}

fn with(figure: Figure, at_most: Option<f64>) -> Figure {
    match at_most {
        Some(goal) => figure.goal(Goal::AtMost(goal)),
        None => figure,
    }
}

/// From a built component to its first answer through the ingress, compilation included.
fn deploys(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    session.note("coldstart: deploys");
    let platform = Platform::start(session, Cores::All)?;
    for (name, component, path) in web_guests(session)? {
        let mut ms = Vec::new();
        for n in 0..session.pick(5, 9) {
            let app_name = format!("{name}-{n}");
            let bytes = guests::distinct(&component, n);
            let app = App {
                name: &app_name,
                process: "web",
                component: &bytes,
                limits: "",
            };
            let project = platform.project(&app)?;
            let start = Instant::now();
            platform.run(&project, &["deploy", "--scale", "web=1", "-m", "bench"])?;
            let host = format!("{app_name}.localhost");
            session.wait(&host, || get(platform.http, &host, &path).ok())?;
            ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let figure = Figure::median(BENCH, format!("deploy to first answer ({name})"), &ms, "ms");
        report.add(with(
            figure,
            matches!(name.as_str(), "hello" | "rust").then_some(1_000.0),
        ));
    }
    Ok(())
}

/// The first answer of each of many different apps.
fn many_apps(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    let count = session.options.apps.unwrap_or_else(|| session.pick(40, 400));
    session.note(&format!("coldstart: the first answer of {count} different apps"));
    let platform = Platform::start(session, Cores::All)?;
    let hello = guests::hello()?;
    let started = Instant::now();
    for n in 0..count {
        let (name, bytes) = (format!("app-{n}"), guests::distinct(&hello, n));
        let app = App {
            name: &name,
            process: "web",
            component: &bytes,
            limits: "",
        };
        let project = platform.project(&app)?;
        platform.run(&project, &["deploy", "--scale", "web=1", "-m", "bench"])?;
        if n % 100 == 99 {
            session.note(&format!(
                "coldstart: {} apps after {:.0} s",
                n + 1,
                started.elapsed().as_secs_f64()
            ));
        }
    }
    let mut first = histogram()?;
    let mut second = histogram()?;
    session.note("coldstart: two requests of each app");
    for n in 0..count {
        session.check()?;
        // The second one at once: of more apps than a node keeps mapped, the first ones' code is gone at the end.
        for seen in [&mut first, &mut second] {
            let at = Instant::now();
            get(platform.http, &format!("app-{n}.localhost"), "/")?;
            seen.saturating_record(micros(at.elapsed()));
        }
    }
    let warm = as_f64(second.value_at_quantile(0.5));
    let of = match count > MAPPED_APPS_MAX {
        true => "first answer of an app, its code mapped for it",
        false => "first answer of an app",
    };
    for (name, quantile, goal_ms) in [("p50", 0.5, 1.0), ("p99", 0.99, 3.0)] {
        let us = as_f64(first.value_at_quantile(quantile)) - warm;
        let figure = Figure::new(BENCH, format!("{of}: added {name}"), us / 1e3, "ms");
        report.add(figure.goal(Goal::AtMost(goal_ms)));
    }
    report.add(Figure::new(
        BENCH,
        "first answer of an app: apps",
        f64::from(count),
        "apps",
    ));
    Ok(())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
