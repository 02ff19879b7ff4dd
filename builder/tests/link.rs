//! Library components: which imports they meet, and what is refused. The components are made from text here.

mod support;

use std::sync::LazyLock;

use gilliam_builder::{
    BuildRequest, build,
    component::{Checked, ComponentError, check_linked},
    link::Part,
    offer::Offer,
    packs::Workshop,
};
use gilliam_model::{code::Code, image::Shape};
use support::{command, wasm, write_archive};

static OFFER: LazyLock<Offer> = LazyLock::new(Offer::new);

/// A library that exports an interface with functions without parameters, and has more text in front.
fn library(interface: &str, functions: &[&str], more: &str) -> String {
    let exports: String = functions
        .iter()
        .map(|name| format!(r#"(export "{name}" (func $f))"#))
        .collect();
    format!(
        r#"(component {more}
            (core module $m (func (export "f") (result i32) i32.const 7))
            (core instance $i (instantiate $m))
            (func $f (result u32) (canon lift (core func $i "f")))
            (instance $e {exports})
            (export "{interface}" (instance $e)))"#
    )
}

/// An import of such an interface.
fn import(interface: &str, functions: &[&str]) -> String {
    let exports: String = functions
        .iter()
        .map(|name| format!(r#"(export "{name}" (func (result u32)))"#))
        .collect();
    format!(r#"(import "{interface}" (instance {exports}))"#)
}

fn linked(process: &str, libraries: &[(&str, &str)]) -> Result<Checked, ComponentError> {
    let libraries = libraries.iter().map(|(name, text)| Part {
        name: name.to_string(),
        bytes: wasm(text),
    });
    check_linked("web.wasm", wasm(process), libraries.collect(), &OFFER)
}

#[track_caller]
fn taken(process: &str, libraries: &[(&str, &str)]) -> Checked {
    linked(process, libraries).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn refused(process: &str, libraries: &[(&str, &str)], code: Code, message: &str, hint: &str) {
    let error = linked(process, libraries).expect_err("must be refused");
    assert_eq!(error.to_string(), message);
    assert_eq!(
        (error.fault.code(), error.fault.hint().as_deref()),
        (code, Some(hint))
    );
}

fn imports(checked: &Checked) -> Vec<&str> {
    checked.imports.iter().map(String::as_str).collect()
}

const CHECK: &str = "acme:auth/check@1.2.0";

#[test]
fn an_import_that_a_library_exports_is_met_by_it() {
    let process = command("0.2.12", &import(CHECK, &["verify"]));
    let auth = library(CHECK, &["verify", "renew"], "");
    let checked = taken(&process, &[("auth.wasm", &auth)]);
    assert_eq!(checked.shape, Shape::CommandP2);
    assert_eq!(imports(&checked), [""; 0]);
}

#[test]
fn a_compatible_version_stands_in_for_the_one_that_is_imported() {
    for offered in [
        "acme:auth/check@1.2.0",
        "acme:auth/check@1.9.3",
        "acme:auth/check@1.0.1",
    ] {
        let process = command("0.2.12", &import(CHECK, &["verify"]));
        let auth = library(offered, &["verify"], "");
        assert_eq!(
            imports(&taken(&process, &[("auth.wasm", &auth)])),
            [""; 0],
            "{offered}"
        );
    }
}

#[test]
fn imports_of_the_platform_stay_those_of_the_whole() {
    let random =
        r#"(import "wasi:random/random@0.2.3" (instance (export "get-random-u64" (func (result u64)))))"#;
    let clock =
        r#"(import "wasi:clocks/monotonic-clock@0.2.3" (instance (export "now" (func (result u64)))))"#;
    let process = command("0.2.12", &format!("{random} {}", import(CHECK, &["verify"])));
    let auth = library(CHECK, &["verify"], &format!("{random} {clock}"));
    assert_eq!(
        imports(&taken(&process, &[("auth.wasm", &auth)])),
        ["wasi:clocks/monotonic-clock@0.2.3", "wasi:random/random@0.2.3"]
    );
}

#[test]
fn libraries_meet_imports_of_each_other() {
    let process = command("0.2.12", &import(CHECK, &["verify"]));
    let auth = library(CHECK, &["verify"], &import("acme:log/sink@0.1.0", &["put"]));
    let log = library("acme:log/sink@0.1.4", &["put"], "");
    for order in [["log.wasm", "auth.wasm"], ["auth.wasm", "log.wasm"]] {
        let libraries = order.map(|name| {
            (
                name,
                if name == "log.wasm" {
                    log.as_str()
                } else {
                    auth.as_str()
                },
            )
        });
        assert_eq!(imports(&taken(&process, &libraries)), [""; 0]);
    }
}

#[test]
fn linking_is_deterministic() {
    let process = command("0.2.12", &import(CHECK, &["verify"]));
    let auth = library(CHECK, &["verify"], &import("acme:log/sink@0.1.0", &["put"]));
    let log = library("acme:log/sink@0.1.4", &["put"], "");
    let bytes = || taken(&process, &[("auth.wasm", &auth), ("log.wasm", &log)]).bytes;
    let first = bytes();
    assert!((0..8).all(|_| bytes() == first));
}

/// A resource that the library makes and the process holds.
#[test]
fn resources_of_a_library_reach_the_process() {
    let auth = r#"(component
        (core module $m (func (export "new") (result i32) i32.const 1))
        (core instance $i (instantiate $m))
        (type $session' (resource (rep i32)))
        (core func $make (canon resource.new $session'))
        (core module $n (import "" "make" (func $make (param i32) (result i32)))
            (func (export "open") (result i32) (call $make (i32.const 3))))
        (core instance $j (instantiate $n (with "" (instance (export "make" (func $make))))))
        (component $face
            (import "session" (type $s (sub resource)))
            (import "open" (func $o (result (own $s))))
            (export $t "session" (type $s))
            (export "open" (func $o) (func (result (own $t)))))
        (func $open (result (own $session')) (canon lift (core func $j "open")))
        (instance $e (instantiate $face (with "session" (type $session')) (with "open" (func $open))))
        (export "acme:auth/sessions@1.0.0" (instance $e)))"#;
    let process = command(
        "0.2.12",
        r#"(import "acme:auth/sessions@1.0.0" (instance
            (export "session" (type $s (sub resource)))
            (export "open" (func (result (own $s))))))"#,
    );
    assert_eq!(imports(&taken(&process, &[("auth.wasm", auth)])), [""; 0]);
}

#[test]
fn what_no_library_exports_must_be_offered_by_the_platform() {
    let more = [
        import(CHECK, &["verify"]),
        import("acme:mail/send@1.0.0", &["now"]),
    ]
    .concat();
    let auth = library(CHECK, &["verify"], "");
    let error = linked(&command("0.2.12", &more), &[("auth.wasm", &auth)]).expect_err("mail");
    let message = "web.wasm imports acme:mail/send@1.0.0, which this platform does not offer";
    assert_eq!(
        (error.to_string().as_str(), error.fault.code()),
        (message, Code::B11)
    );
    let hint = error.fault.hint().expect("hint");
    let start = "leave the import out, or link a component that exports it (link in gilliam.toml); \
                 offered are gilliam:sql, wasi:cli, ";
    assert!(hint.starts_with(start), "{hint}");
}

#[test]
fn another_version_is_refused_with_both() {
    let process = command("0.2.12", &import(CHECK, &["verify"]));
    let auth = library("acme:auth/check@2.0.0", &["verify"], "");
    refused(
        &process,
        &[("auth.wasm", &auth)],
        Code::B11,
        "web.wasm imports acme:auth/check@1.2.0, but auth.wasm exports acme:auth/check@2.0.0",
        "build it against acme:auth/check@2.0.0, or link a library that exports what it imports",
    );
}

#[test]
fn two_libraries_for_one_import_are_refused() {
    let process = command("0.2.12", &import(CHECK, &["verify"]));
    let auth = library(CHECK, &["verify"], "");
    refused(
        &process,
        &[("a.wasm", &auth), ("b.wasm", &auth)],
        Code::B11,
        "web.wasm imports acme:auth/check@1.2.0, which both a.wasm and b.wasm export",
        "link one of them only",
    );
}

#[test]
fn a_library_that_meets_nothing_is_refused() {
    let other = library("acme:log/sink@0.1.0", &["put"], "");
    refused(
        &command("0.2.12", ""),
        &[("log.wasm", &other)],
        Code::B11,
        "web.wasm links log.wasm, of which nothing is imported; it exports acme:log/sink@0.1.0",
        "take log.wasm out of link in gilliam.toml, or import one of these interfaces",
    );
}

#[test]
fn a_library_without_what_is_asked_of_it_is_refused() {
    let process = command("0.2.12", &import(CHECK, &["revoke", "verify"]));
    let hint = "build it against the WIT that auth.wasm was built with";
    refused(
        &process,
        &[("auth.wasm", &library(CHECK, &["verify"], ""))],
        Code::B11,
        "web.wasm imports acme:auth/check@1.2.0 with revoke, which auth.wasm exports without it",
        hint,
    );
    let takes_text = command(
        "0.2.12",
        &format!(r#"(import "{CHECK}" (instance (export "verify" (func (param "token" u32)))))"#),
    );
    refused(
        &takes_text,
        &[("auth.wasm", &library(CHECK, &["verify"], ""))],
        Code::B11,
        "web.wasm imports acme:auth/check@1.2.0, which auth.wasm exports with other types",
        hint,
    );
}

#[test]
fn the_import_of_a_library_names_the_library() {
    let process = command("0.2.12", &import(CHECK, &["verify"]));
    let auth = library(CHECK, &["verify"], &import("acme:log/sink@1.0.0", &["put"]));
    let log = library("acme:log/sink@2.0.0", &["put"], "");
    refused(
        &process,
        &[("auth.wasm", &auth), ("log.wasm", &log)],
        Code::B11,
        "web.wasm links auth.wasm, which imports acme:log/sink@1.0.0, but log.wasm exports acme:log/sink@2.0.0",
        "build it against acme:log/sink@2.0.0, or link a library that exports what it imports",
    );
}

#[test]
fn a_circle_of_libraries_is_refused() {
    let process = command("0.2.12", &import(CHECK, &["verify"]));
    let auth = library(CHECK, &["verify"], &import("acme:log/sink@1.0.0", &["put"]));
    let log = library("acme:log/sink@1.0.0", &["put"], &import(CHECK, &["verify"]));
    let error = linked(&process, &[("auth.wasm", &auth), ("log.wasm", &log)]).expect_err("circle");
    assert_eq!(error.fault.code(), Code::B12);
    let message = error.to_string();
    assert!(message.starts_with("web.wasm cannot be linked: "), "{message}");
    assert!(
        message.contains("cycle") && message.contains(".wasm and its dependencies"),
        "{message}"
    );
}

#[test]
fn a_library_that_is_no_component_is_refused_by_its_name() {
    let process = command("0.2.12", &import(CHECK, &["verify"]));
    refused(
        &process,
        &[("auth.wasm", "(module)")],
        Code::B12,
        "web.wasm links auth.wasm, which is a core module without _start, so there is nothing to run",
        "give it a main function, or build it for wasm32-wasip2",
    );
}

#[test]
fn gilliam_toml_names_what_a_process_links() {
    let process = wasm(&command("0.2.12", &import(CHECK, &["verify"])));
    let auth = wasm(&library(CHECK, &["verify"], ""));
    let project = |manifest: &str, library: &str| {
        let folder = tempfile::tempdir().expect("temporary folder");
        let archive = folder.path().join("project.tar");
        let files: [(&str, &[u8]); 4] = [
            ("Procfile", b"worker: worker.wasm\nother: worker.wasm"),
            ("gilliam.toml", manifest.as_bytes()),
            ("worker.wasm", &process),
            (library, &auth),
        ];
        write_archive(&archive, &files);
        let request = BuildRequest {
            archive: &archive,
            blobs: &folder.path().join("images"),
            workshop: Workshop::default(),
            cache: None,
        };
        let mut lines = Vec::new();
        let built = build(&request, &mut |line| lines.push(line.to_string()));
        (built, lines)
    };
    let both = "[process.worker]\nlink = [\"auth.wasm\"]\n[process.other]\nlink = [\"auth.wasm\"]";
    let (built, lines) = project(both, "auth.wasm");
    let image = built.unwrap_or_else(|error| panic!("{error}")).image;
    let (worker, other) = (&image.processes["worker"], &image.processes["other"]);
    assert_eq!(worker.component, other.component);
    assert_eq!(
        worker.imports.as_ref().map(|imports| imports.iter().count()),
        Some(0)
    );
    let said = |line: &String| line.starts_with("-----> worker: worker.wasm, with auth.wasm, command-p2, ");
    assert!(lines.iter().any(said), "{lines:?}");

    let only_one = "[process.worker]\nlink = [\"auth.wasm\"]";
    let (built, _) = project(only_one, "auth.wasm");
    let error = built.expect_err("the other process lacks it").to_string();
    assert_eq!(
        error,
        format!("worker.wasm imports {CHECK}, which this platform does not offer")
    );

    let (built, _) = project(both, "elsewhere.wasm");
    let error = built.expect_err("no such file").to_string();
    assert_eq!(
        error,
        "gilliam.toml, link of worker: auth.wasm is not in the project"
    );
}
