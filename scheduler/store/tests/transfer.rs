//! Everything from a folder to etcd and back, by a file: equal by digest, whole or refused.

mod etcd_process;

use std::{io::BufReader, path::Path};

use etcd_process::Etcd;
use gilliam_store::{
    COMMIT_BYTES_MAX, Revision, Store, StoreError, Write, keys,
    transfer::{self, Summary, TransferError},
};
use tempfile::TempDir;

fn put(key: &str, value: impl Into<Vec<u8>>) -> Write {
    Write::Put {
        key: key.into(),
        value: value.into(),
    }
}

/// A store with more than a page of small values, and of large ones.
async fn fill(store: &Store) -> Revision {
    for hundred in 0..12 {
        let writes: Vec<Write> = (0..100)
            .map(|n| {
                put(
                    &format!("/apps/a{:05}", hundred * 100 + n),
                    format!("{{\"n\":{n}}}"),
                )
            })
            .collect();
        store.commit(&[], &writes).await.expect("commit");
    }
    for n in 0..3_u8 {
        let key = format!("/releases/a/{n}");
        let value = vec![n + 200; COMMIT_BYTES_MAX - key.len()];
        store.commit(&[], &[put(&key, value)]).await.expect("commit");
    }
    store
        .commit(&[], &[put("/tokens/t", "secret")])
        .await
        .expect("commit")
}

async fn export(store: &Store) -> (Vec<u8>, Summary) {
    let mut file = Vec::new();
    let (_, summary) = transfer::export(store, &mut file).await.expect("export");
    let (_, verified) = transfer::verify(file.as_slice()).expect("whole");
    assert_eq!(verified, summary);
    (file, summary)
}

async fn import(store: &Store, file: &[u8], replace: bool) -> Result<Summary, TransferError> {
    transfer::import(store, BufReader::with_capacity(7_000, file), replace).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_folder_to_etcd_and_back_nothing_changes_but_revisions_grow() {
    let (etcd, first, last) = (Etcd::alone(), folder(), folder());
    let store = Store::open(first.path()).expect("open");
    let written = fill(&store).await;
    let want = store.range("").await.expect("range").1;
    let (file, summary) = export(&store).await;
    assert_eq!(summary.entries, 1_200 + 3 + 1 + 1);
    drop(store);

    let (head, _) = transfer::verify(file.as_slice()).expect("whole");
    let store = transfer::open_etcd(etcd.config("moved"), &head)
        .await
        .expect("open");
    assert_eq!(import(&store, &file, false).await.expect("import"), summary);
    drop(store);
    let store = Store::open_etcd(etcd.config("moved")).await.expect("open");
    let (in_etcd, entries) = store.range("").await.expect("range");
    assert!(in_etcd > written, "nodes refuse what is older");
    let plain = |entries: &[gilliam_store::Entry]| -> Vec<_> {
        entries.iter().map(|e| (e.key.clone(), e.value.clone())).collect()
    };
    assert!(plain(&entries) == plain(&want));
    let (file, of_etcd) = export(&store).await;
    assert_eq!(of_etcd, summary);

    let store = transfer::open_folder(last.path()).expect("open");
    assert_eq!(import(&store, &file, false).await.expect("import"), summary);
    drop(store);
    let store = Store::open(last.path()).expect("open");
    assert!(store.get(keys::FORMAT).await.expect("get").0 > in_etcd);
    assert_eq!(export(&store).await.1, summary);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_holds_something_is_replaced_only_when_told_so() {
    let (etcd, from) = (Etcd::alone(), folder());
    let store = Store::open(from.path()).expect("open");
    store
        .commit(&[], &[put("/apps/new", "{}")])
        .await
        .expect("commit");
    let (file, summary) = export(&store).await;
    drop(store);
    let (head, _) = transfer::verify(file.as_slice()).expect("whole");

    let to = folder();
    let in_folder = Store::open(to.path()).expect("open");
    let in_etcd = Store::open_etcd(etcd.config("full")).await.expect("open");
    for store in [in_folder, in_etcd] {
        let writes: Vec<Write> = (0..100).map(|n| put(&format!("/apps/old{n}"), "{}")).collect();
        store.commit(&[], &writes).await.expect("commit");
    }
    let in_folder = transfer::open_folder(to.path()).expect("open");
    let in_etcd = transfer::open_etcd(etcd.config("full"), &head)
        .await
        .expect("open");
    for store in [in_folder, in_etcd] {
        let before = store.range("").await.expect("range");
        let refused = import(&store, &file, false)
            .await
            .expect_err("it holds something");
        assert!(
            matches!(&refused, TransferError::NotEmpty { key } if key == "/apps/old0"),
            "{refused:?}"
        );
        assert!(refused.hint().contains("--replace"));
        assert_eq!(store.range("").await.expect("range"), before, "left as it is");
        assert_eq!(import(&store, &file, true).await.expect("import"), summary);
        assert_eq!(export(&store).await.1, summary);
    }
    let reopened = Store::open_etcd(etcd.config("full")).await.expect("open");
    assert!(reopened.get(keys::FORMAT).await.expect("get").0 > head.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_was_not_finished_is_opened_by_no_control_plane() {
    let (etcd, from) = (Etcd::alone(), folder());
    let store = Store::open(from.path()).expect("open");
    fill(&store).await;
    let (file, summary) = export(&store).await;
    drop(store);
    let (head, _) = transfer::verify(file.as_slice()).expect("whole");
    let cut = &file[..file.len() / 2];
    assert!(matches!(
        transfer::verify(cut).expect_err("cut"),
        TransferError::Damaged { .. }
    ));

    let to = folder();
    let store = transfer::open_folder(to.path()).expect("open");
    import(&store, cut, false).await.expect_err("cut off");
    drop(store);
    unfinished(Store::open(to.path()));
    let store = transfer::open_folder(to.path()).expect("open");
    assert_eq!(import(&store, &file, true).await.expect("again"), summary);
    drop(store);
    Store::open(to.path()).expect("whole");

    let store = transfer::open_etcd(etcd.config("cut"), &head)
        .await
        .expect("open");
    import(&store, cut, false).await.expect_err("cut off");
    unfinished(Store::open_etcd(etcd.config("cut")).await);
    assert_eq!(import(&store, &file, true).await.expect("again"), summary);
    Store::open_etcd(etcd.config("cut")).await.expect("whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_takes_no_store_from_a_control_plane_and_makes_none() {
    let (etcd, data) = (Etcd::alone(), folder());
    let missing = Store::open_existing(data.path()).expect_err("none is there");
    assert!(matches!(missing, StoreError::Missing { .. }), "{missing:?}");
    assert!(is_empty(data.path()));
    let missing = Store::open_existing_etcd(etcd.config("none"))
        .await
        .expect_err("none is there");
    assert!(matches!(missing, StoreError::Missing { .. }), "{missing:?}");
    let store = Store::open(data.path()).expect("open");
    let in_use = Store::open_existing(data.path()).expect_err("a control plane has it");
    assert!(matches!(in_use, StoreError::InUse { .. }), "{in_use:?}");
    drop(store);
}

fn folder() -> TempDir {
    TempDir::new().expect("folder")
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("folder").next().is_none()
}

fn unfinished(opened: Result<Store, StoreError>) {
    let error = opened.expect_err("a part of a store");
    assert!(matches!(error, StoreError::Unfinished { .. }), "{error:?}");
    assert!(error.hint().contains("import"), "{}", error.hint());
}
