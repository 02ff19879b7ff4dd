//! A guest's own queues, by HTTP inside the node: a program that takes jobs in a loop, and a web process that does what
//! it is told.

use std::path::PathBuf;

use crate::{
    client::{post, wait_ok},
    platform::{Platform, wait},
};

/// Ready, scheduled, running, dead and done jobs of `emails`.
fn counts(platform: &Platform) -> [u64; 5] {
    let info = platform.json(&["queue", "emails", "--app", "mails"]);
    ["ready", "scheduled", "running", "dead", "done"].map(|name| info[name].as_u64().unwrap_or_default())
}

#[track_caller]
fn wait_counts(platform: &Platform, expected: [u64; 5]) {
    wait(&format!("{expected:?} in emails"), || {
        (counts(platform) == expected).then_some(())
    });
}

/// An app with guestbook's web process and the program that takes jobs.
fn deployed(platform: &Platform) -> PathBuf {
    let project = platform.sample("guestbook");
    let samples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../samples");
    std::fs::copy(
        samples.join("command-worker/worker.wasm"),
        project.join("worker.wasm"),
    )
    .expect("command-worker/worker.wasm; run make samples");
    std::fs::write(
        project.join("Procfile"),
        "web: web.wasm\nworker: worker.wasm emails\n",
    )
    .expect("Procfile");
    platform.run_in(&project, &["create", "mails"]).ok();
    platform.run_in(&project, &["deploy"]).ok();
    project
}

/// What the web process was answered: status and body.
fn ask(platform: &Platform, path: &str, body: &str) -> (u16, serde_json::Value) {
    let path = path.replace('?', "%3F").replace('&', "%26");
    let answer = post(
        platform,
        "mails",
        &format!("/fetch?url=http://queues.internal{path}"),
        "text/plain",
        body,
    );
    let (status, body) = answer
        .body
        .split_once("\n\n")
        .unwrap_or_else(|| panic!("{answer:?}"));
    let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    (status.parse().expect("a status"), body)
}

#[test]
fn a_program_takes_jobs_in_a_loop_and_what_it_has_when_it_dies_comes_again() {
    let platform = Platform::start();
    let project = deployed(&platform);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    gilliam(&["scale", "v1", "web=1", "worker=2"]).ok();
    wait_ok(&platform, "mails", "/ok");

    // Users put, the web process puts, one by one and many together.
    gilliam(&["queue", "emails", "put", "hello"]).ok();
    let (status, put) = ask(&platform, "/emails/jobs?key=order-7&delay_ms=0", "from the web");
    assert_eq!((status, &put["new"]), (201, &true.into()), "{put}");
    let batch: Vec<_> = (0..20)
        .map(|n| serde_json::json!({ "key": format!("k{n}"), "payload": "aGk=" }))
        .collect();
    let batch = serde_json::to_string(&batch).expect("JSON");
    let (status, put) = ask(&platform, "/emails/batch", &batch);
    assert_eq!(
        (status, put["jobs"].as_array().map(Vec::len)),
        (201, Some(20)),
        "{put}"
    );
    wait_counts(&platform, [0, 0, 0, 0, 22]);
    let logs = gilliam(&["logs", "-n", "200"]).ok();
    assert!(
        logs.contains("attempt 1: hello") && logs.contains("attempt 1: from the web"),
        "{logs}"
    );

    // What fails comes again, what is discarded is dead.
    gilliam(&["queue", "emails", "put", "fail once more"]).ok();
    wait("its second attempt", || {
        let logs = gilliam(&["logs", "-n", "200"]).stdout;
        logs.contains("attempt 2: fail once more").then_some(())
    });
    gilliam(&["queue", "emails", "put", "never mind"]).ok();
    wait("a dead letter", || (counts(&platform)[3] == 1).then_some(()));
    let dead = gilliam(&["queue", "emails", "dead"]).ok();
    assert!(dead.contains("never mind"), "{dead}");

    // A job that kills its worker is another worker's at once, and no longer than it may: it is an attempt each time.
    ask(&platform, "/emails/jobs?attempts=3", "crash and burn");
    wait("it is dead too", || (counts(&platform)[3] == 2).then_some(()));
    let dead = gilliam(&["queue", "emails", "dead"]).ok();
    assert!(dead.contains("its worker ended before it said"), "{dead}");
    // Workers that are stopped give their jobs back as if they had never had them; there are none here to give.
    gilliam(&["scale", "worker=0"]).ok();
    gilliam(&["queue", "emails", "put", "later"]).ok();
    wait("it waits", || (counts(&platform)[0] == 1).then_some(()));
}

#[test]
fn leases_are_the_instances_own_and_bad_requests_say_what_is_wrong() {
    let platform = Platform::start();
    let project = deployed(&platform);
    platform.run_in(&project, &["scale", "v1", "web=1"]).ok();
    wait_ok(&platform, "mails", "/ok");

    let (status, none) = ask(&platform, "/emails/take?wait_ms=0", "");
    assert_eq!((status, none), (200, serde_json::json!({ "jobs": [] })));
    ask(&platform, "/emails/jobs", "one");
    let (_, taken) = ask(&platform, "/emails/take?max=5&wait_ms=20000", "");
    let job = &taken["jobs"][0];
    assert_eq!(job["payload"], "b25l", "{taken}");
    let (id, lease) = (
        job["id"].as_str().expect("id"),
        job["lease"].as_u64().expect("lease"),
    );
    let word =
        |word: &str, lease: u64| ask(&platform, &format!("/emails/jobs/{id}/{word}?lease={lease}"), "");
    assert_eq!(word("extend", lease).0, 200);
    let (status, lost) = word("done", lease + 1);
    assert_eq!((status, &lost["code"]), (409, &"Q11".into()), "{lost}");
    assert_eq!(word("done", lease), (200, serde_json::json!({ "dead": false })));
    let (status, twice) = word("done", lease);
    assert_eq!((status, &twice["code"]), (409, &"Q11".into()), "{twice}");

    for (path, body, status, code) in [
        ("/emails/jobs?kye=a", "x", 400, "A400"),
        ("/emails/jobs?attempts=99", "x", 422, "A422"),
        ("/Not_A_Queue/jobs", "x", 422, "A422"),
        ("/emails/nothing", "x", 404, "A404"),
        ("/emails/batch", "[{]", 400, "A400"),
        ("/emails/jobs/18/done", "", 400, "A400"),
    ] {
        let (got, error) = ask(&platform, path, body);
        assert_eq!((got, &error["code"]), (status, &code.into()), "{path}: {error}");
    }
    let large = "x".repeat((1 << 20) + 1);
    let (status, error) = ask(&platform, "/emails/jobs", &large);
    assert_eq!((status, &error["code"]), (413, &"A413".into()), "{error}");
    // The largest fits.
    let (status, put) = ask(&platform, "/emails/jobs", &large[1..]);
    assert_eq!((status, &put["new"]), (201, &true.into()), "{put}");
}
