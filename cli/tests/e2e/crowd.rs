//! Thousands of workers of one process type: scaled by one command, seen as one line, one by one by page.

use crate::{guests::guest, platform::Platform};

/// Workers that are started; fewer where the machine allows its node fewer.
const COUNT_MAX: u64 = 20_000;
/// What the node may hold is not taken to its end: two samples' worth of others may run.
const SPARE: u64 = 100;
const WORKER: &str = include_str!("../../../samples/hostile/sleep-in-command.wat");

/// How many the platform's node can hold.
fn count(platform: &Platform) -> u64 {
    let status = platform.json(&["status"]);
    let max = status["nodes"][0]["facts"]["instances_max"].as_u64();
    max.map_or(COUNT_MAX, |max| COUNT_MAX.min(max - SPARE))
}

/// `5000`, `20,000`.
fn number(n: u64) -> String {
    match n {
        10_000.. => format!("{},{:03}", n / 1_000, n % 1_000),
        _ => n.to_string(),
    }
}

#[test]
fn thousands_of_workers_are_one_line_and_pages() {
    let platform = Platform::start();
    let project = platform.root().join("projects/crowd");
    std::fs::create_dir_all(&project).expect("project folder");
    std::fs::write(project.join("worker.wasm"), guest("command", WORKER)).expect("component");
    std::fs::write(project.join("Procfile"), "worker: worker.wasm\n").expect("Procfile");
    std::fs::write(
        project.join("gilliam.toml"),
        "[process.worker]\nmemory = \"64KiB\"\n",
    )
    .expect("limits");
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    gilliam(&["create", "crowd"]).ok();
    gilliam(&["deploy"]).ok();

    let count = count(&platform);
    let scaled = gilliam(&["scale", &format!("worker={count}"), "--timeout", "300"]);
    assert!(
        scaled.stderr.contains(&format!("done, v1 worker={count} in ")),
        "{}",
        scaled.stderr
    );
    scaled.ok();
    let ps = gilliam(&["ps"]).ok();
    let rows: Vec<&str> = ps.lines().collect();
    let [row] = rows[..] else { panic!("one line: {ps}") };
    assert!(row.starts_with("worker  v1  "), "{row}");
    assert!(row.contains(&format!("{} running (", number(count))), "{row}");
    assert!(row.contains("fuel/s") && row.ends_with("on 1 node"), "{row}");

    let one = gilliam(&["ps", "worker.4711"]).ok();
    assert!(
        one.starts_with("worker.4711  v1  running") && one.contains("B / 64 KiB"),
        "{one}"
    );
    let from = (count - 2).to_string();
    let page = gilliam(&["ps", "worker", "--from", &from, "--limit", "50"]).ok();
    let rows: Vec<&str> = page.lines().filter(|row| row.starts_with("worker.")).collect();
    assert_eq!(rows.len(), 3, "{page}");
    assert!(
        rows.iter()
            .all(|row| row.contains("running") && row.contains("/ 64 KiB")),
        "{page}"
    );
    let first = gilliam(&["ps", "--limit", "2"]);
    assert!(
        first.stderr.contains("gilliam ps worker --from 3 shows more"),
        "{}",
        first.stderr
    );
    let missing = gilliam(&["ps", &format!("worker.{}", count + 1)]).refused();
    assert!(
        missing.contains(&format!("no instance worker.{}", count + 1)),
        "{missing}"
    );

    gilliam(&["restart", "worker.17"]).ok();
    let app = platform.json(&["ps", "--app", "crowd"]);
    assert_eq!(
        (&app["settled"], &app["processes"][0]["states"]["running"]),
        (&true.into(), &count.into())
    );
    assert_eq!(app["instances"].as_array().map(Vec::len), Some(0));
    let status = platform.run(&["status"]).ok();
    assert!(
        status.contains(&format!("{0} of {0} running", number(count))),
        "{status}"
    );
    gilliam(&["scale", "worker=1", "--timeout", "300"]).ok();
    assert!(gilliam(&["ps"]).ok().starts_with("worker.1  v1  running"));
    assert!(platform.stop().is_some_and(|status| status.success()));
}
