//! Runs whose streams are held by way of one of several servers.

use crate::harness::Cluster;

#[test]
fn the_streams_of_a_run_are_held_through_whichever_server_is_asked() {
    let cluster = Cluster::start_on_etcd(1, 2, "2s");
    cluster.join("n1", "a");
    for server in ["s1", "s2"] {
        cluster.wait_ready_at(server, 1);
    }
    let project = cluster.path("tasks");
    std::fs::create_dir_all(&project).expect("folder");
    std::fs::write(project.join("task.wat"), include_str!("../e2e/runs/task.wat")).expect("component");
    std::fs::write(project.join("Procfile"), "task: task.wat\n").expect("Procfile");
    cluster.run(&["apps:create", "tasks"]).ok();
    cluster
        .run(&["deploy", "--app", "tasks", &project.display().to_string()])
        .ok();
    // More than the buffers on the way hold.
    let input: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
    for server in ["s1", "s2"] {
        let asked = ["run", "--app", "tasks", "--cluster", server, "task", "echo"];
        let echoed = cluster.run_with_input(&asked, &input).ok();
        assert!(
            echoed == input,
            "{} of {} bytes came back",
            echoed.len(),
            input.len()
        );
        let failing = ["run", "--app", "tasks", "--cluster", server, "task", "bad"];
        let failed = cluster.run_with_input(&failing, "");
        assert_eq!((failed.status.code(), failed.stdout.as_str()), (Some(1), ""));
        assert!(failed.stderr.contains("no such table\n"), "{}", failed.stderr);
    }
}
