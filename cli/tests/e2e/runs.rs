//! One-off runs and `release` processes: what users see of them, whatever dies meanwhile.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::PathBuf,
};

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

/// Bytes of every kind, more than all buffers between a command and its run hold.
fn bytes_of_every_kind() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..6 << 20).map(|_| byte()).collect()
}

#[test]
fn what_is_piped_into_a_run_comes_out_byte_for_byte() {
    let platform = Platform::start();
    let folder = app(&platform, "task: task.wat\n");
    let mut child = platform.spawn_in(&folder, &["run", "task", "echo"]);
    let sent = bytes_of_every_kind();
    let (mut stdin, input) = (child.stdin.take().expect("piped"), sent.clone());
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("gilliam");
    writing.join().expect("no panic").expect("all of it is read");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(
        output.stdout == sent,
        "{} of {} bytes came back: {stderr}",
        output.stdout.len(),
        sent.len()
    );

    let none = platform.run_with_input(&folder, &["run", "--no-stdin", "task", "echo"], "not sent");
    assert_eq!(none.ok(), "");
    let words = platform.run_with_input(&folder, &["run", "task", "echo"], "no line end");
    assert_eq!(words.ok(), "no line end", "nothing is added");
}

#[test]
fn a_slow_reader_slows_the_run_down_and_nothing_is_lost() {
    let platform = Platform::start();
    let folder = app(&platform, "task: task.wat print\n");
    let mut child = platform.spawn_in(&folder, &["run", "task"]);
    drop(child.stdin.take());
    let mut stdout = child.stdout.take().expect("piped");
    // Of a run that prints for ever: more than all buffers hold, and no line of it is missing.
    let mut read = vec![0; 3 << 20];
    stdout.read_exact(&mut read).expect("it prints");
    let mut lines = read.split(|byte| *byte == b'\n');
    lines.next_back();
    assert!(lines.all(|line| line == b"all is well"));
    platform.run_in(&folder, &["runs", "stop", "run.1"]).ok();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).expect("its end");
    let ended = child.wait().expect("gilliam");
    assert_eq!(ended.code(), Some(130));
}

#[test]
fn a_run_goes_on_without_its_command_or_ends_with_it() {
    let platform = Platform::start();
    let folder = app(&platform, "task: task.wat loop\n");
    for (flags, name) in [
        (&["run"][..], "run.1"),
        (&["run", "--stop-on-disconnect"][..], "run.2"),
    ] {
        let mut child = platform.spawn_in(&folder, &[flags, &["task"]].concat());
        let mut said = [0; 12];
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut said).expect("what it prints");
        assert_eq!(&said, b"all is well\n");
        child.kill().expect("kill");
        child.wait().expect("killed");
        if name == "run.2" {
            wait_run(&platform, name, "it to end", |run| {
                run["outcome"]["type"] == "stopped"
            });
        }
    }
    let newest = runs(&platform);
    assert_eq!(
        (&newest[1]["name"], &newest[1]["state"]),
        (&"run.1".into(), &"running".into())
    );
}

#[test]
fn a_run_outlives_the_control_plane_that_held_its_streams() {
    let platform = Platform::start();
    let folder = app(&platform, "task: task.wat loop\n");
    let mut child = platform.spawn_in(&folder, &["run", "--timeout", "6s", "task"]);
    let mut said = [0; 12];
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_exact(&mut said).expect("what it prints");
    platform.kill_up();
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let told = lines.find_map(|line| {
        line.ok()
            .filter(|line| line.contains("The connection to run.1 was cut"))
    });
    assert!(told.expect("a message").contains("gilliam logs run.1"));
    child.kill().expect("kill");
    child.wait().expect("killed");
    platform.up();
    wait_run(&platform, "run.1", "its own end", |run| {
        run["outcome"]["type"] == "timed-out"
    });
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
