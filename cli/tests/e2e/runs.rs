//! One-off runs and `release` processes: what users see of them, whatever dies meanwhile.

use std::path::PathBuf;

use crate::platform::{Platform, wait};

/// A project with a task whose last argument says what it does, beside what `procfile` says.
fn project(platform: &Platform, procfile: &str) -> PathBuf {
    let folder = platform.root().join("projects/tasks");
    std::fs::create_dir_all(&folder).expect("folder");
    std::fs::write(folder.join("task.wat"), include_str!("runs/task.wat")).expect("component");
    std::fs::write(folder.join("Procfile"), procfile).expect("Procfile");
    folder
}

fn app(platform: &Platform, procfile: &str) -> PathBuf {
    let folder = project(platform, procfile);
    platform.run_in(&folder, &["create", "tasks"]).ok();
    platform.run_in(&folder, &["deploy"]).ok();
    folder
}

/// The runs of the app, newest first.
fn runs(platform: &Platform) -> Vec<serde_json::Value> {
    let runs = platform.json(&["runs", "--app", "tasks"]);
    runs.as_array().cloned().unwrap_or_default()
}

fn wait_run(platform: &Platform, name: &str, what: &str, check: impl Fn(&serde_json::Value) -> bool) {
    wait(what, || {
        let found = runs(platform).into_iter().find(|run| run["name"] == name)?;
        check(&found).then_some(())
    });
}

#[test]
fn a_run_shows_what_it_prints_and_ends_the_command_with_its_code() {
    let platform = Platform::start();
    let folder = app(&platform, "task: task.wat fine\nweb: task.wat fine\n");
    let run = |args: &[&str]| platform.run_in(&folder, &[&["run"], args].concat());
    assert_eq!(run(&["task"]).ok(), "all is well\n");
    assert_eq!(run(&["task.wat", "fine"]).ok(), "all is well\n", "by its file");
    let bad = run(&["task", "bad", "--month", "3", "bad"]);
    assert_eq!((bad.status.code(), bad.stdout.as_str()), (Some(1), ""));
    assert!(bad.stderr.contains("no such table\n"), "{}", bad.stderr);
    assert!(bad.stderr.contains("exited with code 1"), "{}", bad.stderr);
    let late = run(&["--timeout", "1s", "task", "loop"]);
    assert_eq!(late.status.code(), Some(124), "{}", late.stderr);
    let greedy = run(&["--memory", "1MiB", "task", "memory"]);
    assert_eq!(greedy.status.code(), Some(1));
    assert!(greedy.stderr.contains("R14"), "{}", greedy.stderr);
    let unknown = run(&["other"]).refused();
    assert!(unknown.contains("hint: it has task, web"), "{unknown}");
    let newest = runs(&platform);
    assert_eq!(newest.len(), 5);
    assert_eq!(
        (&newest[0]["name"], &newest[0]["state"]),
        (&"run.5".into(), &"ended".into())
    );
    assert_eq!(newest[2]["command"], "task fine bad --month 3 bad");
}

#[test]
fn a_detached_run_is_listed_logged_and_stopped() {
    let platform = Platform::start();
    let folder = app(&platform, "task: task.wat loop\n");
    assert_eq!(
        platform.run_in(&folder, &["run", "--detach", "task"]).ok(),
        "run.1\n"
    );
    wait_run(&platform, "run.1", "it to run", |run| run["state"] == "running");
    assert!(platform.run_in(&folder, &["ps"]).ok().contains("run.1"));
    wait("its line in the log", || {
        let log = platform.run_in(&folder, &["logs", "run.1"]).ok();
        log.contains("app[run.1]: all is well").then_some(())
    });
    platform.run_in(&folder, &["runs", "stop", "run.1"]).ok();
    wait_run(&platform, "run.1", "it to end", |run| {
        run["outcome"]["type"] == "stopped"
    });
    assert!(!platform.run_in(&folder, &["ps"]).stdout.contains("run.1"));
}

#[test]
fn a_run_whose_node_is_killed_is_lost_and_never_begins_again() {
    let platform = Platform::start();
    let folder = app(&platform, "task: task.wat loop\n");
    platform.run_in(&folder, &["run", "--detach", "task"]).ok();
    wait("its line in the log", || {
        let log = platform.run_in(&folder, &["logs", "run.1"]).ok();
        log.contains("app[run.1]: all is well").then_some(())
    });
    platform.kill_node();
    wait_run(&platform, "run.1", "it to be lost", |run| {
        run["outcome"]["type"] == "lost"
    });
    let log = platform.run_in(&folder, &["logs", "run.1"]).ok();
    assert_eq!(log.matches("all is well").count(), 1, "{log}");
    let log = platform.run_in(&folder, &["logs", "control"]).ok();
    assert!(log.contains("run.1 (task loop) lost: its node"), "{log}");
}

#[test]
fn a_run_goes_on_without_its_control_plane() {
    let platform = Platform::start();
    let folder = app(&platform, "task: task.wat loop\n");
    platform
        .run_in(&folder, &["run", "-d", "--timeout", "4s", "task"])
        .ok();
    wait_run(&platform, "run.1", "it to run", |run| run["state"] == "running");
    platform.kill_up();
    platform.up();
    wait_run(&platform, "run.1", "its own end", |run| {
        run["outcome"]["type"] == "timed-out"
    });
}

#[test]
fn a_release_waits_for_its_hook_and_a_failed_one_changes_nothing() {
    let platform = Platform::start();
    let folder = app(&platform, "worker: task.wat loop\nrelease: task.wat fine\n");
    let deployed = platform.run_in(&folder, &["releases"]).ok();
    assert!(deployed.contains("v1"), "{deployed}");
    platform.run_in(&folder, &["scale", "worker=1"]).ok();
    let refused = platform.run_in(&folder, &["scale", "release=1"]).refused();
    assert!(refused.contains("it is not scaled"), "{refused}");

    project(&platform, "run: task.wat loop\n");
    let named = platform.run_in(&folder, &["deploy"]).refused();
    assert!(named.contains("cannot be named run"), "{named}");
    project(&platform, "worker: task.wat loop\nrelease: task.wat bad\n");
    let failed = platform.run_in(&folder, &["deploy"]).refused();
    assert!(
        failed.contains("no such table"),
        "the hook's output is shown: {failed}"
    );
    assert!(
        failed.contains("v2 failed: its release process exited with code 1"),
        "{failed}"
    );
    let listed = platform.run_in(&folder, &["releases"]).ok();
    assert!(listed.contains("failed (run.2)"), "{listed}");
    let rows = platform.ps("tasks");
    assert!(rows.len() == 1 && rows[0]["release"] == "v1", "{rows:?}");
    let refused = platform.run_in(&folder, &["scale", "v2", "worker=2"]).refused();
    assert!(refused.contains("its release process failed"), "{refused}");

    // Config is made of what runs, and the hook of that is run.
    platform.run_in(&folder, &["config", "A=1"]).ok();
    platform.wait_ps("tasks", "the worker on v3", |rows| {
        rows.len() == 1 && rows[0]["release"] == "v3"
    });
    project(&platform, "worker: task.wat loop\nrelease: task.wat loop\n");
    let late = platform
        .run_in(&folder, &["deploy", "--release-timeout", "1s"])
        .refused();
    assert!(
        late.contains("v4 failed: its release process stopped: it took longer than 1 s"),
        "{late}"
    );
    let rollback = platform.run_in(&folder, &["rollback"]).ok();
    assert!(rollback.contains("v5 released"), "{rollback}");
    let releases = platform.json(&["releases", "--app", "tasks"]);
    assert_eq!(
        releases[0]["message"], "rollback to v1",
        "failed ones are passed over"
    );
}
