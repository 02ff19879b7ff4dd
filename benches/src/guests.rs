//! The guests that are measured, as components: text in this crate, so that an installed binary needs no
//! repository.
//!
//! In flows nothing, out flow the bytes of a component for a world of WASI 0.2 or 0.3.

use anyhow::Context as _;
use wit_parser::{Resolve, UnresolvedPackageGroup};

/// The platform's WIT packages, by the path that errors name.
const PACKAGES: [(&str, &str); 13] = {
    macro_rules! package {
        ($name:literal) => {
            (
                $name,
                include_str!(concat!("../../wit/deps/", $name, "/package.wit")),
            )
        };
    }
    [
        package!("wasi-cli-0.2.12"),
        package!("wasi-cli-0.3.0"),
        package!("wasi-clocks-0.2.12"),
        package!("wasi-clocks-0.3.0"),
        package!("wasi-filesystem-0.2.12"),
        package!("wasi-filesystem-0.3.0"),
        package!("wasi-http-0.2.12"),
        package!("wasi-http-0.3.0"),
        package!("wasi-io-0.2.12"),
        package!("wasi-random-0.2.12"),
        package!("wasi-random-0.3.0"),
        package!("wasi-sockets-0.2.12"),
        package!("wasi-sockets-0.3.0"),
    ]
};

const WORLDS: &str = "package gilliam:bench;
    world http { include wasi:http/proxy@0.2.12; }
    world http3 { include wasi:http/service@0.3.0; }
    world command { include wasi:cli/command@0.2.12; }";

const HELLO: &str = include_str!("../guests/hello.wat");
const HELLO_P3: &str = include_str!("../guests/hello_p3.wat");
const WORKER: &str = include_str!("../guests/worker.wat");
pub(crate) const KERNELS: &str = include_str!("../guests/kernels.wat");
const KERNELS_HTTP: &str = include_str!("../guests/kernels_http.wat");
const KERNELS_COMMAND: &str = include_str!("../guests/kernels_command.wat");
const KERNELS_TIMED: &str = include_str!("../guests/kernels_timed.wat");

/// A kernel's export and how much of it is one measurement: 10 to 40 ms of a core of today.
pub(crate) const ROUNDS: [(&str, u32); 6] = [
    ("sieve", 150),
    ("sha256", 60_000),
    ("fib", 400),
    ("scanner", 150),
    ("matmul", 50),
    ("memory_walk", 200),
];

/// What a component is, for the linker of its imports and exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    Http,
    Http3,
    Command,
}

/// Answers every request with the same twenty bytes.
pub(crate) fn hello() -> anyhow::Result<Vec<u8>> {
    component(World::Http, HELLO)
}

/// The same, on WASI 0.3.
pub(crate) fn hello_p3() -> anyhow::Result<Vec<u8>> {
    component(World::Http3, HELLO_P3)
}

/// Waits in a host call for ever.
pub(crate) fn worker() -> anyhow::Result<Vec<u8>> {
    component(World::Command, WORKER)
}

/// Runs the kernel that the path names.
pub(crate) fn kernels_http() -> anyhow::Result<Vec<u8>> {
    component(World::Http, &kernels(KERNELS_HTTP))
}

/// Runs every kernel so many times and prints how long each took.
pub(crate) fn kernels_command(times: u32) -> anyhow::Result<Vec<u8>> {
    let text = kernels(KERNELS_COMMAND).replace("ROUNDS_ALL", &times.to_string());
    component(World::Command, &text)
}

/// A command whose `run` has this body, with these imports before the memory and fields after it.
pub(crate) fn command(imports: &str, fields: &str, run: &str) -> anyhow::Result<Vec<u8>> {
    let text = format!(
        "(module {imports}
            (memory (export \"memory\") 2)
            (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            {fields}
            (func (export \"wasi:cli/run@0.2.12#run\") (result i32) {run}))"
    );
    component(World::Command, &text)
}

/// The same component with other bytes: to the platform another one, with code of its own.
pub(crate) fn distinct(component: &[u8], number: u32) -> Vec<u8> {
    let mut bytes = component.to_vec();
    // A custom section (id 0) of nine bytes: the length of its name, the name, the number.
    bytes.extend_from_slice(&[0, 9, 4]);
    bytes.extend_from_slice(b"copy");
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}

fn kernels(around: &str) -> String {
    let fields = KERNELS
        .trim_end()
        .strip_suffix(')')
        .and_then(|text| text.split_once("(module"))
        .map_or("", |(_, fields)| fields);
    let mut text = around.replacen("\n  KERNELS\n", &format!("\n{fields}\n"), 1);
    text = text.replacen("\n  TIMED", &format!("\n{KERNELS_TIMED}"), 1);
    for (n, (_, rounds)) in ROUNDS.iter().enumerate() {
        text = text.replace(&format!("ROUNDS_{n}"), &rounds.to_string());
    }
    text
}

/// A component for `world` from a core module in text form.
pub(crate) fn component(world: World, text: &str) -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let parse = |path: &str, text: &str| {
        UnresolvedPackageGroup::parse(path, text).map_err(|(_, error)| anyhow::anyhow!("{path}: {error}"))
    };
    let dependencies: Result<Vec<_>, _> = PACKAGES.iter().map(|(path, text)| parse(path, text)).collect();
    let package = resolve
        .push_groups(parse("worlds", WORLDS)?, dependencies?)
        .context("the platform's WIT packages do not resolve")?;
    let name = match world {
        World::Http => "http",
        World::Http3 => "http3",
        World::Command => "command",
    };
    let world = resolve.select_world(&[package], Some(name))?;
    let mut module = wat::parse_str(text).context("a guest's text does not parse")?;
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, encoding)?;
    wit_component::ComponentEncoder::default()
        .module(&module)?
        .validate(true)
        .encode()
        .context("a guest does not become a component")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guest_is_a_component() {
        for guest in [hello(), hello_p3(), worker(), kernels_http(), kernels_command(3)] {
            let guest = guest.expect("a component");
            assert_eq!(guest[..8], *b"\0asm\x0d\0\x01\0");
        }
    }

    #[test]
    fn copies_differ_and_are_valid() {
        let hello = hello().expect("hello");
        let (one, two) = (distinct(&hello, 1), distinct(&hello, 2));
        assert_ne!(one, two);
        wasmtime::component::Component::new(&wasmtime::Engine::default(), &one).expect("valid");
    }
}
