//! What stays on a node's disk, and what a full one does.

use std::{
    fs::File,
    time::{Duration, SystemTime},
};

use gilliam_engine::EnginesConfig;
use gilliam_model::{
    assignment::AssignedProcess, config::Config, digest::Digest, image::Shape, limits::Limits,
    route::RouteTable,
};

use sha2::{Digest as _, Sha256};

use super::*;
use crate::config::ControlAddress;

/// A node's components in `data`; nothing can be compiled.
fn open(data: &Path, control: Control, cache_bytes_max: Option<u64>) -> (Arc<Artefacts>, Engines) {
    let config = EnginesConfig {
        http_p2_slots: 1,
        p3_slots: 1,
        command_slots: 1_000,
        ..EnginesConfig::default()
    };
    let engines = Engines::new(&config).expect("engines");
    fs::create_dir(node_folder(data)).expect("folder");
    let (logs, compile) = (Arc::new(Logs::new(1)), vec!["false".into()]);
    let opened = Artefacts::open(
        data,
        engines.clone(),
        Arc::new(control),
        compile,
        logs,
        cache_bytes_max,
    );
    (Arc::new(opened.expect("artefacts")), engines)
}

fn digest(byte: u8) -> Digest {
    Digest::from_sha256([byte; 32])
}

/// An assignment of one process with this component.
fn assignment(component: Digest) -> Assignment {
    let process = Process {
        component,
        component_bytes: 1,
        shape: Shape::HttpP2,
        command: "web.wasm".to_owned(),
        args: vec!["web.wasm".to_owned()],
        limits: Limits::default(),
        allowed_outbound_hosts: Vec::new(),
        guard_pages: false,
        jobs: gilliam_model::queue::JobTerms::default(),
        uses: Default::default(),
        imports: None,
        placement: gilliam_model::rules::PlacementRules::default(),
    };
    let assigned = AssignedProcess {
        app: "a".parse().expect("app"),
        release: "v1".parse().expect("release"),
        name: "web".parse().expect("process"),
        ranges: Vec::new(),
        process,
        config: Config::default(),
        services: Vec::new(),
    };
    Assignment {
        generation: 1,
        processes: vec![assigned],
        runs: Vec::new(),
        routes: RouteTable::default(),
    }
}

#[test]
fn what_leaves_an_assignment_was_used_until_then() {
    let data = tempfile::tempdir().expect("folder");
    let control = Control::new(ControlAddress::File(data.path().join("none")));
    let (artefacts, engines) = open(data.path(), control, Some(3_000));
    let blob = |byte| artefacts.shelf.blobs.join(digest(byte).hex());
    let code_of = |byte| {
        artefacts.shelf.code.join(engines.code_file_name(&Artefact {
            shape: Shape::HttpP2,
            engine: EngineKind::HttpP2,
            digest: digest(byte),
            tier: Tier::Optimised,
        }))
    };
    for byte in 0..10 {
        fs::write(code_of(byte), [0; 900]).expect("write");
        let file = File::create(blob(byte)).expect("create");
        file.set_len(100).expect("length");
        let age = Duration::from_secs(1_000 - u64::from(byte));
        file.set_modified(SystemTime::now() - age).expect("time");
    }
    let left = || {
        (0..10)
            .filter(|byte| blob(*byte).exists() && code_of(*byte).exists())
            .collect::<Vec<_>>()
    };
    artefacts.keep_only(&assignment(digest(0)));
    assert_eq!(left(), [0, 7, 8, 9]);
    // The oldest of all is the one that was used last.
    artefacts.keep_only(&assignment(digest(42)));
    assert_eq!(left(), [0, 8, 9]);
}

#[test]
fn a_damaged_key_is_made_anew_and_a_good_one_kept() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("key");
    for damaged in [&b""[..], b"short"] {
        fs::write(&path, damaged).expect("write");
        own_key(&path).expect("another key");
        let made = fs::read(&path).expect("key");
        assert_eq!(made.len(), 32);
        own_key(&path).expect("the same key");
        assert_eq!(fs::read(&path).expect("key"), made);
    }
}

/// A disk of its own, of some MiB, that is gone with this.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None where a test may not mount one.
    fn new(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("folder");
        let size = format!("size={mebibytes}m");
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIPPED: nothing may be mounted here, so no disk is full");
        }
        mounted.then(|| Self(folder))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_takes_what_is_needed_in_the_place_of_what_nothing_runs() {
    let Some(disk) = Disk::new(8) else { return };
    let data = disk.0.path().join("data");
    fs::create_dir(&data).expect("folder");
    let content = vec![7; 2 << 20];
    let server = crate::blobs::tests::Server::giving(content.clone());
    let (artefacts, _) = open(&data, Control::of_urls(&[server]), Some(1 << 30));
    let process = |component| Process {
        component_bytes: content.len() as u64,
        ..assignment(component).processes.remove(0).process
    };
    let wanted = process(Digest::from_sha256(Sha256::digest(&content).into()));
    // Six MiB of others and no room for two more.
    for byte in 1..=7 {
        fs::write(artefacts.shelf.blobs.join(digest(byte).hex()), vec![0; 1 << 20]).expect("room");
    }
    artefacts.keep_only(&assignment(digest(1)));
    let path = artefacts.blob(&wanted).await.expect("in the place of others");
    assert_eq!(fs::read(path).expect("file"), content);
    let left = |byte: u8| artefacts.shelf.blobs.join(digest(byte).hex()).exists();
    assert!(left(1), "it is assigned");
    assert!((2..=7).all(|byte| !left(byte)), "nobody wants them");
    // Now what fills the disk is in use.
    fs::remove_file(artefacts.shelf.blobs.join(wanted.component.hex())).expect("remove");
    fs::write(artefacts.shelf.blobs.join(digest(1).hex()), vec![0; 7 << 20]).expect("room");
    let full = artefacts.blob(&wanted).await.expect_err("no room");
    assert!(
        full.message.contains("disk") && full.message.contains("No space left"),
        "{}",
        full.message
    );
    assert_eq!(full.code, Code::R99);
    assert!(left(1));
    assert_eq!(
        fs::read_dir(&artefacts.shelf.blobs).expect("folder").count(),
        1,
        "no half of it stays"
    );
}
