//! `gilliam inspect`: what a component is made of, from a file and from a release.

use crate::platform::Platform;

#[test]
fn a_file_and_a_process_of_a_release_are_shown_with_their_engine_and_limits() {
    let platform = Platform::start();
    let project = platform.deploy("guestbook", "guestbook", &[]);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    let shown = gilliam(&["inspect", "web.wasm"]).ok();
    for part in [
        "shape      http-p2",
        "engine     http-p2: it takes requests",
        "memory     ",
        "lanes of that size at once in its limit of 128 MiB",
        "export     wasi:http/incoming-handler@0.2",
        "limits     memory=128MiB cpu=1 ",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    gilliam(&["limits", "web", "memory=64MiB"]).ok();
    let web = platform.json(&["inspect", "web", "--app", "guestbook"]);
    assert_eq!(web["release"], "v2");
    assert_eq!(web["limits"]["memory_bytes_max"], 64 << 20);
    assert_eq!(web["engine"]["kind"], "http-p2");
    assert!(
        web["initial_bytes"].as_u64().is_some_and(|n| n >= 64 << 10),
        "{web}"
    );
    let before = platform.json(&["inspect", "web", "v1", "--app", "guestbook"]);
    assert_eq!(before["limits"]["memory_bytes_max"], 128 << 20);
    assert_eq!(before["bytes"], web["bytes"]);
    let worker = gilliam(&["inspect", "worker"]).ok();
    assert!(
        worker.contains("shape      command-p2") && worker.contains("hosts      none"),
        "{worker}"
    );

    for (args, error) in [
        (&["inspect", "wbe"][..], "v2 of guestbook has no process wbe"),
        (&["inspect", "web", "v9"], "has no release v9"),
        (&["inspect", "gone.wasm"], "cannot read gone.wasm"),
        (
            &["inspect", "./Procfile"],
            "./Procfile: it is not a WebAssembly component",
        ),
    ] {
        let said = gilliam(args).refused();
        assert!(said.contains(error), "{args:?}: {said}");
    }
}
