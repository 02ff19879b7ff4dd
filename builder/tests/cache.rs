//! What builds leave for the next ones of their app, and for nobody else.

mod support;

use std::{fs, process::ExitCode};

use gilliam_model::{api::BuildOutcome, code::Code};

use support::{
    own_main::{self, tests},
    server::{Built, Server},
};

fn main() -> ExitCode {
    own_main::run(tests![
        what_is_unchanged_is_not_built_again,
        a_pack_finds_what_it_left,
        apps_share_nothing,
        a_full_cache_is_gone_for_the_next_build,
        what_is_planted_in_a_cache_harms_nobody,
        two_builds_of_an_app_do_not_share_its_cache,
        a_cache_that_cannot_be_used_costs_no_build,
        rust_compiles_what_changed,
    ])
}

const UNCHANGED: &str = "-----> web: unchanged, taken from the cache";
/// Counts its builds in the cache.
const COUNT: &str = "echo x >> $GILLIAM_CACHE/count; echo build $(wc -l < $GILLIAM_CACHE/count)
    cp given.wasm $GILLIAM_OUT";

fn server() -> Server {
    let mut server = Server::new();
    server.app = Some("hello.1".to_string());
    server
}

fn digest(built: &Built) -> String {
    match &built.outcome {
        BuildOutcome::Sealed { digest, .. } => digest.to_string(),
        BuildOutcome::Refused { error } => panic!("{error:?}\n{}", built.output),
    }
}

fn what_is_unchanged_is_not_built_again() {
    let server = server();
    let first = server.script(COUNT);
    assert!(
        first.output.contains("build 1") && !first.output.contains(UNCHANGED),
        "{}",
        first.output
    );
    let again = server.script(COUNT);
    assert!(
        again.output.contains(UNCHANGED) && !again.output.contains("build 2"),
        "{}",
        again.output
    );
    assert_eq!(digest(&first), digest(&again));
    assert!(server.script(&format!("{COUNT} ")).output.contains("build 2"));
    // Another pack is another builder, whatever the project.
    server.pack("shell", "sh", "shift; . ./\"$1\"; exit 0");
    assert!(server.script(COUNT).output.contains("build 3"));
    // What is kept must be what was made.
    for entry in fs::read_dir(server.path("cache/hello.1/results")).expect("results") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            fs::write(path, "decayed").expect("file");
        }
    }
    assert!(server.script(COUNT).output.contains("build 4"));
    // Arguments are part of a result.
    let named = format!("{COUNT}; echo named > $GILLIAM_ARGS");
    for _ in 0..2 {
        let image = server.script(&named).image();
        assert_eq!(image.processes.values().next().expect("web").args, ["named"]);
    }
    // What fails is tried again.
    for _ in 0..2 {
        assert_eq!(server.script("exit 65").error().code, Code::B15);
    }
}

fn a_pack_finds_what_it_left() {
    let mut server = server();
    for (number, clean, want) in [(1, false, 1), (2, false, 2), (3, true, 1), (4, false, 2)] {
        server.clean = clean;
        let output = server.script(&format!("{COUNT} # {number}")).output;
        assert!(output.contains(&format!("build {want}")), "{number}: {output}");
    }
}

fn apps_share_nothing() {
    let mut server = server();
    server.script(COUNT).image();
    server.app = Some("other.1".to_string());
    let output = server
        .script(&format!(
            "{COUNT}; ls -la / /cache /cache/..; find / -xdev -name count"
        ))
        .output;
    assert!(output.contains("build 1"), "{output}");
    assert!(
        !output.contains("hello.1") && !output.contains("results"),
        "{output}"
    );
}

fn a_full_cache_is_gone_for_the_next_build() {
    let server = server();
    server.script(COUNT).image();
    // Nested too deeply to be counted, which is as much as too large.
    let deep = "cd $GILLIAM_CACHE; for i in $(seq 150); do mkdir d; cd d; done; sleep 60";
    let error = server.script(&format!("{COUNT}; {deep}")).error();
    assert_eq!(error.code, Code::B10);
    let next = server.script(&format!("{COUNT} ")).output;
    assert!(next.contains("build 1"), "{next}");
}

fn what_is_planted_in_a_cache_harms_nobody() {
    let server = server();
    fs::write(server.path("secret"), "secret-of-the-platform").expect("file");
    let root = server.folder.path().display();
    server
        .script(&format!(
            "cd $GILLIAM_CACHE; ln -s {root} outside; ln -s {root}/secret secret; mkfifo fifo; mkdir closed
             chmod 0 closed; ln -s . loop; cd /work; {COUNT}"
        ))
        .image();
    let second = server.script(&format!(
        "cat $GILLIAM_CACHE/secret $GILLIAM_CACHE/outside/*; {COUNT}"
    ));
    assert!(second.output.contains("build 2"), "{}", second.output);
    assert!(!second.output.contains("secret-of"), "{}", second.output);
    let mut clean = server;
    clean.clean = true;
    assert!(clean.script(COUNT).output.contains("build 1"));
    assert!(clean.path("secret").exists());
    assert_eq!(fs::read_dir(clean.path("cache")).expect("caches").count(), 2);
}

fn two_builds_of_an_app_do_not_share_its_cache() {
    let server = server();
    server.script(COUNT).image();
    let lock = fs::File::options()
        .write(true)
        .open(server.path("cache/hello.1/lock"))
        .expect("lock");
    lock.lock().expect("free");
    let second = server.script(COUNT);
    assert!(
        second.output.contains("Another build uses this app's cache"),
        "{}",
        second.output
    );
    assert!(second.output.contains("build 1"), "{}", second.output);
    drop(lock);
    assert!(server.script(COUNT).output.contains(UNCHANGED));
}

fn a_cache_that_cannot_be_used_costs_no_build() {
    let server = server();
    fs::write(server.path("cache"), "in the way").expect("file");
    let built = server.script(COUNT);
    assert!(
        built.output.contains(" !     The build cache cannot be used: "),
        "{}",
        built.output
    );
    built.image();
}

/// A program and a package of its own that it uses.
fn project(main: &str) -> Vec<(&'static str, Vec<u8>)> {
    let manifest = |name: &str, more: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{more}").into_bytes()
    };
    vec![
        ("Procfile", b"web: cargo run".to_vec()),
        (
            "Cargo.toml",
            manifest("web", "[dependencies]\ngreeting = { path = \"greeting\" }\n"),
        ),
        ("src/main.rs", main.as_bytes().to_vec()),
        ("greeting/Cargo.toml", manifest("greeting", "")),
        (
            "greeting/src/lib.rs",
            b"pub const TEXT: &str = \"hello\";".to_vec(),
        ),
    ]
}

fn rust_compiles_what_changed() {
    let mut server = server();
    let build = |server: &Server, main: &str| {
        let files = project(main);
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, data)| (*name, data.as_slice()))
            .collect();
        server.build(&files)
    };
    let one = "fn main() { println!(\"{}\", greeting::TEXT); }";
    let two = "fn main() { println!(\"{} again\", greeting::TEXT); }";
    let first = build(&server, one);
    assert!(first.output.contains("Compiling greeting"), "{}", first.output);
    let changed = build(&server, two);
    assert!(changed.output.contains("Compiling web"), "{}", changed.output);
    assert!(
        !changed.output.contains("Compiling greeting"),
        "{}",
        changed.output
    );
    assert_ne!(digest(&first), digest(&changed));
    // Back again: the file is older than what was made since, and yet it changed.
    server.clean = false;
    fs::remove_dir_all(server.path("cache/hello.1/results")).expect("results");
    let back = build(&server, one);
    assert!(back.output.contains("Compiling web"), "{}", back.output);
    assert_eq!(digest(&first), digest(&back));
    // With nothing left of earlier builds, the same bytes.
    server.clean = true;
    let clean = build(&server, one);
    assert!(clean.output.contains("Compiling greeting"), "{}", clean.output);
    assert_eq!(digest(&first), digest(&clean));
}
