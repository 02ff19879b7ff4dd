//! Pushes that do not come to their end: the client goes, the server is killed, another is faster.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Child,
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::*;

/// A folder of packs with one, `slow`, whose builds do not end.
fn slow_pack() -> tempfile::TempDir {
    let packs = tempfile::tempdir().expect("folder");
    let slow = packs.path().join("slow");
    fs::create_dir(&slow).expect("folder");
    fs::write(slow.join("words"), "slow\n").expect("words");
    let build = slow.join("build");
    fs::write(&build, "#!/bin/sh\necho building slowly\nexec sleep 600\n").expect("build");
    fs::set_permissions(&build, fs::Permissions::from_mode(0o755)).expect("executable");
    // Builds run as another user.
    fs::set_permissions(packs.path(), fs::Permissions::from_mode(0o755)).expect("readable");
    packs
}

/// A push in a process group of its own, whose build has begun.
fn begun(repository: &Repository<'_>) -> Child {
    let mut command = repository.command(&["push", "gilliam", "main"]);
    let mut push = command
        .process_group(0)
        .stderr(Stdio::piped())
        .spawn()
        .expect("git");
    let mut said: Vec<String> = Vec::new();
    for line in BufReader::new(push.stderr.take().expect("piped"))
        .lines()
        .map_while(Result::ok)
    {
        said.push(line);
        if said.last().is_some_and(|line| line.contains("building slowly")) {
            break;
        }
    }
    let has_begun = said.last().is_some_and(|line| line.contains("building slowly"));
    if !has_begun {
        push.wait().expect("wait");
    }
    assert!(has_begun, "the build did not begin: {said:#?}");
    push
}

fn end(mut push: Child) {
    let _ = kill_process_group(Pid::from_child(&push), Signal::KILL);
    push.wait().expect("wait");
}

#[test]
fn one_push_is_built_at_a_time_and_stops_with_its_client() {
    let packs = slow_pack();
    let platform = Platform::start_with(&["--packs", &packs.path().display().to_string()]);
    let hello = Repository::new(&platform, "hello");
    hello.write("Procfile", b"web: slow\n");
    hello.commit("slow");
    hello.gilliam(&["create", "hello"]).ok();
    let other = Repository::with_web(&platform, "other", 200);
    other.gilliam(&["create", "other"]).ok();

    let push = begun(&hello);
    let said = hello.push_refused(&["gilliam", "main"]);
    assert!(
        said.contains("! [remote rejected] main -> main (another push is being built)"),
        "{said}"
    );
    // Those of other apps do not wait for it.
    assert!(other.pushed(&["gilliam", "main"]).contains("v1 released"));
    end(push);
    wait_until_clean(&platform);
    assert!(releases(&platform, "hello").is_empty());
    assert!(!hello.remote().contains("refs/heads/main"), "{}", hello.remote());

    hello.write("Procfile", b"web: web.wasm\n");
    hello.write("web.wasm", &web(200));
    hello.commit("fast");
    assert!(hello.pushed(&["gilliam", "main"]).contains("v1 released"));
}

#[test]
fn a_server_that_is_killed_in_a_push_takes_the_next_one() {
    let packs = slow_pack();
    let arguments = ["--packs", &packs.path().display().to_string()];
    let platform = Platform::start_with(&arguments);
    let hello = Repository::with_web(&platform, "hello", 200);
    hello.gilliam(&["create", "hello"]).ok();
    hello.pushed(&["gilliam", "main"]);
    let before = hello.head();
    hello.write("Procfile", b"web: slow\n");
    hello.commit("slow");
    let push = begun(&hello);
    platform.kill_up();
    end(push);

    platform.up();
    hello.gilliam(&["git", "remote"]).ok();
    let bare = platform.data().join("git/hello.git").display().to_string();
    hello.git(&["--git-dir", &bare, "fsck", "--strict"]).ok();
    assert!(hello.remote().contains(&format!("{before}\trefs/heads/main")));
    hello.write("Procfile", b"web: web.wasm\n");
    hello.commit("fast");
    assert!(hello.pushed(&["gilliam", "main"]).contains("v2 released"));
    wait_until_clean(&platform);
}
