//! Starts and stops without number leave nothing behind.
//!
//! `GILLIAM_LEAK_STARTS` says how many; `make soak` asks for a million.

mod support;

use gilliam_engine::{CommandInstance, ExitReason, HttpInstance, Loaded};
use gilliam_model::limits::Limits;
use support::{ANSWER, command_guest, config, fetch, guestbook, hello_p3, http_guest, loaded, start};

/// Starts in an ordinary run: enough for a leak of 8 KiB each to show.
const STARTS: u64 = 4_000;
/// Starts at once.
const AT_ONCE: u64 = 32;
/// What the heap may grow by after its first fifth, however many starts there are.
const RSS_SLACK_BYTES: u64 = 16 << 20;

fn starts() -> u64 {
    match std::env::var("GILLIAM_LEAK_STARTS") {
        Ok(count) => count.parse().expect("GILLIAM_LEAK_STARTS is a number"),
        Err(_) => STARTS,
    }
}

async fn command(loaded: &Loaded) {
    let (config, _log) = config(Limits::default());
    let command = CommandInstance::start(loaded, config).expect("starts");
    assert_eq!(command.wait().await, ExitReason::Ok);
}

async fn killed(loaded: &Loaded) {
    let (config, _log) = config(Limits::default());
    let command = CommandInstance::start(loaded, config).expect("starts");
    command.kill();
    assert!(matches!(command.wait().await, ExitReason::Killed { .. }));
}

/// One start of each kind: a fresh lane of 0.2, a whole 0.3 instance, a command that ends and one that is killed.
async fn round(web: &HttpInstance, p3: &Loaded, ends: &Loaded, waits: &Loaded) {
    assert_eq!(fetch(web, "/").await.expect("an answer").status, 200);
    let (instance, _log) = start(p3, Limits::default()).await;
    assert_eq!(fetch(&instance, "/").await.expect("an answer").status, 200);
    command(ends).await;
    killed(waits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_and_stops_leave_no_memory_and_no_descriptor_behind() {
    let handler = "(call $answer (local.get $out) (i32.const 200))";
    let (web, _log) = start(&loaded(&http_guest(ANSWER, handler)), Limits::default()).await;
    let (p3, _kept) = (hello_p3(), guestbook());
    let ends = loaded(&command_guest("", "(i32.const 0)"));
    let waits = r#"(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration"
            (func $after (param i64) (result i32)))
        (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))"#;
    let waits = command_guest(waits, "(call $block (call $after (i64.const -1))) (i32.const 0)");
    let waits = loaded(&waits);
    let rounds = starts().div_ceil(4 * AT_ONCE);
    let mut before = None;
    for turn in 0..rounds {
        let at_once = (0..AT_ONCE).map(|_| round(&web, &p3, &ends, &waits));
        futures::future::join_all(at_once).await;
        if turn == rounds / 5 {
            before = Some((support::rss_bytes(), support::descriptors()));
        }
    }
    let (rss, descriptors) = before.expect("a fifth of the rounds");
    let after = support::rss_bytes();
    assert!(
        after < rss + RSS_SLACK_BYTES,
        "RSS {rss}, then {after} after {} starts",
        starts()
    );
    assert!(support::descriptors() <= descriptors + 2);
    println!("{} starts: RSS {rss}, then {after}", rounds * 4 * AT_ONCE);
}
