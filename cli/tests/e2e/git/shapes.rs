//! Projects of unusual shape arrive the same by all ways: a folder, HEAD, a push.

use std::{
    collections::BTreeSet,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use super::*;

/// A pack whose build prints what arrived, and takes a component from it.
fn listing_pack() -> tempfile::TempDir {
    let packs = tempfile::tempdir().expect("folder");
    let pack = packs.path().join("listing");
    fs::create_dir(&pack).expect("folder");
    fs::write(pack.join("words"), "listing\n").expect("words");
    let script = "#!/bin/sh\nfind . -type f -printf 'arrived %m %s %p\\n'\ncp web.wasm \"$GILLIAM_OUT\"\n";
    fs::write(pack.join("build"), script).expect("build");
    fs::set_permissions(pack.join("build"), fs::Permissions::from_mode(0o755)).expect("executable");
    fs::set_permissions(packs.path(), fs::Permissions::from_mode(0o755)).expect("readable");
    packs
}

/// The files that the build saw.
fn arrived(said: &str) -> BTreeSet<String> {
    let lines = said.lines().filter_map(|line| line.split_once("arrived "));
    lines.map(|(_, file)| file.trim_end().to_string()).collect()
}

#[test]
fn a_project_of_unusual_shape_arrives_the_same_by_all_ways() {
    let packs = listing_pack();
    let platform = Platform::start_with(&["--packs", &packs.path().display().to_string()]);
    let hello = Repository::new(&platform, "hello");
    let deep = format!("{}leaf.txt", "deep/".repeat(60));
    hello.write(
        "Procfile",
        b"\xef\xbb\xbf# with a mark and CRLF\r\nweb: listing\r\n",
    );
    hello.write("web.wasm", &web(200));
    hello.write("empty", b"");
    // More than git sends in one piece, and nothing that gets smaller.
    let mut state = 7_u32;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    });
    hello.write("large.bin", &noise.take(3 << 20).collect::<Vec<u8>>());
    hello.write(
        "docs/\u{65e5}\u{672c}\u{8a9e} na\u{ef}ve \u{1f600}.md",
        b"names in any script",
    );
    hello.write("-dash 'quoted' \"twice\" $(id) `x` ;&|*?\\", b"x");
    hello.write(&deep, b"deep");
    hello.write("bin/tool", b"#!/bin/sh\n");
    fs::set_permissions(hello.dir.join("bin/tool"), fs::Permissions::from_mode(0o755)).expect("executable");
    symlink("../docs", hello.dir.join("bin/.keep")).expect("link");
    symlink("bin/tool", hello.dir.join("run")).expect("link");
    hello.write("secret.txt", b"left out");
    hello.write("data/dump.sql", b"left out");
    hello.write("data/keep.sql", b"kept");
    hello.write(
        ".gilliamignore",
        b"secret.txt\r\ndata/*\n!data/keep.sql\nbin/.keep\n",
    );
    hello.commit("shapes");
    hello.gilliam(&["create", "hello"]).ok();

    let pushed = hello.pushed(&["gilliam", "main"]);
    let head = hello.gilliam(&["deploy", "--no-wait", "--clean"]);
    let folder = hello.gilliam(&["deploy", "--no-wait", "--clean", "."]);
    let (head, folder) = (head.stderr, folder.stderr);
    let want = arrived(&pushed);
    assert_eq!(arrived(&head), want, "\n{pushed}\n{head}");
    assert_eq!(arrived(&folder), want, "\n{pushed}\n{folder}");
    for file in [
        "755 10 ./bin/tool".to_string(),
        "755 10 ./run".to_string(),
        "644 0 ./empty".to_string(),
        "644 3145728 ./large.bin".to_string(),
        "644 4 ./data/keep.sql".to_string(),
        format!("644 4 ./{deep}"),
    ] {
        assert!(want.contains(&file), "{file} is not in {want:#?}");
    }
    assert!(
        !want
            .iter()
            .any(|file| file.contains("secret") || file.contains("dump")),
        "{want:#?}"
    );
    assert!(
        want.iter()
            .any(|file| file.contains("\u{65e5}\u{672c}\u{8a9e} na\u{ef}ve \u{1f600}.md")),
        "{want:#?}"
    );
    let images: BTreeSet<String> = releases(&platform, "hello")
        .iter()
        .map(|r| r["image"].to_string())
        .collect();
    assert_eq!(images.len(), 1, "the same files give the same image");
}

#[test]
fn what_a_commit_only_points_to_is_named_with_the_way_out() {
    let platform = Platform::start_with(&["--submodules", "none"]);
    let hello = Repository::with_web(&platform, "hello", 200);
    hello.gilliam(&["create", "hello"]).ok();
    let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n");
    hello.write("logo.png", pointer.as_bytes());
    hello.write(".gitattributes", b"*.png filter=lfs diff=lfs merge=lfs -text\n");
    hello.write(
        ".gitmodules",
        b"[submodule \"lib\"]\n\tpath = lib\n\turl = https://example.com/lib.git\n",
    );
    hello.git(&["add", "-A", "-f"]).ok();
    let link = format!("160000,{},lib", "1".repeat(40));
    hello.git(&["update-index", "--add", "--cacheinfo", &link]).ok();
    hello.git(&["commit", "-q", "-m", "pointers"]).ok();
    let said = hello.pushed(&["gilliam", "main"]);
    assert!(said.contains("hint: the submodule lib is not deployed"), "{said}");
    assert!(
        said.contains("hint: logo.png: a commit holds only a pointer of Git LFS"),
        "{said}"
    );

    // A component that is built and not committed comes with a deploy, and is missed in a push.
    hello.git(&["rm", "-q", "--cached", "web.wasm"]).ok();
    hello.git(&["commit", "-q", "-m", "without"]).ok();
    let said = hello.push_refused(&["gilliam", "main"]);
    assert!(
        said.contains("hint: web.wasm is not in the commit: git add -f web.wasm"),
        "{said}"
    );
    hello.gilliam(&["deploy", "--no-wait"]).ok();
}

#[test]
fn a_server_asks_nobody_on_its_own_network_for_submodules() {
    let platform = Platform::start();
    let hello = Repository::with_web(&platform, "hello", 200);
    hello.gilliam(&["create", "hello"]).ok();
    let link = format!("160000,{},lib", "1".repeat(40));
    hello.git(&["update-index", "--add", "--cacheinfo", &link]).ok();
    for (url, why) in [
        (
            "https://127.0.0.1/lib.git",
            "127.0.0.1:443 may not be asked by this server",
        ),
        (
            "https://localhost/lib.git",
            "localhost:443 may not be asked by this server",
        ),
        ("git@example.com:team/lib.git", "is not an https URL"),
        (
            "../lib.git",
            "is relative to a repository that this server does not know",
        ),
    ] {
        let modules = format!("[submodule \"lib\"]\n\tpath = lib\n\turl = {url}\n");
        hello.write(".gitmodules", modules.as_bytes());
        hello.git(&["add", ".gitmodules"]).ok();
        hello.git(&["commit", "-q", "-m", url]).ok();
        let said = hello.push_refused(&["gilliam", "main"]);
        assert!(said.contains("the submodule lib cannot be fetched"), "{said}");
        assert!(said.contains(why) && said.contains("hint:"), "{said}");
    }
}
