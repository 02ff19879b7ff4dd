//! Python from source, deployed by the program and asked through the ingress.

use crate::{
    client::{get, post, wait_ok},
    platform::{Platform, wait},
};

#[test]
fn python_answers_requests_listens_and_works() {
    let platform = Platform::start();
    let project = platform.sources("python");
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
    let echoed = post(&platform, "python", "/echo", "text/plain", "what came");
    assert_eq!((echoed.status, echoed.body.as_str()), (200, "what came"));
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
    crate::mailer::mails_are_sent_tried_again_or_discarded(&platform, &project, "python");
}

#[test]
fn a_flask_application_and_its_requirements_deploy_unchanged() {
    let platform = Platform::start();
    let project = platform.sources("python-flask");
    platform.run_in(&project, &["create", "guests"]).ok();
    platform.run_in(&project, &["deploy"]).ok();
    platform.run_in(&project, &["config", "TITLE=Our guests"]).ok();
    platform
        .run_in(&project, &["scale", "v2", "web=1", "worker=1"])
        .ok();

    let page = wait_ok(&platform, "guests", "/").body;
    assert!(page.contains("Our guests"), "{page}");
    let form = "application/x-www-form-urlencoded";
    let added = post(&platform, "guests", "/guests", form, "name=Ada");
    assert_eq!(added.status, 201, "{}", added.body);
    assert!(added.body.contains("Ada"), "{}", added.body);
    assert_eq!(post(&platform, "guests", "/guests", form, "").status, 400);
    assert_eq!(get(&platform, "guests", "/fail").status, 500);
    assert_eq!(get(&platform, "guests", "/").status, 200);
    wait("the failure's traceback in the log", || {
        let logs = platform.run_in(&project, &["logs", "-n", "300"]).ok();
        logs.contains("RuntimeError: this request fails").then_some(())
    });
}
