//! Very many workers of one process type: started, reported, replaced and stopped together.

mod support;

use std::collections::BTreeSet;

use gilliam_model::{
    code::Code,
    image::Shape,
    instance::{Epoch, InstanceState},
    log::LogStream,
    placement::SlotRange,
    report::{FAILURES_COUNT_MAX, ProcessReport},
};
use support::{Node, Plane, Slots, wait};

const COUNT: u32 = 400;

fn range(first: u32, last: u32, epoch: u64) -> SlotRange {
    let epoch = Epoch(epoch);
    SlotRange { first, last, epoch }
}

/// Workers that do nothing for an hour.
fn patient(count: u32, epoch: u64) -> Slots {
    Slots {
        count,
        epoch,
        ..Slots::worker("crowd", &["worker.wasm", "--interval", "3600"])
    }
}

async fn reported(plane: &Plane, what: &str, wanted: impl Fn(&ProcessReport) -> bool) -> ProcessReport {
    wait(what, || plane.process("crowd", "worker").filter(&wanted)).await
}

fn all_run(report: &ProcessReport, ranges: &[SlotRange]) -> bool {
    report.states.len() == 1
        && report
            .states
            .get(&InstanceState::Running)
            .is_some_and(|running| running == ranges)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_one_range_whose_details_are_there_when_asked_for() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    plane.assign(&[patient(COUNT, 1)]);
    let report = reported(&plane, "all to run", |r| all_run(r, &[range(1, COUNT, 1)])).await;
    assert!(report.details.is_empty(), "{:?}", report.details);
    assert!(report.memory_bytes > u64::from(COUNT) << 16, "{report:?}");
    plane
        .line("the others in one line", |line| {
            line.source == "worker" && line.text.starts_with("v1 is running: worker.")
        })
        .await;
    plane.ask(&report.key(), 100, 102);
    let report = reported(&plane, "details", |report| report.details.len() == 3).await;
    let first = &report.details[0];
    assert_eq!(first.id.to_string(), "crowd/v1/worker.100@1");
    assert!(first.memory_bytes > 0 && first.memory_bytes_peak >= first.memory_bytes);

    plane.assign(&[patient(7, 1)]);
    let report = reported(&plane, "seven to be left", |r| all_run(r, &[range(1, 7, 1)])).await;
    assert_eq!(report.details.len(), 7, "of few all details are there");
    let memory: u64 = report.details.iter().map(|detail| detail.memory_bytes).sum();
    assert_eq!(report.memory_bytes, memory, "sums follow those that ended");
    plane.assign(&[]);
    wait("nothing to be left", || {
        plane.process("crowd", "worker").is_none().then_some(())
    })
    .await;
    assert_eq!(node.stop().await, gilliam_serve::DrainOutcome::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_slot_of_a_crowd_has_two_workers_while_all_are_replaced() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let node = Node::start(data.path());
    plane.assign(&[patient(COUNT, 1)]);
    reported(&plane, "all to run", |r| all_run(r, &[range(1, COUNT, 1)])).await;
    plane.assign(&[patient(COUNT, 2)]);
    reported(&plane, "all to be replaced", |report| {
        let mut taken = BTreeSet::new();
        for range in report.states.values().flatten() {
            for slot in range.slots() {
                assert!(taken.insert(slot), "slot {slot} is taken twice: {report:?}");
            }
        }
        all_run(report, &[range(1, COUNT, 2)])
    })
    .await;
    // Half of them are stopped while they start.
    plane.assign(&[patient(COUNT, 3)]);
    plane.assign(&[patient(COUNT / 2, 4)]);
    reported(&plane, "the last to run", |r| {
        all_run(r, &[range(1, COUNT / 2, 4)])
    })
    .await;
    assert_eq!(node.stop().await, gilliam_serve::DrainOutcome::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_crashes_is_started_again_and_told_of_in_few_lines() {
    let data = tempfile::tempdir().expect("folder");
    let plane = Plane::start(data.path());
    let _node = Node::start(data.path());
    let text = r#"(component
        (core module $m (func (export "run") (result i32) unreachable))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $e (export "run" (func $run)))
        (export "wasi:cli/run@0.2.6" (instance $e)))"#;
    let component = wat::parse_str(text).expect("a component");
    let slots = Slots::new("crowd", "worker", component, Shape::CommandP2);
    plane.assign(&[Slots {
        count: COUNT,
        ..slots
    }]);
    let report = reported(&plane, "a second start of each", |report| {
        report.restarts >= u64::from(COUNT) && report.count(InstanceState::Crashed) == COUNT
    })
    .await;
    assert_eq!(report.details.len(), FAILURES_COUNT_MAX);
    for detail in &report.details {
        let failure = detail.last_failure.as_ref().expect("a failure");
        assert_eq!(failure.code, Some(Code::R23), "{}", failure.message);
        assert!(detail.retry_at.is_some());
    }
    let line = plane
        .line("the others in one line", |line| {
            line.source == "worker" && line.text.starts_with("v1 crashed: worker.")
        })
        .await;
    assert!(line.text.contains("the last: R23"), "{}", line.text);
    let lines = plane.lines();
    let single = lines.iter().filter(|line| {
        line.stream == LogStream::Platform && line.source != "worker" && line.text.starts_with("v1 ")
    });
    assert!(single.count() < COUNT as usize / 2, "few lines");
}
