//! `bench http`: the same requests to gilliam's ingress and to its peers, in turns, in one run.
//!
//! All servers run from the beginning, pinned to the first core; each round loads one after another. Shares
//! are taken within a round and their median over the rounds is the figure, so that a machine that changes
//! its speed changes all.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;

use crate::{
    account::cpu_us,
    child::Cores,
    figure::{Figure, Goal, Report, median},
    guests,
    load::{Load, as_f64},
    open_loop::OpenLoop,
    peers::{Peer, Serve},
    platform::{App, Platform, get},
    session::Session,
};

const BENCH: &str = "http";
/// Turns that every server has.
const ROUNDS: usize = 5;
/// Before it is measured a server is loaded for this long.
const WARM_UP: Duration = Duration::from_millis(300);
/// The share of a server's requests at which its p99 is taken.
const HALF: f64 = 0.5;
/// Limits that the load cannot reach: what is measured is the way, not the fence.
pub(crate) const WIDE: &str = "concurrency = 256\nbacklog = 1024";
/// One instance answers all requests of a lane.
pub(crate) const REUSE: &str = "concurrency = 256\nbacklog = 1024\nreuse = \"always\"";

/// A server to load.
struct Target {
    name: String,
    address: SocketAddr,
    host: String,
    path: String,
    pid: i32,
    is_peer: bool,
    /// A figure of each round.
    per_second: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    cpu_us: Vec<f64>,
    half_p99_ms: Vec<f64>,
}

impl Target {
    fn new(name: &str, address: SocketAddr, host: &str, path: &str, pid: i32) -> Self {
        Self {
            name: name.to_owned(),
            address,
            host: host.to_owned(),
            path: path.to_owned(),
            pid,
            is_peer: !name.starts_with("gilliam"),
            per_second: Vec::new(),
            p50_ms: Vec::new(),
            p99_ms: Vec::new(),
            cpu_us: Vec::new(),
            half_p99_ms: Vec::new(),
        }
    }

    fn load(&self, connections: usize, duration: Duration) -> anyhow::Result<crate::load::Seen> {
        let load = Load {
            duration,
            connections,
        };
        load.run(self.address, &self.host, &self.path)
            .with_context(|| format!("{} under load", self.name))
    }

    /// One turn.
    fn measure(&mut self, connections: usize, duration: Duration) -> anyhow::Result<()> {
        let before = cpu_us(self.pid)?;
        let seen = self.load(connections, duration)?;
        let cpu = as_f64(cpu_us(self.pid)? - before) / as_f64(seen.requests.max(1));
        self.per_second.push(seen.per_second());
        self.p50_ms.push(seen.us_at(0.5) / 1e3);
        self.p99_ms.push(seen.us_at(0.99) / 1e3);
        self.cpu_us.push(cpu);
        Ok(())
    }

    /// One turn at half of what it can do.
    fn measure_half(&mut self, connections: usize, duration: Duration) -> anyhow::Result<()> {
        let load = OpenLoop {
            address: self.address,
            host: &self.host,
            path: &self.path,
            rate: (median(&self.per_second) * HALF).max(1.0),
            connections,
            duration,
        };
        let outcome = load.run()?;
        anyhow::ensure!(
            outcome.failures == 0,
            "{}: {} requests failed",
            self.name,
            outcome.failures
        );
        self.half_p99_ms.push(outcome.ms_at(0.99));
        Ok(())
    }

    fn report(&self, report: &mut Report) {
        let mut add = |what: &str, values: &[f64], unit: &'static str| {
            if values.is_empty() {
                return;
            }
            let figure = Figure::median(BENCH, format!("{}: {what}", self.name), values, unit);
            report.add(if self.is_peer { figure.of_peer() } else { figure });
        };
        add("requests", &self.per_second, "1/s");
        add("CPU per request", &self.cpu_us, "us");
        add("p50", &self.p50_ms, "ms");
        add("p99", &self.p99_ms, "ms");
        add("p99 at half load", &self.half_p99_ms, "ms");
    }
}

/// Requests per second, latency and CPU per request of each, and the shares.
pub(crate) fn run(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    session.note("http: starting the servers");
    let platform = Platform::start(session, Cores::First)?;
    let mut targets = ours(session, &platform, report)?;
    let body = get(targets[0].address, &targets[0].host, "/")?;
    let peers = peers(session, &body, report)?;
    for (name, peer) in &peers {
        targets.push(Target::new(name, peer.address, "localhost", "/", peer.pid()));
    }
    for target in &mut targets {
        // The processes of a server that has just started may still change.
        target
            .load(1, WARM_UP / 3)
            .with_context(|| format!("{} does not answer", target.name))?;
    }
    rounds(session, &mut targets)?;
    for target in &targets {
        target.report(report);
    }
    shares(report, &targets);
    drop(peers);
    drop(platform);
    two_cores(session, report, &targets)
}

fn rounds(session: &Session<'_>, targets: &mut [Target]) -> anyhow::Result<()> {
    let (connections, duration) = (session.options.connections, session.load_time());
    for round in 0..=ROUNDS {
        session.note(&format!("http: round {round} of {ROUNDS}"));
        for target in targets.iter_mut() {
            session.check()?;
            if round == 0 {
                target.load(connections, WARM_UP.min(duration))?;
            } else {
                target.measure(connections, duration)?;
            }
        }
    }
    session.note("http: latency at half load");
    for _ in 0..ROUNDS {
        for target in targets.iter_mut().filter(|t| has_half(&t.name)) {
            session.check()?;
            target.measure_half(connections, duration / 2)?;
        }
    }
    Ok(())
}

/// Whose latency at half load is of interest.
fn has_half(name: &str) -> bool {
    name.starts_with("gilliam") || name == NATIVE
}

const FRESH: &str = "gilliam 0.2 fresh";
const REUSED: &str = "gilliam 0.2 reused";
const P3: &str = "gilliam 0.3";
const NATIVE: &str = "native hyper";
const NGINX: &str = "nginx static";
const SERVE: &str = "wasmtime serve 0.2";
const SERVE_REUSE: &str = "wasmtime serve 0.2 reused";
const SERVE_P3: &str = "wasmtime serve 0.3";

/// Deploys what is measured of ours.
fn ours(session: &Session<'_>, platform: &Platform<'_>, report: &mut Report) -> anyhow::Result<Vec<Target>> {
    let (hello, hello_p3) = (guests::hello()?, guests::hello_p3()?);
    let mut apps = vec![
        (
            FRESH.to_owned(),
            "fresh".to_owned(),
            hello.clone(),
            WIDE,
            "/".to_owned(),
        ),
        (
            REUSED.to_owned(),
            "reused".to_owned(),
            hello,
            REUSE,
            "/".to_owned(),
        ),
        (P3.to_owned(), "async".to_owned(), hello_p3, WIDE, "/".to_owned()),
    ];
    for guest in &session.options.guests {
        let bytes =
            std::fs::read(&guest.file).with_context(|| format!("cannot read {}", guest.file.display()))?;
        let name = format!("gilliam {} fresh", guest.name);
        apps.push((
            name,
            format!("guest-{}", guest.name),
            bytes,
            WIDE,
            guest.path.clone(),
        ));
    }
    let mut targets = Vec::new();
    for (name, app, component, limits, path) in apps {
        let app = App {
            name: &app,
            process: "web",
            component: &component,
            limits,
        };
        let project = match platform.deploy(&app) {
            Ok(project) => project,
            Err(error) if targets.is_empty() => return Err(error),
            Err(error) => {
                report.note(format!("http: {name} is left out: {error:#}"));
                continue;
            }
        };
        platform.scale(&project, "web=1")?;
        let host = format!("{}.localhost", app.name);
        session.wait(&format!("an answer of {name}"), || {
            get(platform.http, &host, &path).ok()
        })?;
        targets.push(Target::new(
            &name,
            platform.http,
            &host,
            &path,
            platform.node_pid()?,
        ));
    }
    Ok(targets)
}

/// Starts the peers that are there; says which are not.
fn peers(
    session: &Session<'_>,
    body: &[u8],
    report: &mut Report,
) -> anyhow::Result<Vec<(&'static str, Peer)>> {
    let mut peers = vec![(NATIVE, Peer::native(session, body)?)];
    match session.nginx() {
        Some(nginx) => peers.push((NGINX, Peer::nginx(session, &nginx, body)?)),
        None => report.note("http: nginx is not installed and left out; name one with --nginx"),
    }
    let Some(wasmtime) = session.wasmtime() else {
        report.note("http: wasmtime is not installed and left out; name one with --wasmtime");
        return Ok(peers);
    };
    let (hello, hello_p3) = (guests::hello()?, guests::hello_p3()?);
    for (name, component, how) in [
        (SERVE, &hello, Serve::Default),
        (SERVE_REUSE, &hello, Serve::Reuse),
        (SERVE_P3, &hello_p3, Serve::P3),
    ] {
        peers.push((name, Peer::wasmtime(session, &wasmtime, component, how)?));
    }
    Ok(peers)
}

/// The ratios that have a goal, each within a round.
///
/// What a core serves in a second is told by the CPU time of a request. Requests per second of the clock say the
/// same on a core that nobody else uses, and something else on one that a hypervisor lends out meanwhile; so
/// these are shown without a goal.
fn shares(report: &mut Report, targets: &[Target]) {
    let goals: [(&str, &str, f64); 6] = [
        (FRESH, NATIVE, 0.24),
        (FRESH, SERVE, 3.0),
        (REUSED, NATIVE, 0.55),
        (REUSED, SERVE_REUSE, 1.4),
        (P3, NATIVE, 0.24),
        (P3, SERVE_P3, 1.1),
    ];
    let find = |name: &str| targets.iter().find(|t| t.name == name);
    let ratios =
        |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a / b.max(1e-3)).collect() };
    for (ours, theirs, goal) in goals {
        let (Some(a), Some(b)) = (find(ours), find(theirs)) else {
            continue;
        };
        let per_core = ratios(&b.cpu_us, &a.cpu_us);
        let figure = Figure::median(
            BENCH,
            format!("{ours} / {theirs}: requests per core"),
            &per_core,
            "x",
        );
        report.add(figure.goal(Goal::AtLeast(goal)));
        let by_clock = ratios(&a.per_second, &b.per_second);
        let name = format!("{ours} / {theirs}: requests per second");
        report.add(Figure::median(BENCH, name, &by_clock, "x"));
    }
    for target in targets.iter().filter(|t| !t.half_p99_ms.is_empty()) {
        let Some(native) = find(NATIVE).filter(|_| target.name != NATIVE) else {
            continue;
        };
        let latency = ratios(&target.half_p99_ms, &native.half_p99_ms);
        let name = format!("{}: p99 at half load / {NATIVE}", target.name);
        report.add(Figure::median(BENCH, name, &latency, "x").goal(Goal::AtMost(2.0)));
    }
}

/// The same server on two cores, which the load shares, beside what it did on one.
fn two_cores(session: &Session<'_>, report: &mut Report, targets: &[Target]) -> anyhow::Result<()> {
    if crate::load::cores_of_machine() < 2 {
        report.note("http: two cores are not measured: this machine has one");
        return Ok(());
    }
    session.note("http: two cores");
    let platform = Platform::start(session, Cores::All)?;
    let mut all = ours(session, &platform, report)?;
    let (connections, duration) = (session.options.connections, session.load_time());
    all.retain(|target| target.name == FRESH || target.name == REUSED);
    for target in &mut all {
        target.load(connections, WARM_UP)?;
        for _ in 0..ROUNDS {
            session.check()?;
            target.measure(connections, duration)?;
        }
        let name = format!("{} on two cores", target.name);
        report.add(Figure::median(
            BENCH,
            format!("{name}: requests"),
            &target.per_second,
            "1/s",
        ));
        report.add(Figure::median(
            BENCH,
            format!("{name}: CPU per request"),
            &target.cpu_us,
            "us",
        ));
        if let Some(one) = targets.iter().find(|one| one.name == target.name) {
            let ratio = median(&target.per_second) / median(&one.per_second);
            let figure = Figure::new(BENCH, format!("{} / on one", name), ratio, "x");
            report.add(match target.name == FRESH {
                true => figure.goal(Goal::AtLeast(1.4)),
                false => figure,
            });
        }
    }
    Ok(())
}
