//! Following a store by what changed, compared with reading it anew.

use std::collections::BTreeMap;

use gilliam_store::{Changed, Entry, Revision, Since, Store};

use crate::{Subject, commit, delete, put};

/// Some prefixes of a store as they were at one revision, kept by what changed since.
pub(crate) struct Mirror {
    prefixes: &'static [&'static str],
    revision: Option<Revision>,
    pub(crate) entries: BTreeMap<String, (Revision, Vec<u8>)>,
    /// Times everything was read.
    readings: usize,
}

impl Mirror {
    pub(crate) fn new(prefixes: &'static [&'static str]) -> Self {
        Self {
            prefixes,
            revision: None,
            entries: BTreeMap::new(),
            readings: 0,
        }
    }

    /// Brings it up to date.
    pub(crate) async fn follow(&mut self, store: &Store) {
        let since = match self.revision {
            Some(revision) => store.since(self.prefixes, revision).await.expect("since"),
            None => Since::Forgotten,
        };
        match since {
            Since::Known { revision, changes } => {
                assert!(Some(revision) >= self.revision, "back to {revision}");
                for change in changes {
                    let at = match &change {
                        Changed::Put(entry) => Some(entry.revision),
                        Changed::Deleted(_) => None,
                    };
                    assert!(at.is_none_or(|at| Some(at) > self.revision && at <= revision));
                    self.take(change);
                }
                self.revision = Some(revision);
            }
            Since::Forgotten => {
                let (revision, lists) = store.ranges(self.prefixes).await.expect("ranges");
                self.entries.clear();
                let entries = lists.into_iter().flatten();
                entries.for_each(|entry| self.take(Changed::Put(entry)));
                self.revision = Some(revision);
                self.readings += 1;
            }
        }
    }

    /// Whether all but the first state was told; a watch of etcd's may lag behind for so long that it is read anew.
    fn was_told(&self, subject: &Subject) -> bool {
        self.readings == 1 || !subject.counts_alone()
    }

    fn take(&mut self, change: Changed) {
        match change {
            Changed::Put(Entry { key, value, revision }) => {
                self.entries.insert(key, (revision, value));
            }
            Changed::Deleted(key) => drop(self.entries.remove(&key)),
        }
    }
}

fn names(changes: &[Changed]) -> Vec<(&str, Option<&[u8]>)> {
    changes
        .iter()
        .map(|change| match change {
            Changed::Put(entry) => (entry.key.as_str(), Some(entry.value.as_slice())),
            Changed::Deleted(key) => (key.as_str(), None),
        })
        .collect()
}

pub(crate) async fn since_tells_what_changed_and_no_more(make: fn() -> Subject) {
    let subject = make();
    let store = subject.store();
    let before = commit(
        store,
        &[],
        &[put("/a/1", "old"), put("/a/2", "old"), put("/b", "old")],
    )
    .await;
    let changed = async |prefixes: &[&str], after| match store.since(prefixes, after).await.expect("since") {
        Since::Known { revision, changes } => (revision, changes),
        Since::Forgotten => panic!("{after} is forgotten"),
    };
    let (revision, changes) = changed(&["/"], before).await;
    subject.assert_as_of(revision, before);
    assert_eq!(changes, []);
    commit(
        store,
        &[],
        &[put("/a/1", "new"), delete("/a/2"), put("/c", "new")],
    )
    .await;
    commit(store, &[], &[put("/a/1", "newer"), delete("/never-there")]).await;
    let last = commit(store, &[], &[put("/b", "new"), delete("/c")]).await;
    let (revision, changes) = changed(&["/a", "/b"], before).await;
    subject.assert_as_of(revision, last);
    let newer: (&str, Option<&[u8]>) = ("/a/1", Some(b"newer"));
    assert_eq!(names(&changes), [newer, ("/a/2", None), ("/b", Some(b"new"))]);
    let (_, changes) = changed(&["/c"], before).await;
    assert_eq!(names(&changes), [("/c", None)]);
    let (_, changes) = changed(&["/"], last).await;
    assert_eq!(changes, []);
    // From before the store was opened, it may all have been forgotten.
    assert_eq!(
        store.since(&["/"], Revision(0)).await.expect("since"),
        Since::Forgotten
    );
}

pub(crate) async fn since_has_every_acknowledged_commit(make: fn() -> Subject) {
    let subject = make();
    let store = subject.store();
    let mut mirror = Mirror::new(&["/k"]);
    mirror.follow(store).await;
    for n in 0..50 {
        let (key, value) = (format!("/k/{}", n % 7), n.to_string());
        let revision = commit(store, &[], &[put(&key, &value), put("/other", "")]).await;
        mirror.follow(store).await;
        assert_eq!(mirror.entries[&key], (revision, value.into_bytes()));
    }
    assert!(mirror.was_told(&subject));
}

pub(crate) async fn what_is_followed_is_of_one_revision(make: fn() -> Subject) {
    let subject = make();
    let writer = subject.store().clone();
    let mut mirror = Mirror::new(&["/left", "/right"]);
    mirror.follow(subject.store()).await;
    let writing = tokio::spawn(async move {
        for n in 0..60 {
            let n = n.to_string();
            commit(&writer, &[], &[put("/left", &n), put("/right", &n)]).await;
        }
    });
    loop {
        let was_last = writing.is_finished();
        mirror.follow(subject.store()).await;
        assert_eq!(mirror.entries.get("/left"), mirror.entries.get("/right"));
        if was_last {
            break;
        }
    }
    writing.await.expect("writer");
    assert_eq!(mirror.entries["/left"].1, b"59");
    assert!(mirror.was_told(&subject));
}

pub(crate) async fn following_is_like_reading_anew(make: fn() -> Subject) {
    let mut subject = make();
    let mut mirror = Mirror::new(&["/"]);
    // One message of etcd's holds a part of a commit as large as this.
    let large = "x".repeat(300_000);
    for round in 0..6 {
        let writes: Vec<_> = (0..3).map(|n| put(&format!("/k/{round}/{n}"), &large)).collect();
        commit(subject.store(), &[], &writes).await;
        commit(subject.store(), &[], &[delete(&format!("/k/{round}/1"))]).await;
        if round == 3 {
            subject.reopen();
        }
        mirror.follow(subject.store()).await;
        let (_, entries) = subject.store().range("/").await.expect("range");
        let read = entries
            .into_iter()
            .map(|entry| (entry.key, (entry.revision, entry.value)));
        assert!(mirror.entries.clone().into_iter().eq(read), "round {round}");
    }
}
