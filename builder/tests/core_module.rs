//! Core modules: those for WASI preview 1 become components, all others are refused by what they ask for.

use std::{path::Path, sync::LazyLock};

use gilliam_builder::{
    component::{Checked, ComponentError, Origin, check},
    offer::Offer,
};
use gilliam_model::{code::Code, image::Shape};
use proptest::prelude::*;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

static OFFER: LazyLock<Offer> = LazyLock::new(Offer::new);

/// What a C compiler makes of a main function that prints.
const COMMAND: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 8) "\10\00\00\00\06\00\00\00hello\0a")
    (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))))"#;

fn check_wat(wat: &str) -> Result<Checked, ComponentError> {
    check(
        "app.wasm",
        wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}")),
        &OFFER,
    )
}

#[track_caller]
fn refused(wat: &str, code: Code, message: &str, hint: &str) {
    let error = check_wat(wat).expect_err("must be refused");
    assert_eq!(error.to_string(), message);
    assert_eq!(
        (error.fault.code(), error.fault.hint().as_deref()),
        (code, Some(hint))
    );
}

#[test]
fn a_command_for_preview_1_becomes_a_component() {
    let checked = check_wat(COMMAND).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (checked.shape, checked.origin),
        (Shape::CommandP2, Origin::Adapted)
    );
    // What came out is a component that is taken as it is.
    let again = check("app.wasm", checked.bytes.clone(), &OFFER).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((again.shape, again.origin), (Shape::CommandP2, Origin::AsGiven));
    assert_eq!(again.bytes, checked.bytes);
}

#[test]
fn adapting_is_deterministic() {
    let bytes = |_| check_wat(COMMAND).unwrap_or_else(|error| panic!("{error}")).bytes;
    assert_eq!(bytes(1), bytes(2));
}

#[test]
fn a_module_made_for_a_component_world_becomes_a_component_of_it() {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/app");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(&wit).expect("wit/app");
    let world = resolve.select_world(&[package], Some("command")).expect("world");
    let mut module = wat::parse_str(
        r#"(module
            (import "wasi:random/random@0.2.12" "get-random-u64" (func (result i64)))
            (func (export "wasi:cli/run@0.2.12#run") (result i32) i32.const 0))"#,
    )
    .expect("wat");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("embed");
    let checked = check("app.wasm", module, &OFFER).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (checked.shape, checked.origin),
        (Shape::CommandP2, Origin::Adapted)
    );
}

#[test]
fn a_module_without_a_start_has_nothing_to_run() {
    let hint = "give it a main function, or build it for wasm32-wasip2";
    let message = "app.wasm is a core module without _start, so there is nothing to run";
    refused("(module)", Code::B12, message, hint);
    refused(r#"(module (func (export "add")))"#, Code::B12, message, hint);
}

#[test]
fn unknown_imports_are_named_with_what_is_offered() {
    let start = r#"(func (export "_start"))"#;
    let module = |imports: &str| format!("(module {imports} {start})");
    refused(
        &module(r#"(import "env" "host_log" (func (param i32)))"#),
        Code::B11,
        "app.wasm imports env::host_log; a core module may import wasi_snapshot_preview1 only",
        "link what it needs into it: nothing is given under the name env",
    );
    refused(
        &module(
            r#"(import "env" "a" (func)) (import "env" "memory" (memory 1)) (import "x" "y" (global i32))"#,
        ),
        Code::B11,
        "app.wasm imports env::a, env::memory and x::y; a core module may import wasi_snapshot_preview1 only",
        "link what it needs into it: nothing is given under the name env",
    );
    refused(
        &module(r#"(import "wasi_unstable" "fd_write" (func))"#),
        Code::B11,
        "app.wasm imports wasi_unstable::fd_write; a core module may import wasi_snapshot_preview1 only",
        "build it with a newer toolchain: this is the WASI before preview 1",
    );
    refused(
        &module(r#"(import "wasi_snapshot_preview1" "thread_spawn" (func))"#),
        Code::B11,
        "app.wasm imports wasi_snapshot_preview1::thread_spawn; a core module may import \
         wasi_snapshot_preview1 only",
        "build it for WASI, or as a component",
    );
    // A component's way to name an interface means something only in a module that says which world it is
    // for.
    refused(
        &module(r#"(import "wasi:cli/stdout@0.2.0" "get-stdout" (func (result i32)))"#),
        Code::B11,
        "app.wasm imports wasi:cli/stdout@0.2.0::get-stdout; a core module may import \
         wasi_snapshot_preview1 only",
        "build it for WASI, or as a component",
    );
}

#[test]
fn a_known_import_of_another_type_cannot_be_adapted() {
    let wat = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i64)))
        (memory (export "memory") 1) (func (export "_start")))"#;
    let error = check_wat(wat).expect_err("type");
    assert!(
        error
            .to_string()
            .starts_with("app.wasm is a core module that cannot be made a component: "),
        "{error}"
    );
    assert_eq!(error.fault.code(), Code::B12);
}

#[test]
fn an_invalid_module_is_refused_where_it_is_invalid() {
    let mut module = wat::parse_str(r#"(module (func (export "_start") i32.const 0 drop))"#).expect("wat");
    let at = module
        .windows(4)
        .position(|window| window == [0x41, 0, 0x1a, 0x0b])
        .expect("the body");
    module[at + 2] = 0x45;
    let error = check("app.wasm", module, &OFFER).expect_err("invalid");
    assert!(
        error.to_string().starts_with("app.wasm is malformed at byte "),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_damage_makes_it_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| wat::parse_str(COMMAND).expect("wat"));
        let mut damaged = WHOLE.clone();
        for (at, value) in flips {
            let at = at.index(damaged.len());
            damaged[at] = value;
        }
        let _ = check("app.wasm", damaged, &OFFER);
    }

    #[test]
    fn no_description_of_itself_makes_it_panic(section in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut module = wat::parse_str(COMMAND).expect("wat");
        let mut custom = vec![14];
        custom.extend(b"component-type");
        custom.extend(&section);
        module.push(0);
        let length = u8::try_from(custom.len() & 0x7f).expect("seven bits");
        module.extend([length | 0x80, u8::try_from(custom.len() >> 7).expect("small")]);
        module.extend(custom);
        let _ = check("app.wasm", module, &OFFER);
    }
}
