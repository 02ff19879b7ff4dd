//! No request fails while an app changes under constant load.

use crate::{
    client::Load,
    platform::{Platform, wait},
};

const REQUESTS: u64 = 20_000;

#[test]
fn config_changes_scaling_restarts_and_deploys_fail_no_request() {
    let platform = Platform::start();
    let project = platform.deploy("guestbook", "guestbook", &["web=2"]);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    let load = Load::start(&platform, "guestbook", "/", 4);
    let mut round = 0;
    while load.sent() < REQUESTS {
        round += 1;
        gilliam(&["config", &format!("POOL_SIZE={round}")]).ok();
        gilliam(&["scale", "web=4"]).ok();
        gilliam(&["restart"]).ok();
        gilliam(&["scale", "web=1"]).ok();
        gilliam(&["deploy", "-m", "again"]).ok();
        gilliam(&["scale", "web=2"]).ok();
    }
    let last = platform.json(
        &["scale"]
            .map(|v| v)
            .iter()
            .copied()
            .chain(["--app", "guestbook"])
            .collect::<Vec<_>>(),
    );
    wait("the last change to settle", || {
        platform
            .ps("guestbook")
            .iter()
            .all(|r| r["state"] == "running")
            .then_some(())
    });
    let (sent, failures) = load.finish();
    println!("{sent} requests over {round} rounds of six changes; scale at the end {last}");
    assert_eq!(
        failures.len(),
        0,
        "of {sent}: {:?}",
        &failures[..failures.len().min(5)]
    );
}
