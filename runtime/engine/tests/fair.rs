//! Who gets the CPU: quiet guests beside many that spin, shares, sleepers, the end of a spinner.
//!
//! What others had meanwhile is counted in CPU time, which a busy machine does not stretch; nothing here is
//! timed by the wall.

mod support;

use std::time::{Duration, Instant};

use gilliam_engine::{CommandInstance, ExitReason, HttpInstance, Loaded};
use gilliam_model::limits::Limits;
use support::{ANSWER, DEADLINE, command_guest, config, fetch, http_guest, loaded_among, process};
use tokio::sync::Mutex;

/// Instances that spin at once in an ordinary run; `GILLIAM_SPINNERS=10000` asks for more.
const SPINNERS: u32 = 2_000;
/// CPU time of one slice, at least: it is a million units of fuel, and no loop burns them faster.
const SLICE_MIN: Duration = Duration::from_micros(20);

/// Held by a test that counts what the others had: they share the guest threads.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Requests of the quiet one.
const REQUESTS: u32 = 20;

fn n_spinners() -> u32 {
    match std::env::var("GILLIAM_SPINNERS") {
        Ok(count) => count.parse().expect("GILLIAM_SPINNERS is a number"),
        Err(_) => SPINNERS,
    }
}

/// CPU time of one round of all that spin, at least.
fn round_min() -> Duration {
    SLICE_MIN * n_spinners()
}

/// Engines of its own, with room for all of them.
fn loaded(component: &[u8]) -> Loaded {
    loaded_among(n_spinners() + 100, component)
}

fn spin() -> Loaded {
    loaded(&command_guest("", "(loop (br 0)) (i32.const 0)"))
}

/// A guest that works for some slices, so that it is handed over, and answers.
fn works() -> Loaded {
    let handler = "(local $left i32)
        (local.set $left (i32.const 1000000))
        (loop (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (call $answer (local.get $out) (i32.const 200))";
    loaded(&http_guest(ANSWER, handler))
}

fn start(loaded: &Loaded, app: &str, cpu_millis: u32) -> CommandInstance {
    let (mut config, _log) = config(Limits {
        cpu_millis,
        ..Limits::default()
    });
    process(&mut config).app = app.into();
    CommandInstance::start(loaded, config).expect("starts")
}

async fn start_http(loaded: &Loaded, app: &str, limits: Limits) -> HttpInstance {
    let (mut config, _log) = config(limits);
    process(&mut config).app = app.into();
    HttpInstance::start(loaded, config).await.expect("starts")
}

fn cpu(instances: &[CommandInstance]) -> Duration {
    let ns = instances.iter().map(|instance| instance.usage().cpu_ns_total);
    Duration::from_nanos(ns.sum())
}

/// The middle one: a machine that is shared stands still within some of them, and not within most.
fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[spans.len() / 2]
}

async fn spinners(app: impl Fn(u32) -> String) -> Vec<CommandInstance> {
    let spin = spin();
    let all: Vec<_> = (0..n_spinners()).map(|n| start(&spin, &app(n), 1_000)).collect();
    support::until("each has run", || {
        all.iter().all(|one| one.usage().cpu_ns_total > 0)
    })
    .await;
    all
}

/// Ends them, so that their slots are free.
async fn end(all: Vec<CommandInstance>) {
    all.iter().for_each(CommandInstance::kill);
    for one in &all {
        let reason = tokio::time::timeout(DEADLINE, one.wait()).await;
        assert_eq!(reason.expect("it ends"), ExitReason::Killed { code: None });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_app_goes_before_thousands_that_spin() {
    let _alone = ALONE.lock().await;
    // Of one app, then each of an app of its own.
    for apps in [1, n_spinners()] {
        let loud = spinners(|n| format!("loud-{}", n % apps)).await;
        let quiet = start_http(&works(), "quiet", Limits::default()).await;
        let mut meanwhile = Vec::new();
        for _ in 0..REQUESTS {
            // It is quiet between two requests: it uses less than a twentieth of a core.
            let paused = cpu(&loud) + Duration::from_millis(200);
            support::until("the loud ones go on", || cpu(&loud) > paused).await;
            let before = cpu(&loud);
            assert_eq!(fetch(&quiet, "/").await.expect("an answer").status, 200);
            meanwhile.push(cpu(&loud) - before);
        }
        // Before anything is asserted: others need the slots.
        end(loud).await;
        // In turn with all it would be some rounds, one for each of its slices.
        assert!(
            median(meanwhile.clone()) < round_min(),
            "{meanwhile:?} of the loud ones in a request, {apps} apps; it had {:?}",
            Duration::from_nanos(quiet.usage().cpu_ns_total) / REQUESTS
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spinner_among_thousands_is_killed_at_once() {
    let _alone = ALONE.lock().await;
    let mut loud = spinners(|_| "loud".to_owned()).await;
    let mut meanwhile = Vec::new();
    for _ in 0..20 {
        let victim = loud.swap_remove(loud.len() / 2);
        let before = cpu(&loud);
        victim.kill();
        let reason = tokio::time::timeout(DEADLINE, victim.wait())
            .await
            .expect("it ends");
        assert_eq!(reason, ExitReason::Killed { code: None });
        meanwhile.push(cpu(&loud) - before);
    }
    end(loud).await;
    assert!(
        median(meanwhile.clone()) < round_min() / 2,
        "{meanwhile:?} in twenty kills"
    );
}

#[tokio::test]
async fn a_guest_in_debt_is_killed_at_once() {
    let _alone = ALONE.lock().await;
    // A fill of 64 MiB in one slice, time and again, on the least share there is: a debt of about a second.
    let fill = "(drop (memory.grow (i32.const 900)))
        (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 50000000)) (br 0)) (i32.const 0)";
    let command = start(&loaded(&command_guest("", fill)), "app", 10);
    support::until("it is in debt", || command.usage().cpu_ns_total > 5_000_000).await;
    let had = command.usage().cpu_ns_total;
    let start = Instant::now();
    command.kill();
    let reason = tokio::time::timeout(DEADLINE, command.wait())
        .await
        .expect("it ends");
    assert_eq!(reason, ExitReason::Killed { code: None });
    // Waiting would have taken a hundred times what it had.
    let debt = Duration::from_nanos(had) * 100;
    assert!(start.elapsed() < debt, "{:?} of {debt:?}", start.elapsed());
    assert_eq!(command.usage().memory_bytes, 0);
}

#[tokio::test]
async fn a_guest_that_sleeps_is_not_charged() {
    let _alone = ALONE.lock().await;
    let clock = r#"(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration"
            (func $after (param i64) (result i32)))
        (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))"#;
    let sleeps = "(local $left i32)
        (local.set $left (i32.const 10))
        (loop
            (call $block (call $after (i64.const 30000000)))
            (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (i32.const 0)";
    let command = start(&loaded(&command_guest(clock, sleeps)), "app", 1_000);
    let reason = tokio::time::timeout(DEADLINE, command.wait())
        .await
        .expect("it ends");
    assert_eq!(reason, ExitReason::Ok);
    // It slept for 300 ms.
    let spent = Duration::from_nanos(command.usage().cpu_ns_total);
    assert!(spent < Duration::from_millis(50), "{spent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_are_had_in_proportion_whatever_the_lanes() {
    let _alone = ALONE.lock().await;
    // Of one app, so that the ratio is the same where a busy machine gives less than was asked for.
    let spin = spin();
    let (small, large) = (start(&spin, "app", 20), start(&spin, "app", 100));
    let limits = Limits {
        cpu_millis: 100,
        fuel_per_request_max: 1_000_000_000_000_000,
        ..Limits::default()
    };
    let spin = loaded(&http_guest(ANSWER, "(loop (br 0))"));
    let lanes = start_http(&spin, "app", limits).await;
    let calls = futures::future::join_all((0..8).map(|_| lanes.call(support::get("/"))));
    let enough = support::until("it had enough", || small.usage().cpu_ns_total > 60_000_000);
    tokio::select! {
        _ = calls => panic!("a spinner answered"),
        () = enough => {}
    }
    let unit = small.usage().cpu_ns_total;
    for (what, had) in [("one", large.usage()), ("eight lanes", lanes.usage())] {
        let ratio = had.cpu_ns_total as f64 / unit as f64;
        assert!(
            (3.0..7.0).contains(&ratio),
            "{what}: {ratio} times a fifth of its share"
        );
    }
}
