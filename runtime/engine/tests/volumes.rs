//! Volumes of guests: a program of Rust's standard library in a real directory.

mod support;

use std::path::{Path, PathBuf};

use gilliam_engine::HttpInstance;
use gilliam_model::limits::Limits;
use support::{ledger, post, services, start_bound};

/// Where the volume is on the disk: the one folder that a service made.
fn folder_of(node: &Path) -> PathBuf {
    let app = node.join("services/shop");
    let mut volumes = std::fs::read_dir(&app)
        .expect("the app's services")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.to_string_lossy().contains("/data-"));
    volumes.next().expect("a volume")
}

/// What Rust's library makes of it: with files written as streams, an error of input or output (29 is EIO in WASI).
fn is_full(said: &str) -> bool {
    said.starts_with("StorageFull") || said.contains("(os error 29)")
}

async fn does(instance: &HttpInstance, what: &str, body: &str) -> String {
    post(instance, &format!("/files?do={what}"), body).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_has_files_that_stay() {
    let folder = tempfile::tempdir().expect("folder");
    let (_services, bound) = services(folder.path(), 1 << 20);
    let web = start_bound(&ledger(), &bound, Limits::default()).await;
    assert_eq!(does(&web, "write&path=/data/a.txt", "hello").await, "done");
    assert_eq!(does(&web, "append&path=/data/a.txt", ", world").await, "done");
    assert_eq!(does(&web, "read&path=/data/a.txt", "").await, "hello, world");
    assert_eq!(does(&web, "mkdir&path=/data/d", "").await, "done");
    assert_eq!(
        does(&web, "rename&path=/data/a.txt&to=/data/d/b.txt", "").await,
        "done"
    );
    assert_eq!(does(&web, "list&path=/data", "").await, "d");
    // Another instance of the app has the same files.
    let other = start_bound(&ledger(), &bound, Limits::default()).await;
    assert_eq!(does(&other, "read&path=/data/d/b.txt", "").await, "hello, world");
    assert_eq!(
        does(&other, "scratch&path=/data/tmp", "only for now").await,
        "only for now"
    );
    for n in 0..200 {
        assert_eq!(
            does(&other, &format!("write&path=/data/d/{n:03}"), "").await,
            "done"
        );
    }
    let listed = does(&other, "list&path=/data/d", "").await;
    assert_eq!(listed.split(' ').count(), 201, "{listed}");
    assert_eq!(does(&other, "truncate&path=/data/d/b.txt&to=5", "").await, "done");
    assert_eq!(does(&other, "read&path=/data/d/b.txt", "").await, "hello");
    let on_disk = std::fs::read_to_string(folder_of(folder.path()).join("d/b.txt"));
    assert_eq!(on_disk.expect("on the disk"), "hello");
    assert!(does(&other, "rmdir&path=/data/d", "").await.contains("not empty"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_full_says_so_and_goes_on() {
    let folder = tempfile::tempdir().expect("folder");
    let (_services, bound) = services(folder.path(), 1 << 20);
    let web = start_bound(&ledger(), &bound, Limits::default()).await;
    let piece = "x".repeat(100_000);
    let full = does(&web, "fill&path=/data/big", &piece).await;
    assert!(is_full(&full), "{full}");
    let size: u64 = does(&web, "size&path=/data/big", "")
        .await
        .parse()
        .expect("a number");
    assert!((900_000..=1 << 20).contains(&size), "{size}");
    let on_disk = std::fs::metadata(folder_of(folder.path()).join("big")).expect("file");
    assert_eq!(on_disk.len(), size);
    let grown = does(&web, "truncate&path=/data/big&to=2000000", "").await;
    assert!(is_full(&grown), "{grown}");
    let refused = does(&web, "write&path=/data/b", &piece).await;
    assert!(is_full(&refused), "{refused}");
    assert_eq!(does(&web, "remove&path=/data/big", "").await, "done");
    assert_eq!(does(&web, "write&path=/data/b", &piece).await, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_a_volume() {
    let folder = tempfile::tempdir().expect("folder");
    let (_services, bound) = services(folder.path(), 1 << 20);
    let web = start_bound(&ledger(), &bound, Limits::default()).await;
    assert_eq!(does(&web, "write&path=/data/mine", "mine").await, "done");
    let inside = folder_of(folder.path());
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "secret").expect("outside");
    std::os::unix::fs::symlink(&secret, inside.join("absolute")).expect("link");
    std::os::unix::fs::symlink("../../../secret", inside.join("up")).expect("link");
    std::os::unix::fs::symlink("/proc/self/root", inside.join("magic")).expect("link");
    let absolute = secret.display();
    for path in [
        "/data/../secret",
        "/data/../../../../secret",
        "/data/absolute",
        "/data/up",
        "/data/magic/etc/passwd",
        "/etc/passwd",
        &format!("{absolute}"),
        &format!("/data/{absolute}"),
        "/proc/self/environ",
    ] {
        for what in [
            "read", "write", "append", "remove", "truncate", "mkdir", "scratch",
        ] {
            // A link itself may go; what it leads to may not.
            if what == "remove" && ["/data/absolute", "/data/up"].contains(&path) {
                continue;
            }
            let said = does(&web, &format!("{what}&path={path}&to=0"), "x").await;
            assert!(said != "done" && said != "secret", "{what} {path}: {said}");
        }
        let said = does(&web, &format!("rename&path=/data/mine&to={path}/x"), "").await;
        assert_ne!(said, "done", "rename to {path}");
        let said = does(&web, &format!("hard-link&path={path}&to=/data/linked"), "").await;
        assert_ne!(said, "done", "hard link of {path}");
    }
    assert_eq!(std::fs::read_to_string(&secret).expect("there"), "secret");
    assert_eq!(does(&web, "read&path=/data/mine", "").await, "mine");
    assert!(
        does(&web, "hard-link&path=/data/mine&to=/data/also", "")
            .await
            .starts_with("Unsupported")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_volumes_has_no_directory() {
    let web = start_bound(&ledger(), &Default::default(), Limits::default()).await;
    for path in ["/", "/data", ".", "/etc/passwd"] {
        let said = does(&web, &format!("list&path={path}"), "").await;
        assert!(
            said.contains("No such file") || said.contains("failed to find"),
            "{path}: {said}"
        );
    }
}
