//! What dies comes back, and nothing else falls with it.

use rustix::process::test_kill_process;

use crate::{
    client::{Load, get, try_get, wait_ok},
    platform::{Platform, wait},
};

fn ids(rows: &[serde_json::Value]) -> Vec<String> {
    rows.iter()
        .map(|r| r["report"]["id"].to_string() + &r["report"]["since"].to_string())
        .collect()
}

#[test]
fn a_killed_node_is_back_with_its_instances_while_the_control_plane_goes_on() {
    let platform = Platform::start();
    platform.deploy("guestbook", "guestbook", &["web=2", "worker=1"]);
    let (old, http) = (platform.node_pid().expect("a node"), platform.http());
    platform.kill_node();
    assert!(
        platform.run(&["apps"]).ok().contains("guestbook"),
        "the control plane answers without its node"
    );
    wait("another node process", || {
        platform.node_pid().filter(|pid| *pid != old)
    });
    wait_ok(&platform, "guestbook", "/");
    assert_eq!(platform.http(), http, "the ingress is back at its address");
    platform.wait_ps("guestbook", "all to run again", |rows| {
        rows.len() == 3 && rows.iter().all(|r| r["state"] == "running")
    });
}

#[test]
fn a_killed_control_plane_leaves_the_node_serving_and_takes_it_back_without_a_restart() {
    let platform = Platform::start();
    platform.deploy("guestbook", "guestbook", &["web=2", "worker=1"]);
    let (node, before) = (
        platform.node_pid().expect("a node"),
        ids(&platform.ps("guestbook")),
    );
    let load = Load::start(&platform, "guestbook", "/", 2);
    platform.kill_up();
    load.wait_sent(load.sent() + 500);
    assert!(
        test_kill_process(node).is_ok(),
        "the node outlives its control plane"
    );
    platform.up();
    platform.wait_ps("guestbook", "the node to report its instances", |rows| {
        rows.len() == 3 && rows.iter().all(|r| r["report"]["state"] == "running")
    });
    let (_, failures) = load.finish();
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(platform.node_pid(), Some(node), "the same node process goes on");
    assert_eq!(
        ids(&platform.ps("guestbook")),
        before,
        "no instance was started again"
    );
}

#[test]
fn a_trapped_request_fails_alone_and_its_reason_is_shown() {
    let platform = Platform::start();
    platform.deploy("guestbook", "guestbook", &["web=1"]);
    let answer = get(&platform, "guestbook", "/trap");
    assert_eq!((answer.status, answer.code.as_deref()), (503, Some("H10")));
    assert_eq!(wait_ok(&platform, "guestbook", "/").status, 200);
    platform.wait_ps("guestbook", "the reason in ps", |rows| {
        rows[0]["report"]["last_failure"]["code"] == "R23"
    });
    assert!(platform.run(&["ps", "--app", "guestbook"]).ok().contains("R23"));
}

#[test]
fn an_exited_worker_is_started_again_with_a_growing_delay() {
    let platform = Platform::start();
    let project = platform.sample("guestbook");
    // The worker refuses a bad argument by ending with a failure.
    std::fs::write(project.join("Procfile"), "worker: worker.wasm --interval never\n").expect("Procfile");
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    gilliam(&["create", "unwell"]).ok();
    gilliam(&["deploy"]).ok();
    gilliam(&["scale", "worker=1", "--no-wait"]).ok();
    platform.wait_ps("unwell", "two restarts and a delay", |rows| {
        rows.first().is_some_and(|row| {
            row["state"] == "crashed"
                && row["report"]["restarts"].as_u64() >= Some(2)
                && row["report"]["retry_at"].is_string()
                && row["report"]["last_failure"]["message"].is_string()
        })
    });
    assert!(platform.run(&["ps", "--app", "unwell"]).ok().contains("crashed"));
    assert!(try_get(&platform, "unwell", "/").is_ok_and(|a| a.code.as_deref() == Some("H14")));
}

#[test]
fn a_release_that_never_becomes_ready_leaves_the_old_one_running() {
    let platform = Platform::start();
    let project = platform.deploy("guestbook", "guestbook", &["web=1", "worker=1"]);
    std::fs::write(
        project.join("Procfile"),
        "web: web.wasm\nworker: worker.wasm --interval never\n",
    )
    .expect("Procfile");
    let deployed = platform.run_in(&project, &["deploy", "-m", "broken"]);
    let message = deployed.refused();
    assert!(message.contains("v2") && message.contains("v1"), "{message}");
    platform.wait_ps("guestbook", "v1 alone to run", |rows| {
        rows.len() == 2
            && rows
                .iter()
                .all(|r| r["release"] == "v1" && r["state"] == "running")
    });
    assert!(wait_ok(&platform, "guestbook", "/").body.contains("v1"));
}
