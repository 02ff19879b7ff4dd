//! Guests written as WebAssembly text; used by the node's tests too.

use std::path::{Path, PathBuf};

/// Imports with which a handler answers, and a function that does so with the status given.
pub const ANSWER: &str = r#"
    (import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
    (import "wasi:http/types@0.2.12" "[constructor]outgoing-response"
        (func $response (param i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-response.set-status-code"
        (func $status (param i32 i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-response.body" (func $body (param i32 i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-body.write" (func $write (param i32 i32)))
    (import "wasi:http/types@0.2.12" "[static]response-outparam.set"
        (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "wasi:io/streams@0.2.12" "[method]output-stream.check-write"
        (func $check-write (param i32 i32)))
    (import "wasi:io/streams@0.2.12" "[method]output-stream.write"
        (func $write-bytes (param i32 i32 i32 i32)))
    (func $answer (param $out i32) (param $code i32) (local $made i32)
        (local.set $made (call $response (call $fields)))
        (drop (call $status (local.get $made) (local.get $code)))
        (call $set (local.get $out) (i32.const 0) (local.get $made)
            (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    ;; Sends the head with status 200 and returns the stream of its body.
    (func $open (param $out i32) (result i32) (local $made i32)
        (local.set $made (call $response (call $fields)))
        (call $body (local.get $made) (i32.const 0))
        (call $write (i32.load (i32.const 4)) (i32.const 8))
        (call $set (local.get $out) (i32.const 0) (local.get $made)
            (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
        (i32.load (i32.const 12)))
"#;

/// A component from a core module in text form, for `world`: `http`, `command`, `http3`, `command3`, or
/// `calls`: a command that makes requests.
pub fn guest(world: &str, core: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("folder");
    let wit = wit();
    let worlds = "package test:guest;
        world http { include wasi:http/proxy@0.2.12; }
        world command { include wasi:cli/command@0.2.12; }
        world calls { include wasi:cli/command@0.2.12; import wasi:http/outgoing-handler@0.2.12; }
        world http3 { include wasi:http/service@0.3.0; }
        world command3 { include wasi:cli/command@0.3.0; }";
    std::fs::write(folder.path().join("worlds.wit"), worlds).expect("wit");
    std::os::unix::fs::symlink(wit.join("deps"), folder.path().join("deps")).expect("link");
    component(folder.path(), world, core)
}

/// The repository's folder of WIT packages.
fn wit() -> PathBuf {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut wit = above.map(|folder| folder.join("wit"));
    wit.find(|wit| wit.join("deps").is_dir())
        .expect("the repository's wit")
}

fn component(package: &Path, world: &str, core: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(package).expect("wit");
    let world = resolve.select_world(&[package], Some(world)).expect("world");
    let mut module = wat::parse_str(core).expect("core module");
    wit_component::embed_component_metadata(
        &mut module,
        &resolve,
        world,
        wit_component::StringEncoding::UTF8,
    )
    .expect("metadata");
    wit_component::ComponentEncoder::default()
        .module(&module)
        .expect("module")
        .validate(true)
        .encode()
        .expect("component")
}

/// A 0.2 http guest whose handler has this body and whose module has these other fields.
pub fn http_guest(fields: &str, handler: &str) -> Vec<u8> {
    let handler = format!(
        r#"(func $handle (export "wasi:http/incoming-handler@0.2.12#handle")
            (param $request i32) (param $out i32) {handler})"#
    );
    guest("http", &core(fields, &handler))
}

/// A 0.2 command whose `run` has this body.
pub fn command_guest(fields: &str, run: &str) -> Vec<u8> {
    let run = format!(r#"(func (export "wasi:cli/run@0.2.12#run") (result i32) {run})"#);
    guest("command", &core(fields, &run))
}

/// A core module with what every guest needs. Imports among the fields stand first, as they must.
pub fn core(fields: &str, functions: &str) -> String {
    format!(
        r#"(module
            {fields}
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            {functions})"#
    )
}

/// A worker whose `handle` has this body: `$payload` and `$bytes` are where the payload is and how long, and what
/// it answers with is at the address that it returns.
pub fn job_guest(fields: &str, handle: &str) -> Vec<u8> {
    let handle = format!(
        r#"(func (export "gilliam:worker/handler@0.1.0#handle")
            (param $id i32) (param $id-bytes i32) (param $queue i32) (param $queue-bytes i32)
            (param $payload i32) (param $bytes i32) (param $attempt i32) (result i32) {handle})"#
    );
    component(&wit().join("worker"), "worker", &core(fields, &handle))
}

/// What a worker does that takes its orders from the first byte of a job: `d` done, `r` retry with the payload as the
/// reason, `a` retry after 1,500 ms, `x` discard with the payload as the reason, `t` trap, `l` loop, `m` much memory.
pub const OBEYS: &str = r#"
    (local $order i32)
    (local.set $order (i32.load8_u (local.get $payload)))
    (if (i32.eq (local.get $order) (i32.const 100)) (then
        (i32.store8 (i32.const 64) (i32.const 0))
        (return (i32.const 64))))
    (if (i32.eq (local.get $order) (i32.const 116)) (then unreachable))
    (if (i32.eq (local.get $order) (i32.const 108)) (then (loop (br 0))))
    (if (i32.eq (local.get $order) (i32.const 109)) (then
        (if (i32.eq (memory.grow (i32.const 30000)) (i32.const -1)) (then unreachable))))
    (i32.store8 (i32.const 64) (i32.const 1))
    (i32.store8 (i32.const 72) (i32.const 0))
    (i32.store (i32.const 80) (local.get $payload))
    (i32.store (i32.const 84) (local.get $bytes))
    (if (i32.eq (local.get $order) (i32.const 97)) (then
        (i32.store8 (i32.const 72) (i32.const 1))
        (i64.store (i32.const 80) (i64.const 1500))))
    (if (i32.eq (local.get $order) (i32.const 120)) (then
        (i32.store8 (i32.const 72) (i32.const 2))))
    (i32.const 64)"#;
