//! Queues of several servers, in one PostgreSQL.

use crate::{
    guests::{OBEYS, job_guest},
    harness::Cluster,
    platform::wait,
    postgres_process,
};

/// Each server takes jobs and hears of them; a server and a node die with it, PostgreSQL is away for a while.
#[test]
fn jobs_outlive_a_server_and_a_node_and_wait_while_postgresql_is_away() {
    let postgres = postgres_process::Postgres::start("");
    let cluster = Cluster::start_with_queues(2, "2s", &postgres.database().url());
    cluster.join("n1", "a");
    cluster.join("n2", "b");
    let project = cluster.path("shop");
    std::fs::create_dir_all(&project).expect("folder");
    std::fs::write(project.join("Procfile"), "emails: worker.wasm\n").expect("Procfile");
    std::fs::write(project.join("worker.wasm"), job_guest("", OBEYS)).expect("worker");
    cluster.run(&["create", "shop"]).ok();
    let folder = project.to_str().expect("a path");
    cluster.run(&["deploy", "--app", "shop", folder]).ok();
    cluster.run(&["scale", "--app", "shop", "v1", "emails=4"]).ok();
    let put = |server: &str| cluster.run_at(server, &["queue", "--app", "shop", "emails", "put", "done"]);
    let done = |server: &str, jobs: u64| {
        wait(&format!("{jobs} jobs done, says {server}"), || {
            let ran = cluster.run_at(server, &["queue", "--app", "shop", "emails", "--json"]);
            let info: serde_json::Value = serde_json::from_str(&ran.stdout).ok()?;
            let is = |name: &str, n: u64| info[name].as_u64() == Some(n);
            (is("done", jobs) && is("ready", 0) && is("running", 0)).then_some(())
        });
    };
    for server in ["s1", "s2", "s1", "s2"] {
        put(server).ok();
    }
    done("s1", 4);

    cluster.kill_server_named("s1");
    cluster.signal("n1", rustix::process::Signal::KILL);
    put("s2").ok();
    done("s2", 5);

    postgres.kill();
    let refused = put("s2").refused();
    assert!(
        refused.contains("S13") && !refused.contains("s3cret"),
        "{refused}"
    );
    cluster
        .run_at("s2", &["scale", "--app", "shop", "v1", "emails=2"])
        .ok();
    postgres.run_again();
    wait("a job to be put", || put("s2").status.success().then_some(()));
    done("s2", 6);
    assert!(
        !cluster.log("s2").contains("s3cret"),
        "the password is in the log"
    );
}
