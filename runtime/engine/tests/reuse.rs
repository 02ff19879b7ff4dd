//! Lanes of 0.2 instances that serve more than one request.

mod support;

use gilliam_model::{code::Code, limits::Limits};
use support::{ANSWER, fetch, guestbook, http_guest, loaded, start};

/// Counts its requests in a global, and answers with that many over 200; traps at the second request when
/// `traps`, and keeps the handle of each request unless `drops` it.
fn counter(traps: bool, drops: bool) -> Vec<u8> {
    let fields = format!(
        r#"{ANSWER}
        (import "wasi:http/types@0.2.12" "[resource-drop]incoming-request" (func $drop (param i32)))
        (global $n (mut i32) (i32.const 0))"#
    );
    let fields = reorder(&fields);
    let drop_request = if drops {
        "(call $drop (local.get $request))"
    } else {
        ""
    };
    let trap = if traps {
        "(if (i32.eq (global.get $n) (i32.const 2)) (then unreachable))"
    } else {
        ""
    };
    let handler = format!(
        "(global.set $n (i32.add (global.get $n) (i32.const 1)))
        {trap}
        {drop_request}
        (call $answer (local.get $out) (i32.add (i32.const 200) (global.get $n)))"
    );
    http_guest(&fields, &handler)
}

/// Imports stand before functions.
fn reorder(fields: &str) -> String {
    let (imports, others) = fields.split_once("(func $answer").expect("ANSWER has functions");
    let (functions, rest) = others.rsplit_once("(import").expect("an import follows");
    let (import, rest) = rest.split_once("(global").expect("a global follows");
    format!("{imports} (import{import} (func $answer{functions} (global{rest}")
}

fn reusing(reuse_max: u32) -> Limits {
    Limits {
        reuse_max,
        ..Limits::default()
    }
}

async fn statuses(guest: &[u8], reuse_max: u32, count: usize) -> Vec<Result<u16, Code>> {
    let (instance, _log) = start(&loaded(guest), reusing(reuse_max)).await;
    let mut statuses = Vec::new();
    for _ in 0..count {
        let answer = fetch(&instance, "/").await;
        if let Ok(answer) = &answer {
            // The lane is put back before its request counts as done.
            answer.usage.finished().await;
        }
        statuses.push(answer.map(|answer| answer.status).map_err(|error| error.code));
    }
    statuses
}

#[tokio::test]
async fn a_lane_serves_as_many_requests_as_it_may() {
    let guest = counter(false, true);
    assert_eq!(statuses(&guest, 1, 3).await, [Ok(201), Ok(201), Ok(201)]);
    let three = statuses(&guest, 3, 5).await;
    assert_eq!(three, [Ok(201), Ok(202), Ok(203), Ok(201), Ok(202)]);
    let always = statuses(&guest, u32::MAX, 20).await;
    assert_eq!(always.last(), Some(&Ok(220)));
}

#[tokio::test]
async fn a_lane_that_trapped_serves_nothing_more() {
    let statuses = statuses(&counter(true, true), u32::MAX, 4).await;
    assert_eq!(statuses, [Ok(201), Err(Code::R23), Ok(201), Err(Code::R23)]);
}

#[tokio::test]
async fn a_lane_with_something_of_its_last_request_left_serves_nothing_more() {
    let statuses = statuses(&counter(false, false), u32::MAX, 3).await;
    assert_eq!(statuses, [Ok(201), Ok(201), Ok(201)]);
}

#[tokio::test]
async fn a_real_guest_is_reused_and_its_figures_are_of_each_request() {
    let (instance, _log) = start(&guestbook(), reusing(u32::MAX)).await;
    let mut fuel = Vec::new();
    for _ in 0..10 {
        let answer = fetch(&instance, "/ok").await.expect("an answer");
        let figures = answer.usage.finished().await;
        assert!(figures.memory_bytes_peak > 0, "{figures:?}");
        fuel.push(figures.fuel);
    }
    // The first request finds an empty heap; afterwards every one does the same work.
    assert!(
        fuel[2..].iter().all(|one| *one == fuel[2] && *one > 0),
        "{fuel:?}"
    );
}

#[tokio::test]
async fn the_same_component_and_request_burn_the_same_fuel() {
    let mut fuel = Vec::new();
    for _ in 0..2 {
        let (instance, _log) = start(&guestbook(), Limits::default()).await;
        for _ in 0..3 {
            let answer = fetch(&instance, "/ok").await.expect("an answer");
            fuel.push(answer.usage.finished().await.fuel);
        }
    }
    assert!(fuel.iter().all(|one| *one == fuel[0] && *one > 0), "{fuel:?}");
}
