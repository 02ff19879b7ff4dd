//! Services of apps: declared, made, looked into, shared, detached, destroyed, and there after a crash.

use std::path::{Path, PathBuf};

use crate::platform::{Platform, wait};

/// An app with a web process and these services.
fn deployed(platform: &Platform, app: &str, services: &str) -> PathBuf {
    let project = platform.root().join("projects").join(app);
    std::fs::create_dir_all(&project).expect("folder");
    std::fs::copy(
        platform.sample("hello-p2").join("web.wasm"),
        project.join("web.wasm"),
    )
    .expect("web.wasm");
    std::fs::write(project.join("Procfile"), "web: web.wasm\n").expect("Procfile");
    platform.run_in(&project, &["create", app]).ok();
    redeployed(platform, &project, services);
    project
}

fn redeployed(platform: &Platform, project: &Path, services: &str) {
    std::fs::write(project.join("gilliam.toml"), services).expect("gilliam.toml");
    platform.run_in(project, &["deploy"]).ok();
    wait("a home for the services", || {
        let services = platform.run_in(project, &["services", "--json"]).stdout;
        let services: serde_json::Value = serde_json::from_str(&services).expect("json");
        let homes = services.as_array().expect("a list").iter();
        homes
            .map(|info| info["home"].as_str().map(|_| ()))
            .collect::<Option<()>>()
    });
}

const CACHE: &str = "[services]\ncache = { type = \"keyvalue\", ttl = \"1h\", quota = \"1MiB\" }\n";

#[test]
fn keys_are_set_read_listed_and_there_after_a_crash() {
    let platform = Platform::start();
    let project = deployed(&platform, "shop", CACHE);
    let kv = |args: &[&str]| platform.run_in(&project, &[&["kv", "cache"], args].concat());
    kv(&["set", "user:1", "ada"]).ok();
    kv(&["set", "user:2", "grace", "--ttl", "5m"]).ok();
    assert_eq!(kv(&["get", "user:1"]).ok(), "ada");
    assert_eq!(kv(&["incr", "hits", "41"]).ok(), "41\n");
    assert_eq!(kv(&["incr", "hits"]).ok(), "42\n");
    assert_eq!(kv(&["ls"]).ok(), "hits\nuser:1\nuser:2\n");
    assert_eq!(kv(&["ls", "user:", "-n", "1"]).ok(), "user:1\n");
    let refused = kv(&["set", "user:1", "eve", "--if-absent"]).refused();
    assert!(refused.contains("\"user:1\" has version"), "{refused}");
    let refused = kv(&["get", "user:3"]).refused();
    assert!(refused.contains("there is no key \"user:3\""), "{refused}");
    let large = "x".repeat(2 << 20);
    let refused = platform.run_with_input(&project, &["kv", "cache", "set", "large", "-"], &large);
    let refused = refused.refused();
    assert!(
        refused.contains("may hold 1MiB") && refused.contains("raise the quota"),
        "{refused}"
    );

    let usage = platform.json(&["services", "--app", "shop"]);
    assert_eq!(
        (&usage[0]["usage"]["items"], &usage[0]["state"]),
        (&3.into(), &"bound".into())
    );
    assert_eq!(usage[0]["address"], "http://cache.internal");

    // What was acknowledged is there when the node, and then all of the platform, was killed.
    kv(&["set", "last", "word"]).ok();
    platform.kill_node();
    wait("the node's next life", || {
        let read = kv(&["get", "last"]);
        (read.stdout == "word").then_some(())
    });
    kv(&["set", "last", "words"]).ok();
    platform.kill_up();
    platform.up();
    wait("the platform's next life", || {
        let read = kv(&["get", "last"]);
        (read.stdout == "words").then_some(())
    });
    kv(&["rm", "last", "hits"]).ok();
    assert_eq!(kv(&["ls"]).ok(), "user:1\nuser:2\n");
}

#[test]
fn a_service_that_no_release_names_stays_until_it_is_destroyed() {
    let platform = Platform::start();
    let project = deployed(&platform, "shop", CACHE);
    let run = |args: &[&str]| platform.run_in(&project, args);
    run(&["kv", "cache", "set", "a", "1"]).ok();
    run(&["scale", "v1", "web=1"]).ok();
    let refused = run(&["services", "destroy", "cache", "--confirm", "cache"]).refused();
    assert!(
        refused.contains("cache is a service of v1, which runs"),
        "{refused}"
    );
    run(&["scale", "v1", "web=0"]).ok();
    redeployed(&platform, &project, "");
    let listed = run(&["services"]);
    assert!(
        listed.stderr.contains("services destroy cache"),
        "{}",
        listed.stderr
    );
    assert!(listed.ok().contains("detached"));
    assert_eq!(run(&["kv", "cache", "get", "a"]).ok(), "1");

    // A release that names it again finds its data, and it does not become something else.
    redeployed(&platform, &project, CACHE);
    assert_eq!(platform.json(&["services", "--app", "shop"])[0]["state"], "bound");
    std::fs::write(
        project.join("gilliam.toml"),
        "[services]\ncache = { type = \"blob\" }\n",
    )
    .expect("file");
    let refused = run(&["deploy"]).refused();
    assert!(
        refused.contains("cache is declared as blob, and the app's cache is keyvalue"),
        "{refused}"
    );

    let refused = run(&["services", "destroy", "cache", "--confirm", "cash"]).refused();
    assert!(refused.contains("\"cash\" is not its name"), "{refused}");
    assert_eq!(
        run(&["services", "destroy", "cache", "--confirm", "cache"]).ok(),
        "cache destroyed\n"
    );
    let refused = run(&["kv", "cache", "get", "a"]).refused();
    assert!(refused.contains("shop has no service cache"), "{refused}");
    let left = platform.data().join("node/services/shop");
    assert_eq!(std::fs::read_dir(left).map_or(0, Iterator::count), 0);
}

#[test]
fn a_shared_service_is_found_by_both_apps_until_it_is_taken_back() {
    let platform = Platform::start();
    let owner = deployed(&platform, "billing", CACHE);
    let other = deployed(&platform, "shop", "");
    let share = ["services", "share", "cache", "--with", "shop", "--as", "bills"];
    let shared = platform.run_in(&owner, &share);
    assert!(
        shared.stderr.contains("services unshare cache --with shop"),
        "{}",
        shared.stderr
    );
    shared.ok();
    platform.run_in(&owner, &["kv", "cache", "set", "a", "1"]).ok();
    assert_eq!(platform.run_in(&other, &["kv", "bills", "get", "a"]).ok(), "1");
    let listed = platform.run_in(&other, &["services"]).ok();
    assert!(listed.contains("shared, billing/cache"), "{listed}");
    let refused = platform.run_in(&owner, &["destroy", "--yes"]).refused();
    assert!(refused.contains("cache is shared with shop"), "{refused}");
    platform
        .run_in(&owner, &["services", "unshare", "cache", "--with", "shop"])
        .ok();
    let refused = platform.run_in(&other, &["kv", "bills", "get", "a"]).refused();
    assert!(refused.contains("shop has no service bills"), "{refused}");
    platform.run_in(&owner, &["destroy", "--yes"]).ok();
    let left = platform.data().join("node/services/billing");
    assert_eq!(std::fs::read_dir(left).map_or(0, Iterator::count), 0);
}

#[test]
fn what_cannot_be_a_service_is_refused_at_the_deploy() {
    let platform = Platform::start();
    let project = deployed(&platform, "shop", "");
    for (services, says) in [
        (
            "[services]\ncache = { type = \"redis\" }\n",
            "the types are queue, keyvalue, sql",
        ),
        (
            "[services]\na = { type = \"sql\" }\na = { type = \"blob\" }\n",
            "line 3, column 1: duplicate key",
        ),
        (
            "[services]\nqueues = { type = \"keyvalue\" }\n",
            "is the platform's own",
        ),
    ] {
        std::fs::write(project.join("gilliam.toml"), services).expect("file");
        let refused = platform.run_in(&project, &["deploy"]).refused();
        assert!(refused.contains(says), "{refused}");
    }
}
