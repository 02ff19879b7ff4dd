//! States of etcd's that a store must tell of: gone, full, compacted, another's, closed to this user.

use std::{net::TcpListener, time::Duration};

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, PermissionType};
use gilliam_store::{CommitError, EtcdConfig, Password, RangeError, Revision, Store, StoreError, Write};
use tempfile::TempDir;

use crate::{DEADLINE, etcd_process::Etcd, until};

fn put(key: &str, value: &[u8]) -> Write {
    Write::Put {
        key: key.into(),
        value: value.to_vec(),
    }
}

async fn client(etcd: &Etcd) -> Client {
    Client::connect([etcd.address(0)], None).await.expect("connect")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_not_there_is_told_of_within_the_deadline() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("bound");
    drop(nobody);
    let gone: EtcdConfig = format!("etcd://{address}?timeout=1").parse().expect("a URL");
    let etcd = Etcd::alone();
    let mut paused = etcd.config("paused");
    paused.deadline = Duration::from_secs(1);
    etcd.pause(0);
    for config in [gone, paused] {
        let opening = tokio::time::timeout(DEADLINE, Store::open_etcd(config.clone()));
        let error = opening.await.expect("in time").expect_err("nobody answers");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains(&config.members[0]), "{error}");
        assert!(error.hint().contains("etcdctl"), "{}", error.hint());
    }
    etcd.resume(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_etcd_went_away_says_so_and_goes_on_when_it_is_back() {
    let etcd = Etcd::alone();
    let mut config = etcd.config("away");
    config.deadline = Duration::from_secs(1);
    let store = Store::open_etcd(config).await.expect("open");
    let before = store.commit(&[], &[put("/k", b"1")]).await.expect("commit");
    etcd.kill(0);
    // The first may have been on its way; then nobody is there to take one.
    until("a refusal", async || {
        let refused = store
            .commit(&[], &[put("/k", b"2")])
            .await
            .expect_err("nobody is there");
        matches!(refused, CommitError::Unavailable { .. }).then_some(())
    })
    .await;
    let unread = store.get("/k").await.expect_err("nobody is there");
    assert!(matches!(unread, RangeError::Unavailable { .. }), "{unread:?}");
    until("the store to be read-only", async || store.read_only()).await;
    etcd.run(0);
    tokio::task::block_in_place(|| etcd.wait(0));
    let revision = until("a commit", async || {
        store.commit(&[], &[put("/k", b"3")]).await.ok()
    })
    .await;
    assert!(revision > before);
    until("the store to take writes", async || {
        store.read_only().is_none().then_some(())
    })
    .await;
    let woken = tokio::time::timeout(DEADLINE, store.changed("/k", before))
        .await
        .expect("woken");
    assert!(woken > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_etcd_is_read_only_until_its_alarm_is_gone() {
    let etcd = Etcd::start(1, &["--quota-backend-bytes", "6291456"]);
    let store = Store::open_etcd(etcd.config("full")).await.expect("open");
    let large = vec![7; 900 << 10];
    let mut last = None;
    let first = until("the first refusal", async || {
        let answer = store.commit(&[], &[put("/large", &large)]).await;
        last = answer.as_ref().ok().copied().or(last);
        answer.err()
    })
    .await;
    // What filled it may have been stored.
    assert!(matches!(first, CommitError::OutcomeUnknown { .. }), "{first:?}");
    let second = store.commit(&[], &[put("/small", b"")]).await.expect_err("full");
    assert!(
        matches!(&second, CommitError::Unavailable { code, .. } if code.as_str() == "S10"),
        "{second:?}"
    );
    assert!(store.read_only().expect("full").contains("NOSPACE"));
    assert!(store.get("/small").await.expect("readings go on").1.is_none());
    let (now, _) = store.get("/large").await.expect("readings go on");
    assert!(now >= last.expect("some were stored"));

    let mut etcd_client = client(&etcd).await;
    let options = CompactionOptions::new().with_physical();
    let revision = i64::try_from(now.0).expect("fits");
    etcd_client
        .compact(revision, Some(options))
        .await
        .expect("compact");
    etcd_client.defragment().await.expect("defragment");
    let raised = etcd_client.alarm(AlarmAction::Get, AlarmType::None, None).await;
    for alarm in raised.expect("alarms").alarms() {
        let mut options = AlarmOptions::new();
        options.with_member(alarm.member_id());
        let disarmed = etcd_client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options));
        disarmed.await.expect("disarm");
    }
    until("a commit", async || {
        store.commit(&[], &[put("/small", b"")]).await.ok()
    })
    .await;
    until("the store to take writes", async || {
        store.read_only().is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_was_compacted_away_wakes_everyone_and_goes_on() {
    let etcd = Etcd::start(3, &[]);
    let (mut lagging, mut others) = (etcd.config("watch"), etcd.config("watch"));
    lagging.members.truncate(1);
    others.members.remove(0);
    let lagging = Store::open_etcd(lagging).await.expect("open");
    let others = Store::open_etcd(others).await.expect("open");
    let start = others.commit(&[], &[put("/a", b"0")]).await.expect("commit");
    let waiter = lagging.clone();
    let mut waiting = tokio::spawn(async move { waiter.changed("/a", start).await });
    etcd.kill(0);
    let changed = until("a commit", async || {
        others.commit(&[], &[put("/a", b"1")]).await.ok()
    })
    .await;
    let mut last = changed;
    for _ in 0..20 {
        last = until("a commit", async || {
            others.commit(&[], &[put("/b", b"")]).await.ok()
        })
        .await;
    }
    assert!(!waiting.is_finished());
    let mut compacting = Client::connect([etcd.address(1)], None).await.expect("connect");
    let revision = i64::try_from(last.0).expect("fits");
    compacting.compact(revision, None).await.expect("compact");
    etcd.run(0);
    let woken = tokio::time::timeout(DEADLINE, &mut waiting)
        .await
        .expect("woken")
        .expect("waiter");
    assert!(woken >= changed);
    let (seen, _) = until("a reading", async || lagging.get("/a").await.ok()).await;
    let next = others.commit(&[], &[put("/a", b"2")]).await.expect("commit");
    let woken = tokio::time::timeout(DEADLINE, lagging.changed("/a", seen))
        .await
        .expect("woken");
    assert_eq!(woken, next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_reading_is_paged_and_begins_anew_when_it_is_compacted() {
    let etcd = Etcd::alone();
    let store = Store::open_etcd(etcd.config("long")).await.expect("open");
    // Beyond a page in number, and beyond a message in bytes.
    for hundred in 0..25 {
        let writes: Vec<Write> = (0..100)
            .map(|n| put(&format!("/many/{:04}", hundred * 100 + n), &[0; 100]))
            .collect();
        store.commit(&[], &writes).await.expect("commit");
    }
    for n in 0..12 {
        store
            .commit(&[], &[put(&format!("/large/{n:02}"), &vec![n; 1 << 19])])
            .await
            .expect("commit");
    }
    let mut compacting = client(&etcd).await;
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for n in 0..40_u8 {
            let revision = writer.commit(&[], &[put("/other", &[n])]).await.expect("commit");
            let revision = i64::try_from(revision.0).expect("fits");
            compacting.compact(revision, None).await.expect("compact");
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    });
    while !writing.is_finished() {
        match store.ranges(&["/many/", "/large/", "/none/"]).await {
            Ok((_, lists)) => {
                assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [2_500, 12, 0]);
                assert!(lists[0].is_sorted_by(|a, b| a.key < b.key));
                assert!(lists[1].iter().all(|entry| entry.value.len() == 1 << 19));
            }
            Err(error) => assert!(
                error.to_string().contains("faster than it can be read"),
                "{error}"
            ),
        }
    }
    writing.await.expect("writer");
    assert_eq!(store.range("").await.expect("range").1.len(), 2_500 + 12 + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_holds_something_else_is_refused_and_left_as_it_is() {
    let etcd = Etcd::alone();
    let mut client = client(&etcd).await;
    client
        .put("/gilliam/foreign/apps/x", "1", None)
        .await
        .expect("put");
    let error = Store::open_etcd(etcd.config("foreign"))
        .await
        .expect_err("foreign");
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
    assert!(error.to_string().contains("/gilliam/foreign/apps/x"), "{error}");

    let newer = r#"{"cluster":"c","format":7,"base":0}"#;
    client.put("/gilliam/newer", newer, None).await.expect("put");
    client
        .put("/gilliam/newer/format", "{}", None)
        .await
        .expect("put");
    let error = Store::open_etcd(etcd.config("newer")).await.expect_err("newer");
    assert!(
        matches!(error, StoreError::NewerFormatInEtcd { found: 7, .. }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_belongs_to_one_cluster() {
    let (etcd, folder) = (Etcd::alone(), TempDir::new().expect("folder"));
    let config = |cluster: &str| EtcdConfig {
        data: Some(folder.path().into()),
        ..etcd.config(cluster)
    };
    drop(Store::open_etcd(etcd.config("second")).await.expect("open"));
    let first = Store::open_etcd(config("first")).await.expect("open");
    let in_use = Store::open_etcd(config("first"))
        .await
        .expect_err("the folder is in use");
    assert!(matches!(in_use, StoreError::InUse { .. }), "{in_use:?}");
    drop(first);
    for (other, found) in [("second", "holds cluster"), ("third", "holds no data")] {
        let error = Store::open_etcd(config(other)).await.expect_err(other);
        assert!(matches!(error, StoreError::OtherCluster { .. }), "{error:?}");
        assert!(error.to_string().contains(found), "{error}");
        assert!(error.hint().contains("cluster.json"), "{}", error.hint());
    }
    drop(Store::open_etcd(config("first")).await.expect("its own"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_let_in_with_the_password_and_no_further_than_the_role() {
    let etcd = Etcd::alone();
    let mut admin = client(&etcd).await;
    admin.user_add("root", "admin", None).await.expect("user");
    admin.user_grant_role("root", "root").await.expect("role");
    admin.role_add("gilliam").await.expect("role");
    let mine = etcd_client::Permission::new(PermissionType::Readwrite, "/gilliam/mine").with_prefix();
    admin
        .role_grant_permission("gilliam", mine)
        .await
        .expect("permission");
    admin.user_add("gilliam", "secret", None).await.expect("user");
    admin.user_grant_role("gilliam", "gilliam").await.expect("role");
    admin.auth_enable().await.expect("enable");

    let with = |cluster: &str, password: &str| {
        let mut config = etcd.config(cluster);
        let user = Some("gilliam".to_string());
        config
            .set_user(user, Some(Password::new(password)))
            .expect("both");
        config
    };
    for config in [
        etcd.config("mine"),
        with("mine", "wrong"),
        with("other", "secret"),
    ] {
        let error = Store::open_etcd(config).await.expect_err("refused");
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        assert!(error.hint().contains("role"), "{}", error.hint());
    }
    let store = Store::open_etcd(with("mine", "secret")).await.expect("open");
    let revision = store.commit(&[], &[put("/k", b"1")]).await.expect("commit");
    let woken = tokio::time::timeout(DEADLINE, store.changed("/k", Revision(revision.0 - 1))).await;
    assert_eq!(woken.expect("watched"), revision);
}
