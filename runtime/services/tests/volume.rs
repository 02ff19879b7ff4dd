//! A volume as guests have it: what they change is counted, and no name leads out of it.

use std::{fs::File, io, sync::Arc};

use gilliam_services::volume::{At, Open, Volume, limits};

const BLOCK: u64 = limits::BLOCK_BYTES;

struct Disk {
    folder: tempfile::TempDir,
    volume: Volume,
    root: File,
}

fn disk(quota_bytes: u64) -> Disk {
    let folder = tempfile::tempdir().expect("folder");
    let volume = Volume::new(folder.path().join("shop/data"), quota_bytes);
    let root = volume.root().expect("root");
    Disk { folder, volume, root }
}

const CREATE: Open = Open {
    read: true,
    write: true,
    create: true,
    exclusive: false,
    truncate: false,
    follow: true,
};

impl Disk {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<File>> {
        self.volume.open(&self.root, path, how, |file| {
            let file = Arc::new(file);
            let weak = Arc::downgrade(&file);
            (file, Some(weak))
        })
    }

    fn create(&self, path: &str) -> Arc<File> {
        self.open(path, CREATE).expect(path)
    }

    fn bytes(&self) -> u64 {
        self.volume.usage().expect("usage").bytes
    }

    /// Counted anew, as after a start of the node.
    #[track_caller]
    fn is_as_counted_anew(&self) {
        let again = Volume::new(self.folder.path().join("shop/data"), u64::MAX)
            .usage()
            .expect("usage");
        let usage = self.volume.usage().expect("usage");
        assert_eq!((usage.bytes, usage.entries), (again.bytes, again.entries));
    }
}

#[track_caller]
fn is_full(result: io::Result<impl Sized>) {
    assert_eq!(
        result.err().map(|error| error.kind()),
        Some(io::ErrorKind::StorageFull)
    );
}

#[test]
fn what_grows_and_shrinks_is_counted() {
    let disk = disk(64 * BLOCK);
    let file = disk.create("a");
    assert_eq!(disk.bytes(), 0);
    assert_eq!(
        disk.volume.write(&file, b"hello", At::Offset(0)).expect("write"),
        5
    );
    assert_eq!(disk.bytes(), BLOCK);
    disk.volume.write(&file, &[1; 4096], At::End).expect("append");
    assert_eq!(disk.bytes(), 2 * BLOCK);
    disk.volume.create_dir(&disk.root, "d").expect("directory");
    disk.volume.symlink(&disk.root, "a", "d/link").expect("link");
    assert_eq!(disk.bytes(), 4 * BLOCK);
    disk.is_as_counted_anew();
    // A hole counts as what it seems to be.
    disk.volume.set_size(&file, 40 * BLOCK).expect("size");
    assert_eq!(disk.bytes(), 42 * BLOCK);
    disk.volume.set_size(&file, 1).expect("size");
    disk.is_as_counted_anew();
    drop(file);
    disk.open(
        "a",
        Open {
            truncate: true,
            ..CREATE
        },
    )
    .expect("truncated");
    disk.volume
        .rename(&disk.root, "a", &disk.root, "d/b")
        .expect("renamed");
    disk.volume.remove_file(&disk.root, "d/link").expect("removed");
    disk.is_as_counted_anew();
    disk.volume.remove_file(&disk.root, "d/b").expect("removed");
    disk.volume.remove_dir(&disk.root, "d").expect("removed");
    assert_eq!(
        (disk.bytes(), disk.volume.usage().expect("usage").entries),
        (0, 0)
    );
}

#[test]
fn a_volume_ends_at_its_quota() {
    let disk = disk(8 * BLOCK);
    let file = disk.create("a");
    disk.volume
        .write(&file, &[1; 4 * 4096], At::Offset(0))
        .expect("fits");
    is_full(disk.volume.write(&file, &[1; 4 * 4096 + 1], At::End));
    is_full(disk.volume.write(&file, b"x", At::Offset(1 << 40)));
    is_full(disk.volume.set_size(&file, 9 * BLOCK));
    is_full(disk.volume.set_size(&file, u64::MAX / 4));
    assert!(disk.volume.write(&file, b"x", At::Offset(u64::MAX)).is_err());
    let other = disk.create("b");
    disk.volume
        .write(&other, &[1; 4 * 4096], At::Offset(0))
        .expect("fits");
    is_full(disk.volume.create_dir(&disk.root, "d"));
    // What is there can be written over.
    disk.volume.write(&file, &[2; 4096], At::Offset(0)).expect("over");
    assert_eq!(disk.bytes(), 8 * BLOCK);
    disk.volume.set_quota(16 * BLOCK);
    disk.volume.create_dir(&disk.root, "d").expect("fits now");
    disk.is_as_counted_anew();
}

#[test]
fn a_file_that_was_removed_counts_until_it_is_closed() {
    let disk = disk(8 * BLOCK);
    for _ in 0..3 {
        let file = disk.create("a");
        disk.volume
            .write(&file, &[1; 3 * 4096], At::Offset(0))
            .expect("fits");
        disk.volume.remove_file(&disk.root, "a").expect("removed");
        // It still grows, and that counts too.
        disk.volume.write(&file, &[1; 3 * 4096], At::End).expect("fits");
        let other = disk.create("b");
        is_full(disk.volume.write(&other, &[1; 3 * 4096], At::Offset(0)));
        drop(file);
        disk.volume
            .write(&other, &[1; 3 * 4096], At::Offset(0))
            .expect("fits when it is closed");
        // One whose place another takes is removed too.
        disk.create("c");
        disk.volume
            .rename(&disk.root, "c", &disk.root, "b")
            .expect("renamed");
        let third = disk.create("d");
        is_full(disk.volume.write(&third, &[1; 6 * 4096], At::Offset(0)));
        drop(other);
        disk.volume
            .write(&third, &[1; 6 * 4096], At::Offset(0))
            .expect("fits");
        drop(third);
        disk.volume.remove_file(&disk.root, "d").expect("removed");
        disk.volume.remove_file(&disk.root, "b").expect("removed");
    }
    disk.is_as_counted_anew();
}

#[test]
fn no_name_leads_out() {
    let disk = disk(64 * BLOCK);
    let outside = disk.folder.path().join("secret");
    std::fs::write(&outside, "secret").expect("outside");
    let absolute = outside.to_str().expect("text").to_owned();
    disk.volume.create_dir(&disk.root, "d").expect("directory");
    // Whoever made them: links that lead out.
    let root = disk.folder.path().join("shop/data");
    std::os::unix::fs::symlink("../../secret", root.join("up")).expect("link");
    std::os::unix::fs::symlink(&absolute, root.join("absolute")).expect("link");
    std::os::unix::fs::symlink("../..", root.join("d/above")).expect("link");
    std::os::unix::fs::symlink("/proc/self/root", root.join("magic")).expect("link");
    let read = Open {
        read: true,
        follow: true,
        ..Open::default()
    };
    for path in [
        "../../secret",
        "d/../../../secret",
        "up",
        "absolute",
        "d/above/secret",
        "magic/etc/passwd",
        "magic",
        absolute.as_str(),
        "/",
        "..",
        "d/../..",
        "",
        "a\0b",
    ] {
        assert!(disk.open(path, read).is_err(), "{path:?} was opened");
        assert!(disk.open(path, CREATE).is_err(), "{path:?} was made");
        assert!(disk.volume.create_dir(&disk.root, path).is_err(), "{path:?}");
        let renamed = disk
            .volume
            .rename(&disk.root, "d", &disk.root, &format!("{path}/x"));
        assert!(renamed.is_err(), "d was renamed to {path:?}/x");
    }
    for path in ["../../secret", "d/above/secret", absolute.as_str()] {
        assert!(disk.volume.remove_file(&disk.root, path).is_err(), "{path:?}");
        assert!(
            disk.volume.rename(&disk.root, path, &disk.root, "mine").is_err(),
            "{path:?}"
        );
    }
    assert_eq!(std::fs::read_to_string(&outside).expect("there"), "secret");
    assert_eq!(std::fs::read_dir(disk.folder.path()).expect("folder").count(), 2);
    // A link of the guest's own inside works.
    disk.create("d/file");
    disk.volume.symlink(&disk.root, "d/file", "inside").expect("link");
    disk.open("inside", read).expect("inside");
}

#[test]
fn directories_are_not_too_deep() {
    let disk = disk(1 << 30);
    let mut path = "d".to_owned();
    while path.len() < limits::PATH_BYTES_MAX {
        match disk.volume.create_dir(&disk.root, &path) {
            Ok(()) => path.push_str("/d"),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidFilename);
                break;
            }
        }
    }
    let depth = path.matches('/').count();
    assert!((900..=1024).contains(&depth), "{depth} deep");
    // Nor when a tree is moved into another.
    disk.volume.create_dir(&disk.root, "e").expect("directory");
    let error = disk
        .volume
        .rename(&disk.root, "d", &disk.root, "e/d")
        .expect_err("too deep");
    assert_eq!(error.kind(), io::ErrorKind::InvalidFilename);
    disk.is_as_counted_anew();
}
