//! `git push` to a cluster: over TLS with the cluster's own CA, and to any of its servers.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::Cluster;

/// Runs git as the test's user and gives what it said, after it succeeded.
#[track_caller]
fn git(cluster: &Cluster, dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.com"]);
    command.args(args).current_dir(dir).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .env("HOME", cluster.path(""))
        .env("GILLIAM_HOME", cluster.path("home"));
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0");
    let output = command.stdin(Stdio::null()).output().expect("git");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

#[test]
fn a_branch_is_pushed_to_any_server_of_a_cluster() {
    let cluster = Cluster::start_on_etcd(1, 2, "10s");
    let dir = cluster.path("hello");
    std::fs::create_dir(&dir).expect("folder");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/guestbook");
    for file in ["Procfile", "web.wasm", "worker.wasm"] {
        std::fs::copy(sample.join(file), dir.join(file)).expect("the built sample");
    }
    let gilliam = |args: &[&str]| {
        let output = cluster.command(args).current_dir(&dir).output().expect("gilliam");
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    git(&cluster, &dir, &["init", "-q", "-b", "main"]);
    git(&cluster, &dir, &["add", "-A", "-f"]);
    git(&cluster, &dir, &["commit", "-q", "-m", "first"]);
    gilliam(&["create", "hello"]);
    let said = git(&cluster, &dir, &["push", "gilliam", "main"]);
    assert!(said.contains("remote: v1 released"), "{said}");

    // The other server has none of it: it gets the whole history, and the release is the cluster's next one.
    gilliam(&["--cluster", "s2", "git", "remote", "hello"]);
    git(&cluster, &dir, &["commit", "-q", "--allow-empty", "-m", "second"]);
    let said = git(&cluster, &dir, &["push", "gilliam", "main"]);
    assert!(said.contains("remote: v2 released"), "{said}");
}
