//! The WIT packages in `wit/` must resolve against the vendored WASI packages beside them, and each
//! world must export the interface by which the platform recognises the shape of a process.

use std::path::Path;
use wit_parser::{PackageId, Resolve, WorldItem};

/// Reads the package in `wit/FOLDER` with its dependencies.
#[track_caller]
fn resolve(folder: &str) -> (Resolve, PackageId) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit").join(folder);
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_dir(&path)
        .unwrap_or_else(|error| panic!("wit/{folder}: {error:#}"));
    (resolve, package)
}

/// The names of the interfaces that a world exports.
#[track_caller]
fn exports(folder: &str, world: &str) -> Vec<String> {
    let (resolve, package) = resolve(folder);
    let world = resolve.packages[package].worlds[world];
    let exported = resolve.worlds[world].exports.values();
    exported
        .map(|item| match item {
            WorldItem::Interface { id, .. } => resolve.id_of(*id).expect("an exported interface has a name"),
            other => panic!("not an interface: {other:?}"),
        })
        .collect()
}

#[test]
fn every_world_exports_what_its_shape_is_recognised_by() {
    assert_eq!(exports("app", "http"), ["wasi:http/incoming-handler@0.2.12"]);
    assert_eq!(exports("app", "http-p3"), ["wasi:http/handler@0.3.0"]);
    assert_eq!(exports("app", "command"), ["wasi:cli/run@0.2.12"]);
    assert_eq!(exports("app", "command-p3"), ["wasi:cli/run@0.3.0"]);
    assert_eq!(exports("worker", "worker"), ["gilliam:worker/handler@0.1.0"]);
}

#[test]
fn no_world_is_without_a_check() {
    let worlds = |folder| {
        let (resolve, package) = resolve(folder);
        resolve.packages[package]
            .worlds
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(worlds("app"), ["http", "http-p3", "command", "command-p3"]);
    assert_eq!(worlds("worker"), ["worker"]);
}

#[test]
fn the_interface_of_databases_resolves_and_its_copies_are_the_same() {
    let (resolve, package) = resolve("sql");
    let world = &resolve.worlds[resolve.packages[package].worlds["imports"]];
    assert_eq!(world.imports.len(), 1);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    assert_eq!(read("wit/sql/sql.wit"), read("samples/ledger/wit/sql.wit"));
}
