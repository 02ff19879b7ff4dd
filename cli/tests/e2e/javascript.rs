//! JavaScript and TypeScript from source: the sample as a user deploys it, answering through the ingress.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    client::{get, runtime},
    platform::{Platform, client_builder, wait},
};

/// A copy of a sample's sources.
fn sources(platform: &Platform, sample: &str) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("folder");
        for entry in fs::read_dir(from).expect("a sample") {
            let entry = entry.expect("entry");
            let to = to.join(entry.file_name());
            match entry.file_type().expect("type").is_dir() {
                true => copy(&entry.path(), &to),
                false => _ = fs::copy(entry.path(), &to).expect("copy"),
            }
        }
    }
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../samples")
        .join(sample);
    let to = platform.root().join("projects").join(sample);
    copy(&from, &to);
    to
}

#[track_caller]
fn post(platform: &Platform, app: &str, path: &str, body: &'static str) -> (u16, String) {
    let client = client_builder().no_proxy().build().expect("client");
    let request = client
        .post(format!("{}{path}", platform.http()))
        .header("host", format!("{app}.localhost"))
        .header("content-type", "application/json")
        .body(body);
    runtime().block_on(async {
        let response = request.send().await.expect("an answer");
        (
            response.status().as_u16(),
            response.text().await.expect("its body"),
        )
    })
}

/// Deploys a sample and runs it.
#[track_caller]
fn run(platform: &Platform, project: &Path, app: &str, scale: &[&str]) {
    let gilliam = |args: &[&str]| platform.run_in(project, args);
    gilliam(&["create", app]).ok();
    assert_eq!(gilliam(&["deploy", ".", "-m", "first"]).ok(), "v1 released\n");
    gilliam(&[&["scale", "v1"], scale].concat()).ok();
}

#[track_caller]
fn wait_for_line(platform: &Platform, project: &Path, parts: &[&str]) {
    wait(&format!("a line of the log with {parts:?}"), || {
        let logs = platform.run_in(project, &["logs", "-n", "200"]).ok();
        let found = logs
            .lines()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        found.then_some(())
    });
}

#[test]
fn scripts_answer_work_and_read_the_config_of_the_run() {
    let platform = Platform::start();
    let project = sources(&platform, "javascript");
    run(&platform, &project, "js", &["web=1", "worker=1"]);
    let body = |path: &str| get(&platform, "js", path).body;
    assert_eq!(body("/"), "hello from js\n");
    assert_eq!(body("/stream"), "one\ntwo\nthree\n");
    assert_eq!(body("/sleep?ms=20"), "slept 20 ms\n");
    assert_eq!(get(&platform, "js", "/nowhere").status, 404);
    assert_eq!(
        post(&platform, "js", "/echo", "{\"a\":1}"),
        (200, "{\"a\":1}".to_string())
    );
    assert_eq!(get(&platform, "js", "/throw").status, 500);
    wait_for_line(&platform, &project, &["app[web.1]", "Error: thrown on purpose"]);
    wait_for_line(&platform, &project, &["app[web.1]", "web.js:3", ":11"]);
    wait_for_line(
        &platform,
        &project,
        &["app[worker.1]", "worker of js begins, every 1 s"],
    );
    wait_for_line(&platform, &project, &["app[worker.1]", "tick 2"]);

    // The greeting is read when the script is loaded, and that is not at the build.
    let changed = platform.run_in(&project, &["config", "GREETING=hi"]);
    assert_eq!(changed.ok(), "v2 released\n");
    assert_eq!(body("/"), "hi from js\n");
    let env: serde_json::Value = serde_json::from_str(&body("/env")).expect("JSON");
    assert_eq!(env["GREETING"], "hi");
    assert_eq!(env["GILLIAM_PROCESS"], "web");
}
