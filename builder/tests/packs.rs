//! Packs as a deploy runs them: sources in, a sealed image or a clear refusal out.
//!
//! It has a main of its own, because the build child and its sandboxes are this program, started again.

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, process::ExitCode};

use gilliam_model::code::Code;

use support::{
    own_main::{self, tests},
    server::Server,
};

fn main() -> ExitCode {
    own_main::run(tests![
        text_becomes_a_component,
        an_operators_pack_needs_no_rust,
        entries_of_one_command_are_built_once,
        a_pack_says_what_is_wrong,
        a_pack_names_the_arguments,
        a_builds_result_is_distrusted,
        a_build_reads_nothing_of_the_platform,
        without_a_sandbox_it_says_so,
        a_build_reaches_the_registries_of_its_tools,
    ])
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
    let (_, known) = error.message.split_once("looked for ").expect("what is known");
    let known: Vec<&str> = known.split(", ").collect();
    for word in ["*.wasm", "*.wat", "cargo", "sh"] {
        assert!(known.contains(&word), "{word}: {known:?}");
    }
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

fn a_pack_names_the_arguments() {
    let server = Server::new();
    let args = |script: &str| {
        let image = server
            .script(&format!("cp given.wasm $GILLIAM_OUT; {script}"))
            .image();
        image.processes.into_values().next().expect("web").args
    };
    assert_eq!(args("true"), ["sh", "web.sh"]);
    assert_eq!(args("printf 'web\na b\n\n' > $GILLIAM_ARGS"), ["web", "a b", ""]);
    for (script, reason) in [
        (": > $GILLIAM_ARGS", "they begin with no name of the program"),
        ("printf '\\377' > $GILLIAM_ARGS", "they are not UTF-8 text"),
        ("mkfifo $GILLIAM_ARGS", "they are not a file"),
        (
            "head -c 1M /dev/zero > $GILLIAM_ARGS",
            "they have more than 65536 bytes",
        ),
    ] {
        let error = server.script(script).error();
        let message = format!("sh web.sh: the shell pack named wrong arguments: {reason}");
        assert_eq!((error.code, error.message), (Code::B15, message), "{script}");
    }
    fs::write(server.path("secret"), "secret-of-the-platform").expect("file");
    let link = format!("ln -s {} $GILLIAM_ARGS", server.path("secret").display());
    let error = server.script(&link).error();
    assert!(!error.message.contains("secret-of"), "{error:?}");
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

/// Asks a host for a package through the proxy, and prints what it answers.
fn fetch(port: u16) -> String {
    format!(
        "exec 3<>/dev/tcp/127.0.0.1/${{https_proxy##*:}}
         printf 'CONNECT 127.0.0.1:{port} HTTP/1.1\\r\\n\\r\\nget!' >&3
         grep -qaF 'the package' <&3 || {{ echo not fetched; exit 65; }}
         echo fetched; cp given.wasm $GILLIAM_OUT"
    )
}

fn a_build_reaches_the_registries_of_its_tools() {
    let mut server = Server::new();
    let (one, two) = (support::registry(), support::registry());
    let tools = server.path("packs/shell/tools");
    fs::write(&tools, format!("#!/bin/sh\necho registry 127.0.0.1:{one}\n")).expect("tools");
    fs::set_permissions(&tools, fs::Permissions::from_mode(0o755)).expect("mode");
    let built = server.script(&fetch(one));
    assert!(built.output.contains("       fetched"), "{}", built.output);
    built.image();
    let error = server.script(&fetch(two)).error();
    let refused = format!("network: 127.0.0.1:{two} refused: not in --build-registries");
    assert!(
        error.message.contains("not fetched") && error.message.contains(&refused),
        "{}",
        error.message
    );
    server.registries = format!("127.0.0.1:{two}");
    server.script(&fetch(two)).image();
    server.script(&fetch(one)).error();
    server.registries = "none".to_string();
    let quiet = "test -z \"$GILLIAM_NETWORK$https_proxy$HTTPS_PROXY\" && cp given.wasm $GILLIAM_OUT";
    server.script(quiet).image();
}
