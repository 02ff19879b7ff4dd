//! `gilliam packs`: what is ready, what is missing, and how it comes.

use std::{fs, process::Command};

use crate::env::Env;

/// A pack of an operator whose tools are one file that its `setup` makes.
fn shell_pack(env: &Env) {
    let folder = env.work().join("packs/shell");
    fs::create_dir_all(&folder).expect("folder");
    fs::write(folder.join("words"), "sh bash").expect("words");
    for (name, text) in [
        (
            "tools",
            "test -f $GILLIAM_TOOLS/shell || { echo no shell >&2; echo hint: install it >&2; exit 69; }
             echo version shell $(cat $GILLIAM_TOOLS/shell); echo registry example.com:8443",
        ),
        (
            "setup",
            "echo fetching >&2; echo noise; test -z \"$REFUSE\" || { echo no disk >&2; exit 69; }
             echo 2.1 > $GILLIAM_TOOLS/shell",
        ),
    ] {
        let written = env.work().join(format!("{name}.written"));
        fs::write(&written, format!("#!/bin/sh\n{text}\n")).expect("script");
        // By a process of its own: another test that starts a program meanwhile would hold the script open for
        // writing, and what is open for writing is not run.
        let installed = Command::new("install")
            .args(["-m", "755"])
            .args([written, folder.join(name)])
            .status();
        assert!(installed.expect("install").success());
    }
}

#[test]
fn languages_are_listed_with_what_is_missing() {
    let env = Env::new();
    shell_pack(&env);
    let listed = env.run(&["packs", "--packs", "packs", "--tools", "tools"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let row = listed
        .stdout
        .lines()
        .find(|line| line.starts_with("shell "))
        .expect("shell");
    assert!(
        row.contains("sh bash") && row.contains("missing: no shell"),
        "{row}"
    );
    assert!(
        listed.stdout.lines().any(|line| line.starts_with("rust ")),
        "{}",
        listed.stdout
    );
    assert!(
        listed.stderr.contains("hint: shell: install it"),
        "{}",
        listed.stderr
    );
    let json = env.run(&["packs", "--json", "--packs", "packs", "--tools", "tools"]);
    let all: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let shell = all
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["language"] == "shell");
    let shell = shell.expect("shell");
    assert_eq!(
        (shell["ready"].as_bool(), shell["missing"].as_str()),
        (Some(false), Some("no shell"))
    );
}

#[test]
fn languages_are_installed_once_they_are_named() {
    let env = Env::new();
    shell_pack(&env);
    let install = |args: &[&str]| {
        env.run(
            &[
                &["packs", "--packs", "packs", "--tools", "tools", "install"],
                args,
            ]
            .concat(),
        )
    };
    install(&[])
        .code
        .filter(|code| *code == 2)
        .expect("a usage error");
    install(&["cobol"]).refused(
        1,
        &format!(
            "error: there is no language \"cobol\"\nhint: there are: {}\n",
            known(&env)
        ),
    );
    let installed = install(&["shell"]);
    assert_eq!(
        (installed.stdout.as_str(), installed.code),
        ("", Some(0)),
        "{installed:?}"
    );
    for line in ["fetching\n", "shell is ready: shell 2.1\n"] {
        assert!(installed.stderr.contains(line), "{}", installed.stderr);
    }
    let listed = env
        .set("GILLIAM_TOOLS", "tools")
        .run(&["packs", "list", "--packs", "packs"]);
    assert!(
        listed
            .stdout
            .lines()
            .any(|line| line.contains("ready  ") && line.ends_with("shell 2.1")),
        "{}",
        listed.stdout
    );
}

fn known(env: &Env) -> String {
    let json = env.run(&["packs", "--json", "--packs", "packs"]);
    let all: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let names = all
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["language"].as_str().expect("a name"));
    names.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_setup_that_fails_says_why() {
    let env = Env::new().set("REFUSE", "1");
    shell_pack(&env);
    let refused = env.run(&[
        "packs", "install", "shell", "--packs", "packs", "--tools", "tools",
    ]);
    assert_eq!(refused.code, Some(1));
    let last = refused.stderr.lines().last();
    assert_eq!(
        last,
        Some("error: the shell pack is not ready on this server: no disk")
    );
}
