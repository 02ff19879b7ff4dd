//! `git push` to a cluster: over TLS with the cluster's own CA, and to any of its servers.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::harness::Cluster;

/// Runs git as the test's user and gives what it said, after it succeeded.
#[track_caller]
fn git(cluster: &Cluster, dir: &Path, args: &[&str]) -> String {
    let (is_done, said) = ran(cluster, dir, args);
    assert!(is_done, "{args:?}: {said}");
    said
}

/// The same after it was refused.
#[track_caller]
fn git_refused(cluster: &Cluster, dir: &Path, args: &[&str]) -> String {
    let (is_done, said) = ran(cluster, dir, args);
    assert!(!is_done, "{args:?}: {said}");
    said
}

fn ran(cluster: &Cluster, dir: &Path, args: &[&str]) -> (bool, String) {
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
    (output.status.success(), said)
}

/// Commits all of a folder, a repository from then on.
fn commit(cluster: &Cluster, dir: &Path) {
    git(cluster, dir, &["init", "-q", "-b", "main"]);
    git(cluster, dir, &["add", "-A", "-f"]);
    git(cluster, dir, &["commit", "-q", "-m", "first"]);
}

/// A folder with a project of the sample's components, less those that are named.
fn project(cluster: &Cluster, name: &str, without: &[&str]) -> PathBuf {
    let dir = cluster.path(name);
    std::fs::create_dir(&dir).expect("folder");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/guestbook");
    for file in ["Procfile", "web.wasm", "worker.wasm"] {
        if !without.contains(&file) {
            std::fs::copy(sample.join(file), dir.join(file)).expect("the built sample");
        }
    }
    dir
}

#[track_caller]
fn gilliam(cluster: &Cluster, dir: &Path, args: &[&str]) {
    let output = cluster.command(args).current_dir(dir).output().expect("gilliam");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
}

#[test]
fn submodules_are_fetched_by_https_from_whom_the_operator_lets_it() {
    let cluster = Cluster::start_with("10s", &["--submodules", "any"]);
    let parts = project(&cluster, "parts", &[]);
    commit(&cluster, &parts);
    gilliam(&cluster, &parts, &["create", "parts"]);
    git(&cluster, &parts, &["push", "gilliam", "main"]);
    let authority = std::fs::read_dir(cluster.path("home")).expect("home").flatten();
    let authority = authority
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "pem"));
    std::fs::copy(
        authority.expect("the cluster's CA"),
        cluster.path("authorities.pem"),
    )
    .expect("copied");

    let shop = project(&cluster, "shop", &["Procfile", "web.wasm", "worker.wasm"]);
    std::fs::write(shop.join("Procfile"), "web: lib/parts/web.wasm\n").expect("file");
    let credentials = std::fs::read_to_string(cluster.path("home/credentials.json")).expect("tokens");
    let credentials: serde_json::Value = serde_json::from_str(&credentials).expect("JSON");
    let token = credentials
        .as_object()
        .and_then(|all| all.values().next()?.as_str())
        .expect("a token");
    let host = cluster.api().replace("https://", "");
    let modules = |url: &str| {
        let text = format!("[submodule \"parts\"]\n\tpath = lib/parts\n\turl = {url}\n");
        std::fs::write(shop.join(".gitmodules"), text).expect("file");
    };
    modules(&format!("https://me:{token}@{host}/git/parts.git"));
    commit(&cluster, &shop);
    let tip = std::fs::read_to_string(parts.join(".git/refs/heads/main")).expect("tip");
    let link = format!("160000,{},lib/parts", tip.trim());
    git(&cluster, &shop, &["update-index", "--add", "--cacheinfo", &link]);
    git(&cluster, &shop, &["commit", "-q", "-m", "with parts"]);
    gilliam(&cluster, &shop, &["create", "shop"]);
    let said = git(&cluster, &shop, &["push", "gilliam", "main"]);
    assert!(said.contains("remote: v1 released"), "{said}");
    assert!(said.contains("web.wasm"), "{said}");

    modules(&format!("https://{host}/git/parts.git"));
    git(&cluster, &shop, &["add", ".gitmodules"]);
    git(&cluster, &shop, &["commit", "-q", "-m", "without a password"]);
    let said = git_refused(&cluster, &shop, &["push", "gilliam", "main"]);
    assert!(
        said.contains("the submodule lib/parts cannot be fetched"),
        "{said}"
    );
    assert!(!said.contains(token), "{said}");
}

#[test]
fn a_branch_is_pushed_to_any_server_of_a_cluster() {
    let cluster = Cluster::start_on_etcd(1, 2, "10s");
    let dir = project(&cluster, "hello", &[]);
    commit(&cluster, &dir);
    gilliam(&cluster, &dir, &["create", "hello"]);
    let said = git(&cluster, &dir, &["push", "gilliam", "main"]);
    assert!(said.contains("remote: v1 released"), "{said}");

    // The other server has none of it: it gets the whole history, and the release is the cluster's next one.
    gilliam(&cluster, &dir, &["--cluster", "s2", "git", "remote", "hello"]);
    git(&cluster, &dir, &["commit", "-q", "--allow-empty", "-m", "second"]);
    let said = git(&cluster, &dir, &["push", "gilliam", "main"]);
    assert!(said.contains("remote: v2 released"), "{said}");
}
