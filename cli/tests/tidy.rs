//! The invariants of ARCHITECTURE.md that a compiler does not check: who depends on whom, and the shape of files.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

const FILE_LINES_MAX: usize = 500;
const LINE_CHARS_MAX: usize = 120;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace")
}

/// Our crates and which of ours each depends on, without dev-dependencies.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let ours = |name: &str| name == "gilliam" || name.starts_with("gilliam-");
    let packages = metadata["packages"].as_array().expect("packages").iter();
    packages
        .map(|package| {
            let name = package["name"].as_str().expect("name").to_string();
            let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
            let dependencies = dependencies
                .filter(|d| d["kind"].is_null())
                .filter_map(|d| d["name"].as_str())
                .filter(|d| ours(d))
                .map(str::to_string);
            (name, dependencies.collect())
        })
        .collect()
}

#[test]
fn crates_point_only_where_the_architecture_allows() {
    let allowed: &[(&str, &[&str])] = &[
        ("gilliam-model", &[]),
        ("gilliam-plan", &["model"]),
        ("gilliam-store", &["model"]),
        ("gilliam-queue", &["model"]),
        ("gilliam-scheduler", &["model", "plan", "store", "queue", "serve"]),
        ("gilliam-sim", &["model", "plan", "store", "scheduler", "runtime"]),
        ("gilliam-services", &["model"]),
        ("gilliam-engine", &["model", "services"]),
        ("gilliam-serve", &[]),
        (
            "gilliam-runtime",
            &["model", "services", "engine", "serve", "client"],
        ),
        ("gilliam-builder", &["model", "serve"]),
        ("gilliam-client", &["model"]),
        ("gilliam-benches", &[]),
        (
            "gilliam",
            &[
                "model",
                "client",
                "scheduler",
                "store",
                "runtime",
                "engine",
                "builder",
                "serve",
                "benches",
                "sim",
            ],
        ),
    ];
    let arrows = arrows();
    for (name, to) in allowed {
        let allowed: BTreeSet<String> = to.iter().map(|t| format!("gilliam-{t}")).collect();
        let actual = arrows
            .get(*name)
            .unwrap_or_else(|| panic!("{name} is not in the workspace"));
        let extra: Vec<&String> = actual.difference(&allowed).collect();
        assert!(
            extra.is_empty(),
            "{name} depends on {extra:?}; ARCHITECTURE.md forbids it"
        );
    }
    for (name, to) in &arrows {
        assert!(!to.contains("gilliam"), "{name} depends on the binary");
    }
}

#[test]
fn the_planner_depends_on_nothing_but_the_model() {
    let manifest = std::fs::read_to_string(root().join("scheduler/plan/Cargo.toml")).expect("manifest");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let dependencies = manifest["dependencies"].as_table().expect("dependencies");
    assert_eq!(dependencies.keys().collect::<Vec<_>>(), ["gilliam-model"]);
}

/// What wit-bindgen wrote.
const GENERATED: &str = "sdk/rust/src/bindings.rs";

fn sources() -> Vec<(PathBuf, String)> {
    let output = Command::new("git")
        .args(["ls-files", "*.rs"])
        .current_dir(root())
        .output()
        .expect("git ls-files");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let files = String::from_utf8(output.stdout).expect("UTF-8");
    let files: Vec<_> = files
        .lines()
        .filter(|file| *file != GENERATED)
        .filter_map(|file| {
            Some((
                PathBuf::from(file),
                std::fs::read_to_string(root().join(file)).ok()?,
            ))
        })
        .collect();
    assert!(files.len() > 50, "{} sources", files.len());
    files
}

#[test]
fn files_are_short_and_named_for_what_they_own() {
    let vague = ["util", "utils", "common", "helper", "helpers", "misc", "manager"];
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let lines = text.lines().count();
        // A longer file says at its top why it is one.
        if lines > FILE_LINES_MAX && !text.contains("Length:") {
            wrong.push(format!(
                "{} has {lines} lines; at most {FILE_LINES_MAX}",
                file.display()
            ));
        }
        if let Some((n, _)) = text
            .lines()
            .enumerate()
            .find(|(_, l)| l.chars().count() > LINE_CHARS_MAX)
        {
            wrong.push(format!(
                "{}:{} is longer than {LINE_CHARS_MAX}",
                file.display(),
                n + 1
            ));
        }
        let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if stem.split('_').any(|word| vague.contains(&word)) {
            wrong.push(format!("{} does not say what it owns", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files with unsafe code: mapping compiled code, memories and stacks of guests, and the allocator.
const UNSAFE_FILES: [&str; 5] = [
    "cli/src/heap.rs",
    "runtime/engine/src/load.rs",
    "runtime/engine/src/slab/memory.rs",
    "runtime/engine/src/slab/region.rs",
    "runtime/engine/src/slab/stack.rs",
];

#[test]
fn unsafe_code_is_only_in_five_files_and_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if file.ends_with("tests/tidy.rs") || file.starts_with("samples") {
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !(code.contains("unsafe {") || code.contains("unsafe fn ") || code.contains("unsafe impl ")) {
                continue;
            }
            let reasoned = lines[n.saturating_sub(8)..n]
                .iter()
                .any(|l| l.contains("SAFETY:"));
            if !UNSAFE_FILES.iter().any(|allowed| file.ends_with(allowed)) || !reasoned {
                wrong.push(format!("{}:{}", file.display(), n + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "unsafe elsewhere or without SAFETY:\n{}",
        wrong.join("\n")
    );
}
