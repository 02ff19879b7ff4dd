//! What is not built, and how it is said.

use super::*;

#[test]
fn a_build_that_fails_rejects_the_push_and_the_branch_stays() {
    let platform = Platform::start();
    let hello = Repository::with_web(&platform, "hello", 200);
    hello.gilliam(&["create", "hello"]).ok();
    hello.pushed(&["gilliam", "main"]);
    let before = hello.remote();

    hello.write("web.wasm", b"not a component");
    hello.commit("broken");
    let said = hello.push_refused(&["gilliam", "main"]);
    assert!(
        said.contains("remote: error: ") && said.contains("(B12)"),
        "{said}"
    );
    assert!(
        said.contains("! [remote rejected] main -> main (build failed)"),
        "{said}"
    );
    assert_eq!(hello.remote(), before);
    assert_eq!(releases(&platform, "hello").len(), 1);

    hello.git(&["rm", "-q", "Procfile"]).ok();
    hello.commit("no Procfile");
    let said = hello.push_refused(&["gilliam", "main"]);
    assert!(
        said.contains("remote: error: no Procfile in the project (the commit that was pushed) (B14)"),
        "{said}"
    );
    assert!(
        said.contains("! [remote rejected] main -> main (not taken)"),
        "{said}"
    );

    // A way back that git wants to be forced to, as everywhere.
    hello.git(&["reset", "-q", "--hard", "HEAD~2"]).ok();
    hello
        .git(&["commit", "-q", "--amend", "-m", "first, said better"])
        .ok();
    let said = hello.push_refused(&["gilliam", "main"]);
    assert!(said.contains("[rejected]"), "{said}");
    let said = hello.pushed(&["-f", "gilliam", "main"]);
    assert!(
        said.contains("(forced update)") && said.contains("v2 released"),
        "{said}"
    );
    wait_until_clean(&platform);
}

#[test]
fn only_the_main_branch_is_built_and_nothing_else_is_kept() {
    let platform = Platform::start();
    let hello = Repository::with_web(&platform, "hello", 200);
    hello.gilliam(&["create", "hello"]).ok();
    hello.git(&["branch", "topic"]).ok();
    hello.git(&["tag", "-m", "first", "1.0"]).ok();

    let said = hello.push_refused(&["gilliam", "topic"]);
    assert!(
        said.contains("! [remote rejected] topic -> topic (only main and master are built here)"),
        "{said}"
    );
    assert!(
        said.contains("remote: hint: git push gilliam topic:main builds topic"),
        "{said}"
    );
    let said = hello.pushed(&["gilliam", "1.0"]);
    assert!(said.contains("remote: tags are not kept here"), "{said}");
    let said = hello.push_refused(&["--all", "gilliam"]);
    assert!(
        said.contains("v1 released") && said.contains("topic -> topic (only main"),
        "{said}"
    );
    let said = hello.push_refused(&["gilliam", ":main"]);
    assert!(
        said.contains("(the branch that is built cannot be deleted)"),
        "{said}"
    );
    let said = hello.push_refused(&["gilliam", "HEAD:refs/heads/main/../../../x"]);
    assert!(
        said.contains("invalid refspec") || said.contains("not a valid"),
        "{said}"
    );
    assert_eq!(
        hello
            .remote()
            .lines()
            .filter(|line| line.contains("refs/"))
            .count(),
        1
    );

    // The other name of the main branch, from a clone without history.
    let shallow = platform.root().join("shallow");
    let from = format!("file://{}", hello.dir.display());
    hello.commit("second");
    hello
        .git(&[
            "clone",
            "-q",
            "--depth",
            "1",
            &from,
            &shallow.display().to_string(),
        ])
        .ok();
    let shallow = Repository {
        platform: &platform,
        dir: shallow,
    };
    shallow.gilliam(&["git", "remote", "hello"]).ok();
    shallow.commit("third");
    let said = shallow.push_refused(&["gilliam", "HEAD:master"]);
    assert!(said.contains("(shallow update not allowed)"), "{said}");
    assert!(said.contains("hint: git fetch --unshallow first"), "{said}");
    let said = hello.pushed(&["gilliam", "main:master"]);
    assert!(said.contains("v2 released"), "{said}");
}

#[test]
fn a_push_needs_a_token_of_the_cluster() {
    let platform = Platform::start();
    let hello = Repository::with_web(&platform, "hello", 200);
    hello.gilliam(&["create", "hello"]).ok();
    let base = platform.api();
    let host = base.strip_prefix("http://").expect("an address");
    for (url, want) in [
        (
            format!("http://anyone:wrong@{host}/git/hello.git"),
            "Authentication failed",
        ),
        (format!("http://{host}/git/ghost.git"), "no app \"ghost\""),
        (format!("http://{host}/git/../v1/apps"), "not found"),
        (format!("http://{host}/git/UPPER.git"), "no app \"UPPER\""),
    ] {
        let said = hello.push_refused(&[&url, "main"]);
        assert!(said.contains(want), "{url}: {said}");
    }
    // Without the helper git has nobody to ask, and says so.
    let said = hello.git(&[
        "-c",
        &format!("credential.{base}.helper="),
        "push",
        "gilliam",
        "main",
    ]);
    assert!(said.stderr.contains("could not read Username"), "{}", said.stderr);
    // The helper tells no other server.
    let ask = |host: &str| {
        let question = format!("protocol=http\nhost={host}\n\n");
        let mut command = hello.command(&["credential", "fill"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("git");
        use std::io::Write as _;
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(question.as_bytes())
            .expect("written");
        String::from_utf8(child.wait_with_output().expect("git").stdout).expect("text")
    };
    assert!(ask(host).contains("password=gil_"), "{}", ask(host));
    assert!(!ask("127.0.0.1:9").contains("password"));
    // A netrc does as well.
    let credentials = fs::read_to_string(platform.home().join("credentials.json")).expect("tokens");
    let tokens: serde_json::Value = serde_json::from_str(&credentials).expect("JSON");
    let token = tokens["local"].as_str().expect("token");
    let netrc = format!("machine 127.0.0.1 login me password {token}\n");
    fs::write(platform.root().join(".netrc"), netrc).expect("written");
    let pushed = hello.git(&[
        "-c",
        &format!("credential.{base}.helper="),
        "push",
        "gilliam",
        "main",
    ]);
    assert!(pushed.stderr.contains("v1 released"), "{}", pushed.stderr);
}
