//! Bad input gets a clear error and changes nothing.

use std::{os::unix::fs::PermissionsExt as _, process::Stdio};

use crate::{client::runtime, platform::Platform};

#[test]
fn every_bad_input_is_named_and_changes_nothing() {
    let platform = Platform::start();
    let project = platform.deploy("guestbook", "guestbook", &["web=1"]);
    let before = (
        platform.json(&["releases", "--app", "guestbook"]),
        platform.json(&["scale", "--app", "guestbook"]),
    );
    let cases: &[(&[&str], &[&str])] = &[
        (&["scale", "nope=1"], &["nope", "web", "worker"]),
        (&["scale", "web=-1"], &["web", "-1"]),
        (&["scale", "web=two"], &["two"]),
        (&["scale", "web=1000001"], &["1000001", "1000000"]),
        (&["scale", "v9", "web=1"], &["v9"]),
        (&["config", "POOL_SIZE"], &["POOL_SIZE", "="]),
        (&["config", "1BAD=x"], &["1BAD"]),
        (&["config", "PORT=80"], &["PORT"]),
        (&["config", "--unset", "GONE"], &["GONE"]),
        (&["rollback", "v9"], &["v9"]),
        (&["restart", "nope"], &["nope"]),
        (&["create", "guestbook"], &["guestbook", "exists"]),
        (&["create", "../x"], &["../x"]),
        (&["create", "my app"], &["my app"]),
        (&["create", "Capital"], &["Capital"]),
        (&["ps", "--app", "absent"], &["absent"]),
    ];
    for (args, wanted) in cases {
        let ran = platform.run_in(&project, args);
        assert!(!ran.status.success(), "{args:?} succeeded: {}", ran.stdout);
        assert!(
            matches!(ran.status.code(), Some(1 | 2)),
            "{args:?}: {:?}",
            ran.status
        );
        for word in *wanted {
            assert!(
                ran.stderr.contains(word),
                "{args:?} does not name {word:?}: {}",
                ran.stderr
            );
        }
    }
    let long = "a".repeat(64);
    assert!(platform.run(&["create", &long]).refused().contains("63"));
    let after = (
        platform.json(&["releases", "--app", "guestbook"]),
        platform.json(&["scale", "--app", "guestbook"]),
    );
    assert_eq!(before, after);
    assert_eq!(platform.json(&["apps"]).as_array().map(Vec::len), Some(1));
}

#[test]
fn a_project_that_cannot_be_built_is_refused_with_the_line() {
    let platform = Platform::start();
    let project = platform.sample("guestbook");
    let web = std::fs::read(project.join("web.wasm")).expect("component");
    platform.run_in(&project, &["create", "broken"]).ok();
    let deploy = |what: &str| {
        let refused = platform.run_in(&project, &["deploy"]).refused();
        assert!(refused.contains("hint: "), "{what}: {refused}");
        refused
    };
    let procfile = |text: &str| std::fs::write(project.join("Procfile"), text).expect("Procfile");
    procfile("web web.wasm\n");
    assert!(deploy("no colon").contains("line 1"));
    procfile("web: web.wasm\nweb: web.wasm\n");
    assert!(deploy("twice").contains("line 2"));
    procfile("web: absent.wasm\n");
    assert!(deploy("missing file").contains("absent.wasm"));
    procfile("web: web.wasm\n");
    std::fs::write(project.join("web.wasm"), &web[..web.len() / 2]).expect("truncated");
    assert!(deploy("truncated").contains("web.wasm"));
    let unknown =
        wat::parse_str(r#"(module (import "env" "launch_missiles" (func)) (func (export "_start")))"#);
    std::fs::write(project.join("web.wasm"), unknown.expect("wat")).expect("core module");
    assert!(deploy("unknown core import").contains("launch_missiles"));
    let import = r#"(component
        (import "wasi:keyvalue/store@0.2.0-draft" (instance (export "x" (func))))
        (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $command (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $command)))"#;
    std::fs::write(project.join("web.wasm"), wat::parse_str(import).expect("wat")).expect("component");
    let refused = deploy("import the platform lacks");
    assert!(
        refused.contains("wasi:keyvalue/store") && refused.contains("0.2.0-draft"),
        "{refused}"
    );
    std::fs::remove_file(project.join("Procfile")).expect("remove");
    assert!(deploy("no Procfile").contains("Procfile"));
    assert_eq!(
        platform
            .json(&["releases", "--app", "broken"])
            .as_array()
            .map(Vec::len),
        Some(0)
    );
    let nowhere = platform.root().join("nowhere");
    std::fs::create_dir(&nowhere).expect("folder");
    assert!(
        platform
            .run_in(&nowhere, &["deploy"])
            .refused()
            .contains("hint: ")
    );
}

#[test]
fn a_platform_that_cannot_be_reached_or_does_not_know_the_token_is_explained() {
    let platform = Platform::start();
    let with = |key: &str, value: &str, args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_gilliam"))
            .args(args)
            .env_clear()
            .env("HOME", platform.root())
            .env("GILLIAM_HOME", platform.home())
            .env(key, value)
            .current_dir(platform.root())
            .output()
            .expect("gilliam");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("text")
    };
    assert!(with("GILLIAM_TOKEN", "gil_nope", &["apps"]).contains("token"));
    let credentials = platform.home().join("credentials.json");
    let mode = std::fs::metadata(&credentials)
        .expect("credentials")
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o600, "only the user reads the credential");
    assert!(platform.stop().expect("it ran").success());
    assert!(
        platform
            .run(&["apps"])
            .refused()
            .contains("is gilliam up running?")
    );
}

fn up(platform: &Platform, data: &str, api: &str) -> String {
    up_with(
        platform,
        &platform.root().join("other-home"),
        data,
        api,
        "127.0.0.1:0",
    )
}

fn up_with(platform: &Platform, home: &std::path::Path, data: &str, api: &str, http: &str) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gilliam"))
        .args([
            "up",
            "--http",
            http,
            "--api",
            api,
            "--data",
            data,
            "--port-base",
            "0",
        ])
        .env_clear()
        .env("HOME", platform.root())
        .env("GILLIAM_HOME", home)
        .stdin(Stdio::null())
        .output()
        .expect("gilliam up");
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn a_second_up_a_taken_port_and_a_newer_data_folder_are_refused() {
    let platform = Platform::start();
    let data = platform.data().display().to_string();
    let refused = up(&platform, &data, "127.0.0.1:0");
    assert!(refused.contains(&data) && refused.contains("in use"), "{refused}");
    let taken = platform.api().replace("http://", "");
    let other = platform.root().join("other").display().to_string();
    let refused = up(&platform, &other, &taken);
    assert!(
        refused.contains(&taken) && refused.contains("in use") && refused.contains("hint: "),
        "{refused}"
    );
    assert!(
        platform.run(&["apps"]).status.success(),
        "the first platform goes on"
    );

    let taken = platform.http().replace("http://", "");
    let refused = up_with(&platform, &platform.home(), &other, "127.0.0.1:0", &taken);
    assert!(
        refused.contains(&taken) && refused.contains("in use"),
        "{refused}"
    );
    assert!(
        platform.run(&["apps"]).status.success(),
        "the cluster local is still the first platform"
    );

    let newer = platform.root().join("newer");
    write_a_newer_store(&newer);
    let refused = up(&platform, &newer.display().to_string(), "127.0.0.1:0");
    assert!(
        refused.contains("format 999") && refused.contains("hint: "),
        "{refused}"
    );
}

fn write_a_newer_store(data: &std::path::Path) {
    use gilliam_store::{Store, Write, keys};
    let store = Store::open(data).expect("a new store");
    let value = br#"{"version":999}"#.to_vec();
    let write = Write::Put {
        key: keys::FORMAT.to_string(),
        value,
    };
    runtime().block_on(store.commit(&[], &[write])).expect("commit");
}
