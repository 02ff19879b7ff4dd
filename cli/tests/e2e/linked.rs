//! Library components that a process links, and what a release says of what it adds.

use std::fs;

use crate::platform::Platform;

/// A command that ends well when the library's function gives 7, and crashes otherwise.
const WORKER: &str = r#"(component
    (import "acme:auth/check@1.2.0" (instance $auth (export "verify" (func (result u32)))))
    (core func $verify (canon lower (func $auth "verify")))
    (core module $m
        (import "auth" "verify" (func $verify (result i32)))
        (func (export "run") (result i32)
            (if (i32.ne (call $verify) (i32.const 7)) (then unreachable))
            (loop $forever (br $forever))
            i32.const 0))
    (core instance $i (instantiate $m (with "auth" (instance (export "verify" (func $verify))))))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $e (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $e)))"#;

const AUTH: &str = r#"(component
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance (export "now" (func (result u64)))))
    (core module $m (func (export "f") (result i32) i32.const 7))
    (core instance $i (instantiate $m))
    (func $f (result u32) (canon lift (core func $i "f")))
    (instance $e (export "verify" (func $f)))
    (export "acme:auth/check@1.3.1" (instance $e)))"#;

const RUNS_ALONE: &str = r#"(component
    (core module $m (func (export "run") (result i32) (loop $forever (br $forever)) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $e (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $e)))"#;

#[test]
fn a_linked_library_is_called_and_a_release_says_what_it_adds() {
    let platform = Platform::start();
    let project = platform.root().join("projects/linked");
    fs::create_dir_all(&project).expect("project folder");
    let write = |name: &str, text: &str| fs::write(project.join(name), text).expect("file");
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    write("Procfile", "worker: worker.wat");
    write("worker.wat", RUNS_ALONE);
    // It spins, and had better do so slowly.
    write("gilliam.toml", "[process.worker]\ncpu = 0.01\n");
    gilliam(&["create", "linked"]).ok();
    let first = gilliam(&["deploy", "--scale", "worker=1"]);
    assert!(!first.stderr.contains(" adds: "), "{}", first.stderr);
    assert_eq!(first.ok(), "v1 released\n");

    write("worker.wat", WORKER);
    let refused = gilliam(&["deploy"]).refused();
    let message = "worker.wat imports acme:auth/check@1.2.0, which this platform does not offer";
    assert!(refused.contains(message) && refused.contains("B11"), "{refused}");

    write("auth.wat", AUTH);
    write(
        "gilliam.toml",
        "allowed_outbound_hosts = [\"https://api.stripe.com\"]\n[process.worker]\ncpu = 0.01\nlink = [\"auth.wat\"]\n",
    );
    let second = gilliam(&["deploy"]);
    let said = "-----> v2 adds: outbound https://api.stripe.com, wasi:clocks/monotonic-clock\n";
    assert!(second.stderr.contains(said), "{}", second.stderr);
    assert!(
        second.stderr.contains("worker.wat, with auth.wat, command-p2"),
        "{}",
        second.stderr
    );
    assert_eq!(second.ok(), "v2 released\n");
    // Had the library not answered 7, it would have crashed.
    let running = |rows: &[serde_json::Value]| {
        rows.iter()
            .any(|row| row["release"] == "v2" && row["state"] == "running")
    };
    platform.wait_ps("linked", "the linked worker to run", running);

    let back = gilliam(&["rollback"]);
    let said = "v3 removes: outbound https://api.stripe.com, wasi:clocks/monotonic-clock\n";
    assert!(back.stderr.contains(said), "{}", back.stderr);
    let releases = platform.json(&["releases", "--app", "linked"]);
    assert_eq!(
        releases[1]["capabilities"]["adds"][1]["name"],
        "wasi:clocks/monotonic-clock"
    );
    assert_eq!(
        releases[0]["capabilities"]["removes"][0]["name"],
        "outbound https://api.stripe.com"
    );
    assert!(releases[2]["capabilities"].is_null(), "{releases}");
}
