//! The slab: guests that try to leave their slots, and what the next one finds in them.

mod support;

use gilliam_engine::{CommandInstance, EngineKind, ExitReason, Loaded};
use gilliam_model::{code::Code, image::Shape, limits::Limits};
use support::{DEADLINE, command_guest, config, engines, guest, loaded, try_load_guarded};

async fn run_with(loaded: &Loaded, limits: Limits) -> ExitReason {
    let (config, _log) = config(limits);
    let command = CommandInstance::start(loaded, config).expect("starts");
    tokio::time::timeout(DEADLINE, command.wait())
        .await
        .expect("it ends in time")
}

async fn run(loaded: &Loaded) -> ExitReason {
    run_with(loaded, Limits::default()).await
}

fn on_slab(component: &[u8]) -> Loaded {
    let loaded = loaded(component);
    assert_eq!(loaded.artefact().engine, EngineKind::SlabP2);
    loaded
}

fn trap_code(reason: &ExitReason) -> Code {
    match reason {
        ExitReason::Trap { code, .. } => *code,
        other => panic!("a trap, not {other:?}"),
    }
}

/// A 0.2 command with a module of its own.
fn command_of(module: &str) -> Vec<u8> {
    guest("command", module)
}

#[tokio::test]
async fn small_commands_run_on_the_slab_unless_they_ask_for_guard_pages() {
    let component = command_guest("", "(i32.const 0)");
    assert_eq!(run(&on_slab(&component)).await, ExitReason::Ok);
    let guarded = try_load_guarded(&engines(), Shape::CommandP2, &component, true).expect("loads");
    assert_eq!(guarded.artefact().engine, EngineKind::CommandP2);
    assert_eq!(run(&guarded).await, ExitReason::Ok);
    let data = format!(r#"(data (i32.const 1024) "{}")"#, "x".repeat(40_000));
    // Two segments of 40,000 bytes each are more than what is copied.
    let module = support::core(
        "",
        r#"(func (export "wasi:cli/run@0.2.12#run") (result i32) (i32.const 0))"#,
    );
    let module = module.replace(
        "(memory (export \"memory\") 1)",
        &format!("(memory (export \"memory\") 2) {data} {data}"),
    );
    let component = command_of(&module);
    let loaded = loaded(&component);
    assert_eq!(loaded.artefact().engine, EngineKind::CommandP2);
    assert_eq!(run(&loaded).await, ExitReason::Ok);
}

#[tokio::test]
async fn no_access_beyond_a_memory_s_length_succeeds() {
    // The memory has one page and is one of many side by side.
    for access in [
        "(drop (i32.load8_u (i32.const 65536)))",
        "(drop (i32.load (i32.const 65533)))",
        "(drop (i64.load (i32.const 65529)))",
        "(drop (v128.load (i32.const 65521)))",
        "(drop (i32.load8_u (i32.const 67108864)))",
        "(drop (i32.load8_u (i32.const 0x7fffffff)))",
        "(drop (i32.load8_u (i32.const 0xffffffff)))",
        "(drop (i32.load8_u offset=65536 (i32.const 0)))",
        "(drop (i32.load8_u offset=0x4000000 (i32.const 0)))",
        "(drop (i32.load8_u offset=0xffffffff (i32.const 0)))",
        "(drop (i32.load8_u offset=0xffffffff (i32.const 0xffffffff)))",
        "(drop (i64.load offset=0xfffffff8 (i32.const 0xfffffff8)))",
        "(i32.store8 (i32.const 65536) (i32.const 1))",
        "(i32.store8 (i32.const 67108864) (i32.const 1))",
        "(i64.store offset=0xffffffff (i32.const 0xffffffff) (i64.const 1))",
        "(v128.store offset=0x3fffff0 (i32.const 0x10) (v128.const i64x2 1 1))",
        "(memory.fill (i32.const 65535) (i32.const 1) (i32.const 2))",
        "(memory.fill (i32.const 1) (i32.const 1) (i32.const 0xffffffff))",
        "(memory.copy (i32.const 0) (i32.const 65000) (i32.const 1000))",
        "(memory.copy (i32.const 65000) (i32.const 0) (i32.const 1000))",
        "(memory.copy (i32.const 0xffffffff) (i32.const 0xffffffff) (i32.const 0xffffffff))",
        "(memory.init $piece (i32.const 65535) (i32.const 0) (i32.const 2))",
        "(drop (table.get $t (i32.const 10)))",
        "(drop (table.get $t (i32.const -1)))",
        "(table.set $t (i32.const 10) (ref.null func))",
        "(table.fill $t (i32.const 5) (ref.null func) (i32.const 6))",
        "(call_indirect $t (i32.const 11))",
        "(drop (i32.load8_u (i32.add (memory.grow (i32.const 3)) (i32.const 262144))))",
    ] {
        let fields = r#"(table $t 10 funcref) (data $piece "ab")"#;
        let loaded = on_slab(&command_guest(fields, &format!("{access} (i32.const 0)")));
        assert_eq!(trap_code(&run(&loaded).await), Code::R23, "{access}");
    }
}

#[tokio::test]
async fn the_bytes_at_the_borders_are_the_guest_s_own() {
    // The last byte of the memory, before and after it grew, and an address that wraps in 32 bits only.
    let run_body = "
        (i32.store8 (i32.const 65535) (i32.const 7))
        (if (i32.ne (i32.load8_u (i32.const 65535)) (i32.const 7)) (then (return (i32.const 1))))
        (if (i32.ne (memory.grow (i32.const 1023)) (i32.const 1)) (then (return (i32.const 1))))
        (i32.store8 (i32.const 67108863) (i32.const 9))
        (if (i32.ne (i32.load8_u (i32.const 67108863)) (i32.const 9)) (then (return (i32.const 1))))
        (if (i32.ne (i32.load8_u (i32.const 65535)) (i32.const 7)) (then (return (i32.const 1))))
        (i32.const 0)";
    assert_eq!(run(&on_slab(&command_guest("", run_body))).await, ExitReason::Ok);
}

#[tokio::test]
async fn a_memory_outgrows_its_slot_up_to_its_limit() {
    // From one page to 64 MiB, then beyond, page by page and by halves; everything written stays.
    let run_body = "
        (local $page i32)
        (i32.store (i32.const 4096) (i32.const 12345))
        (if (i32.ne (memory.grow (i32.const 1023)) (i32.const 1)) (then (return (i32.const 1))))
        (i32.store (i32.const 67108860) (i32.const 54321))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const 1024)) (then (return (i32.const 1))))
        (i32.store (i32.const 67174396) (i32.const 99))
        (if (i32.ne (memory.grow (i32.const 1500)) (i32.const 1025)) (then (return (i32.const 1))))
        (i32.store (i32.const 165478396) (i32.const 98))
        (if (i32.ne (i32.load (i32.const 4096)) (i32.const 12345)) (then (return (i32.const 1))))
        (if (i32.ne (i32.load (i32.const 67108860)) (i32.const 54321)) (then (return (i32.const 1))))
        (if (i32.ne (i32.load (i32.const 67174396)) (i32.const 99)) (then (return (i32.const 1))))
        (if (i32.ne (i32.load (i32.const 165478396)) (i32.const 98)) (then (return (i32.const 1))))
        ;; Beyond the limit it is refused, and what is there stays.
        (if (i32.ne (memory.grow (i32.const 2000)) (i32.const -1)) (then (return (i32.const 1))))
        (if (i32.ne (memory.grow (i32.const 65535)) (i32.const -1)) (then (return (i32.const 1))))
        (if (i32.ne (memory.size) (i32.const 2525)) (then (return (i32.const 1))))
        (i32.const 0)";
    let loaded = on_slab(&command_guest("", run_body));
    let limits = Limits {
        memory_bytes_max: 256 << 20,
        ..Limits::default()
    };
    for _ in 0..3 {
        assert_eq!(run_with(&loaded, limits.clone()).await, ExitReason::Ok);
    }
    let beyond =
        "(drop (memory.grow (i32.const 1100))) (drop (i32.load8_u (i32.const 72155136))) (i32.const 0)";
    let loaded = on_slab(&command_guest("", beyond));
    assert_eq!(trap_code(&run_with(&loaded, limits).await), Code::R23);
}

#[tokio::test]
async fn the_memory_limit_counts_the_sum() {
    let two = |second: u32| {
        let module = support::core(
            &format!("(memory $other {second})"),
            r#"(func (export "wasi:cli/run@0.2.12#run") (result i32)
                (i32.eq (memory.grow $m (i32.const 639)) (i32.const -1)))"#,
        );
        let module = module.replace(
            "(memory (export \"memory\") 1)",
            "(memory $m (export \"memory\") 1)",
        );
        on_slab(&command_of(&module))
    };
    let limits = || Limits {
        memory_bytes_max: 64 << 20,
        ..Limits::default()
    };
    // 640 pages are 40 MiB.
    assert_eq!(run_with(&two(300), limits()).await, ExitReason::Ok);
    assert_eq!(run_with(&two(640), limits()).await, ExitReason::ExitCode(1));
    let reason = run_with(&two(1024), limits()).await;
    assert_eq!(trap_code(&reason), Code::R14);
}

#[tokio::test]
async fn recursion_without_end_is_a_trap_and_the_stack_is_used_again() {
    for body in [
        "(call $f (local.get 0))",
        // Frames of some hundred bytes.
        "(call $f (i64.add (local.get 0) (i64.const 1)))
         (drop) (i32.wrap_i64 (i64.mul (local.get 0) (i64.extend_i32_u (call $f (local.get 0)))))",
    ] {
        let fields = format!("(func $f (param i64) (result i32) {body})");
        let loaded = on_slab(&command_guest(&fields, "(call $f (i64.const 1))"));
        for _ in 0..20 {
            assert_eq!(trap_code(&run(&loaded).await), Code::R21);
        }
    }
}

/// Host calls made with the guest's share of the stack nearly used up: what is left is the host's.
#[tokio::test]
async fn host_calls_work_deep_on_the_stack() {
    let fields = r#"
        (import "wasi:random/random@0.2.12" "get-random-bytes" (func $random (param i64 i32)))
        (import "wasi:cli/environment@0.2.12" "get-environment" (func $environment (param i32)))
        (import "wasi:cli/stderr@0.2.12" "get-stderr" (func $stderr (result i32)))
        (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
            (func $write (param i32 i32 i32 i32)))
        (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
        (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
        (import "wasi:sockets/tcp-create-socket@0.2.12" "create-tcp-socket" (func $socket (param i32 i32)))
        (global $depth (mut i32) (i32.const 0))
        (func $calls
            (call $random (i64.const 64) (i32.const 2048))
            (call $environment (i32.const 2048))
            (call $socket (i32.const 0) (i32.const 2048))
            (call $write (call $stderr) (i32.const 4096) (i32.const 4000) (i32.const 2048))
            (call $block (call $timer (i64.const 1000000))))
        ;; Calls the host at every depth from 1,000 frames on, until the guest's share ends.
        (func $f (param i64)
            (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
            (if (i32.eqz (i32.rem_u (global.get $depth) (i32.const 64))) (then (call $calls)))
            (call $f (i64.add (local.get 0) (i64.const 1)))
            (drop (i64.load (i32.wrap_i64 (local.get 0)))))"#;
    let loaded = on_slab(&command_guest(fields, "(call $f (i64.const 1)) (i32.const 0)"));
    assert_eq!(trap_code(&run(&loaded).await), Code::R21);
}

/// Fills its memory and its table, and says whether any of both was not empty at first.
const SCAN: &str = r#"
    (table $t 300 funcref)
    (elem declare func $f)
    (func $f)
    (func $scan (result i32) (local $at i32)
        (drop (memory.grow (i32.const 15)))
        (loop
            (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (return (i32.const 1))))
            (i64.store (local.get $at) (i64.const 0xa5a5a5a5a5a5a5a5))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if 0 (i32.lt_u (local.get $at) (i32.const 1048576))))
        (local.set $at (i32.const 0))
        (loop
            (if (i32.eqz (ref.is_null (table.get $t (local.get $at)))) (then (return (i32.const 1))))
            (table.set $t (local.get $at) (ref.func $f))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $at) (i32.const 300))))
        (i32.const 0))"#;

#[tokio::test]
async fn nothing_of_one_instance_is_seen_by_the_next() {
    let scan = on_slab(&command_guest(SCAN, "(call $scan)"));
    // Two at once, so that slots change hands.
    for _ in 0..500 {
        let (one, other) = tokio::join!(run(&scan), run(&scan));
        assert_eq!((one, other), (ExitReason::Ok, ExitReason::Ok));
    }
}

#[tokio::test]
async fn neighbours_do_not_see_each_other_s_memory() {
    // Each writes its own mark everywhere, waits for the others to have done so, and looks.
    let fields = r#"
        (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
        (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
        (import "wasi:random/random@0.2.12" "get-random-u64" (func $mark (result i64)))"#;
    let run_body = "(local $mark i64) (local $at i32)
        (local.set $mark (call $mark))
        (loop
            (i64.store (local.get $at) (local.get $mark))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if 0 (i32.lt_u (local.get $at) (i32.const 65536))))
        (call $block (call $timer (i64.const 50000000)))
        (local.set $at (i32.const 0))
        (loop
            (if (i64.ne (i64.load (local.get $at)) (local.get $mark)) (then (return (i32.const 1))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if 0 (i32.lt_u (local.get $at) (i32.const 65536))))
        (i32.const 0)";
    let loaded = on_slab(&command_guest(fields, run_body));
    let all = futures::future::join_all((0..200).map(|_| run(&loaded))).await;
    assert!(all.iter().all(|reason| *reason == ExitReason::Ok));
}

#[tokio::test]
async fn a_killed_instance_gives_its_slot_back() {
    // More starts than there are slots in the tests' engines.
    let spin = on_slab(&command_guest("", "(loop (br 0)) (i32.const 0)"));
    for _ in 0..12 {
        let commands: Vec<CommandInstance> = (0..100)
            .map(|_| CommandInstance::start(&spin, config(Limits::default()).0).expect("starts"))
            .collect();
        for command in &commands {
            command.kill();
        }
        for command in &commands {
            let reason = tokio::time::timeout(DEADLINE, command.wait()).await;
            assert_eq!(reason.expect("ends"), ExitReason::Killed { code: None });
        }
    }
}
