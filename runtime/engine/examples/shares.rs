//! Prints what shares of a core guests get that ask for 2 to 90 % and spin: alone, in several lanes, and ten
//! thousand at once. `cargo run --release -p gilliam-engine --example shares [INSTANCES]`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use gilliam_engine::{CommandInstance, HttpInstance, Loaded};
use gilliam_model::limits::Limits;
use support::{ANSWER, command_guest, config, http_guest, loaded_among};

/// The time over which a share is taken.
const OVER: Duration = Duration::from_secs(1);
const SHARES_MILLIS: [u32; 5] = [20, 100, 250, 500, 900];
/// Instances that share one core.
const MANY: u32 = 10_000;

fn many() -> u32 {
    std::env::args()
        .nth(1)
        .map_or(MANY, |count| count.parse().expect("a number"))
}

fn loaded(component: &[u8]) -> Loaded {
    loaded_among(many() + 200, component)
}

fn limits(cpu_millis: u32) -> Limits {
    Limits {
        cpu_millis,
        memory_bytes_max: 1 << 20,
        fuel_per_request_max: 1_000_000_000_000_000,
        request_ms_max: 60_000,
        ..Limits::default()
    }
}

fn start(loaded: &Loaded, cpu_millis: u32) -> CommandInstance {
    let (config, _log) = config(limits(cpu_millis));
    CommandInstance::start(loaded, config).expect("starts")
}

fn row(what: &str, asked_millis: f64, spent: Duration, wall: Duration) {
    let got = spent.as_secs_f64() / wall.as_secs_f64() * 1_000.0;
    let off = (got / asked_millis - 1.0) * 100.0;
    println!(
        "{what:<28} asked {:>6.1} %  got {:>6.2} %  ({off:+.1} %)",
        asked_millis / 10.0,
        got / 10.0
    );
}

async fn measure(what: &str, asked_millis: u32, cpu_ns: impl Fn() -> u64) {
    let (start, before) = (Instant::now(), cpu_ns());
    tokio::time::sleep(OVER).await;
    let spent = Duration::from_nanos(cpu_ns() - before);
    row(what, f64::from(asked_millis), spent, start.elapsed());
}

#[tokio::main]
async fn main() {
    let spin = loaded(&command_guest("", "(loop (br 0)) (i32.const 0)"));
    let web = loaded(&http_guest(ANSWER, "(loop (br 0))"));
    for cpu_millis in SHARES_MILLIS {
        let command = start(&spin, cpu_millis);
        measure("first second", cpu_millis, || command.usage().cpu_ns_total).await;
        measure("second second", cpu_millis, || command.usage().cpu_ns_total).await;
        drop(command);
        let (config, _log) = config(limits(cpu_millis));
        let lanes = HttpInstance::start(&web, config).await.expect("starts");
        let calls = futures::future::join_all((0..4).map(|_| lanes.call(support::get("/"))));
        tokio::select! {
            _ = calls => println!("a spinner answered"),
            () = measure("four lanes", cpu_millis, || lanes.usage().cpu_ns_total) => {}
        }
    }
    crowds(&spin).await;
}

/// So many at once that all they ask for is one core, and then more than there is.
async fn crowds(spin: &Loaded) {
    let all: Vec<_> = (0..100).map(|_| start(spin, 10)).collect();
    tokio::time::sleep(OVER).await;
    spread(&all, 10).await;
    drop(all);
    let all: Vec<_> = (0..many()).map(|_| start(spin, 10)).collect();
    tokio::time::sleep(3 * OVER).await;
    spread(&all, 10).await;
}

/// The least and the most that one of them got.
async fn spread(all: &[CommandInstance], asked_millis: u32) {
    let had = || all.iter().map(|one| one.usage().cpu_ns_total).collect::<Vec<_>>();
    let (start, before) = (Instant::now(), had());
    tokio::time::sleep(5 * OVER).await;
    let mut spent: Vec<_> = had()
        .iter()
        .zip(&before)
        .map(|(had, before)| had - before)
        .collect();
    let wall = start.elapsed();
    spent.sort_unstable();
    let sum: u64 = spent.iter().sum();
    println!(
        "{} instances had {:.2} cores together",
        all.len(),
        sum as f64 / wall.as_nanos() as f64
    );
    for (what, at) in [
        ("  the least", 0),
        ("  the median", spent.len() / 2),
        ("  the most", spent.len() - 1),
    ] {
        row(
            what,
            f64::from(asked_millis),
            Duration::from_nanos(spent[at]),
            wall,
        );
    }
}
