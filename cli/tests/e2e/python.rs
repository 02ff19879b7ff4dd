//! Python from source, deployed by the program and asked through the ingress.

use std::{fs, path::Path};

use crate::{
    client::{get, runtime, wait_ok},
    platform::{Platform, client_builder, wait},
};

/// Copies a sample's sources, as a user would have them.
fn sources(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("the sample") {
        let (from, to) = entry.map(|e| (e.path(), to.join(e.file_name()))).expect("entry");
        match from.is_dir() {
            true => sources(&from, &to),
            false => drop(fs::copy(&from, &to).expect("copy")),
        }
    }
}

/// `POST path` of an app; its status and its body.
fn post(platform: &Platform, app: &str, path: &str, body: &'static str) -> (u16, String) {
    runtime().block_on(async {
        let client = client_builder().no_proxy().build().expect("client");
        let request = client.post(format!("{}{path}", platform.http()));
        let request = request.header("host", format!("{app}.localhost")).body(body);
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    })
}

#[test]
fn python_answers_requests_listens_and_works() {
    let platform = Platform::start();
    let project = platform.root().join("python");
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples");
    sources(&samples.join("python"), &project);
    platform.run_in(&project, &["create", "python"]).ok();
    let deployed = platform.run_in(&project, &["deploy"]);
    assert!(
        deployed
            .stderr
            .contains("handle of web.py is called for each request"),
        "{}",
        deployed.stderr
    );
    deployed.ok();
    platform
        .run_in(&project, &["config", "GREETING=Hello, config", "PAUSE=0.2"])
        .ok();
    platform
        .run_in(&project, &["scale", "v2", "web=1", "worker=1"])
        .ok();

    assert_eq!(wait_ok(&platform, "python", "/").body, "Hello, config\n");
    let env = get(&platform, "python", "/env").body;
    assert!(
        env.contains("\"GILLIAM_PROCESS\": \"web\"") && !env.contains("PYTHONHOME"),
        "{env}"
    );
    assert_eq!(
        get(&platform, "python", "/stream").body,
        "line 0\nline 1\nline 2\n"
    );
    assert_eq!(get(&platform, "python", "/nowhere").status, 404);
    assert_eq!(
        post(&platform, "python", "/echo", "what came"),
        (200, "what came".to_string())
    );
    let failed = get(&platform, "python", "/fail");
    assert_eq!((failed.status, failed.code), (500, None), "{}", failed.body);
    assert_eq!(get(&platform, "python", "/sleep").body, "slept\n");
    wait("both processes' lines to reach the log", || {
        let logs = platform.run_in(&project, &["logs", "-n", "300"]).ok();
        let lines = [
            "GET /env",
            "web.py\", line ",
            "ValueError: this request fails",
            "tick 2",
        ];
        lines.iter().all(|line| logs.contains(line)).then_some(())
    });
}
