//! Rust from source, as a user deploys it: the sample, a change, nothing changed, and all once more.

use std::fs;

use crate::{
    client::get,
    platform::{Platform, Ran, wait},
};

#[test]
fn rust_sources_become_processes_and_only_what_changed_is_built_again() {
    let platform = Platform::start();
    let project = platform.sources("rust-greeter");
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    let deploy = |more: &[&str]| -> Ran { gilliam(&[&["deploy", "."], more].concat()) };
    gilliam(&["create", "greeter"]).ok();

    let first = deploy(&["--scale", "web=1", "--scale", "worker=1"]);
    assert!(first.stderr.contains("Compiling wasip2"), "{}", first.stderr);
    first.ok();
    assert_eq!(get(&platform, "greeter", "/").body, "Hello, world!\n");
    wait("the worker's log", || {
        let log = gilliam(&["logs", "worker"]).ok();
        log.contains("Hello, world! turn 2").then_some(())
    });

    let again = deploy(&[]);
    for process in ["web", "worker"] {
        let line = format!("-----> {process}: unchanged, taken from the cache");
        assert!(again.stderr.contains(&line), "{}", again.stderr);
    }
    again.ok();
    let releases = platform.json(&["releases", "--app", "greeter"]);
    assert_eq!(releases[0]["image"], releases[1]["image"]);

    let web = project.join("web/src/lib.rs");
    let text = fs::read_to_string(&web).expect("source");
    fs::write(&web, text.replace("not found", "nothing here")).expect("source");
    let changed = deploy(&[]);
    assert!(changed.stderr.contains("Compiling web"), "{}", changed.stderr);
    assert!(!changed.stderr.contains("Compiling wasip2"), "{}", changed.stderr);
    changed.ok();
    assert_eq!(get(&platform, "greeter", "/nowhere").body, "nothing here\n");

    fs::write(&web, "fn oops( {").expect("source");
    let refused = deploy(&[]).refused();
    assert!(
        refused.contains("web/src/lib.rs:1:") && refused.contains("(B15)"),
        "{refused}"
    );

    let caches = || {
        fs::read_dir(platform.data().join("build-cache"))
            .expect("caches")
            .flatten()
    };
    assert!(caches().any(|entry| entry.file_name().to_string_lossy().starts_with("greeter.")));
    gilliam(&["destroy", "--confirm", "greeter"]).ok();
    wait("its cache to go", || {
        let left = caches().any(|entry| entry.path().is_dir());
        (!left).then_some(())
    });
}

#[test]
fn a_new_rust_project_deploys_as_it_stands() {
    let platform = Platform::start();
    let project = platform.root().join("app");
    for (path, bytes) in gilliam_builder::packs::init_files("rust") {
        let file = project.join(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("folder");
        fs::write(file, bytes).expect("file");
    }
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    gilliam(&["create", "app"]).ok();
    gilliam(&["deploy", ".", "--scale", "web=1"]).ok();
    gilliam(&["config", "NAME=you"]).ok();
    assert_eq!(get(&platform, "app", "/").body, "Hello, you!\n");
}
