//! Images from elsewhere: taken whole with the digest that they have, or not at all.

mod support;

use std::{fs, path::Path};

use gilliam_builder::{
    BuildError, BuildRequest, Sealed, build, import::import, layout::blob_path, layout::digest_of,
    packs::Workshop,
};
use gilliam_model::{api::ApiError, code::Code};
use serde_json::{Value, json};
use support::{command, wasm, write_archive};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The documents and layers of an image, to be changed before they are packed.
#[derive(Clone)]
struct Parts {
    config: Value,
    config_type: &'static str,
    layers: Vec<Vec<u8>>,
    layer_type: &'static str,
    index: Option<Value>,
    /// Files that the archive holds besides.
    more: Vec<(String, Vec<u8>)>,
    /// Of each blob: whether it is there, or with which bytes.
    spoil: fn(&mut Vec<(String, Vec<u8>)>),
}

fn component(more: &str) -> Vec<u8> {
    wasm(&command("0.2.0", more))
}

impl Parts {
    /// A good image with one component for two processes.
    fn good() -> Self {
        let layer = component("");
        let process = |name: &str| {
            json!({
                "component": digest_of(&layer).to_string(), "component_bytes": layer.len(),
                "shape": "command-p2", "command": format!("{name}.wasm"), "args": [format!("{name}.wasm")],
            })
        };
        Self {
            config: json!({ "schema_version": 1,
                "processes": { "clock": process("clock"), "worker": process("worker") } }),
            config_type: "application/vnd.gilliam.image.config.v1+json",
            layers: vec![layer],
            layer_type: "application/wasm",
            index: None,
            more: Vec::new(),
            spoil: |_| {},
        }
    }

    fn changed(change: impl FnOnce(&mut Self)) -> Self {
        let mut parts = Self::good();
        change(&mut parts);
        parts
    }

    /// The layer becomes another one, of which everything else knows.
    fn with_layer(layer: Vec<u8>) -> Self {
        Self::changed(|parts| {
            for process in parts.config["processes"]
                .as_object_mut()
                .expect("processes")
                .values_mut()
            {
                process["component"] = json!(digest_of(&layer).to_string());
                process["component_bytes"] = json!(layer.len());
            }
            parts.layers = vec![layer];
        })
    }

    fn manifest(&self) -> (Vec<u8>, Vec<u8>) {
        let config = serde_json::to_vec(&self.config).expect("JSON");
        let descriptor = |kind: &str, bytes: &[u8]| {
            let digest = digest_of(bytes).to_string();
            json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
        };
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| descriptor(self.layer_type, layer))
            .collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(self.config_type, &config), "layers": layers,
            "annotations": { "org.opencontainers.image.title": "of another tool" } });
        (serde_json::to_vec(&manifest).expect("JSON"), config)
    }

    fn write(&self, path: &Path) {
        let (manifest, config) = self.manifest();
        let listed = json!([{ "mediaType": MANIFEST, "digest": digest_of(&manifest).to_string(),
            "size": manifest.len(), "annotations": {} }]);
        let index = json!({ "schemaVersion": 2, "manifests": self.index.clone().unwrap_or(listed) });
        let name = |bytes: &[u8]| format!("blobs/sha256/{}", digest_of(bytes).hex());
        let mut files = vec![
            (
                "oci-layout".to_string(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            (
                "index.json".to_string(),
                serde_json::to_vec(&index).expect("JSON"),
            ),
            (name(&manifest), manifest),
            (name(&config), config),
        ];
        files.extend(self.layers.iter().map(|layer| (name(layer), layer.clone())));
        files.extend(self.more.clone());
        (self.spoil)(&mut files);
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        write_archive(path, &files);
    }
}

/// What comes of an archive, and how many blobs are stored then.
fn imported(write: impl FnOnce(&Path)) -> (Result<Sealed, BuildError>, usize) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (archive, images) = (folder.path().join("image.tar"), folder.path().join("images"));
    write(&archive);
    let result = import(&archive, &images, &mut |_| {});
    let stored = fs::read_dir(images.join("blobs/sha256")).map_or(0, Iterator::count);
    let staged = fs::read_dir(images.join(".staging")).map_or(0, Iterator::count);
    assert_eq!(staged, 0, "nothing is left behind");
    (result, stored)
}

#[track_caller]
fn refused(what: &str, parts: &Parts, code: Code, message: &str) {
    let (result, stored) = imported(|path| parts.write(path));
    let error = ApiError::from(&result.err().unwrap_or_else(|| panic!("{what} was taken")));
    assert!(error.message.contains(message), "{what}: {}", error.message);
    assert_eq!((error.code, stored), (code, 0), "{what}");
}

#[test]
fn an_image_that_was_built_here_has_the_same_digest_there() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (archive, images) = (folder.path().join("app.tar"), folder.path().join("images"));
    let files: [(&str, &[u8]); 4] = [
        ("Procfile", b"worker: worker.wasm\nclock: clock.wasm --every 5"),
        ("gilliam.toml", b"[process.worker]\nmemory = \"32MiB\""),
        ("worker.wasm", &component("")),
        ("clock.wasm", &component("(core module)")),
    ];
    write_archive(&archive, &files);
    let request = BuildRequest {
        archive: &archive,
        blobs: &images,
        workshop: Workshop::default(),
        cache: None,
    };
    let sealed = build(&request, &mut |_| {}).expect("sealed");
    let (result, stored) = imported(|path| {
        let mut tar = tar::Builder::new(fs::File::create(path).expect("archive"));
        tar.append_path_with_name(images.join("index.json"), "index.json")
            .expect("index");
        tar.append_dir_all("blobs", images.join("blobs")).expect("blobs");
        tar.finish().expect("finish");
    });
    assert_eq!(result.expect("taken"), sealed);
    assert_eq!(stored, 4, "two components, the config, the manifest");
}

#[test]
fn an_image_of_another_tool_keeps_its_manifest_as_it_is() {
    let parts = Parts::good();
    let folder = tempfile::tempdir().expect("temporary folder");
    let (archive, images) = (folder.path().join("image.tar"), folder.path().join("images"));
    parts.write(&archive);
    let mut lines = Vec::new();
    let sealed = import(&archive, &images, &mut |line| lines.push(line.to_string())).expect("taken");
    let (manifest, _) = parts.manifest();
    assert_eq!(sealed.digest, digest_of(&manifest));
    assert_eq!(
        fs::read(blob_path(&images, &sealed.digest)).expect("manifest"),
        manifest
    );
    assert_eq!(lines[1], "-----> clock: clock.wasm, command-p2");
    // Once more: everything is there already.
    let again = import(&archive, &images, &mut |_| {}).expect("taken");
    assert_eq!(again, sealed);
    let index = fs::read_to_string(images.join("index.json")).expect("index");
    assert_eq!(index.matches(&sealed.digest.hex()).count(), 1);
}

#[test]
fn blobs_that_are_not_what_is_said_are_refused() {
    let missing = Parts::changed(|p| p.spoil = |files| drop(files.pop()));
    refused("a missing layer", &missing, Code::B14, "is not in the archive");
    let damaged = Parts::changed(|p| {
        p.spoil = |files| *files.last_mut().expect("a layer").1.last_mut().expect("a byte") ^= 1;
    });
    refused("a damaged layer", &damaged, Code::B14, "has the content of");
    let longer = Parts::changed(|p| p.spoil = |files| files.last_mut().expect("a layer").1.push(0));
    refused("a longer layer", &longer, Code::B14, "and its descriptor says");
    let config = Parts::changed(|p| p.spoil = |files| files[3].1.push(b' '));
    refused("a changed config", &config, Code::B14, "and its descriptor says");
    let large = Parts::with_layer(vec![0; (64 << 20) + 1]);
    refused("a large layer", &large, Code::B10, "at most 67108864 are taken");
}

#[test]
fn components_are_checked_as_those_of_a_build_are() {
    for (what, layer, code, message) in [
        (
            "compiled code",
            b"\x7fELF compiled".to_vec(),
            Code::B12,
            "is compiled code",
        ),
        ("text", b"(component)".to_vec(), Code::B12, "is WebAssembly text"),
        (
            "a core module",
            wasm(r#"(module (memory (export "memory") 1) (func (export "_start")))"#),
            Code::B14,
            "is a core module",
        ),
        (
            "an unknown import",
            component(r#"(import "wasi:nn/graph@0.2.0" (instance))"#),
            Code::B11,
            "wasi:nn/graph",
        ),
        (
            "nothing to run",
            wasm("(component)"),
            Code::B12,
            "exports nothing",
        ),
    ] {
        refused(what, &Parts::with_layer(layer), code, message);
    }
    let shape = Parts::changed(|p| {
        for process in p.config["processes"]
            .as_object_mut()
            .expect("processes")
            .values_mut()
        {
            process["shape"] = json!("http-p2");
        }
    });
    refused("another shape", &shape, Code::B14, "is said to be http-p2");
    let imports = Parts::changed(|p| {
        p.config["processes"]["worker"]["imports"] = json!(["wasi:sockets/tcp@0.2.0"]);
    });
    refused(
        "other imports",
        &imports,
        Code::B14,
        "other imports than its component has",
    );
}

#[test]
fn configs_that_do_not_fit_are_refused() {
    let with = |change: fn(&mut Value)| Parts::changed(|parts| change(&mut parts.config));
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 10] = [
        (
            "a newer format",
            |c| *c = json!({ "schema_version": 9, "new": 1 }),
            "has format 9",
        ),
        ("no processes", |c| c["processes"] = json!({}), "has no processes"),
        (
            "a foreign field",
            |c| c["entrypoint"] = json!("sh"),
            "cannot be read",
        ),
        (
            "a bad name",
            |c| c["processes"]["../x"] = c["processes"]["clock"].clone(),
            "cannot be read",
        ),
        (
            "a component that is no layer",
            |c| c["processes"]["clock"]["component"] = json!(digest_of(b"x").to_string()),
            "which is no layer",
        ),
        (
            "a wrong size",
            |c| c["processes"]["clock"]["component_bytes"] = json!(1),
            "says 1 bytes",
        ),
        (
            "no arguments",
            |c| c["processes"]["clock"]["args"] = json!([]),
            "no first argument",
        ),
        (
            "a zero byte",
            |c| c["processes"]["clock"]["args"] = json!(["a", "b\0"]),
            "a zero byte",
        ),
        (
            "an escape",
            |c| c["processes"]["clock"]["command"] = json!("\u{1b}[2J"),
            "control character",
        ),
        (
            "limits beyond all limits",
            |c| c["processes"]["clock"]["limits"] = json!({ "memory_bytes_max": 0 }),
            "limits",
        ),
    ];
    for (what, change, message) in cases {
        refused(what, &with(change), Code::B14, message);
    }
    let many: serde_json::Map<String, Value> = (0..65)
        .map(|n| {
            (
                format!("p{n}"),
                Parts::good().config["processes"]["clock"].clone(),
            )
        })
        .collect();
    let many = Parts::changed(|p| p.config["processes"] = Value::Object(many));
    refused("too many processes", &many, Code::B10, "at most 64");
    let long = Parts::changed(|p| p.config["processes"]["clock"]["command"] = json!("x".repeat(300_000)));
    refused("a long config", &long, Code::B10, "at most 262144");
}

#[test]
fn other_artifacts_and_archives_are_refused() {
    let container = "application/vnd.oci.image.config.v1+json";
    let container = Parts::changed(|p| p.config_type = container);
    refused("a container", &container, Code::B14, "it is no image of gilliam");
    let packed = Parts::changed(|p| p.layer_type = "application/vnd.oci.image.layer.v1.tar+gzip");
    refused("packed layers", &packed, Code::B14, "its layer is");
    let unused = Parts::changed(|p| p.layers.push(component("(core module)")));
    refused("an unused layer", &unused, Code::B14, "is of no process");
    let none = Parts::changed(|p| p.index = Some(json!([])));
    refused("no image", &none, Code::B14, "lists 0 images");
    let index = json!([{ "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest_of(b"").to_string(), "size": 0 }]);
    let index = Parts::changed(|p| p.index = Some(index));
    refused("an index of images", &index, Code::B14, "its manifest is");
    let crowd = Parts::changed(|p| p.more = (0..300).map(|n| (format!("f{n}"), Vec::new())).collect());
    refused("a crowd of entries", &crowd, Code::B10, "number of entries");

    for bytes in [&b""[..], b"no tar at all", &[7; 4096]] {
        let (result, stored) = imported(|path| fs::write(path, bytes).expect("file"));
        let error = ApiError::from(&result.expect_err("no archive"));
        assert_eq!((error.code, stored), (Code::B14, 0), "{}", error.message);
    }
}

#[test]
fn no_name_in_the_archive_becomes_a_path() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let aim = folder.path().join("aim");
    let (_, stored) = imported(|path| {
        let parts = Parts::changed(|p| p.more = vec![("blobs/sha256/zz".to_string(), vec![1])]);
        parts.write(path);
        // Appended behind the end mark's place: a link under a blob's name, and names that lead out.
        let mut tar = tar::Builder::new(fs::File::create(path.with_extension("evil")).expect("archive"));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        let blob = format!("blobs/sha256/{}", "0".repeat(64));
        tar.append_link(&mut header, &blob, &aim).expect("link");
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.as_gnu_mut().expect("gnu").name[..11].copy_from_slice(b"../../aim.x");
        header.set_cksum();
        tar.append(&header, &b"x"[..]).expect("entry");
        let evil = tar.into_inner().expect("file");
        drop(evil);
        let mut bytes = fs::read(path.with_extension("evil")).expect("evil");
        bytes.truncate(bytes.len() - 1024);
        bytes.extend(fs::read(path).expect("good"));
        fs::write(path, bytes).expect("archive");
    });
    assert_eq!(stored, 3, "the component, the config, the manifest");
    assert!(!aim.exists() && !folder.path().join("aim.x").exists());
}
