//! What a reader of the output can rely on.

use std::process::Stdio;

use crate::env::Env;

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
fn destroy_without_anybody_to_ask_needs_a_word() {
    // Without a platform the app cannot be seen, so nothing is asked either.
    let ran = Env::with_dead_cluster().run(&["destroy", "x", "-y"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("no gilliam answers"));
}
