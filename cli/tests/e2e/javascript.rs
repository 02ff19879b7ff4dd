//! JavaScript and TypeScript from source: the samples as a user deploys them, answering through the ingress.

use std::path::Path;

use crate::{
    client::{self, get},
    platform::{Platform, wait},
};

/// What an app answers to JSON.
#[track_caller]
fn post(platform: &Platform, app: &str, path: &str, body: &str) -> (u16, String) {
    let answer = client::post(platform, app, path, "application/json", body);
    (answer.status, answer.body)
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
    let project = platform.sources("javascript");
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
    crate::mailer::mails_are_sent_tried_again_or_discarded(&platform, &project, "js");

    // The greeting is read when the script is loaded, and that is not at the build.
    let changed = platform.run_in(&project, &["config", "GREETING=hi"]);
    assert_eq!(changed.ok(), "v2 released\n");
    assert_eq!(body("/"), "hi from js\n");
    let env: serde_json::Value = serde_json::from_str(&body("/env")).expect("JSON");
    assert_eq!(env["GREETING"], "hi");
    assert_eq!(env["GILLIAM_PROCESS"], "web");
}

#[test]
fn frameworks_of_the_registry_answer_unchanged() {
    let platform = Platform::start();
    let hono = platform.sources("typescript-hono");
    run(&platform, &hono, "hono", &["web=1", "worker=1"]);
    assert_eq!(get(&platform, "hono", "/").body, "hello, world\n");
    assert_eq!(get(&platform, "hono", "/guests/ada").body, "{\"name\":\"ada\"}");
    let greeted = post(&platform, "hono", "/guests", "{\"name\":\"Grace\"}");
    assert_eq!(greeted, (201, "hello, Grace\n".to_string()));
    wait_for_line(&platform, &hono, &["app[worker.1]", "hello, Grace"]);

    let express = platform.sources("express");
    run(&platform, &express, "express", &["web=1"]);
    assert_eq!(get(&platform, "express", "/").body, "hello from Express\n");
    assert_eq!(
        get(&platform, "express", "/users/7?a=b").body,
        "{\"id\":\"7\",\"query\":{\"a\":\"b\"}}"
    );
    let echoed = post(&platform, "express", "/echo", "{\"a\":1}");
    assert_eq!(echoed, (201, "{\"a\":1}".to_string()));
    assert_eq!(get(&platform, "express", "/throw").status, 500);
    assert_eq!(get(&platform, "express", "/nowhere").status, 404);
}
