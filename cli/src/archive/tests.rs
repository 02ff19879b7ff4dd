//! Archives of real folders and repositories.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use super::*;

/// A project in a temporary folder.
struct Project {
    root: tempfile::TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let project = Self {
            root: tempfile::tempdir().expect("folder"),
        };
        for (path, text) in files {
            project.write(path, text);
        }
        project
    }

    fn dir(&self) -> &Path {
        self.root.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir().join(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("folders");
        fs::write(path, text).expect("file");
    }

    fn git(&self, args: &[&str]) {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(self.dir())
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(args);
        command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        let output = command.output().expect("git");
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn commit(&self) {
        self.git(&["init", "-q"]);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "first"]);
    }

    fn pack_here(&self) -> Archive {
        pack(None, self.dir()).expect("archive")
    }

    fn refused(&self, named: Option<&Path>) -> CommandError {
        CommandError::from(pack(named, self.dir()).expect_err("refused"))
    }
}

/// Path to content, with `x ` before it when executable.
fn content(archive: &mut Archive) -> BTreeMap<String, String> {
    let mut tar = tar::Archive::new(&mut archive.file);
    let entries = tar.entries().expect("entries").map(|entry| {
        let mut entry = entry.expect("entry");
        let path = entry.path().expect("path").display().to_string();
        let mode = entry.header().mode().expect("mode");
        assert_eq!(
            (
                entry.header().mtime().expect("time"),
                entry.header().uid().expect("uid")
            ),
            (0, 0)
        );
        let mut text = if mode & 0o100 != 0 {
            "x ".to_string()
        } else {
            String::new()
        };
        entry.read_to_string(&mut text).expect("text");
        (path, text)
    });
    entries.collect()
}

fn paths(archive: &mut Archive) -> Vec<String> {
    content(archive).into_keys().collect()
}

const PROCFILE_TEXT: &str = "web: web.wasm --flag\n";

#[test]
fn a_folder_is_packed_as_it_is_less_what_is_ignored() {
    let project = Project::new(&[
        ("Procfile", PROCFILE_TEXT),
        (".gitignore", "*.wasm\n/target\nlogs/\ndist\n"),
        (".gilliamignore", "docs\n!dist\n"),
        (".gilliam.app", "hello\n"),
        (".hidden", "kept"),
        ("web.wasm", "named by the Procfile"),
        ("other.wasm", "ignored"),
        ("target/big", "ignored"),
        ("logs/a", "ignored"),
        ("docs/a", "ignored"),
        ("dist/a", "brought back"),
        ("src/deep/a.rs", "kept"),
        ("sub/.git/config", "never"),
    ]);
    let want = [
        ".gilliamignore",
        ".gitignore",
        ".hidden",
        "Procfile",
        "dist/a",
        "src/deep/a.rs",
        "web.wasm",
    ];
    assert_eq!(paths(&mut project.pack_here()), want);
}

#[test]
fn a_folder_inside_a_repository_honours_the_rules_above_it_and_one_outside_does_not() {
    let project = Project::new(&[
        (".gitignore", "*.log\n"),
        ("app/Procfile", PROCFILE_TEXT),
        ("app/a.log", "x"),
    ]);
    let mut outside = pack(Some(Path::new("app")), project.dir()).expect("archive");
    assert_eq!(paths(&mut outside), ["Procfile", "a.log"]);
    project.commit();
    let mut inside = pack(None, &project.dir().join("app")).expect("archive");
    assert_eq!(paths(&mut inside), ["Procfile"]);
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let long = format!("{}file", "long/".repeat(60));
    let files = [
        ("Procfile", PROCFILE_TEXT),
        ("b", "2"),
        ("a/c", "1"),
        (&*long, "longer than a header holds"),
    ];
    let bytes = |files: &[(&str, &str)]| {
        let mut bytes = Vec::new();
        Project::new(files)
            .pack_here()
            .file
            .read_to_end(&mut bytes)
            .expect("bytes");
        bytes
    };
    let first = bytes(&files);
    assert_eq!(first, bytes(&[files[3], files[2], files[1], files[0]]));
}

#[test]
fn head_is_packed_at_the_top_of_a_repository_and_the_folder_when_it_is_named() {
    let project = Project::new(&[
        ("Procfile", PROCFILE_TEXT),
        (".gitignore", "*.wasm\n"),
        (".gilliamignore", "docs/\n"),
        ("docs/a.md", "not deployed"),
        ("run.sh", "#!/bin/sh"),
        ("web.wasm", "ignored by git, named by the Procfile"),
    ]);
    fs::set_permissions(project.dir().join("run.sh"), fs::Permissions::from_mode(0o755)).expect("chmod");
    project.commit();
    project.write("run.sh", "changed");
    project.write("new.txt", "not committed");
    project.write(".gilliam.app", "hello");
    let mut head = project.pack_here();
    assert!(
        head.origin.starts_with("HEAD (") && head.origin.ends_with(" first)"),
        "{}",
        head.origin
    );
    assert!(
        head.message
            .as_deref()
            .is_some_and(|message| message.ends_with(" first"))
    );
    assert!(
        head.hints
            .iter()
            .any(|hint| hint.starts_with("uncommitted changes are not deployed"))
    );
    let files = content(&mut head);
    assert_eq!(
        files.keys().map(String::as_str).collect::<Vec<_>>(),
        [".gilliamignore", ".gitignore", "Procfile", "run.sh", "web.wasm"]
    );
    assert_eq!(files["run.sh"], "x #!/bin/sh");

    let mut folder = pack(Some(Path::new(".")), project.dir()).expect("archive");
    assert!(paths(&mut folder).contains(&"new.txt".to_string()) && folder.hints.is_empty());
}

#[test]
fn a_clean_repository_gives_no_hint_though_it_holds_our_file_and_components() {
    let project = Project::new(&[("Procfile", PROCFILE_TEXT)]);
    project.commit();
    project.write(".gilliam.app", "hello");
    project.write("web.wasm", "not ignored either");
    let mut archive = project.pack_here();
    assert_eq!(archive.hints, [""; 0]);
    assert_eq!(paths(&mut archive), ["Procfile", "web.wasm"]);
}

#[test]
fn a_repository_without_a_commit_is_packed_as_a_folder_and_says_so() {
    let project = Project::new(&[("Procfile", PROCFILE_TEXT)]);
    project.git(&["init", "-q"]);
    let mut archive = project.pack_here();
    assert!(archive.hints[0].contains("no commit yet"));
    assert_eq!(paths(&mut archive), ["Procfile"]);
}

#[test]
fn no_hook_filter_or_monitor_of_a_repository_runs() {
    let project = Project::new(&[("Procfile", PROCFILE_TEXT), (".gitattributes", "* filter=evil\n")]);
    project.commit();
    let mark = project.dir().join("ran");
    let evil = format!("sh -c 'touch {}; cat'", mark.display());
    for key in ["filter.evil.smudge", "core.fsmonitor"] {
        project.git(&["config", key, &evil]);
    }
    let files = content(&mut project.pack_here());
    assert_eq!(files["Procfile"], PROCFILE_TEXT);
    assert!(!mark.exists());
}

#[test]
fn a_missing_procfile_is_named_before_anything_is_sent() {
    let project = Project::new(&[("a", "")]);
    assert!(
        project
            .refused(None)
            .message
            .starts_with("no Procfile in the project")
    );
    project.commit();
    project.write("Procfile", PROCFILE_TEXT);
    let error = project.refused(None);
    assert!(error.message.contains("HEAD"), "{}", error.message);
    assert!(error.hint.expect("hint").contains("git add Procfile"));
    assert_eq!(
        project.refused(Some(Path::new("absent"))).message,
        "absent is not a folder"
    );
}

/// The links of an archive, with what they lead to.
fn links(archive: &mut Archive) -> Vec<(String, String)> {
    let mut tar = tar::Archive::new(&archive.file);
    let entries = tar.entries().expect("entries").map(|entry| entry.expect("entry"));
    let text = |path: std::borrow::Cow<'_, Path>| path.display().to_string();
    let links = entries.filter_map(|entry| {
        let to = entry.link_name().expect("link")?;
        Some((text(entry.path().expect("path")), text(to)))
    });
    links.collect()
}

#[test]
fn links_within_are_stored_as_files_and_others_are_refused() {
    let outside = Project::new(&[("secret", "s")]);
    let secret = outside.dir().join("secret");
    let cases: &[(&str, &Path)] = &[
        ("out", &secret),
        ("up", Path::new("../x")),
        ("gone", Path::new("absent")),
        ("git", Path::new(".git/config")),
        ("loop", Path::new("loop")),
        ("web.wasm", &secret),
    ];
    for committed in [false, true] {
        let within = Project::new(&[("Procfile", PROCFILE_TEXT), ("a/file", "text")]);
        symlink("../a/file", within.dir().join("a/link")).expect("link");
        if committed {
            within.commit();
        }
        assert_eq!(content(&mut within.pack_here())["a/link"], "text");
        // A link to a folder stays one.
        let linked = Project::new(&[
            ("Procfile", PROCFILE_TEXT),
            ("a/file", "text"),
            ("b/c/file", "text"),
        ]);
        symlink("../../a", linked.dir().join("b/c/link")).expect("link");
        if committed {
            linked.commit();
        }
        assert_eq!(
            links(&mut linked.pack_here()),
            [("b/c/link".to_string(), "../../a".to_string())]
        );
        for (name, target) in cases {
            let project = Project::new(&[("Procfile", PROCFILE_TEXT)]);
            symlink(target, project.dir().join(name)).expect("link");
            if committed {
                project.commit();
            }
            let error = project.refused(None);
            assert!(
                error.message.starts_with(&format!("{name} is a link to")),
                "{}",
                error.message
            );
        }
    }
}

#[test]
fn a_component_behind_a_linked_folder_outside_is_refused() {
    let outside = Project::new(&[("web.wasm", "s")]);
    let project = Project::new(&[("Procfile", "web: lib/web.wasm\n"), (".gitignore", "lib\n")]);
    symlink(outside.dir(), project.dir().join("lib")).expect("link");
    let error = project.refused(None);
    assert!(
        error.message.starts_with("lib/web.wasm is a link to"),
        "{}",
        error.message
    );
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let project = Project::new(&[("Procfile", PROCFILE_TEXT)]);
    let made = Command::new("mkfifo")
        .arg(project.dir().join("pipe"))
        .status()
        .expect("mkfifo");
    assert!(made.success());
    let error = project.refused(None);
    assert_eq!(error.message, "pipe is neither a file nor a folder");
    assert!(error.hint.expect("hint").contains(".gilliamignore"));
}

#[test]
fn a_project_that_is_too_large_names_its_largest_part() {
    let project = Project::new(&[("Procfile", PROCFILE_TEXT), ("data/small", "x")]);
    let big = fs::File::create(project.dir().join("data/big")).expect("file");
    big.set_len(300 << 20).expect("sparse");
    let error = project.refused(None);
    assert_eq!(
        error.message,
        "the archive would have 300 MiB; at most 256 MiB are allowed"
    );
    assert!(
        error
            .hint
            .expect("hint")
            .starts_with("the largest is data (300 MiB)")
    );
}

#[test]
fn submodules_that_are_fetched_come_with_a_commit_and_others_are_named() {
    let inner = Project::new(&[("deep.txt", "deep")]);
    inner.commit();
    let lib = Project::new(&[("lib.txt", "of the library"), ("drop.log", "ignored")]);
    lib.commit();
    lib.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        inner.dir().to_str().expect("text"),
        "inner",
    ]);
    lib.git(&["commit", "-q", "-m", "with inner"]);
    let project = Project::new(&[
        ("Procfile", PROCFILE_TEXT),
        (".gilliamignore", "*.log\n"),
        ("web.wasm", "w"),
    ]);
    project.commit();
    let from = lib.dir().to_str().expect("text");
    project.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        from,
        "libs/one",
    ]);
    project.git(&["commit", "-q", "-m", "with a library"]);
    let mut archive = project.pack_here();
    assert!(
        archive
            .hints
            .iter()
            .any(|hint| hint.contains("libs/one/inner is not deployed")),
        "{:?}",
        archive.hints
    );
    let packed = paths(&mut archive);
    assert!(packed.contains(&"libs/one/lib.txt".to_string()), "{packed:?}");
    assert!(!packed.iter().any(|path| path.ends_with(".log")), "{packed:?}");

    project.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "update",
        "--init",
        "--recursive",
    ]);
    let mut archive = project.pack_here();
    assert!(archive.hints.is_empty(), "{:?}", archive.hints);
    assert_eq!(content(&mut archive)["libs/one/inner/deep.txt"], "deep");
}
