//! Rust: what projects deploy, and what they are told.

mod support;

use std::process::ExitCode;

use gilliam_model::code::Code;

use support::{
    own_main::{self, tests},
    server::Server,
};

fn main() -> ExitCode {
    own_main::run(tests![
        programs_become_components,
        a_pinned_toolchain_is_used_or_the_others_are_named,
        vendored_dependencies_need_no_registry,
        dependencies_without_a_registry_are_explained,
    ])
}

const CARGO_TOML: &[u8] = b"[package]\nname = \"web\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";

fn programs_become_components() {
    let server = Server::new();
    let main: &[u8] = b"fn main() { println!(\"hello\"); }";
    let built = server.build(&[
        ("Procfile", b"web: cargo run"),
        ("Cargo.toml", CARGO_TOML),
        ("src/main.rs", main),
    ]);
    assert!(built.output.contains("       rustc 1."), "{}", built.output);
    assert_eq!(built.image().processes.len(), 1);

    let error = server
        .build(&[
            ("Procfile", b"web: cargo run"),
            ("Cargo.toml", CARGO_TOML),
            ("src/main.rs", b"fn main() { oops() }"),
        ])
        .error();
    assert_eq!(error.code, Code::B15);
    assert!(error.message.contains("src/main.rs:1:13"), "{}", error.message);

    let two: &[(&str, &[u8])] = &[
        ("Cargo.toml", CARGO_TOML),
        ("src/bin/one.rs", main),
        ("src/bin/two.rs", main),
    ];
    let mut files = vec![("Procfile", &b"web: cargo run"[..])];
    files.extend_from_slice(two);
    let error = server.build(&files).error();
    assert!(
        error.message.contains("cargo built 2 programs"),
        "{}",
        error.message
    );
    files[0].1 = b"web: cargo run --bin one -- --flag\nworker: cargo run --bin two";
    let processes = server.build(&files).image().processes;
    assert_eq!(processes["web"].args, ["one", "--flag"]);
    assert_eq!(processes["worker"].args, ["two"]);

    let error = server
        .build(&[("Procfile", b"web: cargo test"), ("Cargo.toml", CARGO_TOML)])
        .error();
    assert!(error.message.contains("names no program"), "{}", error.message);
}

const MAIN: &[u8] = b"fn main() { println!(\"hello\"); }";

fn a_pinned_toolchain_is_used_or_the_others_are_named() {
    let server = Server::new();
    let pinned = |name: &str, text: &str| {
        server.build(&[
            ("Procfile", b"web: cargo run"),
            ("Cargo.toml", CARGO_TOML),
            ("src/main.rs", MAIN),
            (name, text.as_bytes()),
        ])
    };
    let missing = "[toolchain]\nchannel = \"1.0.0\"\ntargets = [\"wasm32-wasip2\"]\n";
    for (name, text) in [("rust-toolchain.toml", missing), ("rust-toolchain", "1.0.0\n")] {
        let error = pinned(name, text).error();
        let want = format!("{name} asks for Rust 1.0.0; this server builds with 1.");
        assert_eq!(error.code, Code::B15);
        assert!(error.message.contains(&want), "{}", error.message);
        assert!(
            error.message.contains("rustup toolchain install 1.0.0"),
            "{}",
            error.message
        );
    }
    let (_, has) = pinned("rust-toolchain", "1.0.0\n")
        .output
        .split_once("builds with ")
        .map_or_else(
            || panic!("no versions"),
            |(before, has)| (before.to_string(), has.to_string()),
        );
    let version = has.split_whitespace().next().expect("a version");
    for text in [
        format!("[toolchain]\nchannel = \"{version}\"\n"),
        "[toolchain]\nchannel = \"stable\"\n".to_string(),
        "[toolchain]\ncomponents = [\"clippy\"]\n".to_string(),
    ] {
        pinned("rust-toolchain.toml", &text).image();
    }
}

const DEPENDENT: &[u8] = b"[package]\nname = \"web\"\nversion = \"0.1.0\"\nedition = \"2021\"\n
    [dependencies]\ngreeting = \"1\"\n";
const USES: &[u8] = b"fn main() { println!(\"{}\", greeting::TEXT); }";

fn vendored_dependencies_need_no_registry() {
    let mut server = Server::new();
    server.registries = "none".to_string();
    server
        .build(&[
            ("Procfile", b"web: cargo run"),
            ("Cargo.toml", DEPENDENT),
            ("src/main.rs", USES),
            (
                ".cargo/config.toml",
                b"[source.crates-io]\nreplace-with = \"vendored-sources\"\n
                  [source.vendored-sources]\ndirectory = \"vendor\"\n",
            ),
            ("vendor/greeting/.cargo-checksum.json", b"{\"files\":{}}"),
            (
                "vendor/greeting/Cargo.toml",
                b"[package]\nname = \"greeting\"\nversion = \"1.0.0\"\n",
            ),
            ("vendor/greeting/src/lib.rs", b"pub const TEXT: &str = \"hello\";"),
        ])
        .image();
}

fn dependencies_without_a_registry_are_explained() {
    let mut server = Server::new();
    server.registries = "none".to_string();
    let files: [(&str, &[u8]); 3] = [
        ("Procfile", b"web: cargo run"),
        ("Cargo.toml", DEPENDENT),
        ("src/main.rs", USES),
    ];
    let error = server.build(&files).error();
    assert_eq!(error.code, Code::B15);
    assert!(error.message.contains("greeting"), "{}", error.message);
    assert!(error.message.contains("reach no registry"), "{}", error.message);
}
