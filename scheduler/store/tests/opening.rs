//! Opening a store: two at once, a newer format, damage, and what a folder gets.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
};

use gilliam_store::{RangeError, Store, StoreError, Write};
use redb::{Database, TableDefinition};
use tempfile::TempDir;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

fn put(key: &str, value: &str) -> Write {
    Write::Put {
        key: key.into(),
        value: value.as_bytes().to_vec(),
    }
}

#[test]
fn the_folder_and_its_file_are_made_and_private() {
    let folder = TempDir::new().expect("folder");
    let data = folder.path().join("a/b");
    drop(Store::open(&data).expect("open"));
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("store.redb"))), (0o700, 0o600));
    drop(Store::open(&data).expect("open again"));
}

#[test]
fn a_second_opener_is_told_who_it_disturbs() {
    let folder = TempDir::new().expect("folder");
    let first = Store::open(folder.path()).expect("open");
    let error = Store::open(folder.path()).expect_err("in use");
    assert!(
        matches!(&error, StoreError::InUse { path } if path == folder.path()),
        "{error:?}"
    );
    assert!(
        error.to_string().ends_with("is in use by another gilliam"),
        "{error}"
    );
    assert!(error.hint().contains("--data"));
    drop(first);
    Store::open(folder.path()).expect("after the first ended");
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let folder = TempDir::new().expect("folder");
    drop(Store::open(folder.path()).expect("open"));
    {
        let database = Database::open(folder.path().join("store.redb")).expect("redb");
        let transaction = database.begin_write().expect("begin");
        transaction
            .open_table(META)
            .expect("table")
            .insert("layout", 2)
            .expect("insert");
        transaction.commit().expect("commit");
    }
    for _ in 0..2 {
        let error = Store::open(folder.path()).expect_err("newer");
        let StoreError::NewerFormat { found, known, path } = &error else {
            panic!("{error:?}")
        };
        assert_eq!((*found, *known, path.as_path()), (2, 1, folder.path()));
    }
}

#[tokio::test]
async fn a_newer_format_of_records_is_refused_too() {
    let folder = TempDir::new().expect("folder");
    let store = Store::open(folder.path()).expect("open");
    store
        .commit(&[], &[put("/format", "{\"version\":7}")])
        .await
        .expect("commit");
    drop(store);
    let error = Store::open(folder.path()).expect_err("newer");
    assert!(
        matches!(
            error,
            StoreError::NewerFormat {
                found: 7,
                known: 1,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn what_is_not_a_store_is_called_damaged() {
    let folder = TempDir::new().expect("folder");
    let path = folder.path().join("store.redb");
    for bytes in [
        b"no store at all, but a text of some length".to_vec(),
        vec![0xff; 8192],
    ] {
        fs::write(&path, &bytes).expect("write");
        let error = Store::open(folder.path()).expect_err("no store");
        assert!(
            matches!(&error, StoreError::Corrupt { path: at, .. } if *at == path),
            "{error:?}"
        );
        assert_eq!(fs::read(&path).expect("read"), bytes, "left as it is");
    }
}

/// An empty file was taken for a new store, which ended every app; half of one panicked.
#[tokio::test]
async fn a_store_that_was_cut_off_is_refused() {
    let folder = TempDir::new().expect("folder");
    let store = Store::open(folder.path()).expect("open");
    for n in 0..50 {
        let value = format!("{n} ").repeat(2_000);
        store
            .commit(&[], &[put(&format!("/apps/a{n}"), &value)])
            .await
            .expect("commit");
    }
    drop(store);
    let path = folder.path().join("store.redb");
    let whole = fs::read(&path).expect("read");
    for length in [0, 1, 100, 512, 4_096, 8_192, whole.len() / 4, whole.len() / 2] {
        fs::write(&path, &whole[..length]).expect("cut");
        let error = Store::open(folder.path()).expect_err("cut off");
        assert!(
            matches!(&error, StoreError::Corrupt { path: at, .. } if *at == path),
            "{length} bytes: {error:?}"
        );
        if length == 0 {
            assert_eq!(fs::metadata(&path).expect("there").len(), 0, "left as it is");
        }
    }
    fs::write(&path, &whole).expect("restore");
    Store::open(folder.path()).expect("whole again");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = TempDir::new().expect("folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("write");
    let error = Store::open(&file.join("data")).expect_err("below a file");
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn a_flipped_bit_is_an_error_and_never_an_answer() {
    let folder = TempDir::new().expect("folder");
    let store = Store::open(folder.path()).expect("open");
    let value = "the value that is looked for ".repeat(20);
    store
        .commit(&[], &[put("/apps/a", &value), put("/apps/b", "b")])
        .await
        .expect("commit");
    drop(store);

    let path = folder.path().join("store.redb");
    let bytes = fs::read(&path).expect("read");
    let needle = value.as_bytes();
    let places: Vec<usize> = bytes
        .windows(needle.len())
        .enumerate()
        .filter(|(_, w)| *w == needle)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    let file = OpenOptions::new().write(true).open(&path).expect("open");
    for at in places {
        file.write_all_at(&[bytes[at + 100] ^ 0x10], at as u64 + 100)
            .expect("write");
    }

    let store = Store::open(folder.path()).expect("open");
    let error = store.get("/apps/a").await.expect_err("damaged");
    assert!(
        matches!(&error, RangeError::Corrupt { key, .. } if key == "/apps/a"),
        "{error:?}"
    );
    assert_eq!(error.code().as_str(), "S11");
    assert!(store.range("/apps/").await.is_err());
    assert_eq!(
        store.get("/apps/b").await.expect("get").1.expect("there").value,
        b"b"
    );
}
