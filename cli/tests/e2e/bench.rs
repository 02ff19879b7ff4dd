//! `gilliam bench` on real platforms of its own, small; that its figures are there, and that nothing stays.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Far more than the processes of a small run need to end.
const DEADLINE: Duration = Duration::from_secs(120);

fn bench(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gilliam"));
    command
        .arg("bench")
        .args(args)
        .env_clear()
        .env("HOME", folder)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        // Everything that it starts has this folder in its arguments.
        .env("TMPDIR", folder)
        .stdin(Stdio::null());
    command
}

/// The lines that a run with `--json` prints.
fn figures(args: &[&str]) -> Vec<serde_json::Value> {
    let folder = tempfile::tempdir().expect("folder");
    let output = bench(folder.path(), args).output().expect("gilliam");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    nothing_is_left(folder.path());
    let stdout = String::from_utf8(output.stdout).expect("text");
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

#[track_caller]
fn positive(figures: &[serde_json::Value], bench: &str, name: &str) -> f64 {
    let found = figures.iter().find(|f| f["bench"] == bench && f["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no figure {bench}: {name} in {figures:?}"));
    assert!(found["unit"].is_string(), "{found}");
    let value = found["value"].as_f64().expect("a number");
    assert!(value > 0.0, "{found}");
    value
}

/// Processes that have the folder in their arguments.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("text");
    let processes = std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let arguments = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        arguments.contains(folder).then_some(arguments)
    });
    processes.collect()
}

#[track_caller]
fn nothing_is_left(folder: &Path) {
    let start = Instant::now();
    loop {
        let left = processes_of(folder);
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "still there: {left:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn density_counts_instances_and_their_memory() {
    let args = [
        "density",
        "--quick",
        "--instances",
        "200",
        "--apps",
        "2",
        "--json",
    ];
    let figures = figures(&args);
    assert_eq!(figures[0]["bench"], "machine");
    let live = positive(&figures, "density", "workers: live");
    assert!((live - 200.0).abs() < f64::EPSILON, "{live}");
    positive(&figures, "density", "workers: start rate");
    let each = positive(&figures, "density", "workers: memory all in, each");
    assert!(each < 1024.0, "a worker of {each} KiB");
    positive(&figures, "density", "web: warm and idle, unshared (hello)");
}

#[test]
fn http_is_measured_beside_a_native_server() {
    let figures = figures(&[
        "http",
        "--quick",
        "--seconds",
        "0.1",
        "--connections",
        "4",
        "--json",
    ]);
    for server in [
        "gilliam 0.2 fresh",
        "gilliam 0.2 reused",
        "gilliam 0.3",
        "native hyper",
    ] {
        positive(&figures, "http", &format!("{server}: requests"));
        positive(&figures, "http", &format!("{server}: p99"));
    }
    let share = positive(
        &figures,
        "http",
        "gilliam 0.2 fresh / native hyper: requests per core",
    );
    assert!(share < 10.0, "{share} times native");
}

fn started(folder: &Path) -> Child {
    let mut child = bench(folder, &["density", "--quick", "--instances", "100000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("gilliam");
    let start = Instant::now();
    // The platform and its node.
    while processes_of(folder).len() < 2 {
        assert!(child.try_wait().expect("status").is_none(), "it ended by itself");
        assert!(start.elapsed() < DEADLINE, "no platform");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    child
}

#[test]
fn an_interrupted_run_ends_what_it_started_and_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let mut child = started(folder.path());
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("signal");
    assert_eq!(child.wait().expect("status").code(), Some(1));
    nothing_is_left(folder.path());
}

#[test]
fn a_killed_run_takes_what_it_started_with_it() {
    let folder = tempfile::tempdir().expect("folder");
    let mut child = started(folder.path());
    child.kill().expect("signal");
    child.wait().expect("status");
    nothing_is_left(folder.path());
}

#[test]
fn a_file_that_is_not_there_is_refused_before_anything_is_measured() {
    let folder = tempfile::tempdir().expect("folder");
    for given in [
        ["--nginx", "missing"],
        ["--wasmtime", "missing"],
        ["--guest", "rust=missing"],
    ] {
        let output = bench(folder.path(), &given)
            .arg("--quick")
            .output()
            .expect("gilliam");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(
            stderr.contains("cannot read") && stderr.contains("missing"),
            "{stderr}"
        );
        assert!(!stderr.contains("density:"), "{stderr}");
    }
}
