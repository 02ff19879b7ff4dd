//! Compiling, sealing and loading: what is accepted, and what is not.

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use gilliam_engine::{
    Artefact, CompileKey, EngineKind, Engines, EnginesConfig, Keep, LoadError, Loaded, Sealing, Tier,
    code_bytes, compile, inspect, load, write_sealed,
};
use gilliam_model::{code::Code, image::Shape, limits::Limits};
use support::{ANSWER, command_guest, digest, engines, http_guest, key, try_load};

struct Sealed {
    folder: tempfile::TempDir,
    artefact: Artefact,
}

impl Sealed {
    fn new() -> Self {
        Self::of(&http_guest("", ""))
    }

    /// Answers each request with 200.
    fn answering() -> Self {
        Self::of(&http_guest(
            ANSWER,
            "(call $answer (local.get 1) (i32.const 200))",
        ))
    }

    fn of(component: &[u8]) -> Self {
        let artefact = Artefact {
            shape: Shape::HttpP2,
            engine: EngineKind::HttpP2,
            digest: digest(component),
            tier: Tier::Optimised,
        };
        let sealed = Self {
            folder: tempfile::tempdir().expect("folder"),
            artefact,
        };
        sealed.build(component, Tier::Optimised);
        sealed
    }

    /// Compiles `component` once more.
    fn build(&self, component: &[u8], tier: Tier) -> (Artefact, PathBuf) {
        let artefact = Artefact {
            tier,
            ..self.artefact
        };
        let path = self.folder.path().join(engines().code_file_name(&artefact));
        let code = compile(artefact.shape, artefact.engine, tier, component).expect("compiles");
        write_sealed(&path, &key(), &artefact, &code).expect("sealed");
        (artefact, path)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(engines().code_file_name(&self.artefact))
    }

    fn load(&self) -> Result<Loaded, LoadError> {
        load(&engines(), &self.artefact, &key(), &self.path())
    }

    /// Replaces the file by one with other bytes.
    fn rewrite(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path()).expect("read");
        change(&mut bytes);
        fs::remove_file(self.path()).expect("removed");
        fs::write(self.path(), bytes).expect("written");
        set_mode(&self.path(), 0o400);
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
}

#[test]
fn a_sealed_file_loads_and_is_private() {
    let sealed = Sealed::new();
    assert_eq!(sealed.load().expect("loads").artefact(), sealed.artefact);
    let mode = fs::metadata(sealed.path())
        .expect("metadata")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o400);
    let names: Vec<_> = fs::read_dir(sealed.folder.path()).expect("folder").collect();
    assert_eq!(names.len(), 1, "no draft is left");
}

#[test]
fn an_altered_file_is_refused_wherever_it_was_altered() {
    let sealed = Sealed::new();
    let length = fs::metadata(sealed.path()).expect("metadata").len();
    let length = usize::try_from(length).expect("fits");
    for at in [0, 100, length / 2, length - 65, length - 1] {
        let sealed = Sealed::new();
        sealed.rewrite(|bytes| bytes[at] ^= 1);
        let error = sealed.load().expect_err("altered");
        assert!(matches!(error, LoadError::Unauthentic { .. }), "{at}: {error}");
        assert!(error.recompile());
    }
    for cut in [0, 10, 64, length - 1] {
        let sealed = Sealed::new();
        sealed.rewrite(|bytes| bytes.truncate(cut));
        assert!(sealed.load().is_err(), "cut at {cut}");
    }
}

#[test]
fn code_for_other_settings_is_stale() {
    let sealed = Sealed::new();
    sealed.rewrite(|bytes| {
        let settings = bytes.len() - 64;
        bytes[settings] ^= 1;
    });
    assert!(matches!(sealed.load(), Err(LoadError::Stale { .. })));
}

#[test]
fn another_key_or_component_is_refused() {
    let sealed = Sealed::new();
    let other = CompileKey::from_bytes([8; 32]);
    let error = load(&engines(), &sealed.artefact, &other, &sealed.path()).expect_err("other key");
    assert!(matches!(error, LoadError::Unauthentic { .. }), "{error}");
    let artefact = Artefact {
        digest: digest(b"another component"),
        ..sealed.artefact
    };
    let error = load(&engines(), &artefact, &key(), &sealed.path()).expect_err("other component");
    assert!(matches!(error, LoadError::Unauthentic { .. }), "{error}");
}

#[test]
fn a_file_that_anybody_may_write_is_refused() {
    let sealed = Sealed::new();
    set_mode(&sealed.path(), 0o600);
    assert!(matches!(sealed.load(), Err(LoadError::Unauthentic { .. })));
}

#[test]
fn a_missing_file_says_so() {
    let sealed = Sealed::new();
    fs::remove_file(sealed.path()).expect("removed");
    assert!(matches!(sealed.load(), Err(LoadError::Read { .. })));
}

#[test]
fn every_shape_compiles_for_its_engine() {
    for name in [
        "guestbook/web.wasm",
        "guestbook/worker.wasm",
        "hello-p3/web.wasm",
        "echo-tcp/web.wasm",
    ] {
        let component = support::sample(name);
        let shape = inspect(&component).expect("a component");
        assert_eq!(support::loaded(&component).artefact().shape, shape, "{name}");
    }
}

#[test]
fn an_import_that_is_not_offered_is_named() {
    let component = wat::parse_str(
        r#"(component
            (import "wasi:keyvalue/store@0.2.0" (instance (export "open" (func))))
            (core module $m (func (export "run") (result i32) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $r (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $r)))"#,
    )
    .expect("wat");
    let error = try_load(&engines(), Shape::CommandP2, &component).expect_err("not offered");
    assert!(error.to_string().contains("wasi:keyvalue/store@0.2.0"), "{error}");
    assert!(!error.recompile());
}

#[test]
fn a_component_of_another_shape_is_refused_before_it_is_compiled() {
    let error = compile(
        Shape::HttpP2,
        EngineKind::HttpP2,
        Tier::Optimised,
        &command_guest("", "(i32.const 0)"),
    )
    .expect_err("a command");
    let message = "cannot compile the component: its shape is command-p2, not http-p2";
    assert_eq!(error.to_string(), message);
}

#[test]
fn an_export_without_its_function_is_refused() {
    let handler = r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#;
    let error =
        try_load(&engines(), Shape::HttpP2, &wat::parse_str(handler).expect("wat")).expect_err("no function");
    assert!(
        matches!(&error, LoadError::Link(message) if message.contains("incoming-handler")),
        "{error}"
    );
}

#[test]
fn proposals_that_are_switched_off_are_refused() {
    for (name, fields) in [
        ("threads", "(memory $shared 1 1 shared)"),
        ("memory64", "(memory $long i64 1)"),
        ("gc", "(type $s (struct (field i32)))"),
        ("exceptions", "(tag $t)"),
        ("custom page sizes", "(memory $small 1 (pagesize 1))"),
        ("externref", "(table $e 1 externref)"),
    ] {
        let command = format!(
            r#"(component (core module {fields})
                (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#
        );
        let command = wat::parse_str(command).expect(name);
        assert!(
            compile(Shape::CommandP2, EngineKind::SlabP2, Tier::Optimised, &command).is_err(),
            "{name}"
        );
    }
}

#[test]
fn a_command_of_0_2_is_found_by_its_export() {
    assert_eq!(inspect(&command_guest("", "(i32.const 0)")), Ok(Shape::CommandP2));
}

/// Engines that keep nothing mapped which nobody uses.
fn forgetful() -> Engines {
    let config = EnginesConfig {
        http_p2_slots: 4,
        p3_slots: 1,
        command_slots: 1_000,
        keep_mapped: Keep {
            idle_max: Duration::ZERO,
            ..Keep::default()
        },
        ..EnginesConfig::default()
    };
    Engines::new(&config).expect("engines")
}

#[tokio::test]
async fn code_that_nobody_uses_is_unmapped_and_mapped_again_for_the_next_request() {
    let sealed = Sealed::answering();
    let loaded = load(&forgetful(), &sealed.artefact, &key(), &sealed.path()).expect("loads");
    let (instance, _log) = support::start(&loaded, Limits::default()).await;
    for _ in 0..3 {
        let answers = (0..2).map(|_| support::fetch(&instance, "/"));
        for answer in futures::future::join_all(answers).await {
            assert_eq!(answer.expect("an answer").status, 200);
        }
        support::until("unmapped", || !loaded.is_open()).await;
    }
}

#[tokio::test]
async fn a_file_that_was_altered_while_it_was_not_mapped_is_refused() {
    let sealed = Sealed::answering();
    let loaded = load(&forgetful(), &sealed.artefact, &key(), &sealed.path()).expect("loads");
    let (instance, _log) = support::start(&loaded, Limits::default()).await;
    support::fetch(&instance, "/").await.expect("an answer");
    support::until("unmapped", || !loaded.is_open()).await;
    sealed.rewrite(|bytes| bytes[100] ^= 1);
    let error = support::fetch(&instance, "/").await.expect_err("altered");
    assert_eq!(error.code, Code::R99);
    assert!(!error.message.contains('/'), "{error}: no path of the node's");
}

#[tokio::test]
async fn an_optimised_build_takes_the_place_of_a_quick_one_and_burns_the_same_fuel() {
    let component = support::sample("guestbook/web.wasm");
    let sealed = Sealed::of(&component);
    let (quick, quick_path) = sealed.build(&component, Tier::Quick);
    let error = load(&engines(), &sealed.artefact, &key(), &quick_path).expect_err("of another tier");
    assert!(matches!(error, LoadError::Unauthentic { .. }), "{error}");

    let loaded = load(&engines(), &quick, &key(), &quick_path).expect("loads");
    let (instance, _log) = support::start(&loaded, Limits::default()).await;
    let fuel = async || {
        let answer = support::fetch(&instance, "/ok").await.expect("an answer");
        (answer.body, answer.usage.finished().await.fuel)
    };
    // The first one is served by the lane that booted.
    fuel().await;
    let slow = fuel().await;
    assert_eq!(loaded.artefact().tier, Tier::Quick);
    loaded.swap(Tier::Optimised, &sealed.path()).expect("swapped");
    fs::remove_file(quick_path).expect("removed");
    assert_eq!(fuel().await, slow);
    assert_eq!(loaded.artefact().tier, Tier::Optimised);
}

#[tokio::test]
async fn a_lane_of_the_quick_build_serves_no_request_after_the_swap() {
    let component = support::sample("hello-p3/web.wasm");
    let artefact = Artefact {
        shape: Shape::HttpP3,
        engine: EngineKind::P3,
        digest: digest(&component),
        tier: Tier::Optimised,
    };
    let folder = tempfile::tempdir().expect("folder");
    let sealed = Sealed { folder, artefact };
    let (quick, path) = sealed.build(&component, Tier::Quick);
    sealed.build(&component, Tier::Optimised);
    let engines = forgetful();
    let loaded = load(&engines, &quick, &key(), &path).expect("loads");
    let (instance, _log) = support::start(&loaded, Limits::default()).await;
    support::fetch(&instance, "/").await.expect("an answer");
    // Its lane is warm, and holds the quick build. Were it used again, the other one would not be mapped.
    loaded.swap(Tier::Optimised, &sealed.path()).expect("swapped");
    support::until("unmapped", || !loaded.is_open()).await;
    support::fetch(&instance, "/").await.expect("an answer");
    assert!(loaded.is_open(), "a lane runs it");
}

#[test]
fn a_file_that_is_not_finished_leaves_nothing() {
    use std::io::Write as _;
    let sealed = Sealed::new();
    fs::remove_file(sealed.path()).expect("removed");
    let mut half = Sealing::create(&engines(), &sealed.artefact, &key(), &sealed.path()).expect("created");
    half.write_all(b"code").expect("written");
    drop(half);
    assert_eq!(fs::read_dir(sealed.folder.path()).expect("folder").count(), 0);
}

#[test]
fn the_code_of_a_component_is_counted_with_that_of_all_its_modules() {
    let small = code_bytes(&http_guest("", ""));
    assert!((1..1_000).contains(&small), "{small}");
    let large = code_bytes(&support::sample("guestbook/web.wasm"));
    assert!(large > 10 * small, "{large}");
    assert_eq!(code_bytes(b"no component"), 0);
}
