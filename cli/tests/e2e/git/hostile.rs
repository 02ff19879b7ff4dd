//! Repositories and requests that mean harm: each is refused in words, leaves nothing, and the platform goes on.

use std::{io::Write as _, time::Duration};

use super::*;
use crate::client::runtime;

impl Repository<'_> {
    /// Runs git with this input and gives the id that it prints.
    #[track_caller]
    fn made(&self, args: &[&str], input: &[u8]) -> String {
        let mut command = self.command(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("git");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input)
            .expect("written");
        let output = child.wait_with_output().expect("git");
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).expect("text").trim().to_string()
    }

    fn blob(&self, content: &[u8]) -> String {
        self.made(&["hash-object", "-w", "--stdin"], content)
    }

    /// A commit of the tree with these lines, as `git mktree -z` takes them.
    fn commit_of(&self, lines: &[String]) -> String {
        let tree = self.made(&["mktree", "-z"], lines.join("\0").as_bytes());
        self.made(&["commit-tree", "-m", "hostile", &tree], b"")
    }
}

/// What each commit holds beside its Procfile, and what is said of it.
fn hostile_trees(repository: &Repository<'_>) -> Vec<(Vec<String>, &'static str)> {
    let blob = repository.blob(b"x");
    let file = |name: &str| vec![format!("100644 blob {blob}\t{name}")];
    let link = |target: &str| {
        vec![format!(
            "120000 blob {}\tlink",
            repository.blob(target.as_bytes())
        )]
    };
    let modules = |url: &str| {
        let text = format!("[submodule \"a\"]\n\tpath = a\n\turl = {url}\n");
        vec![format!(
            "100644 blob {}\t.gitmodules",
            repository.blob(text.as_bytes())
        )]
    };
    let folder = |name: &str| {
        let inner = repository.made(
            &["mktree", "-z"],
            format!("100644 blob {blob}\tconfig").as_bytes(),
        );
        vec![format!("040000 tree {inner}\t{name}")]
    };
    // Ten trees, each of which has the next one ten times: 10^10 files.
    let mut bomb = repository.made(&["mktree", "-z"], format!("100644 blob {blob}\tf").as_bytes());
    for _ in 0..10 {
        let lines: Vec<String> = (0..10).map(|n| format!("040000 tree {bomb}\t{n}")).collect();
        bomb = repository.made(&["mktree", "-z"], lines.join("\0").as_bytes());
    }
    vec![
        (folder(".git"), "hasDotgit"),
        (folder(".GIT"), "hasDotgit"),
        (folder("git~1"), "hasDotgit"),
        (file(".."), "hasDotdot"),
        (file("."), "hasDot"),
        (modules("-u./evil"), "gitmodulesUrl"),
        (
            vec![format!("120000 blob {blob}\t.gitmodules")],
            "gitmodulesSymlink",
        ),
        (link("/etc/passwd"), "link is a link to /etc/passwd"),
        (link("../../etc/passwd"), "link is a link to ../../etc/passwd"),
        (link("link"), "link is a link to link"),
        (
            vec![format!("040000 tree {bomb}\tbomb")],
            "more files than are looked at",
        ),
        (file("a\nb"), "control character"),
    ]
}

#[test]
fn hostile_repositories_are_refused_in_words() {
    let platform = Platform::start();
    let hello = Repository::new(&platform, "hello");
    hello.commit("nothing");
    hello.gilliam(&["create", "hello"]).ok();
    let procfile = format!("100644 blob {}\tProcfile", hello.blob(b"web: web.wasm\n"));
    for (mut lines, want) in hostile_trees(&hello) {
        lines.push(procfile.clone());
        let commit = hello.commit_of(&lines);
        let said = hello.push_refused(&["-f", "gilliam", &format!("{commit}:refs/heads/main")]);
        assert!(
            said.contains(want) && said.contains("remote rejected"),
            "{want:?} is not in\n{said}"
        );
    }
    // A name that is no text cannot be written as text here.
    let bytes = [
        b"100644 blob ",
        hello.blob(b"x").as_bytes(),
        b"\tna\xffme\0",
        procfile.as_bytes(),
    ]
    .concat();
    let tree = hello.made(&["mktree", "-z"], &bytes);
    let commit = hello.made(&["commit-tree", "-m", "name", &tree], b"");
    let said = hello.push_refused(&["gilliam", &format!("{commit}:refs/heads/main")]);
    assert!(said.contains("is not text (UTF-8)"), "{said}");
    // Three hundred megabytes of nothing are a few hundred kilobytes in a pack.
    let zeros = hello.blob(&vec![0; 300 << 20]);
    let commit = hello.commit_of(&[format!("100644 blob {zeros}\tzeros"), procfile]);
    let said = hello.push_refused(&["gilliam", &format!("{commit}:refs/heads/main")]);
    assert!(
        said.contains("the archive would have 300 MiB") && said.contains("(B10)"),
        "{said}"
    );
    assert!(said.contains("the largest is zeros"), "{said}");

    wait_until_clean(&platform);
    assert!(!hello.remote().contains("refs/"), "{}", hello.remote());
    assert!(releases(&platform, "hello").is_empty());
    assert_eq!(count(&platform.data().join("git/hello.git/objects/pack")), 0);
}

#[test]
fn nothing_of_a_repository_is_ever_run() {
    let platform = Platform::start();
    let hello = Repository::with_web(&platform, "hello", 200);
    hello.gilliam(&["create", "hello"]).ok();
    let mark = platform.root().join("mark");
    let evil = format!("#!/bin/sh\ntouch {}\n", mark.display());
    for hook in [
        "pre-receive",
        "update",
        "post-receive",
        "post-checkout",
        "fsmonitor-watchman",
    ] {
        hello.write(&format!("hooks/{hook}"), evil.as_bytes());
    }
    hello.write(
        "config",
        format!(
            "[core]\n\tfsmonitor = touch {0}\n\thooksPath = hooks\n",
            mark.display()
        )
        .as_bytes(),
    );
    hello.write(
        ".gitattributes",
        b"* filter=evil diff=evil merge=evil export-subst\n",
    );
    hello.write(
        ".gitconfig",
        format!("[filter \"evil\"]\n\tsmudge = touch {}\n", mark.display()).as_bytes(),
    );
    hello.write("version", b"$Format:%H$\n");
    hello.commit("evil");
    assert!(hello.pushed(&["gilliam", "main"]).contains("v1 released"));
    hello.git(&["fetch", "-q", "gilliam"]).ok();
    assert!(!mark.exists());
}

#[test]
fn requests_that_are_no_pushes_are_refused_and_leave_nothing() {
    let platform = Platform::start();
    let hello = Repository::with_web(&platform, "hello", 200);
    hello.gilliam(&["create", "hello"]).ok();
    hello.git(&["tag", "-m", "a tag", "1.0"]).ok();
    let tag = hello.git(&["rev-parse", "1.0"]).ok().trim().to_string();
    let none = "0".repeat(40);
    let commands = |id: &str| {
        let command = format!("{none} {id} refs/heads/main\0 report-status side-band-64k");
        format!("{:04x}{command}0000", command.len() + 4).into_bytes()
    };
    let pack = |names: &str| {
        let mut command = hello.command(&["pack-objects", "-q", "--stdout"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("git");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(names.as_bytes())
            .expect("written");
        child.wait_with_output().expect("git").stdout
    };
    let head = hello.head();
    let ids = hello
        .git(&["rev-list", "--objects", "--no-object-names", "HEAD"])
        .ok();
    let whole = pack(&format!("{ids}{tag}\n"));
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let many = [b"PACK\0\0\0\x02".as_slice(), &u32::MAX.to_be_bytes(), &[0; 64]].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "a commit without its files",
            [commands(&head), pack(&format!("{head}\n"))].concat(),
            "B14",
        ),
        (
            "a pack that is cut",
            [commands(&head), whole[..whole.len() / 2].to_vec()].concat(),
            "B14",
        ),
        ("a flipped bit", [commands(&head), flipped].concat(), "B14"),
        (
            "another commit than it brings",
            [commands(&"7".repeat(40)), whole.clone()].concat(),
            "B14",
        ),
        (
            "a tag for a commit",
            [commands(&tag), whole.clone()].concat(),
            "is not a commit",
        ),
        ("no pack", commands(&head), "is not a pack"),
        (
            "another thing",
            [commands(&head), b"GIF89a, and then some".to_vec()].concat(),
            "is not a pack",
        ),
        (
            "4,294,967,295 objects",
            [commands(&head), many].concat(),
            "at most 1000000",
        ),
        ("no commands", b"what?".to_vec(), "the push cannot be read"),
        (
            "a command without an end",
            b"fff0".to_vec(),
            "the push cannot be read",
        ),
        (
            "a very long command",
            [b"ffff".to_vec(), vec![b'x'; 70_000]].concat(),
            "the push cannot be read",
        ),
    ];
    let url = remote_of(&hello);
    let post = |tail: &str, kind: &str, body: Vec<u8>| {
        let request = crate::platform::client_builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build()
            .expect("client")
            .post(format!("{url}{tail}"))
            .header("content-type", kind.to_string())
            .body(body);
        runtime().block_on(async move {
            let answer = request.send().await.expect("an answer");
            (answer.status().as_u16(), answer.text().await.expect("text"))
        })
    };
    for (name, body, want) in cases {
        let (_, text) = post(
            "/git-receive-pack",
            "application/x-git-receive-pack-request",
            body,
        );
        assert!(text.contains(want), "{name}: {want:?} is not in {text:?}");
        assert!(!text.contains("ok refs/heads/main"), "{name}: {text:?}");
    }
    assert_eq!(post("/git-receive-pack", "text/plain", b"0000".to_vec()).0, 415);
    assert_eq!(
        post(
            "/git-receive-pack",
            "application/x-git-receive-pack-request",
            b"0000".to_vec()
        )
        .0,
        200
    );
    let (_, text) = post(
        "/git-upload-pack",
        "application/x-git-upload-pack-request",
        b"nonsense".to_vec(),
    );
    assert!(!text.contains("PACK"), "{text:?}");
    wait_until_clean(&platform);
    assert!(releases(&platform, "hello").is_empty());
    // After all of it the honest push is taken.
    assert!(hello.pushed(&["gilliam", "main"]).contains("v1 released"));
}

fn remote_of(repository: &Repository<'_>) -> String {
    story::remote_url(repository)
}
