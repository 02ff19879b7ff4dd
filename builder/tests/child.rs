//! The build child as the control plane starts it: this program runs itself with the child's arguments.
//!
//! It has a main of its own, because a test harness would write to the child's stdout.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Output},
};

use gilliam_model::{
    api::{ApiError, BuildOutcome},
    code::Code,
};

use support::own_main::{self, tests};

fn main() -> ExitCode {
    own_main::run(tests![
        an_image_is_the_one_line_of_stdout,
        a_refusal_is_an_outcome_too,
        a_missing_archive_is_an_outcome_too,
        wrong_arguments_are_a_usage_error,
        a_child_has_limits,
    ])
}

fn start(args: &[&str]) -> Output {
    let program = std::env::current_exe().expect("this program");
    Command::new(program)
        .arg("build-child")
        .args(args)
        .output()
        .expect("start")
}

fn build(folder: &Path, files: &[(&str, &[u8])]) -> Output {
    let (archive, blobs) = (folder.join("upload.tar"), folder.join("images"));
    support::write_archive(&archive, files);
    let text = |path: &Path| path.to_str().expect("UTF-8").to_string();
    start(&["--blobs", &text(&blobs), "--archive", &text(&archive)])
}

/// The one JSON document on stdout.
fn outcome(output: &Output) -> BuildOutcome {
    let text = std::str::from_utf8(&output.stdout).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).expect("an outcome")
}

fn an_image_is_the_one_line_of_stdout() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let component = support::wasm(&support::command("0.2.0", ""));
    let output = build(
        folder.path(),
        &[("Procfile", b"web: web.wasm"), ("web.wasm", &component)],
    );
    assert_eq!(output.status.code(), Some(0));
    let BuildOutcome::Sealed { digest, image } = outcome(&output) else {
        panic!("refused")
    };
    assert!(
        folder
            .path()
            .join("images/blobs/sha256")
            .join(digest.hex())
            .is_file()
    );
    assert_eq!(image.processes.len(), 1);
    let lines = String::from_utf8(output.stderr).expect("UTF-8");
    let starts: Vec<&str> = lines
        .lines()
        .map(|line| line.split(' ').nth(1).expect("a word"))
        .collect();
    assert_eq!(starts, ["Unpacking", "web:", "Sealed"]);
}

fn a_refusal_is_an_outcome_too() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = build(folder.path(), &[("Procfile", b"web web.wasm")]);
    assert_eq!(output.status.code(), Some(0));
    let BuildOutcome::Refused { error } = outcome(&output) else {
        panic!("sealed")
    };
    assert_eq!(
        error,
        ApiError {
            code: Code::A422,
            message: "Procfile line 1: \"web web.wasm\" has no colon".to_string(),
            hint: Some("write NAME: COMMAND, such as web: web.wasm".to_string()),
        }
    );
}

fn a_missing_archive_is_an_outcome_too() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let archive = folder.path().join("absent.tar");
    let output = start(&[
        "--archive",
        archive.to_str().expect("UTF-8"),
        "--blobs",
        "/nonexistent/images",
    ]);
    let BuildOutcome::Refused { error } = outcome(&output) else {
        panic!("sealed")
    };
    assert_eq!(error.code, Code::A500);
    assert!(
        error.message.starts_with("cannot open the archive: No such file"),
        "{}",
        error.message
    );
}

fn wrong_arguments_are_a_usage_error() {
    for args in [
        &[][..],
        &["--blobs", "a"],
        &["--blobs"],
        &["--blobs", "a", "--blobs", "b"],
        &["--help"],
        &["--blobs", "a", "--archive", "b", "--cache", "c"],
        &["--blobs", "a", "--archive", "b", "--cache-size", "much"],
    ] {
        let output = start(args);
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(2), 0),
            "{args:?}"
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "usage: --blobs DIR --archive FILE [--import] [--packs DIR] [--tools DIR] \
             [--cache DIR --app KEY] [--cache-size BYTES] [--clean] [--registries LIST] [--unsandboxed-builds]\n"
        );
    }
}

/// Sees the limits from outside, while the child waits for its archive: a FIFO that nobody has written to
/// yet.
fn a_child_has_limits() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let archive = folder.path().join("upload.tar");
    let made = Command::new("mkfifo").arg(&archive).status().expect("mkfifo");
    assert!(made.success());
    let program = std::env::current_exe().expect("this program");
    let child = Command::new(program)
        .arg("build-child")
        .args(["--blobs".as_ref(), folder.path().join("images").as_os_str()])
        .args(["--archive".as_ref(), archive.as_os_str()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("start");
    // Opening for writing waits for the child to open it for reading.
    let writer = fs::OpenOptions::new().write(true).open(&archive).expect("open");
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("limits");
    drop(writer);
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).expect(name);
        line[name.len()..]
            .split_whitespace()
            .next()
            .expect("the limit that counts")
            .parse::<u64>()
            .expect("a number")
    };
    assert!(limit("Max cpu time") <= 120);
    assert!(limit("Max address space") <= 3 << 30);
    assert!(limit("Max open files") <= 256);
    assert!(limit("Max file size") <= 128 << 20);
    assert_eq!(limit("Max core file size"), 0);
    let output = child.wait_with_output().expect("end");
    let BuildOutcome::Refused { error } = outcome(&output) else {
        panic!("sealed")
    };
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::B14, "the archive is empty")
    );
}
