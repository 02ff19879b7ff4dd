//! Packs as a deploy runs them: sources in, a sealed image or a clear refusal out.
//!
//! It has a main of its own, because the build child and its sandboxes are this program, started again.

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, ExitCode, Output},
};

use gilliam_builder::{child, packs::Packs, sandbox};
use gilliam_model::{
    api::{ApiError, BuildOutcome},
    code::Code,
    image::Image,
};
use rustix::process::{Signal, set_parent_process_death_signal};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_ref().and_then(|first| first.to_str()) {
        Some("build-child") => return child::main(args, &["sandbox"]),
        Some("sandbox") => {
            // As the platform's child roles do.
            set_parent_process_death_signal(Some(Signal::KILL)).expect("death signal");
            return sandbox::main(args);
        }
        _ => {}
    }
    let tests: [(&str, fn()); 8] = [
        ("text_becomes_a_component", text_becomes_a_component),
        ("an_operators_pack_needs_no_rust", an_operators_pack_needs_no_rust),
        (
            "entries_of_one_command_are_built_once",
            entries_of_one_command_are_built_once,
        ),
        ("a_pack_says_what_is_wrong", a_pack_says_what_is_wrong),
        ("a_builds_result_is_distrusted", a_builds_result_is_distrusted),
        (
            "a_build_reads_nothing_of_the_platform",
            a_build_reads_nothing_of_the_platform,
        ),
        ("without_a_sandbox_it_says_so", without_a_sandbox_it_says_so),
        ("rust_programs_become_components", rust_programs_become_components),
    ];
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    for (name, test) in tests {
        if only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

/// A server's folders, with a pack for the language `sh`, whose programs are the scripts that build them.
struct Server {
    folder: tempfile::TempDir,
    open: bool,
}

struct Built {
    outcome: BuildOutcome,
    output: String,
}

impl Built {
    #[track_caller]
    fn image(self) -> Image {
        match self.outcome {
            BuildOutcome::Sealed { image, .. } => image,
            BuildOutcome::Refused { error } => panic!("{error:?}\n{}", self.output),
        }
    }

    #[track_caller]
    fn error(self) -> ApiError {
        match self.outcome {
            BuildOutcome::Refused { error } => error,
            BuildOutcome::Sealed { .. } => panic!("sealed\n{}", self.output),
        }
    }
}

impl Server {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let server = Self { folder, open: false };
        fs::create_dir(server.path("tmp")).expect("folder");
        server.pack("shell", "sh", "shift; . ./\"$1\"");
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a pack whose `build` is this script.
    fn pack(&self, name: &str, words: &str, build: &str) {
        let folder = self.path("packs").join(name);
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join("words"), words).expect("words");
        let file = folder.join("build");
        fs::write(&file, format!("#!/bin/bash\n{build}\n")).expect("build");
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("mode");
    }

    fn build(&self, files: &[(&str, &[u8])]) -> Built {
        let archive = self.path("tmp/upload.tar");
        support::write_archive(&archive, files);
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .arg("build-child")
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin");
        for (name, folder) in [
            ("--blobs", "images"),
            ("--archive", "tmp/upload.tar"),
            ("--packs", "packs"),
        ] {
            command.arg(name).arg(self.path(folder));
        }
        command.args(self.open.then_some("--unsandboxed-builds"));
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().expect("start");
        let output = String::from_utf8_lossy(&stderr).into_owned();
        assert!(status.success(), "{status} {output}");
        let left: Vec<_> = fs::read_dir(self.path("tmp"))
            .expect("folder")
            .flatten()
            .collect();
        assert_eq!(left.len(), 1, "{left:?}");
        Built {
            outcome: serde_json::from_slice(&stdout).expect("an outcome"),
            output,
        }
    }

    /// Builds `web` with a script, beside a component that the script may take.
    fn script(&self, script: &str) -> Built {
        let component = support::wasm(&support::command("0.2.0", ""));
        self.build(&[
            ("Procfile", b"web: sh web.sh"),
            ("web.sh", script.as_bytes()),
            ("given.wasm", &component),
        ])
    }
}

fn text_becomes_a_component() {
    let server = Server::new();
    let text = support::command("0.2.0", "");
    let image = server
        .build(&[("Procfile", b"web: web.wat"), ("web.wat", text.as_bytes())])
        .image();
    assert_eq!(image.processes.len(), 1);
    let error = server
        .build(&[
            ("Procfile", b"web: web.wat"),
            ("web.wat", b"(component\n  (oops))"),
        ])
        .error();
    assert_eq!(error.code, Code::B12);
    assert!(error.message.contains("web.wat:2:4"), "{}", error.message);
}

fn an_operators_pack_needs_no_rust() {
    let server = Server::new();
    let built = server.script("echo \"$GILLIAM_PROCESS in $PWD\"; cp given.wasm \"$GILLIAM_OUT\"");
    assert!(
        built.output.contains("-----> web: sh web.sh with the shell pack"),
        "{}",
        built.output
    );
    assert!(built.output.contains("       web in /work"), "{}", built.output);
    let image = built.image();
    let process = image.processes.values().next().expect("web");
    assert_eq!(process.command, "sh web.sh");
    let error = server.build(&[("Procfile", b"web: cobol web.cob")]).error();
    assert!(
        error.message.ends_with("looked for *.wasm, *.wat, cargo, sh"),
        "{}",
        error.message
    );
    // An operator's pack comes in place of a shipped one of its name.
    server.pack("rust", "cargo", "echo mine >&2; exit 65");
    let error = server.build(&[("Procfile", b"web: cargo run")]).error();
    assert_eq!(error.message, "cargo run: mine");
}

fn entries_of_one_command_are_built_once() {
    let server = Server::new();
    let component = support::wasm(&support::command("0.2.0", ""));
    let built = server.build(&[
        (
            "Procfile",
            b"web: sh one.sh\nworker: sh one.sh\nthird: sh two.sh\nfourth: given.wasm",
        ),
        ("one.sh", b"echo building one; cp given.wasm $GILLIAM_OUT"),
        ("two.sh", b"echo building two; cp given.wasm $GILLIAM_OUT"),
        ("given.wasm", &component),
    ]);
    for line in ["building one", "building two"] {
        assert_eq!(built.output.matches(line).count(), 1, "{}", built.output);
    }
    assert_eq!(built.image().processes.len(), 4);
}

fn a_pack_says_what_is_wrong() {
    let server = Server::new();
    let error = server
        .script("echo 'web.sh line 3: no such thing' >&2; exit 65")
        .error();
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::B15, "sh web.sh: web.sh line 3: no such thing")
    );
    let error = server.script("echo dying; kill -9 $$").error();
    let message = "sh web.sh: the shell pack ended with status 137: dying";
    assert_eq!((error.code, error.message.as_str()), (Code::B15, message));
    let error = server.script("true").error();
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::B15, "sh web.sh: the shell pack made no component")
    );
    let tools = server.path("packs/shell/tools");
    fs::write(
        &tools,
        "#!/bin/sh\necho 'sh is missing' >&2; echo 'hint: get one' >&2; exit 69",
    )
    .expect("tools");
    fs::set_permissions(&tools, fs::Permissions::from_mode(0o755)).expect("mode");
    let error = server.script("true").error();
    assert_eq!(
        (error.code, error.message.as_str(), error.hint.as_deref()),
        (
            Code::B15,
            "the shell pack is not ready on this server: sh is missing",
            Some("get one")
        )
    );
}

fn a_builds_result_is_distrusted() {
    let server = Server::new();
    fs::write(server.path("secret"), "secret-of-the-platform").expect("file");
    let secret = server.path("secret");
    for (script, code) in [
        ("echo text > $GILLIAM_OUT".to_string(), Code::B12),
        (format!("ln -s {} $GILLIAM_OUT", secret.display()), Code::A500),
        ("mkfifo $GILLIAM_OUT".to_string(), Code::A422),
        ("mkdir $GILLIAM_OUT".to_string(), Code::A422),
        ("truncate -s 500M $GILLIAM_OUT".to_string(), Code::B10),
        ("mkdir -p a/b; chmod 0 a; true".to_string(), Code::B15),
    ] {
        let built = server.script(&script);
        assert!(!built.output.contains("secret-of"), "{script}: {}", built.output);
        let error = built.error();
        assert_eq!(error.code, code, "{script}: {error:?}");
        assert!(!error.message.contains("secret-of"), "{script}: {error:?}");
    }
}

fn a_build_reads_nothing_of_the_platform() {
    let server = Server::new();
    fs::write(server.path("token"), "secret-of-the-platform").expect("file");
    let data = server.folder.path().display();
    let built = server.script(&format!(
        "cat {data}/token {data}/tmp/* {data}/images/* /etc/shadow /proc/1/environ /proc/1/cmdline /proc/*/maps
         find / -xdev -name token 2>/dev/null; env; exit 65"
    ));
    assert!(
        !built.output.contains("secret-of-the-platform"),
        "{}",
        built.output
    );
    assert!(
        !built.output.contains("root:*") && !built.output.contains("root:!"),
        "{}",
        built.output
    );
    assert_eq!(built.error().code, Code::B15);
}

fn without_a_sandbox_it_says_so() {
    let mut server = Server::new();
    server.open = true;
    let built = server.script("pwd; cp given.wasm $GILLIAM_OUT");
    assert!(
        built
            .output
            .contains(" !     This server builds without a sandbox"),
        "{}",
        built.output
    );
    assert!(
        built.output.contains(&server.folder.path().display().to_string()),
        "{}",
        built.output
    );
    built.image();
}

const CARGO_TOML: &[u8] = b"[package]\nname = \"web\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";

fn rust_programs_become_components() {
    let server = Server::new();
    let scratch = tempfile::tempdir().expect("temporary folder");
    let packs = Packs::open(scratch.path(), None).expect("packs");
    if let Err(error) = packs.named("rust").expect("rust").tools(None) {
        // Tests of the platform's own guests need the target too, and fail without it.
        println!("skipped: {error}");
        return;
    }
    let main: &[u8] = b"fn main() { println!(\"hello\"); }";
    let built = server.build(&[
        ("Procfile", b"web: cargo run"),
        ("Cargo.toml", CARGO_TOML),
        ("src/main.rs", main),
    ]);
    assert!(built.output.contains("       rustc 1."), "{}", built.output);
    assert_eq!(built.image().processes.len(), 1);

    let error = server
        .build(&[
            ("Procfile", b"web: cargo run"),
            ("Cargo.toml", CARGO_TOML),
            ("src/main.rs", b"fn main() { oops() }"),
        ])
        .error();
    assert_eq!(error.code, Code::B15);
    assert!(error.message.contains("src/main.rs:1:13"), "{}", error.message);

    let two: &[(&str, &[u8])] = &[
        ("Cargo.toml", CARGO_TOML),
        ("src/bin/one.rs", main),
        ("src/bin/two.rs", main),
    ];
    let mut files = vec![("Procfile", &b"web: cargo run"[..])];
    files.extend_from_slice(two);
    let error = server.build(&files).error();
    assert!(
        error.message.contains("cargo built 2 programs"),
        "{}",
        error.message
    );
    files[0].1 = b"web: cargo run --bin one -- --flag\nworker: cargo run --bin two";
    assert_eq!(server.build(&files).image().processes.len(), 2);

    let error = server
        .build(&[("Procfile", b"web: cargo test"), ("Cargo.toml", CARGO_TOML)])
        .error();
    assert!(error.message.contains("names no program"), "{}", error.message);
}
