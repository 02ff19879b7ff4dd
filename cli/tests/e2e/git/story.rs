//! A push as a user lives it, from an empty folder to the answer of the second release.

use super::*;
use crate::client::{get, wait_ok};

#[test]
fn a_branch_is_pushed_built_released_and_served_without_typing() {
    let platform = Platform::start();
    let hello = Repository::with_web(&platform, "hello", 200);
    let created = hello.gilliam(&["create", "hello"]);
    assert!(
        created.stderr.contains("git remote gilliam is http://127.0.0.1:"),
        "{}",
        created.stderr
    );
    created.ok();

    let said = hello.pushed(&["gilliam", "main"]);
    for line in [
        "remote: -----> Received main (",
        " first)",
        "remote: v1 released",
        "remote: hint: gilliam scale v1 web=2 starts it",
        "remote: it answers at http://hello.localhost:",
        "* [new branch]      main -> main",
    ] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
    let release = &releases(&platform, "hello")[0];
    assert_eq!(release["author"], "admin");
    let short = &hello.head()[..7];
    assert_eq!(release["message"], format!("{short} first"));
    hello.gilliam(&["scale", "v1", "web=1"]).ok();
    wait_ok(&platform, "hello", "/");

    hello.write("web.wasm", &web(202));
    hello.commit("accept");
    let said = hello.pushed(&["gilliam", "main"]);
    assert!(said.contains("remote: v2 released"), "{said}");
    assert!(
        said.contains("moving what ran before to v2; gilliam ps -w"),
        "{said}"
    );
    wait("the new release to answer", || {
        (get(&platform, "hello", "/").status == 202).then_some(())
    });

    let again = hello.pushed(&["gilliam", "main"]);
    assert_eq!(again, "Everything up-to-date\n");
    assert_eq!(
        hello.remote().lines().last(),
        Some(format!("{}\trefs/heads/main", hello.head()).as_str())
    );
    wait_until_clean(&platform);

    // What was pushed can be cloned, and a deploy of it is the same image.
    let copy = platform.root().join("copy");
    hello
        .git(&["clone", "-q", &remote_url(&hello), &copy.display().to_string()])
        .ok();
    assert_eq!(fs::read(copy.join("web.wasm")).expect("file"), web(202));
    hello.gilliam(&["deploy"]).ok();
    let images: Vec<_> = releases(&platform, "hello")
        .iter()
        .map(|r| r["image"].clone())
        .collect();
    assert_eq!((images.len(), &images[0]), (3, &images[1]));

    hello.gilliam(&["destroy", "hello", "-y"]).ok();
    assert!(!platform.data().join("git/hello.git").exists());
    let gone = hello.push_refused(&["-f", "gilliam", "HEAD~1:main"]);
    assert!(
        gone.contains("no app \"hello\"") || gone.contains("not found"),
        "{gone}"
    );
}

pub(super) fn remote_url(repository: &Repository<'_>) -> String {
    // A clone has no settings yet that ask gilliam: the token comes with the URL here.
    let url = repository.git(&["remote", "get-url", "gilliam"]).ok();
    let credentials =
        fs::read_to_string(repository.platform.home().join("credentials.json")).expect("tokens");
    let tokens: serde_json::Value = serde_json::from_str(&credentials).expect("JSON");
    let token = tokens["local"].as_str().expect("token");
    url.trim().replace("http://", &format!("http://anyone:{token}@"))
}

#[test]
fn history_stays_short_to_push_and_in_one_pack() {
    let platform = Platform::start();
    let hello = Repository::with_web(&platform, "hello", 200);
    hello.gilliam(&["create", "hello"]).ok();
    for n in 0..34 {
        hello.write("note", format!("{n}").as_bytes());
        hello.commit(&format!("note {n}"));
        hello.pushed(&["gilliam", "main"]);
    }
    let packs = fs::read_dir(platform.data().join("git/hello.git/objects/pack")).expect("packs");
    let packs = packs.filter(|entry| {
        entry
            .as_ref()
            .expect("entry")
            .path()
            .extension()
            .is_some_and(|e| e == "pack")
    });
    assert!(packs.count() < 5, "one pack was made of many");
    hello.git(&["fetch", "-q", "gilliam"]).ok();
    let copy = platform.root().join("copy");
    hello
        .git(&["clone", "-q", &remote_url(&hello), &copy.display().to_string()])
        .ok();
    assert_eq!(fs::read_to_string(copy.join("note")).expect("file"), "33");
}
