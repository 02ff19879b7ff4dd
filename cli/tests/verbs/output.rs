//! What a reader of the output can rely on.

use std::process::Stdio;

use crate::env::{Env, answered};

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let env = Env::with_dead_cluster();
    for args in [
        &["--help"][..],
        &["clusters"],
        &["clusters", "--json"],
        &["version"],
    ] {
        let mut child = env.command(&env.work(), args);
        let mut child = child
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gilliam");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("gilliam");
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), &b""[..]),
            "{args:?}"
        );
    }
}

#[test]
fn quiet_keeps_errors_and_drops_hints_of_success() {
    let env = Env::new();
    assert_eq!(env.run(&["clusters", "-q"]).stderr, "");
    assert!(env.run(&["apps", "-q"]).stderr.starts_with("error: "));
}

#[test]
fn nothing_is_destroyed_without_its_name() {
    let app = r#"{"name":"x","created_at":"2026-01-01T00:00:00Z","latest":null,"scale":{},"running":0,"urls":[],
        "migration":null,"migration_failure":null}"#;
    // The server answers one request: that which looks whether the app is there.
    answered(&["destroy", "x"], "200 OK", app).refused(
        1,
        "error: x was not destroyed: there is nobody to ask\nhint: pass --confirm x\n",
    );
    answered(&["destroy", "-a", "x", "--confirm", "y"], "200 OK", app)
        .refused(1, "error: x was not destroyed: \"y\" is not its name\n");
}

#[test]
fn an_app_without_instances_prints_no_data() {
    let none = r#"{"instances":[],"blocked":[],"settled":true,"migration":null,"migration_failure":null}"#;
    let ran = answered(&["ps", "-a", "x"], "200 OK", none);
    ran.printed("");
    assert_eq!(
        ran.stderr,
        "x has no instances\nhint: gilliam scale web=1 starts one of the newest release\n"
    );
    answered(&["ps", "-a", "x", "--json"], "200 OK", none).printed(&format!("{none}\n"));
}
