//! Sources that are pushed are built on the server, and an error of theirs is the push's.

use super::*;

#[test]
fn rust_sources_are_built_and_their_errors_name_file_and_line() {
    let platform = Platform::start();
    let hello = Repository::new(&platform, "hello");
    hello.write("Procfile", b"worker: cargo run\n");
    let manifest = "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    hello.write("Cargo.toml", manifest.as_bytes());
    hello.write("src/main.rs", b"fn main() { println!(\"one\"); }\n");
    hello.commit("one");
    hello.gilliam(&["create", "hello"]).ok();
    let said = hello.pushed(&["gilliam", "main"]);
    assert!(
        said.contains("Compiling hello") && said.contains("v1 released"),
        "{said}"
    );

    hello.write("src/main.rs", b"fn main() {\n    println!(two);\n}\n");
    hello.commit("two");
    let said = hello.push_refused(&["gilliam", "main"]);
    assert!(said.contains("src/main.rs:2") && said.contains("(B15)"), "{said}");
    assert!(
        said.contains("! [remote rejected] main -> main (build failed)"),
        "{said}"
    );
}
