//! What every key space must do, in one suite that runs on each: in memory, in a file, and in a real etcd.

#[path = "../etcd_process/mod.rs"]
mod etcd_process;
mod following;
mod history;

use std::{sync::Arc, time::Duration};

use etcd_process::Etcd;
use following::{
    following_is_like_reading_anew, since_has_every_acknowledged_commit,
    since_tells_what_changed_and_no_more, what_is_followed_is_of_one_revision,
};
use gilliam_store::{
    COMMIT_BYTES_MAX, COMMIT_OPERATIONS_MAX, Check, CommitError, Entry, Revision, Store, Write,
};
use history::any_history_reads_like_its_model;
use tempfile::TempDir;

/// A deadline for what must happen: far beyond the slowest disk.
const DEADLINE: Duration = Duration::from_secs(30);

/// A key space under test, which can be closed and opened again.
struct Subject {
    store: Option<Store>,
    place: Place,
}

enum Place {
    Memory,
    File(TempDir),
    /// With the name of its cluster.
    Etcd(Arc<Etcd>, String),
}

impl Subject {
    fn in_memory() -> Self {
        Self::open(Place::Memory)
    }

    fn in_a_file() -> Self {
        Self::open(Place::File(TempDir::new().expect("folder")))
    }

    fn in_etcd() -> Self {
        let (etcd, cluster) = tokio::task::block_in_place(etcd_process::shared);
        Self::open(Place::Etcd(etcd, cluster))
    }

    fn open(place: Place) -> Self {
        let store = match &place {
            Place::Memory => Store::memory(),
            Place::File(folder) => Store::open(folder.path()).expect("open"),
            Place::Etcd(etcd, cluster) => tokio::task::block_in_place(|| {
                let opening = Store::open_etcd(etcd.config(cluster));
                tokio::runtime::Handle::current().block_on(opening).expect("open")
            }),
        };
        Self {
            store: Some(store),
            place,
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("there between calls")
    }

    /// Closes and opens; what lives in memory only stays as it is.
    fn reopen(&mut self) {
        if !matches!(self.place, Place::Memory) {
            // Closed first, for a file is open once.
            drop(self.store.take());
            let place = std::mem::replace(&mut self.place, Place::Memory);
            *self = Self::open(place);
        }
    }

    /// Whether nobody else makes revisions: in etcd those of others lie between.
    fn counts_alone(&self) -> bool {
        !matches!(self.place, Place::Etcd(..))
    }

    /// That a reading found the store as of `want`.
    fn assert_as_of(&self, found: Revision, want: Revision) {
        assert!(
            found == want || (found > want && !self.counts_alone()),
            "as of {found}, not {want}"
        );
    }

    /// That a commit that changed something made a revision after `before`.
    fn assert_next(&self, made: Revision, before: Revision) {
        assert!(
            made == before.next() || (made > before && !self.counts_alone()),
            "{made} after {before}"
        );
    }
}

macro_rules! conformance {
    ($($name:ident,)*) => {
        mod in_memory {
            $(#[test] fn $name() { super::run(super::$name, super::Subject::in_memory) })*
        }
        mod in_a_file {
            $(#[test] fn $name() { super::run(super::$name, super::Subject::in_a_file) })*
        }
        mod in_etcd {
            $(#[test] fn $name() { super::run(super::$name, super::Subject::in_etcd) })*
        }
    };
}

conformance! {
    a_new_store_holds_its_format_only,
    a_range_is_every_key_with_the_prefix_in_order,
    ranges_are_read_at_one_revision,
    a_commit_happens_only_if_every_check_holds,
    a_refused_commit_changes_nothing,
    a_commit_without_writes_makes_no_revision,
    limits_are_on_operations_and_bytes,
    of_many_who_create_a_key_one_wins,
    counters_lose_no_update,
    changed_waits_for_its_prefix,
    changed_tells_of_what_was_before_the_wait,
    changed_may_be_dropped_and_asked_again,
    since_tells_what_changed_and_no_more,
    since_has_every_acknowledged_commit,
    what_is_followed_is_of_one_revision,
    following_is_like_reading_anew,
    any_history_reads_like_its_model,
}

fn run<F: Future>(case: fn(fn() -> Subject) -> F, make: fn() -> Subject) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE * 4, case(make))
            .await
            .expect("in time")
    });
}

fn put(key: &str, value: &str) -> Write {
    Write::Put {
        key: key.into(),
        value: value.as_bytes().to_vec(),
    }
}

fn delete(key: &str) -> Write {
    Write::Delete { key: key.into() }
}

async fn commit(store: &Store, checks: &[Check], writes: &[Write]) -> Revision {
    store.commit(checks, writes).await.expect("commit")
}

async fn keys(store: &Store, prefix: &str) -> Vec<String> {
    store
        .range(prefix)
        .await
        .expect("range")
        .1
        .into_iter()
        .map(|entry| entry.key)
        .collect()
}

async fn a_new_store_holds_its_format_only(make: fn() -> Subject) {
    let mut subject = make();
    for _ in 0..2 {
        let (revision, entries) = subject.store().range("/").await.expect("range");
        subject.assert_as_of(revision, Revision(1));
        assert_eq!(entries.len(), 1);
        assert_eq!(
            (entries[0].key.as_str(), entries[0].value.as_slice()),
            ("/format", b"{\"version\":1}".as_slice())
        );
        assert_eq!(subject.store().read_only(), None);
        subject.reopen();
    }
}

async fn a_range_is_every_key_with_the_prefix_in_order(make: fn() -> Subject) {
    let subject = make();
    let store = subject.store();
    commit(
        store,
        &[],
        &[
            put("/a/2", ""),
            put("/a/10", ""),
            put("/a", ""),
            put("/b", ""),
            put("/a0", ""),
        ],
    )
    .await;
    commit(store, &[], &[put("/a/\u{10ffff}", ""), put("/a/ü", "")]).await;
    assert_eq!(
        keys(store, "/a/").await,
        ["/a/10", "/a/2", "/a/ü", "/a/\u{10ffff}"]
    );
    assert_eq!(
        keys(store, "/a").await,
        ["/a", "/a/10", "/a/2", "/a/ü", "/a/\u{10ffff}", "/a0"]
    );
    assert_eq!(keys(store, "/c").await, Vec::<String>::new());
    assert_eq!(keys(store, "").await.len(), 8);
    assert_eq!(store.get("/a").await.expect("get").1.expect("there").key, "/a");
    assert_eq!(store.get("/a/").await.expect("get").1, None);
}

async fn ranges_are_read_at_one_revision(make: fn() -> Subject) {
    let subject = make();
    let writer = subject.store().clone();
    let writing = tokio::spawn(async move {
        for n in 0..40 {
            let n = n.to_string();
            commit(&writer, &[], &[put("/left", &n), put("/right", &n)]).await;
        }
    });
    while !writing.is_finished() {
        let (revision, lists) = subject
            .store()
            .ranges(&["/left", "/right"])
            .await
            .expect("ranges");
        let [left, right] = lists.as_slice() else {
            panic!("two lists")
        };
        assert_eq!(left.first().map(|e| &e.value), right.first().map(|e| &e.value));
        assert!(left.iter().all(|e| e.revision <= revision));
    }
    writing.await.expect("writer");
}

async fn a_commit_happens_only_if_every_check_holds(make: fn() -> Subject) {
    let subject = make();
    let store = subject.store();
    let first = commit(store, &[Check::absent("/k")], &[put("/k", "1")]).await;
    let conflict = Err(CommitError::Conflict { key: "/k".into() });
    assert_eq!(
        store.commit(&[Check::absent("/k")], &[put("/k", "2")]).await,
        conflict
    );
    let second = commit(store, &[Check::at("/k", first)], &[put("/k", "2")]).await;
    assert!(second > first);
    assert_eq!(
        store.commit(&[Check::at("/k", first)], &[put("/k", "3")]).await,
        conflict
    );
    assert_eq!(
        store
            .commit(&[Check::at("/gone", first)], &[])
            .await
            .expect_err("absent")
            .code()
            .as_str(),
        "S12"
    );
    let both = [Check::absent("/other"), Check::at("/k", first)];
    assert_eq!(store.commit(&both, &[put("/x", "")]).await, conflict);
    commit(
        store,
        &[Check::at("/k", second)],
        &[delete("/k"), delete("/never-there")],
    )
    .await;
    let third = commit(store, &[Check::absent("/k")], &[put("/k", "4")]).await;
    let entry = store.get("/k").await.expect("get").1.expect("there");
    assert_eq!(
        entry,
        Entry {
            key: "/k".into(),
            value: b"4".to_vec(),
            revision: third
        }
    );
}

async fn a_refused_commit_changes_nothing(make: fn() -> Subject) {
    let mut subject = make();
    commit(subject.store(), &[], &[put("/k", "1")]).await;
    let (revision, before) = subject.store().range("/").await.expect("range");
    let writes = [put("/k", "2"), put("/l", "2"), delete("/format")];
    assert!(
        subject
            .store()
            .commit(&[Check::absent("/k")], &writes)
            .await
            .is_err()
    );
    for _ in 0..2 {
        let (as_of, entries) = subject.store().range("/").await.expect("range");
        subject.assert_as_of(as_of, revision);
        assert_eq!(entries, before);
        subject.reopen();
    }
}

async fn a_commit_without_writes_makes_no_revision(make: fn() -> Subject) {
    let subject = make();
    let revision = commit(subject.store(), &[], &[put("/k", "1")]).await;
    for checks in [&[Check::at("/k", revision)][..], &[]] {
        let as_of = commit(subject.store(), checks, &[]).await;
        subject.assert_as_of(as_of, revision);
    }
    // Even of the same value.
    let next = commit(subject.store(), &[], &[put("/k", "1")]).await;
    subject.assert_next(next, revision);
}

async fn limits_are_on_operations_and_bytes(make: fn() -> Subject) {
    let subject = make();
    let store = subject.store();
    let writes: Vec<Write> = (0..COMMIT_OPERATIONS_MAX)
        .map(|n| put(&format!("/k/{n}"), ""))
        .collect();
    commit(store, &[], &writes).await;
    let refused = store
        .commit(&[Check::absent("/x")], &writes)
        .await
        .expect_err("one too many");
    assert_eq!(refused.code().as_str(), "A413");
    assert!(refused.to_string().contains("121 operations"), "{refused}");

    let most = Write::Put {
        key: "/k".into(),
        value: vec![7; COMMIT_BYTES_MAX - 2],
    };
    commit(store, &[], &[most]).await;
    let more = Write::Put {
        key: "/k".into(),
        value: vec![8; COMMIT_BYTES_MAX - 1],
    };
    assert!(matches!(
        store.commit(&[], &[more]).await,
        Err(CommitError::TooLarge { .. })
    ));
    let entry = store.get("/k").await.expect("get").1.expect("there");
    assert_eq!((entry.value.len(), entry.value[0]), (COMMIT_BYTES_MAX - 2, 7));
}

async fn of_many_who_create_a_key_one_wins(make: fn() -> Subject) {
    let subject = make();
    let tasks: Vec<_> = (0..24)
        .map(|n| {
            let store = subject.store().clone();
            let mine = put("/k", &n.to_string());
            tokio::spawn(async move { (n, store.commit(&[Check::absent("/k")], &[mine]).await) })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.expect("task") {
            (n, Ok(revision)) => winners.push((n, revision)),
            (_, Err(error)) => assert_eq!(error, CommitError::Conflict { key: "/k".into() }),
        }
    }
    let [(n, revision)] = winners.as_slice() else {
        panic!("winners: {winners:?}")
    };
    let entry = subject.store().get("/k").await.expect("get").1.expect("there");
    assert_eq!(
        (entry.value, entry.revision),
        (n.to_string().into_bytes(), *revision)
    );
}

async fn counters_lose_no_update(make: fn() -> Subject) {
    const TASKS: u64 = 6;
    const ADDITIONS: u64 = 10;
    let subject = make();
    commit(subject.store(), &[], &[put("/n", "0")]).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let store = subject.store().clone();
            tokio::spawn(async move {
                for _ in 0..ADDITIONS {
                    add_one(&store).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("task");
    }
    let value = subject
        .store()
        .get("/n")
        .await
        .expect("get")
        .1
        .expect("there")
        .value;
    assert_eq!(value, (TASKS * ADDITIONS).to_string().into_bytes());
}

async fn add_one(store: &Store) {
    loop {
        let entry = store.get("/n").await.expect("get").1.expect("there");
        let n: u64 = String::from_utf8(entry.value)
            .expect("text")
            .parse()
            .expect("number");
        match store
            .commit(
                &[Check::at("/n", entry.revision)],
                &[put("/n", &(n + 1).to_string())],
            )
            .await
        {
            Ok(_) => return,
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn changed_waits_for_its_prefix(make: fn() -> Subject) {
    let subject = make();
    let store = subject.store();
    let start = commit(store, &[], &[put("/a/1", "")]).await;
    let waiter = store.clone();
    let mut waiting = tokio::spawn(async move { waiter.changed("/a/", start).await });
    for _ in 0..10 {
        commit(store, &[], &[put("/b/1", ""), put("/a", "")]).await;
    }
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "woken by another prefix");
    let change = commit(store, &[], &[delete("/a/1")]).await;
    assert_eq!((&mut waiting).await.expect("waiter"), change);
}

async fn changed_tells_of_what_was_before_the_wait(make: fn() -> Subject) {
    let subject = make();
    let store = subject.store();
    let start = store.range("/").await.expect("range").0;
    let first = commit(store, &[], &[put("/a", "")]).await;
    let second = commit(store, &[], &[put("/b", "")]).await;
    assert_eq!(store.changed("/a", start).await, first);
    assert_eq!(store.changed("/b", first).await, second);
    assert_eq!(store.changed("/", start).await, second);
    // Before what is known: at once.
    store.changed("/c", Revision(0)).await;
}

async fn changed_may_be_dropped_and_asked_again(make: fn() -> Subject) {
    let subject = make();
    let store = subject.store();
    let mut seen = store.range("/a").await.expect("range").0;
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        let mut last = Revision(0);
        for n in 0..60 {
            last = commit(
                &writer,
                &[],
                &[put(if n % 3 == 0 { "/a" } else { "/b" }, &n.to_string())],
            )
            .await;
        }
        commit(&writer, &[Check::at("/b", last)], &[put("/a", "end")]).await
    });
    let end = loop {
        // A wait that is given up again and again must not miss a change.
        tokio::select! {
            biased;
            revision = store.changed("/a", seen) => {
                assert!(revision > seen);
                let (read_at, entry) = store.get("/a").await.expect("get");
                assert!(read_at >= revision);
                seen = read_at;
                if entry.expect("there").value == b"end" {
                    break seen;
                }
            }
            () = tokio::task::yield_now() => {}
        }
    };
    subject.assert_as_of(end, writing.await.expect("writer"));
}
