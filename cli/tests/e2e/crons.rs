//! Crons: what users see of what their app has run on a schedule.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::platform::{Platform, wait};

/// Crons may be due every second, so that tests need not wait.
const OFTEN: [&str; 2] = ["--cron-interval-min", "1s"];

fn project(platform: &Platform, manifest: &str) -> PathBuf {
    let folder = platform.root().join("projects/tasks");
    std::fs::create_dir_all(&folder).expect("folder");
    std::fs::write(folder.join("task.wat"), include_str!("runs/task.wat")).expect("component");
    std::fs::write(folder.join("Procfile"), "task: task.wat\n").expect("Procfile");
    std::fs::write(folder.join("gilliam.toml"), manifest).expect("gilliam.toml");
    folder
}

fn app(platform: &Platform, manifest: &str) -> PathBuf {
    let folder = project(platform, manifest);
    platform.run_in(&folder, &["create", "tasks"]).ok();
    platform.run_in(&folder, &["deploy"]).ok();
    folder
}

fn cron(platform: &Platform) -> serde_json::Value {
    platform.json(&["cron", "--app", "tasks"])[0].clone()
}

/// The runs of the app, newest first.
fn runs(platform: &Platform) -> Vec<serde_json::Value> {
    let runs = platform.json(&["runs", "--app", "tasks"]);
    runs.as_array().cloned().unwrap_or_default()
}

/// Waits until so many runs have ended well, and gives the due times of all.
fn wait_ended(platform: &Platform, count: usize) -> Vec<String> {
    wait("runs of the cron that ended", || {
        let runs = runs(platform);
        let ended = runs.iter().filter(|run| run["outcome"]["code"] == 0).count();
        (ended >= count).then(|| due_times(&runs))
    })
}

fn due_times(runs: &[serde_json::Value]) -> Vec<String> {
    let of_cron = runs.iter().filter_map(|run| run["cron"]["due"].as_str());
    of_cron.map(str::to_string).collect()
}

#[test]
fn a_cron_fires_when_it_is_due_and_shows_how_it_went() {
    let platform = Platform::start_with(&OFTEN);
    let manifest = "[cron]\ntick = { schedule = \"* * * * * *\", run = \"task fine\" }\n";
    let folder = project(&platform, manifest);
    platform.run_in(&folder, &["create", "tasks"]).ok();
    let deployed = platform.run_in(&folder, &["deploy"]);
    let said = format!("{}{}", deployed.stdout, deployed.stderr);
    assert!(
        said.contains("cron tick: task fine, every second (UTC)"),
        "{said}"
    );

    let due = wait_ended(&platform, 3);
    let distinct: BTreeSet<&String> = due.iter().collect();
    assert_eq!(distinct.len(), due.len(), "one firing for a due time: {due:?}");
    let first = runs(&platform).pop().expect("a run");
    assert_eq!(
        (&first["author"], &first["cause"]),
        (&"cron tick".into(), &"cron".into())
    );
    wait("its line in the log", || {
        let log = platform.run_in(&folder, &["logs", "run.1"]).ok();
        log.contains("app[run.1]: all is well").then_some(())
    });
    let shown = wait("how the last run ended", || {
        let shown = cron(&platform);
        shown["last_end"].is_object().then_some(shown)
    });
    assert_eq!(
        (&shown["name"], &shown["words"]),
        (&"tick".into(), &"every second".into())
    );
    let table = platform.run_in(&folder, &["cron"]).ok();
    assert!(table.contains("task fine") && table.contains("UTC"), "{table}");
}

#[test]
fn a_paused_cron_rests_and_one_is_run_by_hand() {
    let platform = Platform::start_with(&OFTEN);
    let manifest = "[cron]\n\
        tick = { schedule = \"*/2 * * * * *\", run = \"task.wat bad\" }\n\
        tock = { schedule = \"*/2 * * * * *\", run = \"task fine\" }\n";
    let folder = app(&platform, manifest);
    let verb = |args: &[&str]| platform.run_in(&folder, &[&["cron"], args].concat());
    let of = |cron: &str| {
        let runs = runs(&platform).into_iter();
        runs.filter(|run| run["cron"]["name"] == cron).count()
    };
    verb(&["pause", "tick"]).ok();
    let (ticks, tocks) = (of("tick"), of("tock"));
    assert!(cron(&platform)["paused"]["by"].is_string());
    assert!(cron(&platform)["next_at"].is_null());
    wait("the other to fire", || (of("tock") >= tocks + 2).then_some(()));
    assert_eq!(of("tick"), ticks, "nothing fires");

    let run = verb(&["run", "tick"]).ok();
    let run = run.trim();
    let ended = wait("the run to end", || {
        let run = runs(&platform).into_iter().find(|found| found["name"] == run)?;
        run["outcome"].is_object().then_some(run)
    });
    assert_eq!(
        (&ended["outcome"]["code"], &ended["cron"]["name"]),
        (&1.into(), &"tick".into())
    );
    let noted = verb(&[]).ok();
    assert!(
        noted.contains("paused by") && noted.contains("exited with code 1"),
        "{noted}"
    );
    verb(&["resume", "tick"]).ok();
    wait("it to fire again", || (of("tick") > ticks + 1).then_some(()));
    let unknown = verb(&["run", "clock"]).refused();
    assert!(unknown.contains("hint: v1 has tick, tock"), "{unknown}");
}

#[test]
fn a_restarted_control_plane_fires_nothing_twice_and_makes_up_for_what_was_missed_once() {
    let platform = Platform::start_with(&OFTEN);
    let folder = app(
        &platform,
        "[cron]\ntick = { schedule = \"*/3 * * * * *\", run = \"task fine\", overlap = \"allow\" }\n",
    );
    wait_ended(&platform, 1);
    platform.kill_up();
    platform.up();
    let known = runs(&platform).len();
    let due = wait_ended(&platform, known + 2);
    let distinct: BTreeSet<&String> = due.iter().collect();
    assert_eq!(distinct.len(), due.len(), "{due:?}");

    // Of a release without it, nothing more is run.
    project(&platform, "");
    platform.run_in(&folder, &["deploy"]).ok();
    let listed = platform.run_in(&folder, &["cron"]);
    assert!(listed.stderr.contains("tasks has no crons"), "{}", listed.stderr);
}

#[test]
fn the_sample_reports_when_a_cron_says_so_and_of_what_is_piped_into_it() {
    let platform = Platform::start();
    let folder = platform.sources("cron-report");
    let gilliam = |args: &[&str]| platform.run_in(&folder, args);
    gilliam(&["create", "reports"]).ok();
    gilliam(&["deploy"]).ok();
    gilliam(&["config", "REPORT_TITLE=Sales"]).ok();
    let listed = gilliam(&["cron"]).ok();
    assert!(
        listed.contains("nightly") && listed.contains("at 03:00"),
        "{listed}"
    );
    let run = gilliam(&["cron", "run", "nightly"]).ok();
    wait("its report", || {
        let log = gilliam(&["logs", run.trim()]).ok();
        log.contains("Sales of 2").then_some(())
    });
    let sales = "2026-11-20,tea,2,3.50\n2026-11-21,tea,1,3.50\n2026-11-21,x\n";
    let report = platform.run_with_input(&folder, &["run", "report", "sales"], sales);
    assert_eq!(report.status.code(), Some(1), "{}", report.stderr);
    let words: Vec<&str> = report.stdout.split_whitespace().collect();
    assert_eq!(words, ["tea", "3", "10.50"]);
    assert!(report.stderr.contains("line 3: "), "{}", report.stderr);
}

#[test]
fn what_cannot_be_is_refused_at_deploy() {
    let platform = Platform::start();
    let folder = app(&platform, "");
    let refused = |manifest: &str| {
        project(&platform, manifest);
        deploy_refused(&platform, &folder)
    };
    let often = refused("[cron]\na = { schedule = \"*/10 * * * * *\", run = \"task\" }");
    let message = "cron a (*/10 * * * * *) is due every 10 s; 60 s is the least";
    assert!(often.contains(message), "{often}");
    assert!(often.contains("--cron-interval-min"), "{often}");
    let never = refused("[cron]\na = { schedule = \"0 0 31 4 *\", run = \"task\" }");
    assert!(never.contains("never fires: there is no such day"), "{never}");
    let nothing = refused("[cron]\na = { schedule = \"@daily\", run = \"report.wasm\" }");
    assert!(nothing.contains("hint: the Procfile has task"), "{nothing}");
    let zone = refused("[cron]\na = { schedule = \"@daily\", run = \"task\", timezone = \"Stockholm\" }");
    assert!(zone.contains("is it Europe/Stockholm?"), "{zone}");
}

fn deploy_refused(platform: &Platform, folder: &Path) -> String {
    platform.run_in(folder, &["deploy"]).refused()
}
