//! How images are named, and what is told of registries before any cluster is asked.

use crate::env::Env;

#[test]
fn a_name_that_is_none_is_a_wrong_argument() {
    let env = Env::with_dead_cluster();
    for args in [
        &["image", "show", "latest"][..],
        &["deploy", "-a", "x", "--image", "https://ghcr.io/team/hello"],
        &["image", "push", "latest", "ghcr.io/team/hello:v1"],
        &["image", "pull", "-a", "x", "ghcr.io/TEAM/hello:v1"],
    ] {
        let ran = env.run(args);
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("names no image"), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("hint: "), "{args:?}: {}", ran.stderr);
    }
    let both = env.run(&["deploy", ".", "--image", "v1"]);
    assert_eq!(both.code, Some(2), "{}", both.stderr);
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let env = Env::with_dead_cluster();
    // The discard service of RFC 863: reserved, and refused on any machine that does not run it.
    let ran = env.run(&["image", "show", "127.0.0.1:9/team/hello:v1"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let want = "error: cannot reach the registry 127.0.0.1:9: ";
    assert!(ran.stderr.starts_with(want), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("hint: is 127.0.0.1:9 its name?"),
        "{}",
        ran.stderr
    );
}
