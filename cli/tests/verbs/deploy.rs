//! What is checked of a project before anything is sent.

use std::fs;

use crate::env::Env;

#[test]
fn a_project_without_a_procfile_is_refused_here() {
    let env = Env::with_dead_cluster();
    let ran = env.run(&["deploy", "-a", "x"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.starts_with("error: no Procfile in the project"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains("hint: name each process and its component in a file called Procfile")
    );
    env.run(&["deploy", "absent", "-a", "x"])
        .refused(1, "error: absent is not a folder\n");
}

#[test]
fn counts_are_checked_before_the_build() {
    let env = Env::with_dead_cluster();
    fs::write(env.work().join("Procfile"), "web: web.wasm\n").expect("Procfile");
    let ran = env.run(&["deploy", "-a", "x", "--scale", "web=many"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    let ran = env.run(&["deploy", "-a", "x", "--scale", "web=1"]);
    assert!(ran.stderr.contains("no gilliam answers"), "{}", ran.stderr);
}
