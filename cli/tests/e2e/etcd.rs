//! A platform whose state is in etcd: the same to its users, and what becomes of it when etcd falters.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use tempfile::TempDir;

use crate::{
    client::{get, wait_ok},
    etcd_process::Etcd,
    pki::{Authority, Life},
    platform::{Platform, wait},
};

/// A folder without `--store` and an etcd cannot be told apart by a user until one of them dies.
#[test]
fn the_state_outlives_the_platform_and_a_member_of_etcd() {
    let etcd = Etcd::start(3, &[]);
    let platform = Platform::start_with(&["--store", &etcd.url("demo")]);
    let project = platform.deploy("guestbook", "guestbook", &["web=2", "worker=1"]);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    assert!(!platform.data().join("store.redb").exists());

    platform.kill_up();
    platform.up();
    assert_eq!(gilliam(&["scale"]).ok(), "v1 web=2 worker=1\n");
    wait_ok(&platform, "guestbook", "/");

    etcd.kill(0);
    assert_eq!(gilliam(&["config", "A=1"]).ok(), "v2 released\n");
    assert_eq!(gilliam(&["scale"]).ok(), "v2 web=2 worker=1\n");
    etcd.run(0);
    etcd.wait(0);
}

#[test]
fn without_a_quorum_apps_are_served_and_changes_are_refused_until_it_is_back() {
    let etcd = Etcd::start(3, &[]);
    let platform = Platform::start_with(&["--store", &(etcd.url("demo") + "?timeout=2")]);
    let project = platform.deploy("guestbook", "guestbook", &["web=1"]);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);

    etcd.kill(1);
    etcd.kill(2);
    let refused = gilliam(&["config", "A=1"]).refused();
    assert!(refused.contains("S13") || refused.contains("S10"), "{refused}");
    assert_eq!(
        get(&platform, "guestbook", "/").status,
        200,
        "the data path needs no store"
    );

    etcd.run(1);
    etcd.run(2);
    etcd.wait(1);
    let released = wait("a change after the quorum is back", || {
        let ran = gilliam(&["config", "B=1"]);
        ran.status.success().then_some(ran.stdout)
    });
    assert!(released.ends_with(" released\n"), "{released}");
    assert!(gilliam(&["config"]).ok().contains("B=1\n"));
}

#[test]
fn a_platform_is_told_apart_from_another_in_the_same_etcd() {
    let etcd = Etcd::alone();
    let first = Platform::start_with(&["--store", &etcd.url("first")]);
    let second = Platform::start_with(&["--store", &etcd.url("second")]);
    first.run(&["create", "mine"]).ok();
    assert_eq!(second.run(&["apps"]).ok(), "");
    second.stop();

    // The folder of the first, by a slip, with the state of the second.
    first.stop();
    let data = first.data();
    let slip = first.run(&[
        "up",
        "--data",
        &data.to_string_lossy(),
        "--store",
        &etcd.url("second"),
    ]);
    let refused = slip.refused();
    assert!(refused.contains("belongs to cluster"), "{refused}");
    assert!(refused.contains("hint: "), "{refused}");
}

/// The node serves on, and takes the assignments of the moved store: none of them is older than its own.
#[test]
fn a_platform_moves_to_etcd_and_back_while_its_apps_are_served() {
    let etcd = Etcd::alone();
    let platform = Platform::start();
    let project = platform.deploy("guestbook", "guestbook", &["web=1"]);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    let node = platform.node_pid();
    let (data, url) = (platform.data(), etcd.url("moved"));
    let (data, file) = (data.to_string_lossy(), platform.root().join("state.export"));
    let file = file.to_string_lossy();

    let in_use = platform
        .run(&["store", "export", &file, "--data", &data])
        .refused();
    assert!(in_use.contains("is in use by another gilliam"), "{in_use}");
    platform.kill_up();
    let exported = platform.run(&["store", "export", &file, "--data", &data]).ok();
    let again = platform
        .run(&["store", "export", &file, "--data", &data])
        .refused();
    assert!(again.contains("is there already"), "{again}");
    let imported = platform.run(&["store", "import", &file, "--store", &url]).ok();
    assert_eq!(imported, exported);
    let full = platform
        .run(&["store", "import", &file, "--store", &url])
        .refused();
    assert!(full.contains("hint: ") && full.contains("--replace"), "{full}");

    platform.up_with(&["--store", &url]);
    assert_eq!(gilliam(&["scale"]).ok(), "v1 web=1\n");
    assert_eq!(gilliam(&["scale", "web=2"]).ok(), "");
    assert_eq!(platform.ps("guestbook").len(), 2);
    assert_eq!(platform.node_pid(), node, "the node serves on");

    platform.kill_up();
    std::fs::remove_file(&*file).expect("remove");
    let exported = platform
        .run(&["store", "export", &file, "--store", &url, "--json"])
        .ok();
    let replaced = ["store", "import", &*file, "--data", &*data, "--replace", "--json"];
    let imported = platform.run(&replaced).ok();
    assert_eq!(imported, exported);
    platform.up_with(&[]);
    assert_eq!(gilliam(&["scale"]).ok(), "v1 web=2\n");
    assert_eq!(gilliam(&["scale", "web=3"]).ok(), "");
    assert_eq!(platform.node_pid(), node, "the node serves on");
    wait_ok(&platform, "guestbook", "/");
}

#[test]
fn an_etcd_that_speaks_tls_opens_with_the_flags_for_it_and_is_explained_without() {
    let folder = TempDir::new().expect("folder");
    let [ours, others] = ["ours", "others"].map(|name| Authority::new(folder.path(), name));
    let etcd = Etcd::secured(&ours.member(Life::Good));
    let url = etcd.url("demo") + "?timeout=1";
    let (certificate, key) = ours.signed("gilliam", Life::Good);
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let (ca, certificate, key) = (text(&ours.ca()), text(&certificate), text(&key));
    let identity = ["--store-cert", &certificate, "--store-key", &key];
    let secured = [&["--store", &url, "--store-ca", &ca][..], &identity].concat();
    let platform = Platform::start_with(&secured);
    platform.run(&["create", "mine"]).ok();
    platform.stop();

    let up = |flags: &[&str]| {
        let data = text(&platform.data());
        let all = [&["up", "--data", &data, "--store", &url], flags].concat();
        platform.run(&all).refused()
    };
    let other_ca = text(&others.ca());
    let foreign = up(&[&["--store-ca", &other_ca][..], &identity].concat());
    assert!(foreign.contains("UnknownIssuer"), "{foreign}");
    assert!(
        foreign.contains("hint: ") && foreign.contains("--store-ca"),
        "{foreign}"
    );
    for flags in [&["--store-ca", &ca][..], &[]] {
        let unknown = up(flags);
        assert!(
            unknown.contains("hint: ") && unknown.contains("--store-cert"),
            "{unknown}"
        );
    }
}

#[test]
fn an_etcd_with_users_opens_with_the_password_and_is_explained_without() {
    let etcd = Etcd::alone();
    let ask = |path: &str, body: &str| post(&etcd.address(0), path, body);
    ask("user/add", r#"{"name":"root","password":"admin"}"#);
    ask("user/grant", r#"{"user":"root","role":"root"}"#);
    ask("role/add", r#"{"name":"gilliam"}"#);
    // The keys that begin with /gilliam/mine.
    let range = r#""key":"L2dpbGxpYW0vbWluZQ==","range_end":"L2dpbGxpYW0vbWluZg==""#;
    let permission = format!(r#"{{"name":"gilliam","perm":{{"permType":"READWRITE",{range}}}}}"#);
    ask("role/grant", &permission);
    ask("user/add", r#"{"name":"gilliam","password":"secret"}"#);
    ask("user/grant", r#"{"user":"gilliam","role":"gilliam"}"#);
    ask("enable", "{}");

    let folder = TempDir::new().expect("folder");
    let [right, wrong] = ["secret\n", "guess\n"].map(|password| {
        let file = folder.path().join(password.trim());
        std::fs::write(&file, password).expect("file");
        file.to_string_lossy().into_owned()
    });
    let url = etcd.url("mine");
    let user = ["--store-user", "gilliam", "--store-password-file"];
    let platform = Platform::start_with(&[&["--store", &url][..], &user, &[&right]].concat());
    platform.run(&["create", "mine"]).ok();
    platform.stop();

    let (data, other) = (platform.data(), etcd.url("other"));
    let data = data.to_string_lossy();
    for (store, flags) in [
        (&url, [&user[..], &[&wrong]].concat()),
        (&url, Vec::new()),
        (&other, [&user[..], &[&right]].concat()),
    ] {
        let all = [&["up", "--data", &*data, "--store", store][..], &flags].concat();
        let refused = platform.run(&all).refused();
        assert!(
            refused.contains("hint: ") && refused.contains("role"),
            "{refused}"
        );
    }
}

/// Asks etcd's own JSON interface to change something of its users.
#[track_caller]
fn post(address: &str, path: &str, body: &str) {
    let mut stream = TcpStream::connect(address).expect("etcd");
    let length = body.len();
    let head = format!("POST /v3/auth/{path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains(" 200 OK\r\n"), "{path}: {answer}");
}
