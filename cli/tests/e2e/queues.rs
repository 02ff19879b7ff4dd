//! Queues: jobs put by users, done by workers, and what becomes of those that fail, and of those whose worker, node
//! or platform dies.

use std::path::PathBuf;

use crate::{
    client::runtime,
    guests::{OBEYS, job_guest},
    platform::{Platform, wait},
};

/// Stories that hold whatever keeps the jobs.
macro_rules! stories {
    ($($name:ident,)*) => {
        mod file {
            $(#[test]
            fn $name() {
                super::$name(&crate::platform::Platform::start());
            })*
        }

        mod postgres {
            $(#[test]
            fn $name() {
                let database = crate::postgres_process::database();
                super::$name(&crate::platform::Platform::start_with(&["--queues", &database.url()]));
            })*
        }
    };
}

stories! {
    jobs_are_done_by_the_worker_of_their_queues_name_and_failures_are_kept,
    a_job_of_a_key_is_put_once_and_a_delayed_one_waits,
    the_job_of_a_node_that_dies_is_given_to_the_next_and_a_stopped_worker_hands_its_own_back,
    a_queue_runs_and_begins_no_more_jobs_than_its_terms_say_at_any_scale,
    no_job_is_lost_while_nodes_and_the_platform_are_killed,
}

/// An app whose worker `emails` does what the first byte of a job says ([`OBEYS`]).
fn deployed(platform: &Platform, manifest: &str) -> PathBuf {
    let project = platform.root().join("projects/shop");
    std::fs::create_dir_all(&project).expect("folder");
    std::fs::write(project.join("Procfile"), "emails: worker.wasm\n").expect("Procfile");
    std::fs::write(project.join("gilliam.toml"), manifest).expect("gilliam.toml");
    std::fs::write(project.join("worker.wasm"), job_guest("", OBEYS)).expect("worker");
    platform.run_in(&project, &["create", "shop"]).ok();
    platform.run_in(&project, &["deploy"]).ok();
    project
}

/// Ready, scheduled, running, dead and done jobs of `emails`.
fn counts(platform: &Platform) -> [u64; 5] {
    let info = platform.json(&["queue", "emails", "--app", "shop"]);
    ["ready", "scheduled", "running", "dead", "done"].map(|name| info[name].as_u64().expect(name))
}

#[track_caller]
fn wait_counts(platform: &Platform, expected: [u64; 5]) {
    wait(&format!("{expected:?} in emails"), || {
        (counts(platform) == expected).then_some(())
    });
}

fn jobs_are_done_by_the_worker_of_their_queues_name_and_failures_are_kept(platform: &Platform) {
    let project = deployed(platform, "");
    let queue = |args: &[&str]| platform.run_in(&project, &[&["queue"], args].concat());

    // Before there is a worker jobs wait.
    assert_eq!(queue(&["emails", "put", "done"]).ok(), "1\n");
    wait_counts(platform, [1, 0, 0, 0, 0]);
    platform.run_in(&project, &["scale", "v1", "emails=2"]).ok();
    wait_counts(platform, [0, 0, 0, 0, 1]);
    queue(&["emails", "put", "done"]).ok();
    wait_counts(platform, [0, 0, 0, 0, 2]);

    // What fails waits for its next attempt, and says why.
    queue(&["emails", "put", "remote is away"]).ok();
    wait_counts(platform, [0, 1, 0, 0, 2]);
    let waits = queue(&["emails", "jobs", "--state", "scheduled"]).ok();
    assert!(
        waits.contains("remote is away") && waits.contains("1 of 25"),
        "{waits}"
    );
    queue(&["emails", "put", "trap"]).ok();
    wait_counts(platform, [0, 2, 0, 0, 2]);
    let logs = wait("the failures in the log", || {
        let logs = platform.run_in(&project, &["logs"]).stdout;
        (logs.contains("job 3 failed at attempt 1: remote is away") && logs.contains("job 4 failed"))
            .then_some(logs)
    });
    assert!(logs.contains("R23"), "{logs}");

    // What fails for good is among the dead letters, and begins anew when it is told to.
    queue(&["emails", "put", "x is unknown", "--key", "x"]).ok();
    wait_counts(platform, [0, 2, 0, 1, 2]);
    let dead = queue(&["emails", "dead"]);
    assert!(dead.stdout.contains("x is unknown"), "{}", dead.stdout);
    let shown = queue(&["emails", "show", "5"]).ok();
    assert!(
        shown.contains("error: x is unknown") && shown.ends_with("x is unknown\n"),
        "{shown}"
    );
    queue(&["emails", "pause"]).ok();
    assert_eq!(
        queue(&["emails", "retry", "--all"]).ok(),
        "1 job of emails begin anew\n"
    );
    wait_counts(platform, [1, 2, 0, 0, 2]);
    queue(&["emails", "resume"]).ok();
    wait_counts(platform, [0, 2, 0, 1, 2]);

    let listed = queue(&[]).ok();
    assert!(listed.starts_with("emails  0"), "{listed}");
    assert_eq!(
        queue(&["emails", "purge", "--yes"]).ok(),
        "2 jobs of emails removed\n"
    );
    assert_eq!(
        queue(&["emails", "purge", "--state", "dead", "--yes"]).ok(),
        "1 job of emails removed\n"
    );
    wait_counts(platform, [0, 0, 0, 0, 2]);
}

fn a_job_of_a_key_is_put_once_and_a_delayed_one_waits(platform: &Platform) {
    let project = deployed(platform, "");
    let put =
        |args: &[&str]| platform.run_in(&project, &[&["queue", "emails", "put", "done"], args].concat());
    assert_eq!(put(&["--key", "invoice 7"]).ok(), "1\n");
    let again = put(&["--key", "invoice 7"]);
    assert!(again.stderr.contains("Q10"), "{}", again.stderr);
    assert_eq!(again.ok(), "1\n");
    put(&["--delay", "1h"]).ok();
    wait_counts(platform, [1, 1, 0, 0, 0]);
    let refused = |args: &[&str], text: &str| {
        let stderr = put(args).refused();
        assert!(stderr.contains(text), "{stderr}");
    };
    refused(&["--attempts", "26"], "26 attempts; a job has 1 to 25");
    refused(&["--key", ""], "the key has 0 bytes");
    refused(&["--delay", "9000h"], "due in more than 366 days");
    let none = platform.run_in(&project, &["queue", "other"]).refused();
    assert!(none.contains("nothing was ever put into other"), "{none}");
    let none = platform
        .run_in(&project, &["queue", "emails", "show", "99"])
        .refused();
    assert!(none.contains("emails has no job 99"), "{none}");
    wait_counts(platform, [1, 1, 0, 0, 0]);
}

fn the_job_of_a_node_that_dies_is_given_to_the_next_and_a_stopped_worker_hands_its_own_back(
    platform: &Platform,
) {
    let manifest = "[process.emails]\nrequest_timeout = \"5m\"\nfuel_per_request = \"1000000G\"\n\
                    exit_timeout = \"1s\"\n";
    let project = deployed(platform, manifest);
    platform
        .run_in(&project, &["queue", "emails", "put", "loops"])
        .ok();
    platform.run_in(&project, &["scale", "v1", "emails=1"]).ok();
    let running = |attempts: u64| {
        let jobs = platform.json(&["queue", "emails", "jobs", "--state", "running", "--app", "shop"]);
        (jobs[0]["attempts"].as_u64() == Some(attempts)).then_some(())
    };
    wait("the first attempt", || running(1));
    platform.kill_node();
    wait("the second attempt", || running(2));
    platform.run_in(&project, &["scale", "v1", "emails=0"]).ok();
    wait_counts(platform, [1, 0, 0, 0, 0]);
    let jobs = platform.json(&["queue", "emails", "jobs", "--state", "ready", "--app", "shop"]);
    assert_eq!(
        jobs[0]["attempts"], 1,
        "what was handed back was no attempt: {jobs}"
    );
}

fn a_queue_runs_and_begins_no_more_jobs_than_its_terms_say_at_any_scale(platform: &Platform) {
    let manifest = "[process.emails]\nqueue = \"mail\"\nqueue_concurrency = 1\nrequest_timeout = \"1s\"\n\
                    fuel_per_request = \"1000000G\"\n";
    let project = deployed(platform, manifest);
    platform.run_in(&project, &["scale", "v1", "emails=2"]).ok();
    let put = |payload| platform.run_in(&project, &["queue", "mail", "put", payload]).ok();
    put("loops");
    put("loops");
    let mail = |state: &str| {
        platform.json(&["queue", "mail", "--app", "shop"])[state]
            .as_u64()
            .expect("a count")
    };
    // The first reaches its limit, and then the second begins.
    wait("the end of both", || {
        assert!(mail("running") <= 1);
        (mail("failed") == 2).then_some(())
    });

    std::fs::write(
        project.join("gilliam.toml"),
        manifest.to_owned() + "rate = \"1/h\"\n",
    )
    .expect("written");
    platform.run_in(&project, &["deploy"]).ok();
    platform
        .run_in(&project, &["queue", "mail", "purge", "--yes"])
        .ok();
    (0..3).for_each(|_| drop(put("done")));
    wait("the first of three", || (mail("done") == 1).then_some(()));
    assert_eq!(mail("ready"), 2);

    let two = "[process.emails]\nqueue = \"mail\"\n[process.more]\nqueue = \"mail\"\n";
    std::fs::write(project.join("gilliam.toml"), two).expect("written");
    std::fs::write(
        project.join("Procfile"),
        "emails: worker.wasm\nmore: worker.wasm\n",
    )
    .expect("written");
    let refused = platform.run_in(&project, &["deploy"]).refused();
    let message = "emails and more would both do the jobs of the queue mail";
    assert!(refused.contains(message), "{refused}");
}

/// Jobs of the test below; `GILLIAM_SOAK_JOBS=1000000` asks for more.
const JOBS: u64 = 400;

fn no_job_is_lost_while_nodes_and_the_platform_are_killed(platform: &Platform) {
    let jobs = std::env::var("GILLIAM_SOAK_JOBS").map_or(JOBS, |jobs| jobs.parse().expect("a number"));
    let project = deployed(platform, "");
    platform.run_in(&project, &["scale", "v1", "emails=3"]).ok();
    let credentials = std::fs::read_to_string(platform.home().join("credentials.json")).expect("credentials");
    let credentials: serde_json::Value = serde_json::from_str(&credentials).expect("JSON");
    let token = credentials["local"].as_str().expect("a token").to_string();
    let client = crate::platform::client_builder()
        .no_proxy()
        .build()
        .expect("client");
    let runtime = runtime();
    let mut acknowledged = 0;
    while acknowledged < jobs {
        if acknowledged % 100 == 40 {
            platform.kill_node();
        }
        if acknowledged % 100 == 80 {
            platform.kill_up();
            platform.up();
        }
        let url = format!("{}/v1/apps/shop/queues/emails/jobs", platform.api());
        let put = client.post(url).bearer_auth(&token).body("done").send();
        let status = runtime.block_on(async { put.await.map(|answer| answer.status().as_u16()) });
        assert_eq!(status.expect("an answer"), 201);
        acknowledged += 1;
    }
    wait_counts(platform, [0, 0, 0, 0, jobs]);
}
