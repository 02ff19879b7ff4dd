//! Random histories, compared with a map.

use std::collections::BTreeMap;

use gilliam_store::{Check, CommitError, Expect, Revision, Write};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

use crate::{Subject, delete, following::Mirror};

/// A step of a history: keys are few, so that checks meet both what holds and what does not.
#[derive(Debug, Clone)]
enum Step {
    Commit {
        checks: Vec<(usize, Guess)>,
        writes: BTreeMap<usize, Option<Vec<u8>>>,
    },
    Range(usize),
    Reopen,
}

/// What a check of the history expects, from what the model knows.
#[derive(Debug, Clone, Copy)]
enum Guess {
    Right,
    Absent,
    Stale,
}

const KEYS: [&str; 6] = ["/a", "/a/1", "/a/10", "/a/2", "/ab", "/b/x"];
const PREFIXES: [&str; 5] = ["/", "/a", "/a/", "/a/1", "/nothing"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guess = prop_oneof![6 => Just(Guess::Right), 1 => Just(Guess::Absent), 1 => Just(Guess::Stale)];
    let value = prop_oneof![
        Just(None),
        vec(any::<u8>(), 0..40).prop_map(Some),
        Just(Some(vec![9; 20_000]))
    ];
    let commit = (
        vec((0..KEYS.len(), guess), 0..3),
        proptest::collection::btree_map(0..KEYS.len(), value, 0..4),
    )
        .prop_map(|(checks, writes)| Step::Commit { checks, writes });
    vec(
        prop_oneof![8 => commit, 3 => (0..PREFIXES.len()).prop_map(Step::Range), 1 => Just(Step::Reopen)],
        1..24,
    )
}

type Model = BTreeMap<String, (Revision, Vec<u8>)>;

pub(crate) async fn any_history_reads_like_its_model(make: fn() -> Subject) {
    let config = ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    tokio::task::block_in_place(|| {
        let runtime = tokio::runtime::Handle::current();
        TestRunner::new(config)
            .run(&steps(), |steps| {
                runtime.block_on(follow(make(), &steps));
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{failure}"));
    });
}

async fn follow(mut subject: Subject, steps: &[Step]) {
    let (mut revision, entries) = subject.store().range("/").await.expect("range");
    let mut model: Model = entries
        .into_iter()
        .map(|e| (e.key, (e.revision, e.value)))
        .collect();
    let mut mirror = Mirror::new(&["/a", "/b"]);
    for step in steps {
        match step {
            Step::Commit { checks, writes } => {
                let checks: Vec<Check> = checks
                    .iter()
                    .map(|(key, guess)| check(&model, KEYS[*key], *guess))
                    .collect();
                let writes: Vec<Write> = writes
                    .iter()
                    .map(|(key, value)| write(KEYS[*key], value.as_ref()))
                    .collect();
                let answer = subject.store().commit(&checks, &writes).await;
                match (answer, conflict(&model, &checks)) {
                    (Ok(made), None) => {
                        if changes(&subject, &model, &writes) {
                            subject.assert_next(made, revision);
                        } else {
                            subject.assert_as_of(made, revision);
                        }
                        apply(&mut model, made, &writes);
                        revision = made;
                    }
                    (answer, conflict) => assert_eq!(answer.err(), conflict),
                }
            }
            Step::Range(prefix) => {
                same(&subject, &model, revision, PREFIXES[*prefix]).await;
                mirror.follow(subject.store()).await;
                let kept = model
                    .iter()
                    .filter(|(key, _)| key.starts_with("/a") || key.starts_with("/b"));
                assert!(mirror.entries.iter().eq(kept), "the mirror differs");
            }
            Step::Reopen => subject.reopen(),
        }
    }
    subject.reopen();
    same(&subject, &model, revision, "/").await;
}

fn check(model: &Model, key: &str, guess: Guess) -> Check {
    let found = model.get(key).map(|(revision, _)| *revision);
    let expect = match guess {
        Guess::Right => Expect::unchanged(found),
        Guess::Absent => Expect::Absent,
        Guess::Stale => Expect::At(Revision(found.map_or(0, |revision| revision.0 - 1))),
    };
    Check {
        key: key.into(),
        expect,
    }
}

fn write(key: &str, value: Option<&Vec<u8>>) -> Write {
    match value {
        Some(value) => Write::Put {
            key: key.into(),
            value: value.clone(),
        },
        None => delete(key),
    }
}

fn conflict(model: &Model, checks: &[Check]) -> Option<CommitError> {
    let failed = checks.iter().find(|check| {
        check.expect != Expect::unchanged(model.get(&check.key).map(|(revision, _)| *revision))
    })?;
    Some(CommitError::Conflict {
        key: failed.key.clone(),
    })
}

/// Whether the writes make a revision: in etcd the removal of what is not there makes none.
fn changes(subject: &Subject, model: &Model, writes: &[Write]) -> bool {
    let changes_one = |write: &Write| matches!(write, Write::Put { .. }) || model.contains_key(write.key());
    writes
        .iter()
        .any(|write| subject.counts_alone() || changes_one(write))
}

fn apply(model: &mut Model, revision: Revision, writes: &[Write]) {
    for write in writes {
        match write {
            Write::Put { key, value } => drop(model.insert(key.clone(), (revision, value.clone()))),
            Write::Delete { key } => drop(model.remove(key)),
        }
    }
}

async fn same(subject: &Subject, model: &Model, revision: Revision, prefix: &str) {
    let (read_at, entries) = subject.store().range(prefix).await.expect("range");
    subject.assert_as_of(read_at, revision);
    let found: Vec<_> = entries.iter().map(|e| (&e.key, e.revision, &e.value)).collect();
    let want: Vec<_> = model
        .iter()
        .filter(|(key, _)| key.starts_with(prefix))
        .map(|(key, (at, value))| (key, *at, value))
        .collect();
    assert_eq!(found, want);
}
