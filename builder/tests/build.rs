//! Whole builds: a project's archive in, an image layout out.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use gilliam_builder::{
    BuildError, BuildRequest, Sealed, build,
    layout::{LayoutError, MEDIA_TYPE_MANIFEST, blob_path, digest_of, read_blob},
    packs::{Packs, Workshop},
};
use gilliam_model::{
    api::ApiError,
    code::Code,
    digest::Digest,
    image::{Image, MEDIA_TYPE_COMPONENT, MEDIA_TYPE_IMAGE, Shape},
};
use serde_json::Value;
use support::{command, wasm, write_archive};

/// The largest blob that these tests read.
const BLOB_BYTES_MAX: u64 = 1 << 20;

const CORE: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// A data folder as a control plane has it.
struct Data {
    folder: tempfile::TempDir,
    archives: AtomicU32,
}

impl Data {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(folder.path().join("tmp")).expect("folder");
        Self {
            folder,
            archives: AtomicU32::new(0),
        }
    }

    fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    fn build(&self, files: &[(&str, &[u8])]) -> (Result<Sealed, BuildError>, Vec<String>) {
        let number = self.archives.fetch_add(1, Ordering::Relaxed);
        let archive = self.folder.path().join(format!("tmp/{number}.tar"));
        write_archive(&archive, files);
        let mut lines = Vec::new();
        let request = BuildRequest {
            archive: &archive,
            blobs: &self.images(),
            workshop: Workshop::default(),
            cache: None,
        };
        let result = build(&request, &mut |line| lines.push(line.to_string()));
        fs::remove_file(&archive).expect("the archive is still there");
        assert_eq!(
            names(&self.folder.path().join("tmp")).len(),
            0,
            "the folder beside the archive is removed"
        );
        (result, lines)
    }

    #[track_caller]
    fn sealed(&self, files: &[(&str, &[u8])]) -> Sealed {
        self.build(files).0.unwrap_or_else(|error| panic!("{error}"))
    }

    fn json(&self, digest: &Digest) -> Value {
        let blob = read_blob(&self.images(), digest, BLOB_BYTES_MAX).expect("blob");
        serde_json::from_slice(&blob).expect("JSON")
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

fn digest(value: &Value) -> Digest {
    value.as_str().expect("text").parse().expect("digest")
}

/// Builds and expects a refusal that stores nothing.
#[track_caller]
fn refused(files: &[(&str, &[u8])], code: Code, message: &str, hint: &str) {
    let data = Data::new();
    let error = data.build(files).0.expect_err("must be refused");
    let hint = Some(hint.to_string());
    assert_eq!(
        ApiError::from(&error),
        ApiError {
            code,
            message: message.to_string(),
            hint
        }
    );
    let blobs = names(&data.images().join("blobs/sha256"));
    assert!(
        blobs.is_empty() && !data.images().join("index.json").exists(),
        "stored {blobs:?}"
    );
}

#[test]
fn a_project_becomes_an_image_in_an_oci_layout() {
    let data = Data::new();
    let command = wasm(&command("0.2.0", ""));
    let procfile = b"# all\nweb: web.wasm\nworker: bin/worker.wasm --interval '1 s'\nclock: web.wasm tick\n";
    let manifest =
        b"[process.worker]\nmemory = \"64MiB\"\nallowed_outbound_hosts = [\"https://a.example\"]\n";
    let (result, lines) = data.build(&[
        ("Procfile", procfile),
        ("gilliam.toml", manifest),
        ("web.wasm", &command),
        ("bin/worker.wasm", &wasm(CORE)),
    ]);
    let Sealed {
        digest: manifest_digest,
        image,
    } = result.unwrap_or_else(|error| panic!("{error}"));
    let worker = &image.processes["worker"];
    let tenths = |bytes: u64| format!("{}.{} KB", bytes / 1000, bytes % 1000 / 100);
    let total = procfile.len() + manifest.len() + command.len() + wasm(CORE).len();
    assert_eq!(
        lines,
        [
            format!("-----> Unpacking 4 files, {total} bytes"),
            format!("-----> web: web.wasm, command-p2, {} bytes", command.len()),
            format!(
                "-----> worker: bin/worker.wasm, command-p2, {}, adapted from WASI preview 1",
                tenths(worker.component_bytes)
            ),
            format!("-----> clock: web.wasm, command-p2, {} bytes", command.len()),
            format!("-----> Sealed image {manifest_digest}"),
        ]
    );

    assert_eq!(worker.args, ["bin/worker.wasm", "--interval", "1 s"]);
    assert_eq!(worker.command, "bin/worker.wasm --interval '1 s'");
    assert_eq!(
        (worker.limits.memory_bytes_max, worker.shape),
        (64 << 20, Shape::CommandP2)
    );
    assert_eq!(
        worker.allowed_outbound_hosts,
        ["https://a.example".parse().expect("a host")]
    );
    assert_eq!(image.processes["web"].component, digest_of(&command));
    assert_eq!(
        image.processes["web"].component,
        image.processes["clock"].component
    );

    let mark = fs::read_to_string(data.images().join("oci-layout")).expect("oci-layout");
    assert_eq!(mark, r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Value =
        serde_json::from_slice(&fs::read(data.images().join("index.json")).expect("index")).expect("JSON");
    assert_eq!(
        (&index["schemaVersion"], digest(&index["manifests"][0]["digest"])),
        (&Value::from(2), manifest_digest)
    );
    assert_eq!(index["manifests"][0]["mediaType"], MEDIA_TYPE_MANIFEST);
    let manifest = data.json(&manifest_digest);
    assert_eq!(manifest["mediaType"], MEDIA_TYPE_MANIFEST);
    assert_eq!(manifest["config"]["mediaType"], MEDIA_TYPE_IMAGE);
    let config: Image =
        serde_json::from_value(data.json(&digest(&manifest["config"]["digest"]))).expect("image");
    assert_eq!(config, image);
    let layers = manifest["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 2, "processes share a component");
    for layer in layers {
        assert_eq!(layer["mediaType"], MEDIA_TYPE_COMPONENT);
        let blob = read_blob(&data.images(), &digest(&layer["digest"]), BLOB_BYTES_MAX).expect("layer");
        assert_eq!(layer["size"], blob.len());
    }
    assert_eq!(names(&data.images().join("blobs/sha256")).len(), 4);
}

#[test]
fn the_same_tree_gives_the_same_digest_and_one_entry() {
    let component = wasm(&command("0.2.0", ""));
    let files: [(&str, &[u8]); 2] = [
        ("Procfile", b"web: web.wasm\nworker: web.wasm"),
        ("web.wasm", &component),
    ];
    let turned = [files[1], files[0]];
    let data = Data::new();
    let first = data.sealed(&files);
    assert_eq!(data.sealed(&turned), first);
    assert_eq!(Data::new().sealed(&files), first, "in another layout too");
    let index = fs::read_to_string(data.images().join("index.json")).expect("index");
    assert_eq!(index.matches("sha256:").count(), 1);
    let other = data.sealed(&[("Procfile", b"web: web.wasm -v"), ("web.wasm", &component)]);
    assert_ne!(other.digest, first.digest);
}

#[test]
fn builds_at_the_same_time_lose_nothing() {
    let data = Data::new();
    let component = wasm(&command("0.2.0", ""));
    std::thread::scope(|scope| {
        let (data, component) = (&data, &component);
        for n in 0..8 {
            scope.spawn(move || {
                let archive = data.folder.path().join(format!("tmp/at-once-{n}.tar"));
                let procfile = format!("web: web.wasm {n}");
                write_archive(
                    &archive,
                    &[("Procfile", procfile.as_bytes()), ("web.wasm", component)],
                );
                let request = BuildRequest {
                    archive: &archive,
                    blobs: &data.images(),
                    workshop: Workshop::default(),
                    cache: None,
                };
                build(&request, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
            });
        }
    });
    let index: Value =
        serde_json::from_slice(&fs::read(data.images().join("index.json")).expect("index")).expect("JSON");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(8));
    // One component, eight configs, eight manifests; and nothing half-written.
    assert_eq!(names(&data.images().join("blobs/sha256")).len(), 17);
    assert_eq!(names(&data.images().join(".staging")).len(), 0);
}

#[test]
fn what_a_killed_build_left_is_removed_by_the_next() {
    let data = Data::new();
    let staging = data.images().join(".staging");
    fs::create_dir_all(&staging).expect("folder");
    fs::write(staging.join(".tmpleft"), b"half a component").expect("write");
    data.sealed(&[
        ("Procfile", b"web: web.wasm"),
        ("web.wasm", &wasm(&command("0.2.0", ""))),
    ]);
    assert_eq!(names(&staging).len(), 0);
}

#[test]
fn a_decayed_blob_is_noticed_and_mended_by_the_next_build() {
    let data = Data::new();
    let component = wasm(&command("0.2.0", ""));
    let files: [(&str, &[u8]); 2] = [("Procfile", b"web: web.wasm"), ("web.wasm", &component)];
    let sealed = data.sealed(&files);
    let path = blob_path(&data.images(), &digest_of(&component));
    let mut decayed = component.clone();
    decayed[20] ^= 1;
    fs::write(&path, &decayed).expect("write");
    let error = read_blob(&data.images(), &digest_of(&component), BLOB_BYTES_MAX).expect_err("decayed");
    assert!(
        matches!(error, LayoutError::Changed { found, .. } if found == digest_of(&decayed)),
        "{error}"
    );
    assert_eq!(data.sealed(&files), sealed);
    assert_eq!(
        read_blob(&data.images(), &digest_of(&component), BLOB_BYTES_MAX).expect("mended"),
        component
    );
}

#[test]
fn a_reader_takes_only_what_it_can_hold() {
    let data = Data::new();
    let sealed = data.sealed(&[
        ("Procfile", b"web: web.wasm"),
        ("web.wasm", &wasm(&command("0.2.0", ""))),
    ]);
    let error = read_blob(&data.images(), &sealed.digest, 10).expect_err("too large");
    assert_eq!(
        error.to_string(),
        format!("blob {} has more than 10 bytes", sealed.digest)
    );
    let absent = digest_of(b"nothing");
    let error = read_blob(&data.images(), &absent, 10).expect_err("missing");
    assert_eq!(error.to_string(), format!("no blob {absent}"));
}

#[test]
fn a_project_without_a_procfile_is_shown_one() {
    let hint = "name each process and its component in a file called Procfile, such as web: web.wasm";
    refused(
        &[("web.wasm", b"x")],
        Code::A422,
        "no Procfile in the project",
        hint,
    );
    refused(&[], Code::A422, "no Procfile in the project", hint);
    refused(
        &[("procfile", b"web: web.wasm")],
        Code::A422,
        "no Procfile in the project",
        "rename procfile to Procfile",
    );
    refused(&[("Procfile/x", b"")], Code::A422, "Procfile is not a file", hint);
    refused(
        &[("Procfile", b"\n")],
        Code::A422,
        "the Procfile names no process",
        hint,
    );
}

#[test]
fn every_part_of_a_project_is_refused_with_a_way_out() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let words = Packs::open(folder.path(), None).expect("packs").words();
    let web: (&str, &[u8]) = ("Procfile", b"web: web.wasm");
    refused(
        &[("Procfile", b"a: a.wasm\nb: b.wasm\nweb web.wasm")],
        Code::A422,
        "Procfile line 3: \"web web.wasm\" has no colon",
        "write NAME: COMMAND, such as web: web.wasm",
    );
    refused(
        &[web],
        Code::A422,
        "Procfile line 1: web.wasm is not in the project",
        "build web.wasm first, and see that .gitignore or .gilliamignore do not leave it out",
    );
    refused(
        &[web, ("web.wasm/x", b"")],
        Code::A422,
        "Procfile line 1: web.wasm is not a file",
        "name the component's own file",
    );
    refused(
        &[web, ("web.wasm", b"")],
        Code::B12,
        "web.wasm is empty",
        "build the component again, and copy the whole file",
    );
    refused(
        &[("Procfile", b"web: cobol web.cob")],
        Code::A422,
        &format!(
            "Procfile line 1: \"cobol web.cob\": nothing here builds what \"cobol\" runs; looked for *.wasm, *.wat, {}",
            words.join(", ")
        ),
        "start the line with one of these words, or name a built component: web: web.wasm",
    );
    refused(
        &[web, ("gilliam.toml", b"[process.api]\n"), ("web.wasm", b"")],
        Code::A422,
        "gilliam.toml line 1, column 10: [process.api] is not in the Procfile",
        "the Procfile has web",
    );
}

#[test]
fn a_refusal_after_good_components_stores_none_of_them() {
    let (component, truncated) = (wasm(&command("0.2.0", "")), &wasm(&command("0.2.0", ""))[..60]);
    refused(
        &[
            ("Procfile", b"web: web.wasm\nworker: worker.wasm"),
            ("web.wasm", &component),
            ("worker.wasm", truncated),
        ],
        Code::B12,
        "worker.wasm is cut off at byte 59",
        "build the component again, and copy the whole file",
    );
}

#[test]
fn words_that_a_shell_would_change_are_pointed_out() {
    let (result, lines) = Data::new().build(&[
        ("Procfile", b"web: web.wasm $PORT"),
        ("web.wasm", &wasm(&command("0.2.0", ""))),
    ]);
    assert_eq!(
        result.expect("sealed").image.processes["web"].args,
        ["web.wasm", "$PORT"]
    );
    let warning = " !     Procfile line 1: $PORT is passed to the process as it is; nothing is expanded";
    assert_eq!(lines[1], warning);
}

#[test]
fn the_samples_become_images() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples");
    for (sample, shapes) in [
        (
            "guestbook",
            &[("web", Shape::HttpP2), ("worker", Shape::CommandP2)][..],
        ),
        ("hello-p3", &[("web", Shape::HttpP3)]),
        ("echo-tcp", &[("web", Shape::CommandP2)]),
    ] {
        let read = |name: &str| {
            let path = samples.join(sample).join(name);
            fs::read(&path).unwrap_or_else(|_| panic!("samples/{sample}/{name} is missing: run make samples"))
        };
        let components: Vec<(String, Vec<u8>)> = shapes
            .iter()
            .map(|(process, _)| (format!("{process}.wasm"), read(&format!("{process}.wasm"))))
            .collect();
        let procfile = read("Procfile");
        let mut files: Vec<(&str, &[u8])> = vec![("Procfile", &procfile)];
        files.extend(
            components
                .iter()
                .map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
        );
        let image = Data::new().sealed(&files).image;
        let found: Vec<_> = image
            .processes
            .iter()
            .map(|(name, process)| (name.as_str(), process.shape))
            .collect();
        assert_eq!(found, shapes, "{sample}");
    }
}
