//! `bench density`: how many instances one node holds, what each costs, how fast they start.
//!
//! Workers wait in a host call, each suspended on a stack of its own; their cost is what the node's process
//! and the kernel gained, divided by their number. A web instance that has answered one request and waits for
//! the next is counted by the pages that only this process keeps, an app that runs nothing by the anonymous
//! ones.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::{
    account::{self, Memory},
    child::Cores,
    figure::{Figure, Goal, Report},
    guests, http,
    load::as_f64,
    platform::{App, Platform, get},
    session::Session,
};

const BENCH: &str = "density";
/// Memory that is left alone when the number of workers is chosen.
const SPARE_BYTES: u64 = 3 << 30;
/// What a worker may cost when the number is chosen from free memory, the control plane's share included.
const PLANNED_BYTES: u64 = 40 << 10;
/// More workers than this are not tried unless asked for.
const INSTANCES_MAX: u32 = 600_000;
const INSTANCES_QUICK: u32 = 20_000;
/// A first step, whose time has a goal of its own.
const STEP: u32 = 100_000;
/// Workers below which the whole machine's kernel memory says nothing about one.
const KERNEL_INSTANCES_MIN: u32 = 10_000;
/// Each worker promises this much: what 500,000 of them promise fits a node of 24 GiB.
const WORKER: &str = "memory = \"128KiB\"\nexit_timeout = \"0s\"";
/// A node whose memory has not become less for so long keeps what it has: its threads give back what they can some
/// seconds after they worked.
const GIVES_BACK: Duration = Duration::from_secs(6);
const KIB: f64 = 1024.0;

pub(crate) fn run(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    // One after another in a platform each, so that one's leavings are not the next one's.
    workers(session, report)?;
    for (name, component, path) in web_guests(session)? {
        warm_web(session, report, &name, &component, &path)
            .with_context(|| format!("warm idle web instances ({name})"))?;
    }
    scaled_to_nothing(session, report)
}

/// The built-in web process, and those of the user.
pub(crate) fn web_guests(session: &Session<'_>) -> anyhow::Result<Vec<(String, Vec<u8>, String)>> {
    let mut guests = vec![("hello".to_owned(), guests::hello()?, "/".to_owned())];
    for guest in &session.options.guests {
        let bytes =
            std::fs::read(&guest.file).with_context(|| format!("cannot read {}", guest.file.display()))?;
        guests.push((guest.name.clone(), bytes, guest.path.clone()));
    }
    Ok(guests)
}

fn workers(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    let wanted = match session.options.instances {
        Some(instances) => instances,
        None if session.options.is_quick => INSTANCES_QUICK,
        None => {
            let fit = account::available_bytes()?.saturating_sub(SPARE_BYTES) / PLANNED_BYTES;
            u32::try_from(fit).unwrap_or(INSTANCES_MAX).min(INSTANCES_MAX)
        }
    };
    session.note(&format!("density: {wanted} workers"));
    let platform = Platform::start(session, Cores::All)?;
    let worker = guests::worker()?;
    let app = App {
        name: "workers",
        process: "worker",
        component: &worker,
        limits: WORKER,
    };
    let project = platform.deploy(&app)?;
    // The first one maps the code, and makes the threads and arenas that every later one uses.
    platform.scale(&project, "worker=1")?;
    let (node, up) = (platform.node_pid()?, platform.up_pid());
    let before = Memory::of(node)?;
    let up_before = Memory::of(up)?;
    let (mut running, mut elapsed) = (1, Duration::ZERO);
    while running < wanted {
        let step = STEP.min(wanted);
        let next = (running / step + 1).saturating_mul(step).min(wanted);
        let took = platform.scale(&project, &format!("worker={next}"))?;
        ensure!(platform.node_pid()? == node, "the node died at {next} workers");
        if next == STEP {
            let figure = Figure::new(BENCH, "workers: 100,000 running", took.as_secs_f64(), "s");
            report.add(figure.goal(Goal::AtMost(10.0)));
        }
        elapsed += took;
        session.note(&format!(
            "density: {next} workers after {:.1} s",
            elapsed.as_secs_f64()
        ));
        running = next;
    }
    let count = u64::from(running - 1);
    let after = Memory::of(node)?;
    let figure = Figure::new(BENCH, "workers: live", f64::from(running), "instances");
    report.add(goal_if(running >= 100_000, figure, Goal::AtLeast(500_000.0)));
    let rate = as_f64(count) / elapsed.as_secs_f64();
    let figure = Figure::new(BENCH, "workers: start rate", rate, "1/s");
    report.add(figure.goal(Goal::AtLeast(15_000.0)));
    worker_memory(report, &after, &before, running);
    let [control, ..] = Memory::of(up)?.each_since(&up_before, count);
    report.add(Figure::new(
        BENCH,
        "workers: control plane, each",
        control / KIB,
        "KiB",
    ));
    let maps = as_f64(account::maps(node)?);
    report.add(Figure::new(
        BENCH,
        "workers: memory maps of the node",
        maps,
        "maps",
    ));
    let ps = Instant::now();
    platform.run(&project, &["ps"])?;
    let figure = Figure::new(BENCH, "workers: ps", ps.elapsed().as_secs_f64() * 1e3, "ms");
    report.add(figure.goal(Goal::AtMost(1_000.0)));
    session.note("density: none again");
    let took = platform.scale(&project, "worker=0")?;
    let figure = Figure::new(BENCH, "workers: all ended", took.as_secs_f64(), "s");
    report.add(figure);
    let [resident, tables, _] = idle(session, node)?.each_since(&before, count);
    report.add(Figure::new(
        BENCH,
        "workers: kept after they ended, each",
        (resident + tables) / KIB,
        "KiB",
    ));
    Ok(())
}

/// Memory of a node that has nothing to do: the least it is, once it has not become less for a while.
fn idle(session: &Session<'_>, node: i32) -> anyhow::Result<Memory> {
    let bytes = |memory: &Memory| memory.anonymous + memory.tables;
    let mut least = Memory::of(node)?;
    let mut since = Instant::now();
    while since.elapsed() < GIVES_BACK {
        session.pass(GIVES_BACK / 12)?;
        let now = Memory::of(node)?;
        if bytes(&now) < bytes(&least) {
            (least, since) = (now, Instant::now());
        }
    }
    Ok(least)
}

fn goal_if(applies: bool, figure: Figure, goal: Goal) -> Figure {
    if applies { figure.goal(goal) } else { figure }
}

fn worker_memory(report: &mut Report, after: &Memory, before: &Memory, running: u32) {
    let [resident, tables, kernel] = after.each_since(before, u64::from(running - 1));
    let is_many = running >= KERNEL_INSTANCES_MIN;
    let kernel = if is_many { kernel.max(0.0) } else { 0.0 };
    let all = resident + tables + kernel;
    let mut add = |name: &str, value: f64| {
        report.add(Figure::new(
            BENCH,
            format!("workers: {name}, each"),
            value / KIB,
            "KiB",
        ));
    };
    add("resident", resident);
    add("page tables", tables);
    if is_many {
        add("kernel", kernel);
    }
    let figure = Figure::new(BENCH, "workers: memory all in, each", all / KIB, "KiB");
    report.add(goal_if(is_many, figure, Goal::AtMost(40.0)));
    let per_gib = f64::from(1 << 30) / all.max(1.0);
    let figure = Figure::new(BENCH, "workers: per GiB", per_gib, "instances");
    report.add(goal_if(is_many, figure, Goal::AtLeast(25_000.0)));
}

/// Web instances that have answered and wait, each with a lane of its own.
fn warm_web(
    session: &Session<'_>,
    report: &mut Report,
    name: &str,
    component: &[u8],
    path: &str,
) -> anyhow::Result<()> {
    let count = session.pick(50, 200);
    session.note(&format!("density: {count} warm web instances of {name}"));
    let platform = Platform::start(session, Cores::All)?;
    let app = App {
        name: "warm",
        process: "web",
        component,
        limits: http::REUSE,
    };
    let project = platform.deploy(&app)?;
    platform.scale(&project, "web=1")?;
    get(platform.http, "warm.localhost", path)?;
    let node = platform.node_pid()?;
    platform.scale(&project, &format!("web={}", count + 1))?;
    let (before, cold) = (account::unshared_bytes(node)?, ports(&platform, &project)?);
    // Instances have a port each besides the ingress: that way every one of them gets its request.
    for port in &cold {
        get(([127, 0, 0, 1], *port).into(), "warm.localhost", path)?;
    }
    let after = account::unshared_bytes(node)?;
    let answered = cold.len() as u64 - 1;
    let each = as_f64(after.saturating_sub(before)) / as_f64(answered.max(1)) / KIB;
    let goal = match name {
        "hello" | "rust" => Some(64.0),
        "js" => Some(450.0),
        "python" => Some(1.8 * KIB),
        _ => None,
    };
    let figure = Figure::new(
        BENCH,
        format!("web: warm and idle, unshared ({name})"),
        each,
        "KiB",
    );
    report.add(match goal {
        Some(goal) => figure.goal(Goal::AtMost(goal)),
        None => figure,
    });
    Ok(())
}

/// The ports of an app's web instances.
fn ports(platform: &Platform<'_>, project: &std::path::Path) -> anyhow::Result<Vec<u16>> {
    let printed = platform.run(project, &["ps", "--all", "--json"])?;
    let ps: serde_json::Value = serde_json::from_str(&printed)?;
    let instances = ps["instances"]
        .as_array()
        .context("ps --json lists no instances")?;
    let ports = instances.iter().filter_map(|i| i["report"]["port"].as_u64());
    let ports: Vec<u16> = ports.filter_map(|port| u16::try_from(port).ok()).collect();
    ensure!(!ports.is_empty(), "no web instance has a port");
    Ok(ports)
}

/// Apps that are deployed, routed and idle.
fn scaled_to_nothing(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    let apps = session.options.apps.unwrap_or_else(|| session.pick(30, 300));
    session.note(&format!("density: {apps} apps that run nothing"));
    let platform = Platform::start(session, Cores::All)?;
    let hello = guests::hello()?;
    let deploy = |n: u32| -> anyhow::Result<()> {
        let name = format!("idle-{n}");
        let app = App {
            name: &name,
            process: "web",
            component: &hello,
            limits: "",
        };
        let project = platform.deploy(&app)?;
        platform.scale(&project, "web=1")?;
        get(platform.http, &format!("{name}.localhost"), "/")?;
        platform.scale(&project, "web=0")?;
        Ok(())
    };
    // The first ones fill the node's heaps and threads; what one more costs is counted.
    let first = apps.div_ceil(3);
    (0..first).try_for_each(deploy)?;
    let node = platform.node_pid()?;
    let before = idle(session, node)?;
    (first..first + apps).try_for_each(deploy)?;
    let after = idle(session, node)?;
    let bytes = |memory: &Memory| as_f64(memory.anonymous + memory.tables);
    let each = (bytes(&after) - bytes(&before)) / f64::from(apps.max(1)) / KIB;
    let figure = Figure::new(BENCH, "web: an app scaled to nothing", each, "KiB");
    report.add(figure.goal(Goal::AtMost(4.0)));
    Ok(())
}
