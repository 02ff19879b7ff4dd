//! Guests that break when they are used again are found before a release, and others pass.

mod support;

use gilliam_engine::{ProbeConfig, ProbeError, probe};
use gilliam_model::limits::Limits;

use support::{ANSWER, guestbook, http_guest, loaded};

fn config() -> ProbeConfig {
    ProbeConfig {
        args: vec!["web.wasm".to_owned()],
        env: vec![("POOL_SIZE".to_owned(), "64".to_owned())],
        limits: Limits {
            request_ms_max: 500,
            ..Limits::default()
        },
        host: "app.localhost".to_owned(),
    }
}

/// A lane that keeps a handle of its request is not used again.
const DROP: &str =
    r#"(import "wasi:http/types@0.2.12" "[resource-drop]incoming-request" (func $drop (param i32)))"#;

/// A guest that answers 200 the first time and then does `again`.
fn once(again: &str) -> Vec<u8> {
    let fields = format!("{DROP} {ANSWER} (global $uses (mut i32) (i32.const 0))");
    let handler = format!(
        "(call $drop (local.get $request))
        (if (global.get $uses) (then {again}))
        (global.set $uses (i32.const 1))
        (call $answer (local.get $out) (i32.const 200))"
    );
    http_guest(&fields, &handler)
}

#[tokio::test]
async fn a_guest_that_may_be_reused_passes() {
    assert_eq!(probe(&guestbook(), &config()).await, Ok(()));
}

#[tokio::test]
async fn a_guest_that_traps_hangs_or_fails_when_it_is_used_again_is_refused_with_what_it_did() {
    for (again, does) in [
        ("(unreachable)", "fails with R23 trap: "),
        ("(loop $l (br $l))", "fails with H12 request timeout: "),
        (
            "(call $answer (local.get $out) (i32.const 503)) (return)",
            "answers 503",
        ),
    ] {
        let error = probe(&loaded(&once(again)), &config()).await.expect_err(again);
        let text = error.to_string();
        let start = format!("request 2 through one lane {does}");
        assert!(text.starts_with(&start), "{text}");
        assert!(text.ends_with("and a fresh lane answers 200"), "{text}");
    }
}

#[tokio::test]
async fn a_guest_that_fails_in_fresh_lanes_too_is_not_refused_for_reuse() {
    let fails = http_guest(ANSWER, "(call $answer (local.get $out) (i32.const 500))");
    assert_eq!(probe(&loaded(&fails), &config()).await, Ok(()));
    let traps = http_guest("", "(unreachable)");
    assert_eq!(probe(&loaded(&traps), &config()).await, Ok(()));
}

#[tokio::test]
async fn a_guest_that_does_not_start_is_refused() {
    let fields = "(func $start (unreachable)) (start $start)";
    let error = probe(&loaded(&http_guest(fields, "")), &config()).await;
    assert!(matches!(error, Err(ProbeError::Start(_))), "{error:?}");
}
