//! `bench neighbour`: what a hostile tenant costs a quiet one on the same node.
//!
//! The quiet app gets 200 requests a second, due at fixed instants, for as long as one tenant does one thing
//! that a broken or hostile program does; its p99 beside that is compared with its p99 alone. The node has
//! one core: the worst case.

use std::time::Duration;

use crate::{
    attacks::{ATTACKS, Attack, Kind, spinner},
    child::Cores,
    figure::{Figure, Goal, Report, median},
    guests,
    open_loop::{Beside, OpenLoop, Outcome},
    platform::{App, Platform},
    session::Session,
};

const BENCH: &str = "neighbour";
/// Requests a second to the quiet app.
const RATE: f64 = 200.0;
/// Connections that these come on.
const CONNECTIONS: usize = 16;
/// Connections on which an attack is requested, one request after another.
const ATTACK_CONNECTIONS: usize = 8;
/// Instances of an attack that only has to run.
const ATTACK_INSTANCES: u32 = 4;
/// Between the beginning of an attack and the measurement beside it.
const LEAD: Duration = Duration::from_millis(300);
/// A request to an attack may take so long that several are under way in each measurement.
const ATTACK: &str = "request_timeout = \"1s\"\nboot_timeout = \"5s\"\nexit_timeout = \"0s\"";
/// Little memory each, so that a node may promise a thousand of them.
const SPINNER: &str = "memory = \"1MiB\"\nexit_timeout = \"0s\"";
const SPINNERS: u32 = 1_000;
/// The measurement begins when all of them run, or after this.
const SPINNERS_SECONDS_MAX: &str = "30";
const QUIET: &str = "quiet";

/// The quiet app's p99, and its failures.
struct Quiet<'a> {
    session: &'a Session<'a>,
    platform: &'a Platform<'a>,
    window: Duration,
    failures: u64,
}

impl Quiet<'_> {
    fn measure(&mut self, beside: Option<Beside>) -> anyhow::Result<f64> {
        self.session.check()?;
        let host = format!("{QUIET}.localhost");
        let load = OpenLoop {
            address: self.platform.http,
            host: &host,
            path: "/",
            rate: RATE,
            connections: CONNECTIONS,
            duration: self.window,
        };
        let outcome: Outcome = load.run_beside(beside)?;
        self.failures += outcome.failures;
        Ok(outcome.ms_at(0.99))
    }
}

pub(crate) fn run(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    let platform = Platform::start(session, Cores::First)?;
    let hello = guests::hello()?;
    let app = App {
        name: QUIET,
        process: "web",
        component: &hello,
        limits: "",
    };
    let project = platform.deploy(&app)?;
    platform.scale(&project, "web=1")?;
    platform.wait_until_it_answers(QUIET)?;
    let by_mode = session.pick(Duration::from_millis(800), Duration::from_secs(4));
    let mut quiet = Quiet {
        session,
        platform: &platform,
        window: session.options.load.unwrap_or(by_mode),
        failures: 0,
    };
    session.note("neighbour: alone");
    quiet.measure(None)?;
    let mut alone = Vec::new();
    for _ in 0..5 {
        alone.push(quiet.measure(None)?);
    }
    let base = median(&alone);
    report.add(Figure::median(BENCH, "quiet app's p99, alone", &alone, "ms"));
    let mut worst: f64 = 0.0;
    for (n, attack) in (1..).zip(ATTACKS.iter().filter(|a| a.is_quick || !session.options.is_quick)) {
        session.note(&format!("neighbour: beside {}", attack.name));
        match beside(session, &platform, &mut quiet, attack, n)? {
            Some(p99) => {
                worst = worst.max(p99 - base);
                report.add(added(format!("p99 beside {}, added", attack.name), p99 - base));
            }
            None => report.note(format!("neighbour: {} is refused at its deploy", attack.name)),
        }
    }
    report.add(added("p99 beside the worst attack, added".to_owned(), worst).goal(Goal::AtMost(10.0)));
    spinners(session, &platform, &mut quiet, report, base)?;
    let failures = Figure::new(
        BENCH,
        "failed requests of the quiet app",
        crate::load::as_f64(quiet.failures),
        "requests",
    );
    report.add(failures.goal(Goal::AtMost(0.0)));
    Ok(())
}

fn added(name: String, ms: f64) -> Figure {
    Figure::new(BENCH, name, ms, "ms")
}

/// The quiet app's p99 while one tenant does this; none when the platform does not let it in.
fn beside(
    session: &Session<'_>,
    platform: &Platform<'_>,
    quiet: &mut Quiet<'_>,
    attack: &Attack,
    n: u32,
) -> anyhow::Result<Option<f64>> {
    let (name, component) = (format!("attack-{n}"), attack.component()?);
    let (process, count) = match attack.kind() {
        Kind::Web => ("web", 1),
        Kind::Worker => ("worker", ATTACK_INSTANCES),
    };
    let app = App {
        name: &name,
        process,
        component: &component,
        limits: ATTACK,
    };
    let project = platform.project(&app)?;
    if platform.run(&project, &["deploy", "-m", "bench"]).is_err() {
        session.check()?;
        return Ok(None);
    }
    // It may never be running: that is what some of them do.
    platform.run(&project, &["scale", &format!("{process}={count}"), "--no-wait"])?;
    session.pass(LEAD)?;
    let beside = (attack.kind() == Kind::Web).then(|| Beside {
        host: format!("{name}.localhost"),
        connections: ATTACK_CONNECTIONS,
    });
    let p99 = quiet.measure(beside)?;
    platform.run(&project, &["scale", &format!("{process}=0"), "--no-wait"])?;
    session.pass(LEAD)?;
    Ok(Some(p99))
}

fn spinners(
    session: &Session<'_>,
    platform: &Platform<'_>,
    quiet: &mut Quiet<'_>,
    report: &mut Report,
    base: f64,
) -> anyhow::Result<()> {
    session.note(&format!("neighbour: beside {SPINNERS} instances that spin"));
    let component = spinner()?;
    let app = App {
        name: "spinners",
        process: "worker",
        component: &component,
        limits: SPINNER,
    };
    let project = platform.deploy(&app)?;
    let counts = format!("worker={SPINNERS}");
    if let Err(late) = platform.run(&project, &["scale", &counts, "--timeout", SPINNERS_SECONDS_MAX]) {
        session.check()?;
        report.note(format!(
            "neighbour: not all spinning instances were running: {late:#}"
        ));
    }
    session.pass(LEAD)?;
    let mut p99 = Vec::new();
    for _ in 0..session.pick(3, 5) {
        p99.push(quiet.measure(None)? - base);
    }
    let figure = Figure::median(BENCH, "p99 beside 1,000 spinning instances, added", &p99, "ms");
    report.add(figure.goal(Goal::AtMost(30.0)));
    platform.run(&project, &["scale", "worker=0", "--no-wait"])?;
    Ok(())
}
