//! C, C++, Zig and Go from their sources: built in the sandbox, answering through the ingress, with their log lines.

use std::{fs, path::Path};

use crate::{
    client,
    platform::{Platform, wait},
};

#[track_caller]
fn answers(platform: &Platform, app: &str, path: &str, status: u16, text: &str) {
    let answer = client::get(platform, app, path);
    assert_eq!((answer.status, answer.body.as_str()), (status, text), "{path}");
}

/// Waits for a line of the app's log.
#[track_caller]
fn logs(platform: &Platform, project: &Path, line: &str) {
    wait(line, || {
        let said = platform.run_in(project, &["logs", "-n", "200"]).stdout;
        said.contains(line).then_some(())
    });
}

#[test]
fn c_and_cpp_deploy_from_their_sources() {
    let platform = Platform::start();
    let project = platform.sources("c");
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    gilliam(&["create", "c"]).ok();
    let deployed = gilliam(&["deploy"]);
    let said = &deployed.stderr;
    assert!(
        said.contains("-----> web: cc -O2 -Wall web.c, http-p2, "),
        "{said}"
    );
    assert!(
        said.contains("-----> worker: make worker, command-p2, "),
        "{said}"
    );
    assert_eq!(deployed.ok(), "v1 released\n");
    gilliam(&["scale", "web=1", "worker=1", "report=1"]).ok();
    answers(&platform, "c", "/", 200, "Hello from C\n");
    answers(&platform, "c", "/query?a=1&b=2", 200, "a=1&b=2\n");
    answers(&platform, "c", "/nope", 404, "there is nothing at /nope\n");
    let lines: String = (1..=100_000).map(|line| format!("{line}\n")).collect();
    answers(&platform, "c", "/lines", 200, &lines);
    let body = "a body of some length\n".repeat(4_000);
    assert_eq!(
        client::post(&platform, "c", "/echo", "text/plain", &body).body,
        body
    );
    logs(&platform, &project, "app[worker.1]: tick 2");
    logs(
        &platform,
        &project,
        "app[report.1]: be=2 not=1 or=1 to=2 every 2 s",
    );

    gilliam(&["config", "GREETING=Moin"]).ok();
    answers(&platform, "c", "/", 200, "Moin from C\n");

    // What is wrong is said in the compiler's own words.
    fs::write(project.join("worker.c"), "int main(void) { return ticks; }\n").expect("file");
    let refused = gilliam(&["deploy"]).refused();
    assert!(refused.contains("B15"), "{refused}");
    assert!(
        refused.contains("worker.c:1:25: error: use of undeclared identifier 'ticks'"),
        "{refused}"
    );
    fs::write(project.join("Procfile"), "report: c++ report.cc\n").expect("file");
    fs::write(project.join("report.cc"), "int main() { throw 1; }\n").expect("file");
    let refused = gilliam(&["deploy"]).refused();
    assert!(
        refused.contains("cannot use 'throw' with exceptions disabled"),
        "{refused}"
    );
}

#[test]
fn zig_deploys_from_its_sources() {
    let platform = Platform::start();
    let project = platform.sources("zig");
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    gilliam(&["create", "zig"]).ok();
    assert_eq!(
        gilliam(&["deploy", "--scale", "web=1", "--scale", "worker=1"]).ok(),
        "v1 released\n"
    );
    answers(&platform, "zig", "/", 200, "Hello from Zig\n");
    answers(&platform, "zig", "/fail", 500, "");
    assert_eq!(
        client::post(&platform, "zig", "/echo", "text/plain", "a body").body,
        "a body"
    );
    logs(&platform, &project, "app[web.1]: error: AsAsked");
    logs(&platform, &project, "app[worker.1]: count 2");

    fs::write(
        project.join("worker.zig"),
        "pub fn main() void {\n    ticks();\n}\n",
    )
    .expect("file");
    let refused = gilliam(&["deploy"]).refused();
    let said = "worker.zig:2:5: error: use of undeclared identifier 'ticks'";
    assert!(refused.contains("B15") && refused.contains(said), "{refused}");
}

#[test]
fn an_ordinary_server_of_go_deploys_from_its_sources() {
    let platform = Platform::start();
    let project = platform.sources("go");
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    gilliam(&["create", "go"]).ok();
    let deployed = gilliam(&["deploy", "--scale", "web=1", "--scale", "worker=1"]);
    let said = &deployed.stderr;
    assert!(said.contains("-----> web: go run ./cmd/web, http-p2, "), "{said}");
    assert_eq!(deployed.ok(), "v1 released\n");
    answers(&platform, "go", "/", 200, "Hello from Go\n");
    answers(&platform, "go", "/sleep", 200, "true\n");
    answers(&platform, "go", "/nope", 404, "404 page not found\n");
    answers(&platform, "go", "/panic", 500, "Internal Server Error\n");
    let body = "a body of some length\n".repeat(10_000);
    assert_eq!(
        client::post(&platform, "go", "/echo", "text/plain", &body).body,
        body
    );
    let denied = client::get(&platform, "go", "/fetch?url=http://example.com/");
    assert_eq!(denied.status, 502, "{}", denied.body);
    logs(
        &platform,
        &project,
        "app[web.1]: panic serving GET /panic: as asked",
    );
    logs(&platform, &project, "app[worker.1]: count 2");

    fs::write(project.join("Procfile"), "worker: go run ./cmd/worker\n").expect("file");
    fs::write(
        project.join("cmd/worker/main.go"),
        "package main\n\nfunc main() { ticks() }\n",
    )
    .expect("file");
    let refused = gilliam(&["deploy"]).refused();
    let said = "cmd/worker/main.go:3:15: undefined: ticks";
    assert!(refused.contains("B15") && refused.contains(said), "{refused}");
    fs::write(project.join("go.mod"), "module example.com/app\n\ngo 9.1\n").expect("file");
    let refused = gilliam(&["deploy"]).refused();
    assert!(
        refused.contains("go.mod requires go >= 9.1 (running go 1."),
        "{refused}"
    );
}
