//! Nothing of one guest is left for the next, whichever engine runs them.

mod support;

use gilliam_engine::{CommandInstance, ExitReason, Loaded};
use gilliam_model::{code::Code, limits::Limits};
use support::{ANSWER, command_guest, config, core, fetch, guest, http_guest, loaded, start};

/// Guests that fill all they can, each followed by one that looks for what is left.
const ROUNDS: usize = 1_000;

/// Memory that is there from the start, memory that is grown, and a table, all written to.
const FILL: &str = "(drop (memory.grow (i32.const 3)))
    (memory.fill (i32.const 0) (i32.const 170) (i32.const 262144))
    (table.fill $t (i32.const 0) (ref.func $nothing) (i32.const 500))";

/// Traps when any of it is not as new.
const SCAN: &str = "(local $at i32)
    (drop (memory.grow (i32.const 3)))
    (loop $bytes
        (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $bytes (i32.lt_u (local.get $at) (i32.const 262144))))
    (local.set $at (i32.const 0))
    (loop $elements
        (if (i32.eqz (ref.is_null (table.get $t (local.get $at)))) (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $elements (i32.lt_u (local.get $at) (i32.const 500))))";

const FIELDS: &str = "(table $t 500 funcref) (elem declare func $nothing) (func $nothing)";

async fn ends(command: &Loaded) -> ExitReason {
    let (config, _log) = config(Limits::default());
    let command = CommandInstance::start(command, config).expect("starts");
    command.wait().await
}

async fn commands_find_nothing(component: impl Fn(&str) -> Vec<u8>) {
    let (fill, scan) = (loaded(&component(FILL)), loaded(&component(SCAN)));
    for round in 0..ROUNDS {
        assert_eq!(ends(&fill).await, ExitReason::Ok);
        assert_eq!(ends(&scan).await, ExitReason::Ok, "in round {round}");
    }
}

#[tokio::test]
async fn a_command_finds_nothing_of_another() {
    commands_find_nothing(|run| command_guest(FIELDS, &format!("{run} (i32.const 0)"))).await;
}

#[tokio::test]
async fn a_0_3_command_finds_nothing_of_another() {
    let component = |run: &str| {
        let fields = format!(
            r#"(import "[export]wasi:cli/run@0.3.0" "[task-return]run" (func $return (param i32))) {FIELDS}"#
        );
        let run = format!(
            r#"(func (export "[async-lift]wasi:cli/run@0.3.0#run") (result i32)
                {run} (call $return (i32.const 0)) (i32.const 0))
            (func (export "[callback][async-lift]wasi:cli/run@0.3.0#run")
                (param i32 i32 i32) (result i32) (i32.const 0))"#
        );
        guest("command3", &core(&fields, &run))
    };
    commands_find_nothing(component).await;
}

#[tokio::test]
async fn a_request_finds_nothing_of_another_instance() {
    let fields = format!("{ANSWER} {FIELDS}");
    let fill = loaded(&http_guest(&fields, &format!("{FILL} unreachable")));
    let scan = format!("{SCAN} (call $answer (local.get $out) (i32.const 200))");
    let scan = loaded(&http_guest(&fields, &scan));
    let (fill, _fill_log) = start(&fill, Limits::default()).await;
    let (scan, _scan_log) = start(&scan, Limits::default()).await;
    for _ in 0..ROUNDS {
        assert_eq!(fetch(&fill, "/").await.expect_err("it traps").code, Code::R23);
        assert_eq!(fetch(&scan, "/").await.expect("nothing is left").status, 200);
    }
}
