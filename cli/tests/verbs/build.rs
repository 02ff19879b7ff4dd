//! Builds on this machine, which need no cluster.

use std::fs;

use crate::env::Env;

/// A command of WASI 0.2 that does nothing.
const COMMAND: &str = r#"(component
    (core module $m (func (export "run") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $e (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $e)))"#;

#[test]
fn a_local_build_prints_the_images_digest_and_writes_its_components() {
    let env = Env::new();
    fs::write(
        env.work().join("Procfile"),
        "worker: worker.wat\nclock: worker.wat --every 5\n",
    )
    .expect("file");
    fs::write(env.work().join("worker.wat"), COMMAND).expect("file");
    let ran = env.run(&["build", "--local", "-o", "out"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("-----> Sealed image "), "{}", ran.stderr);
    let digest = ran.stdout.trim_end().to_string();
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest}");
    let component = fs::read(env.work().join("out/worker.wasm")).expect("component");
    assert!(component.starts_with(b"\0asm"));
    assert_eq!(
        component,
        fs::read(env.work().join("out/clock.wasm")).expect("component")
    );

    // The same sources give the same image.
    let again = env.run(&[
        "build",
        "--local",
        "--clean",
        "-o",
        "one.wasm",
        "--process",
        "worker",
        "--json",
    ]);
    let built: serde_json::Value = serde_json::from_str(&again.stdout).expect("JSON");
    assert_eq!(built["digest"], digest.as_str(), "{}", again.stderr);
    assert_eq!(
        fs::read(env.work().join("one.wasm")).expect("component"),
        component
    );
    let several = env.run(&["build", "--local", "-o", "one.wasm"]);
    assert_eq!(several.code, Some(2), "{}", several.stderr);
    assert!(
        several
            .stderr
            .contains("hint: name one with --process: clock, worker"),
        "{}",
        several.stderr
    );
}

#[test]
fn a_build_that_fails_says_why_and_writes_nothing() {
    let env = Env::with_dead_cluster();
    fs::write(env.work().join("Procfile"), "worker: worker.wat\n").expect("file");
    fs::write(env.work().join("worker.wat"), "(component (nonsense))").expect("file");
    let ran = env.run(&["build", "--local", "-o", "out.wasm"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("error: Procfile line 1: ") && ran.stderr.contains("(B12)"),
        "{}",
        ran.stderr
    );
    assert!(!env.work().join("out.wasm").exists());
    // Without --local a cluster is asked.
    let ran = env.run(&["build", "-a", "x"]);
    assert!(ran.stderr.contains("no gilliam answers"), "{}", ran.stderr);
    assert_eq!(env.run(&["build", "--process", "web"]).code, Some(2));
}
