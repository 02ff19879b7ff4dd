//! Guests that do what a broken or hostile program does: each gets its code, and the host goes on.

mod support;

use std::time::{Duration, Instant};

use gilliam_engine::{CallError, EntryStream, HttpInstance, StartError};
use gilliam_model::{code::Code, limits::Limits};
use http_body_util::BodyExt as _;
use support::{ANSWER, Log, config, fetch, get, guestbook, hello_p3, http_guest, loaded, start};

/// The most that the limit can be: time runs out first.
const FUEL_MAX: u64 = 1_000_000_000_000_000;

async fn call_fails(instance: &HttpInstance, path: &str) -> CallError {
    fetch(instance, path).await.expect_err("the guest fails")
}

async fn start_fails(component: &[u8], limits: Limits) -> StartError {
    let (config, _log) = config(limits);
    HttpInstance::start(&loaded(component), config)
        .await
        .expect_err("the guest fails")
}

/// An instance of a guest whose handler has this body.
async fn start_guest(fields: &str, handler: &str, limits: Limits) -> (HttpInstance, Log) {
    start(&loaded(&http_guest(fields, handler)), limits).await
}

fn fuel(fuel_per_request_max: u64) -> Limits {
    Limits {
        fuel_per_request_max,
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_loop_without_end_burns_its_fuel() {
    for component in [
        support::sample("guestbook/web.wasm"),
        http_guest("", "(loop (br 0))"),
    ] {
        let (instance, mut log) = start(&loaded(&component), fuel(50_000_000)).await;
        let error = call_fails(&instance, "/spin").await;
        assert_eq!(error.code, Code::R20, "{error}");
        assert!(log.platform(Code::R20).await.contains("fuel"));
        assert_eq!(instance.usage().last_trap.expect("trap").code, Code::R20);
    }
}

#[tokio::test]
async fn a_loop_is_stopped_soon_after_the_deadline() {
    let limits = Limits {
        request_ms_max: 200,
        ..fuel(FUEL_MAX)
    };
    let (instance, mut log) = start(&guestbook(), limits).await;
    let start = Instant::now();
    assert_eq!(call_fails(&instance, "/spin").await.code, Code::H12);
    assert!(
        start.elapsed() < Duration::from_millis(1_000),
        "{:?}",
        start.elapsed()
    );
    assert!(log.platform(Code::H12).await.contains("200 ms"));
    support::until("the lane ends", || instance.usage().in_flight == 0).await;
    let spent = instance.usage().cpu_ns_total;
    assert!(spent < 1_000_000_000, "{spent} ns of CPU time");
}

#[tokio::test]
async fn a_guest_that_sleeps_for_ever_is_timed_out() {
    for loaded in [guestbook(), hello_p3()] {
        let limits = Limits {
            request_ms_max: 100,
            ..Limits::default()
        };
        let (instance, _log) = start(&loaded, limits).await;
        assert_eq!(call_fails(&instance, "/sleep?ms=600000").await.code, Code::H12);
        support::until("the lane ends", || instance.usage().in_flight == 0).await;
        assert_eq!(fetch(&instance, "/").await.expect("answer").status, 200);
    }
}

#[tokio::test]
async fn growth_beyond_the_limit_is_refused() {
    let limits = Limits {
        memory_bytes_max: 16 << 20,
        ..Limits::default()
    };
    let (instance, mut log) = start(&guestbook(), limits).await;
    let answer = fetch(&instance, "/grow?then=answer").await.expect("it copes");
    assert!(answer.body.starts_with("refused after 1"), "{}", answer.body);
    assert!(log.platform(Code::R14).await.contains("memory quota reached"));
    assert_eq!(call_fails(&instance, "/grow").await.code, Code::R14);
    let usage = instance.usage();
    assert!(
        usage.memory_bytes_peak <= 16 << 20 && usage.memory_bytes_peak > 12 << 20,
        "{usage:?}"
    );
    support::until("memory is given back", || instance.usage().memory_bytes == 0).await;
}

#[tokio::test]
async fn memory_is_summed_over_lanes() {
    // Every request takes a page more than fits eight times, then waits for the deadline.
    let grow = r#"(if (i32.eq (memory.grow (i32.const 31)) (i32.const -1)) (then unreachable))
        (loop (br 0))"#;
    let limits = Limits {
        memory_bytes_max: 100 << 16,
        request_ms_max: 400,
        ..fuel(FUEL_MAX)
    };
    let (instance, _log) = start_guest("", grow, limits).await;
    let calls = (0..6).map(|_| fetch(&instance, "/"));
    let failed = futures::future::join_all(calls)
        .await
        .into_iter()
        .map(|call| call.expect_err("fails").code);
    let failed: Vec<_> = failed.collect();
    for code in [Code::H12, Code::R14] {
        let count = failed.iter().filter(|failed| **failed == code).count();
        assert_eq!(count, 3, "{code} in {failed:?}");
    }
}

#[tokio::test]
async fn a_component_too_large_for_its_limit_does_not_start() {
    let component = http_guest(r#"(memory $big 600)"#, "");
    let limits = Limits {
        memory_bytes_max: 32 << 20,
        ..Limits::default()
    };
    assert_eq!(start_fails(&component, limits).await.code, Code::R14);
}

#[tokio::test]
async fn table_growth_is_bounded() {
    let grow = r#"(loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 100)) (i32.const -1))))"#;
    let (instance, _log) = start_guest("(table 1 funcref)", grow, Limits::default()).await;
    assert_eq!(call_fails(&instance, "/").await.code, Code::H13);
}

#[tokio::test]
async fn recursion_without_end_exhausts_the_stack() {
    let recursive = http_guest(
        "(func $f (param i64 i64) (call $f (local.get 0) (local.get 1)))",
        "(call $f (i64.const 1) (i64.const 2))",
    );
    for component in [support::sample("guestbook/web.wasm"), recursive] {
        let (instance, _log) = start(&loaded(&component), Limits::default()).await;
        assert_eq!(call_fails(&instance, "/recurse").await.code, Code::R21);
    }
}

#[tokio::test]
async fn a_trap_comes_with_its_backtrace() {
    let (instance, mut log) = start(&guestbook(), Limits::default()).await;
    let error = call_fails(&instance, "/trap").await;
    assert_eq!(error.code, Code::R23);
    assert!(
        error.message.contains("unreachable") && error.message.contains("wasm backtrace"),
        "{error}"
    );
    log.find(|entry| entry.stream == EntryStream::Stderr && entry.text.contains("panicked"))
        .await;
    assert!(log.platform(Code::R23).await.contains("backtrace"));
    assert_eq!(
        fetch(&instance, "/")
            .await
            .expect("the next one is served")
            .status,
        200
    );
    assert_eq!(instance.usage().traps_total, 1);
}

#[tokio::test]
async fn start_code_is_limited_as_well() {
    let start = |body: &str| http_guest(&format!("(func $start {body}) (start $start)"), "");
    assert_eq!(
        start_fails(&start("unreachable"), Limits::default()).await.code,
        Code::R23
    );
    assert_eq!(
        start_fails(&start("(loop (br 0))"), fuel(10_000_000)).await.code,
        Code::R20
    );
    let limits = Limits {
        boot_ms_max: 100,
        ..fuel(FUEL_MAX)
    };
    assert_eq!(start_fails(&start("(loop (br 0))"), limits).await.code, Code::R10);
}

#[tokio::test]
async fn a_flood_of_lines_is_dropped_and_counted() {
    let limits = Limits {
        log_lines_per_s_max: 10,
        ..Limits::default()
    };
    let (instance, log) = start(&guestbook(), limits).await;
    assert_eq!(
        fetch(&instance, "/flood?lines=20000")
            .await
            .expect("answer")
            .status,
        200
    );
    drop(instance);
    let lines = log.close().await;
    let printed = lines
        .iter()
        .filter(|entry| entry.stream == EntryStream::Stdout)
        .count();
    let dropped = lines
        .iter()
        .filter(|entry| entry.stream == EntryStream::Platform(Code::L12));
    let dropped: usize = dropped
        .map(|entry| {
            entry
                .text
                .split(' ')
                .next()
                .and_then(|n| n.parse::<usize>().ok())
                .expect("a number first")
        })
        .sum();
    assert_eq!(printed + dropped, 20_000);
    assert!((100..200).contains(&printed), "{printed} lines went through");
}

#[tokio::test]
async fn a_handler_that_never_answers_is_found_out() {
    let (instance, _log) = start_guest("", "", Limits::default()).await;
    assert_eq!(call_fails(&instance, "/").await.code, Code::H13);
}

#[tokio::test]
async fn a_status_that_is_no_answer_is_refused() {
    for (status, code) in [(101, Some(Code::H17)), (999, Some(Code::H17)), (418, None)] {
        let handler = format!("(call $answer (local.get $out) (i32.const {status}))");
        let (instance, _log) = start_guest(ANSWER, &handler, Limits::default()).await;
        assert_eq!(
            fetch(&instance, "/").await.err().map(|error| error.code),
            code,
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_trap_after_the_head_breaks_the_body_off() {
    let handler = "(drop (call $open (local.get $out))) unreachable";
    let (instance, _log) = start_guest(ANSWER, handler, Limits::default()).await;
    let response = instance.call(get("/")).await.expect("a head");
    let usage = support::usage(&response);
    let error = response.into_body().collect().await.expect_err("broken off");
    assert_eq!(error.code, Code::H18);
    assert!(error.message.starts_with("R23"), "{error}");
    assert_eq!(usage.finished().await.failure, Some(Code::R23));
}

#[tokio::test]
async fn a_guest_that_spins_after_its_answer_is_stopped() {
    let handler = "(call $answer (local.get $out) (i32.const 200)) (loop (br 0))";
    let (instance, mut log) = start_guest(ANSWER, handler, fuel(100_000_000)).await;
    let answer = fetch(&instance, "/").await.expect("an answer all the same");
    assert_eq!(answer.usage.finished().await.failure, Some(Code::R20));
    log.platform(Code::R20).await;
}

#[tokio::test]
async fn handles_are_bounded() {
    let handler = "(loop (drop (call $fields)) (br 0))";
    let (instance, _log) = start_guest(ANSWER, handler, Limits::default()).await;
    assert_eq!(call_fails(&instance, "/").await.code, Code::R22);
}

#[tokio::test]
async fn bytes_of_one_host_call_are_bounded() {
    let handler = "(drop (memory.grow (i32.const 100)))
        (call $write-bytes (call $open (local.get $out)) (i32.const 0) (i32.const 2000000) (i32.const 16))
        unreachable";
    let (instance, _log) = start_guest(ANSWER, handler, Limits::default()).await;
    let response = instance.call(get("/")).await.expect("a head");
    let error = response.into_body().collect().await.expect_err("broken off");
    assert!(error.message.starts_with("R22"), "{error}");
}

#[tokio::test]
async fn random_bytes_of_one_call_are_bounded() {
    let fields = r#"(import "wasi:random/random@0.2.12" "get-random-bytes" (func $random (param i64 i32)))"#;
    let handler = "(call $random (i64.const 65537) (i32.const 0))";
    let (instance, _log) = start_guest(fields, handler, Limits::default()).await;
    assert_eq!(call_fails(&instance, "/").await.code, Code::R22);
}

#[tokio::test]
async fn caps_are_where_the_limits_put_them_and_the_log_says_which_one_to_raise() {
    let random = r#"(import "wasi:random/random@0.2.12" "get-random-bytes" (func $random (param i64 i32)))"#;
    let append = format!(
        r#"(import "wasi:http/types@0.2.12" "[method]fields.append"
            (func $append (param i32 i32 i32 i32 i32 i32))) {ANSWER} (data (i32.const 16) "x-name")"#
    );
    let headers = "(local $made i32) (local.set $made (call $fields))
        (loop (call $append (local.get $made) (i32.const 16) (i32.const 6) (i32.const 16) (i32.const 6)
            (i32.const 0)) (br 0))";
    let write = "(drop (memory.grow (i32.const 100)))
        (call $write-bytes (call $open (local.get $out)) (i32.const 0) (i32.const 200000) (i32.const 16))
        unreachable";
    let small = Limits {
        handles_max: 100,
        header_bytes_max: 4 << 10,
        random_bytes_max: 64,
        hostcall_bytes_max: 128 << 10,
        ..Limits::default()
    };
    for (fields, handler, hint) in [
        (
            random,
            "(call $random (i64.const 65) (i32.const 0))",
            "random_bytes=128B",
        ),
        (ANSWER, "(loop (drop (call $fields)) (br 0))", "handles=200"),
        (&append, headers, "header_bytes=8KiB"),
        (ANSWER, write, "hostcall_bytes=256KiB"),
    ] {
        let (instance, mut log) = start_guest(fields, handler, small.clone()).await;
        let _ = instance.call(get("/")).await;
        let said = log.platform(Code::R22).await;
        assert!(
            said.contains(&format!("; hint: gilliam limits web {hint}")),
            "{said}"
        );
    }
    let within = "(call $random (i64.const 64) (i32.const 0)) (unreachable)";
    let (instance, _log) = start_guest(random, within, small).await;
    assert_eq!(
        call_fails(&instance, "/").await.code,
        Code::R23,
        "the call itself passes"
    );
}

#[tokio::test]
async fn empty_writes_cost_the_host_no_memory() {
    // Ten million empty writes to a body that nobody reads, with and without asking for leave.
    for ask in ["", "(call $check-write (local.get $stream) (i32.const 16))"] {
        let handler = format!(
            "(local $stream i32) (local $left i32)
            (local.set $stream (call $open (local.get $out)))
            (local.set $left (i32.const 10000000))
            (loop {ask}
                (call $write-bytes (local.get $stream) (i32.const 0) (i32.const 0) (i32.const 32))
                (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
        );
        let limits = Limits {
            request_ms_max: 60_000,
            ..Limits::default()
        };
        let (instance, _log) = start_guest(ANSWER, &handler, limits).await;
        let response = instance.call(get("/")).await.expect("a head");
        let usage = support::usage(&response);
        // The channel has room for two writes; the third, made without leave, is a trap.
        let figures = tokio::time::timeout(support::DEADLINE, usage.finished())
            .await
            .expect("ends");
        assert_eq!(figures.failure, Some(Code::R23));
        assert!(response.into_body().collect().await.is_err());
    }
}

#[tokio::test]
async fn the_cpu_share_holds() {
    let limits = Limits {
        cpu_millis: 100,
        request_ms_max: 2_000,
        ..fuel(FUEL_MAX)
    };
    let (instance, _log) = start(&guestbook(), limits).await;
    assert_eq!(call_fails(&instance, "/spin").await.code, Code::H12);
    let spent = Duration::from_nanos(instance.usage().cpu_ns_total);
    // 10 % of 2 s and the burst of 20 ms; a busy machine may give less.
    assert!(spent < Duration::from_millis(270), "{spent:?}");
    assert!(spent > Duration::from_millis(60), "{spent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_neighbour_keeps_answering() {
    let limits = Limits {
        request_ms_max: 3_000,
        ..fuel(FUEL_MAX)
    };
    let (loud, _loud_log) = start(&guestbook(), limits).await;
    let (quiet, _quiet_log) = start(&guestbook(), Limits::default()).await;
    let noise = futures::future::join_all((0..16).map(|_| fetch(&loud, "/spin")));
    let listen = async {
        support::until("the noise is there", || loud.usage().cpu_ns_total > 100_000_000).await;
        let mut latencies = Vec::new();
        for _ in 0..200 {
            let start = Instant::now();
            assert_eq!(fetch(&quiet, "/ok").await.expect("answer").status, 200);
            latencies.push(start.elapsed());
        }
        latencies.sort_unstable();
        latencies[190]
    };
    let (_, p95) = tokio::join!(noise, listen);
    assert!(p95 < Duration::from_millis(50), "{p95:?}");
}

#[tokio::test]
async fn headers_held_by_the_host_count_as_memory() {
    // A value of 60,000 bytes in each of up to 9,000 handles, which is 540 MB: by appending, then by copies
    // of one.
    let append = r#"(import "wasi:http/types@0.2.12" "[method]fields.append"
        (func $append (param i32 i32 i32 i32 i32 i32)))
        (import "wasi:http/types@0.2.12" "[method]fields.clone" (func $clone (param i32) (result i32)))"#;
    let fill = "(local $left i32) (local $one i32)
        (local.set $left (i32.const 9000))
        (memory.fill (i32.const 0) (i32.const 120) (i32.const 60100))";
    let filled = format!(
        "{fill} (loop
            (call $append (call $fields) (i32.const 0) (i32.const 9)
                (i32.const 100) (i32.const 60000) (i32.const 62000))
            (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
    );
    let copied = format!(
        "{fill} (local.set $one (call $fields))
        (call $append (local.get $one) (i32.const 0) (i32.const 9)
                (i32.const 100) (i32.const 60000) (i32.const 62000))
        (loop
            (drop (call $clone (local.get $one)))
            (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
    );
    for handler in [filled, copied] {
        let limits = Limits {
            memory_bytes_max: 32 << 20,
            ..Limits::default()
        };
        let component = http_guest(&format!("{append}{ANSWER}"), &handler);
        let (instance, mut log) = start(&loaded(&component), limits).await;
        let error = call_fails(&instance, "/").await;
        assert_eq!(error.code, Code::R15, "{error}");
        log.platform(Code::R15).await;
        let usage = instance.usage();
        assert!(
            usage.memory_bytes_peak > 20 << 20 && usage.memory_bytes == 0,
            "{usage:?}"
        );
    }
}

#[tokio::test]
async fn a_0_3_handler_that_fails_gets_its_code() {
    let handler = |body: &str| {
        support::guest(
            "http3",
            &support::core(
                "(func $f (param i64) (call $f (local.get 0)))",
                &format!(
                    r#"(func (export "[async-lift]wasi:http/handler@0.3.0#handle")
                        (param i32) (result i32) {body})
                    (func (export "[callback][async-lift]wasi:http/handler@0.3.0#handle")
                        (param i32 i32 i32) (result i32) unreachable)"#
                ),
            ),
        )
    };
    for (body, code) in [
        ("unreachable", Code::R23),
        ("(loop (br 0)) unreachable", Code::R20),
        ("(call $f (i64.const 0)) unreachable", Code::R21),
        // Ends without having returned an answer.
        ("(i32.const 0)", Code::R23),
        (
            "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
            Code::R14,
        ),
    ] {
        let (instance, mut log) = start(&loaded(&handler(body)), fuel(50_000_000)).await;
        for _ in 0..2 {
            assert_eq!(call_fails(&instance, "/").await.code, code, "{body}");
        }
        log.platform(code).await;
        support::until("the lane ends", || instance.usage().in_flight == 0).await;
    }
}
