//! What the tests build from: components written as text, and archives of projects.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test file uses its own part of this"
)]
#![allow(unreachable_pub, reason = "a module of test binaries has no outside")]

pub mod own_main;
pub mod server;

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
};

/// Text becomes WebAssembly.
#[track_caller]
pub fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The text of a command of some version of WASI, with more text in front.
pub fn command(version: &str, more: &str) -> String {
    format!(
        r#"(component {more}
            (core module $m (func (export "run") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $e (export "run" (func $run)))
            (export "wasi:cli/run@{version}" (instance $e)))"#
    )
}

/// A registry on a port of this machine, which answers whatever it is asked with the same package.
pub fn registry() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for mut near in listener.incoming().flatten() {
            let mut asked = [0; 4];
            let _ = near.read_exact(&mut asked);
            let _ = near.write_all(b"the package");
        }
    });
    port
}

/// Writes the archive of a project with these files.
pub fn write_archive(path: &Path, files: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(fs::File::create(path).expect("create"));
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *data).expect("append");
    }
    tar.finish().expect("finish");
}
