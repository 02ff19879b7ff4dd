//! Which bytes are components that the platform can run, by example; each is made from text here.

mod support;

use std::sync::LazyLock;

use gilliam_builder::{
    component::{Checked, Origin, check},
    offer::Offer,
};
use gilliam_model::{code::Code, image::Shape};
use proptest::prelude::*;
use support::{command, wasm};

static OFFER: LazyLock<Offer> = LazyLock::new(Offer::new);

#[track_caller]
fn taken(wat: &str) -> Checked {
    check("web.wasm", wasm(wat), &OFFER).unwrap_or_else(|error| panic!("{error}"))
}

/// Checks code and message, and returns the hint.
#[track_caller]
fn refused(bytes: Vec<u8>, code: Code, message: &str) -> String {
    let error = check("web.wasm", bytes, &OFFER).expect_err("must be refused");
    assert_eq!(error.to_string(), message);
    assert_eq!(error.fault.code(), code);
    error.fault.hint().expect("every fault has a way out")
}

/// An http component of 0.2, importing WASI of some version.
fn http_p2(version: &str) -> String {
    format!(
        r#"(component
            (import "wasi:http/types@{version}" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $out))
            (import "request" (type (eq $request)))
            (core module $m (func (export "handle") (param i32 i32)))
            (core instance $i (instantiate $m))
            (func $handle (param "request" (own $request)) (param "response-out" (own $out))
                (canon lift (core func $i "handle")))
            (instance $e (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@{version}" (instance $e)))"#
    )
}

/// An http component of 0.3: an async function.
const HTTP_P3: &str = r#"(component
    (import "wasi:http/types@0.3.0" (instance $types
        (export "request" (type (sub resource)))
        (export "response" (type (sub resource)))))
    (alias export $types "request" (type $request))
    (alias export $types "response" (type $response))
    (core module $m (func (export "handle") (param i32) (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $handle async (param "request" (own $request)) (result (own $response))
        (canon lift (core func $i "handle")))
    (instance $e (export "handle" (func $handle)))
    (export "wasi:http/handler@0.3.0" (instance $e)))"#;

const COMMAND_P3: &str = r#"(component
    (core module $m (func (export "run") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run async (result (result)) (canon lift (core func $i "run")))
    (instance $e (export "run" (func $run)))
    (export "wasi:cli/run@0.3.0" (instance $e)))"#;

#[test]
fn the_shape_comes_from_the_export() {
    for (wat, shape) in [
        (command("0.2.0", ""), Shape::CommandP2),
        (command("0.2.12", ""), Shape::CommandP2),
        (http_p2("0.2.0"), Shape::HttpP2),
        (http_p2("0.2.10"), Shape::HttpP2),
        (COMMAND_P3.to_string(), Shape::CommandP3),
        (HTTP_P3.to_string(), Shape::HttpP3),
    ] {
        let checked = taken(&wat);
        assert_eq!((checked.shape, checked.origin), (shape, Origin::AsGiven), "{wat}");
        assert_eq!(checked.bytes, wasm(&wat));
    }
}

#[test]
fn a_later_patch_is_taken_as_long_as_it_asks_for_nothing_new() {
    assert_eq!(taken(&http_p2("0.2.99")).shape, Shape::HttpP2);
}

#[test]
fn no_or_several_shapes_are_refused_with_what_was_found() {
    let wanted = "export one of wasi:http/incoming-handler@0.2, wasi:http/handler@0.3, wasi:cli/run@0.2, \
                  wasi:cli/run@0.3 and gilliam:worker/handler@0.1";
    for (wat, exports) in [
        ("(component)", "nothing"),
        (
            r#"(component (instance $i) (export "gilliam:worker/handler@0.2.0" (instance $i)))"#,
            "gilliam:worker/handler@0.2.0",
        ),
        (
            r#"(component (instance $i) (export "wasi:cli/run@0.2.0-rc-2023-11-10" (instance $i)))"#,
            "wasi:cli/run@0.2.0-rc-2023-11-10",
        ),
        (
            r#"(component (instance $i) (export "wasi:cli/run@0.4.0" (instance $i)))"#,
            "wasi:cli/run@0.4.0",
        ),
        (
            r#"(component (instance $i) (export "wasi:cli/run" (instance $i)))"#,
            "wasi:cli/run",
        ),
        (
            r#"(component (instance $i) (export "a" (instance $i)) (export "b" (instance $i)))"#,
            "a and b",
        ),
    ] {
        let message = format!("web.wasm exports nothing that the platform can run; it exports {exports}");
        assert_eq!(refused(wasm(wat), Code::B12, &message), wanted);
    }
    let two = r#"(component (instance $i)
        (export "wasi:cli/run@0.2.3" (instance $i))
        (export "wasi:http/incoming-handler@0.2.3" (instance $i)))"#;
    let message = "web.wasm exports wasi:cli/run@0.2.3 and wasi:http/incoming-handler@0.2.3, so how to run it \
                   is not clear";
    refused(wasm(two), Code::B12, message);
}

#[test]
fn many_exports_are_not_all_printed() {
    let exports: String = (0..40)
        .map(|i| format!(r#"(export "e{i}" (instance $i))"#))
        .collect();
    let message =
        "web.wasm exports nothing that the platform can run; it exports e0, e1, e2, e3, e4, e5 and 34 more";
    refused(
        wasm(&format!("(component (instance $i) {exports})")),
        Code::B12,
        message,
    );
}

#[test]
fn the_export_must_have_the_function_that_is_called() {
    let empty = r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#;
    refused(
        wasm(empty),
        Code::B12,
        "web.wasm exports wasi:cli/run@0.2.0, but without its function run",
    );
    let params = r#"(component
        (core module $m (func (export "run") (param i32)))
        (core instance $i (instantiate $m))
        (func $run (param "x" u32) (canon lift (core func $i "run")))
        (instance $e (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $e)))"#;
    let message = "web.wasm exports wasi:cli/run@0.2.0, but its function run takes 1 parameters, not 0";
    refused(wasm(params), Code::B12, message);
}

#[test]
fn an_interface_that_nobody_offers_is_named() {
    let wat = command(
        "0.2.0",
        r#"(import "wasi:keyvalue/store@0.2.0-draft" (instance))"#,
    );
    let message = "web.wasm imports wasi:keyvalue/store@0.2.0-draft, which this platform does not offer";
    let hint = refused(wasm(&wat), Code::B11, message);
    assert_eq!(
        hint,
        "leave the import out, or link a component that exports it (link in gilliam.toml); offered are \
         gilliam:sql, wasi:cli, wasi:clocks, wasi:filesystem, wasi:http, wasi:io, wasi:random, wasi:sockets"
    );
    let wat = command(
        "0.2.0",
        r#"(import "gilliam:admin/nodes" (instance)) (import "a:b/c@1.0.0" (instance))"#,
    );
    let message =
        "web.wasm imports gilliam:admin/nodes, which this platform does not offer (nor a:b/c@1.0.0)";
    refused(wasm(&wat), Code::B11, message);
}

#[test]
fn an_interface_of_another_version_names_those_that_are_offered() {
    for version in ["0.3.0-rc-2025-09-16", "0.4.0", "0.1.0", "1.0.0"] {
        let wat = command(
            "0.2.0",
            &format!(r#"(import "wasi:http/types@{version}" (instance))"#),
        );
        let message = format!(
            "web.wasm imports wasi:http/types@{version}, which this platform offers in version 0.2.12 and \
             0.3.0 only"
        );
        let hint = refused(wasm(&wat), Code::B11, &message);
        assert_eq!(hint, "build it against wasi:http@0.2.12 or wasi:http@0.3.0");
    }
}

#[test]
fn an_unknown_interface_of_a_known_package_names_its_others() {
    let wat = command("0.2.0", r#"(import "wasi:random/dice@0.2.0" (instance))"#);
    let hint = refused(
        wasm(&wat),
        Code::B11,
        "web.wasm imports wasi:random/dice@0.2.0, which this platform does not offer",
    );
    assert!(
        hint.starts_with("use one of wasi:random/insecure@0.2.12, wasi:random/insecure@0.3.0, "),
        "{hint}"
    );
    // What a process exports is not there to be imported.
    let wat = command(
        "0.2.0",
        r#"(import "wasi:http/incoming-handler@0.2.0" (instance))"#,
    );
    let message = "web.wasm imports wasi:http/incoming-handler@0.2.0, which this platform does not offer";
    refused(wasm(&wat), Code::B11, message);
}

#[test]
fn a_function_or_resource_that_an_interface_lacks_is_named() {
    let wat = command(
        "0.2.0",
        r#"(import "wasi:random/random@0.2.99" (instance (export "dice" (func (result u64)))))"#,
    );
    let hint = refused(
        wasm(&wat),
        Code::B11,
        "web.wasm imports wasi:random/random@0.2.99 with dice, which the wasi:random/random@0.2.12 of this \
         platform does not have",
    );
    assert_eq!(
        hint,
        "build it against wasi:random/random@0.2.12, without unstable features"
    );
    let wat = command(
        "0.2.0",
        r#"(import "wasi:io/error@0.2.0" (instance (export "warning" (type (sub resource)))))"#,
    );
    let message = "web.wasm imports wasi:io/error@0.2.0 with warning, which the wasi:io/error@0.2.12 of this \
                   platform does not have";
    refused(wasm(&wat), Code::B11, message);
    // Unstable, so it is not linked.
    let wat = command("0.2.0", r#"(import "wasi:clocks/timezone@0.2.0" (instance))"#);
    let message = "web.wasm imports wasi:clocks/timezone@0.2.0, which this platform does not offer";
    refused(wasm(&wat), Code::B11, message);
}

#[test]
fn interfaces_of_both_versions_are_for_components_of_the_newer_shape() {
    let p3 = |more: &str| COMMAND_P3.replacen("(component", &format!("(component {more}"), 1);
    let clock_p2 = r#"(import "wasi:clocks/wall-clock@0.2.3" (instance))"#;
    let clock_p3 = r#"(import "wasi:clocks/system-clock@0.3.0" (instance))"#;
    taken(&p3(clock_p3));
    taken(&p3(clock_p2));
    taken(&command("0.2.0", clock_p2));
    let message = "web.wasm imports wasi:clocks/system-clock@0.3.0, but exports wasi:cli/run@0.2.0";
    refused(wasm(&command("0.2.0", clock_p3)), Code::B11, message);
}

#[test]
fn imports_outside_of_interfaces_are_refused() {
    for (import, what) in [
        (r#"(import "log" (func (param "x" u32)))"#, "function log"),
        (r#"(import "thing" (type (sub resource)))"#, "resource thing"),
        (r#"(import "inner" (component))"#, "component inner"),
        (r#"(import "host" (instance))"#, "instance host"),
        (r#"(import "core" (core module))"#, "module core"),
    ] {
        let message = format!(
            "web.wasm imports the {what} outside of any interface, which this platform does not offer"
        );
        refused(wasm(&command("0.2.0", import)), Code::B11, &message);
    }
}

#[test]
fn proposals_that_are_off_are_named() {
    for (core, proposal) in [
        ("(memory 1 1 shared)", "the threads proposal"),
        (
            "(memory 1) (func i32.const 0 i32.const 0 i32.atomic.store)",
            "the threads proposal",
        ),
        ("(memory i64 1)", "the memory64 proposal"),
        ("(type (struct (field i32)))", "the gc proposal"),
        ("(func (param externref))", "host references (externref)"),
        ("(table 1 externref)", "host references (externref)"),
        (
            "(type $f (func)) (func (param (ref $f)))",
            "the function-references proposal",
        ),
        ("(tag)", "the exception-handling proposal"),
        ("(memory 1 (pagesize 1))", "the custom-page-sizes proposal"),
        (
            "(func (param i64 i64) (result i64 i64) local.get 0 local.get 1 i64.mul_wide_u)",
            "the wide-arithmetic proposal",
        ),
        (
            "(type $f (func)) (type $c (cont $f))",
            "the stack-switching proposal",
        ),
    ] {
        let wat = command("0.2.0", &format!("(core module {core})"));
        let error = check("web.wasm", wasm(&wat), &OFFER).expect_err(core);
        let start = format!("web.wasm uses {proposal}, which is off on this platform (");
        assert!(error.to_string().starts_with(&start), "{core}: {error}");
        assert_eq!(error.fault.code(), Code::B12);
        let module = format!("(module {core} (func (export \"_start\")))");
        let error = check("web.wasm", wasm(&module), &OFFER).expect_err(core);
        assert!(error.to_string().starts_with(&start), "{core}: {error}");
    }
}

#[test]
fn the_async_part_is_for_components_of_the_newer_shape() {
    let wat = command("0.2.0", "(type (stream u8))");
    let error = check("web.wasm", wasm(&wat), &OFFER).expect_err("async");
    let start = "web.wasm uses the component model's async part without a 0.3 export, which is off on";
    assert!(error.to_string().starts_with(start), "{error}");
}

#[test]
fn what_is_no_component_is_named_for_what_it_is() {
    refused(Vec::new(), Code::B12, "web.wasm is empty");
    let hint = refused(
        b"\x7fELF\x02\x01\x01".to_vec(),
        Code::B12,
        "web.wasm is compiled code, which is never taken",
    );
    assert_eq!(
        hint,
        "name the component it was compiled from; the platform compiles it"
    );
    refused(
        b"  (component)".to_vec(),
        Code::B12,
        "web.wasm is WebAssembly text, not a component",
    );
    refused(b"#!/bin/sh\n".to_vec(), Code::B12, "web.wasm is not WebAssembly");
    refused(b"\0as".to_vec(), Code::B12, "web.wasm is cut off at byte 3");
    refused(
        b"\0asm\x0d\0".to_vec(),
        Code::B12,
        "web.wasm is cut off at byte 6",
    );
    let message = "web.wasm is in a WebAssembly format that is not known here: version 10, layer 1";
    refused(b"\0asm\x0a\0\x01\0".to_vec(), Code::B12, message);
}

#[test]
fn a_cut_component_is_refused_wherever_it_is_cut() {
    let whole = wasm(&http_p2("0.2.0"));
    let mut taken = 0;
    for cut in 0..whole.len() {
        match check("web.wasm", whole[..cut].to_vec(), &OFFER) {
            Ok(_) => taken += 1,
            Err(error) => assert_eq!(error.fault.code(), Code::B12, "{cut}: {error}"),
        }
    }
    assert_eq!(
        taken, 1,
        "without its last section, which holds names for debuggers, a component is whole"
    );
    let error = check("web.wasm", whole[..whole.len() - 1].to_vec(), &OFFER).expect_err("cut");
    assert!(
        error.to_string().starts_with("web.wasm is cut off at byte "),
        "{error}"
    );
}

#[test]
fn too_much_of_anything_is_refused_before_it_is_validated() {
    let many = |count: usize, item: &str| item.repeat(count);
    let functions = format!("(core module {})", many(150_001, "(func)"));
    refused(
        wasm(&command("0.2.0", &functions)),
        Code::B10,
        "web.wasm has more than 150000 functions",
    );
    let modules = many(200, "(core module)");
    refused(
        wasm(&command("0.2.0", &modules)),
        Code::B10,
        "web.wasm has more than 200 modules",
    );
    let components = many(101, "(component)");
    refused(
        wasm(&command("0.2.0", &components)),
        Code::B10,
        "web.wasm has more than 100 nested components",
    );
    for (fields, what) in [
        (many(5, "(table 1 funcref)"), "4 tables in one module"),
        (many(5, "(memory 1)"), "4 memories in one module"),
        (many(1, "(table 20001 funcref)"), "20000 elements in one table"),
    ] {
        refused(
            wasm(&command("0.2.0", &format!("(core module {fields})"))),
            Code::B10,
            &format!("web.wasm has more than {what}"),
        );
    }
    let types = format!("(core module {})", many(200_001, "(type (func))"));
    refused(
        wasm(&command("0.2.0", &types)),
        Code::B10,
        "web.wasm has more than 200000 types",
    );
    let imports: String = (0..1_000)
        .map(|i| format!(r#"(import "i{i}" (instance))"#))
        .collect();
    refused(
        wasm(&command("0.2.0", &imports)),
        Code::B10,
        "web.wasm has more than 1000 imports and exports",
    );
}

#[test]
fn an_invalid_component_is_refused() {
    let mut invalid = wasm(&command("0.2.0", ""));
    // The body of `run`: `i32.const 0` becomes `i64.const 0`.
    let at = invalid
        .windows(3)
        .position(|window| window == [0x41, 0, 0x0b])
        .expect("the body");
    invalid[at] = 0x42;
    let message = format!(
        "web.wasm is malformed at byte {}: type mismatch: expected i32, found i64",
        at + 2
    );
    refused(invalid, Code::B12, &message);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..300), start in 0_usize..3) {
        let mut bytes = [b"".as_slice(), b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"][start].to_vec();
        bytes.extend(tail);
        prop_assert!(check("web.wasm", bytes, &OFFER).is_err());
    }

    #[test]
    fn no_damage_makes_it_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        static WHOLE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
            let texts = [http_p2("0.2.0"), HTTP_P3.to_string(), command("0.2.0", "")];
            texts.iter().map(|wat| wasm(wat)).collect()
        });
        for whole in WHOLE.iter() {
            let mut damaged = whole.clone();
            for (at, value) in &flips {
                let at = at.index(damaged.len());
                damaged[at] = *value;
            }
            let _ = check("web.wasm", damaged, &OFFER);
        }
    }
}
