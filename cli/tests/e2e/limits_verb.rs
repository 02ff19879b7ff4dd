//! `gilliam limits`, from the outside: a release that migrates, a probe before lanes are reused, and figures
//! that are the same everywhere.

use std::path::PathBuf;

use crate::{
    client::{Load, get, wait_ok},
    guests::{ANSWER, core, guest},
    platform::{Platform, Ran, wait},
};

#[test]
fn limits_are_set_shown_unset_and_rolled_back_without_a_failed_request() {
    let platform = Platform::start();
    let project = platform.deploy("guestbook", "guestbook", &["web=2"]);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    let load = Load::start(&platform, "guestbook", "/", 2);
    let web = || platform.json(&["limits", "--app", "guestbook"])["processes"]["web"].clone();

    let table = gilliam(&["limits"]).ok();
    let row = |name: &str| {
        let found = table
            .lines()
            .find(|line| line.starts_with("web") && line.contains(name));
        found
            .unwrap_or_else(|| panic!("no {name} in\n{table}"))
            .to_string()
    };
    assert!(
        row(" memory ").contains("128MiB") && row(" memory ").contains("default"),
        "{table}"
    );
    assert!(row(" reuse ").contains("1 to always"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("worker")), "{table}");

    let changed = gilliam(&["limits", "web", "memory=64MiB", "cpu=0.5"]);
    assert!(
        changed.stderr.contains("Moving to v2… done, v2 web=2"),
        "{}",
        changed.stderr
    );
    assert!(
        changed.stderr.contains("undo: gilliam rollback v1"),
        "{}",
        changed.stderr
    );
    assert_eq!(changed.ok(), "v2 released\n");
    assert_eq!(gilliam(&["scale"]).ok(), "v2 web=2\n");
    wait("only instances with the new limit", || {
        let ps = gilliam(&["ps"]).ok();
        ps.lines().all(|line| line.contains("/ 64 MiB")).then_some(())
    });
    assert!(gilliam(&["releases"]).ok().contains("web: memory=64MiB cpu=0.5"));

    std::fs::write(
        project.join("gilliam.toml"),
        "[process.web]\nmemory = \"32MiB\"\nbacklog = 7\n",
    )
    .expect("gilliam.toml");
    gilliam(&["deploy", "-m", "again"]).ok();
    assert_eq!(
        web()["limits"]["memory_bytes_max"],
        64 << 20,
        "what was set stands over deploys"
    );
    assert_eq!(web()["limits"]["backlog_max"], 7);
    let table = gilliam(&["limits", "web"]).ok();
    let from = |name: &str| {
        let line = table.lines().find(|line| line.contains(name)).expect(name);
        line.split_whitespace().nth(3).expect("a source").to_string()
    };
    assert_eq!(
        [" memory ", " backlog ", " handles "].map(from),
        ["set", "gilliam.toml", "default"]
    );
    assert_eq!(
        gilliam(&["limits", "web", "--unset", "memory"]).ok(),
        "v4 released\n"
    );
    assert_eq!(web()["limits"]["memory_bytes_max"], 32 << 20);
    assert_eq!(gilliam(&["rollback", "v1"]).ok(), "v5 released\n");
    assert_eq!(web()["limits"]["cpu_millis"], 1_000);
    assert_eq!(web()["set"], serde_json::json!([]));

    wait_ok(&platform, "guestbook", "/");
    let (sent, failures) = load.finish();
    assert_eq!(failures, Vec::<String>::new(), "none of {sent} failed");
}

#[test]
fn bad_limits_are_refused_with_the_way_out_and_change_nothing() {
    let platform = Platform::start();
    let project = platform.deploy("guestbook", "guestbook", &[]);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    for (args, error, hint) in [
        (
            &["web", "memory=5GiB", "cpu=0.5"][..],
            "memory = 5GiB is outside 64KiB to 4GiB",
            "the default is 128MiB",
        ),
        (
            &["web", "reuse=0"],
            "reuse = 0 is outside 1 to always",
            "the default is 1",
        ),
        (&["wbe", "cpu=0.5"], "no process wbe", "it has web, worker"),
        (&["wbe"], "no process wbe", "it has web, worker"),
        (
            &["web", "--unset", "cpu"],
            "cpu of web is not set",
            "gilliam limits lists",
        ),
        (
            &["worker", "reuse=2"],
            "reuse is for http-p2 processes, and worker is command-p2",
            "leave it at 1",
        ),
    ] {
        let said = gilliam(&[&["limits"], args].concat()).refused();
        assert!(said.contains(error) && said.contains(hint), "{args:?}: {said}");
    }
    for (args, error) in [
        (
            &["web", "memory=lots"][..],
            "memory = \"lots\" is not a size such as 64MiB",
        ),
        (&["web", "memry=64MiB"], "\"memry\" is not a limit"),
        (&["memory=64MiB"], "process name"),
        (&["--unset", "cpu"], "takes a process type"),
    ] {
        let Ran { stderr, status, .. } = gilliam(&[&["limits"], args].concat());
        assert_eq!(status.code(), Some(2), "{args:?}: {stderr}");
        assert!(
            stderr.contains(error) && stderr.contains("hint: "),
            "{args:?}: {stderr}"
        );
    }
    assert_eq!(
        gilliam(&["releases"]).ok().lines().count(),
        1,
        "nothing was released"
    );
}

/// A guest that answers its first request and traps at the second.
fn once(platform: &Platform) -> PathBuf {
    // A lane that keeps a handle of its request is not used again.
    let drop =
        r#"(import "wasi:http/types@0.2.12" "[resource-drop]incoming-request" (func $drop (param i32)))"#;
    let fields = format!("{drop} {ANSWER} (global $uses (mut i32) (i32.const 0))");
    let handler = r#"(func (export "wasi:http/incoming-handler@0.2.12#handle")
            (param $request i32) (param $out i32)
        (call $drop (local.get $request))
        (if (global.get $uses) (then (unreachable)))
        (global.set $uses (i32.const 1))
        (call $answer (local.get $out) (i32.const 200)))"#;
    let folder = platform.root().join("projects/once");
    std::fs::create_dir_all(&folder).expect("folder");
    std::fs::write(folder.join("web.wasm"), guest("http", &core(&fields, handler))).expect("component");
    std::fs::write(folder.join("Procfile"), "web: web.wasm\n").expect("Procfile");
    folder
}

#[test]
fn lanes_are_reused_where_a_probe_passes_and_the_release_is_refused_where_it_does_not() {
    let platform = Platform::start();
    let once = once(&platform);
    let gilliam = |args: &[&str]| platform.run_in(&once, args);
    gilliam(&["create", "once"]).ok();
    gilliam(&["deploy"]).ok();
    gilliam(&["scale", "web=1"]).ok();
    for _ in 0..3 {
        assert_eq!(
            get(&platform, "once", "/").status,
            200,
            "each request has a fresh instance"
        );
    }
    let said = gilliam(&["limits", "web", "reuse=always"]).refused();
    for part in [
        "lanes of web cannot be reused: request 2 through one lane fails with R23 trap",
        "and a fresh lane answers 200",
        "hint: leave reuse = 1",
    ] {
        assert!(said.contains(part), "{said}");
    }
    std::fs::write(once.join("gilliam.toml"), "[process.web]\nreuse = 5\n").expect("gilliam.toml");
    let said = gilliam(&["deploy"]).refused();
    assert!(said.contains("lanes of web cannot be reused"), "{said}");
    assert_eq!(gilliam(&["releases"]).ok().lines().count(), 1);
    let left = std::fs::read_dir(platform.data().join("tmp")).expect("tmp");
    assert_eq!(left.count(), 0, "the probes left nothing");

    let project = platform.deploy("guestbook", "guestbook", &["web=1"]);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    gilliam(&["limits", "web", "reuse=always"]).ok();
    for _ in 0..20 {
        assert_eq!(get(&platform, "guestbook", "/").status, 200);
    }
}

/// The fuel of each request in the access log, by instance.
fn fuels(platform: &Platform) -> Vec<(String, String)> {
    let logs = platform
        .run(&["logs", "router", "--app", "guestbook", "-n", "200"])
        .stdout;
    let field = |line: &str, name: &str| {
        let words = line.split_whitespace();
        words
            .filter_map(|word| word.strip_prefix(name))
            .next()
            .map(str::to_string)
    };
    let lines = logs.lines().filter(|line| line.contains("path=/headers"));
    lines
        .filter_map(|line| Some((field(line, "instance=")?, field(line, "fuel=")?)))
        .collect()
}

#[test]
fn the_same_request_burns_the_same_fuel_in_every_instance_of_every_platform() {
    let mut all = Vec::new();
    for _ in 0..2 {
        let platform = Platform::start();
        platform.deploy("guestbook", "guestbook", &["web=2"]);
        let seen = wait("requests to both instances", || {
            assert_eq!(get(&platform, "guestbook", "/headers").status, 200);
            let seen = fuels(&platform);
            let both = ["web.1", "web.2"]
                .iter()
                .all(|name| seen.iter().any(|(by, _)| by == name));
            (both && seen.len() >= 4).then_some(seen)
        });
        let logs = platform.run(&["logs", "router", "--app", "guestbook"]).stdout;
        let line = logs.lines().find(|line| line.contains("fuel=")).expect("a line");
        for field in ["memory=", "ms=", "bytes=", "request_id="] {
            assert!(line.contains(field), "{line}");
        }
        all.extend(seen);
    }
    let first = &all[0].1;
    assert!(all.iter().all(|(_, fuel)| fuel == first), "{all:?}");
}
