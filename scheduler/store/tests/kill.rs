//! A process that writes is killed (SIGKILL) at random moments, from the making of the file on: what it was
//! told is stored is there afterwards, and nothing by halves.
//!
//! The child is this test binary, run again for the one test `child`, with the folder in an environment
//! variable.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use gilliam_store::{Check, CommitError, Expect, Revision, Store, Write};
use tempfile::TempDir;

const FOLDER: &str = "STORE_KILL_TEST_FOLDER";
/// Times it is killed, on each of two folders.
const KILLS: u64 = 30;
/// Tasks that write at once, so that commits are grouped.
const WRITERS: u64 = 4;

#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    println!("opening");
    let store = Store::open(Path::new(&folder)).expect("open");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let writers: Vec<_> = (0..WRITERS)
            .map(|id| tokio::spawn(write_for_ever(store.clone(), id)))
            .collect();
        for writer in writers {
            writer.await.expect("writes until it is killed");
        }
    });
}

/// Sets two keys to 1, 2, 3 … in one commit each, and says so when it is told so.
async fn write_for_ever(store: Store, id: u64) {
    let (left, right) = (format!("/{id}/left"), format!("/{id}/right"));
    loop {
        let entry = store.get(&left).await.expect("get").1;
        let n = entry.as_ref().map_or(0, |entry| number(&entry.value)) + 1;
        let check = Check {
            key: left.clone(),
            expect: Expect::unchanged(entry.map(|entry| entry.revision)),
        };
        // Records of many sizes, so that the file grows and its trees change shape.
        let value = format!(
            "{n} {}",
            "x".repeat(usize::try_from(n * 37 % 9_000).expect("fits"))
        );
        let put = |key: &str| Write::Put {
            key: key.into(),
            value: value.clone().into_bytes(),
        };
        let revision = store
            .commit(&[check], &[put(&left), put(&right)])
            .await
            .expect("commit");
        let mut out = std::io::stdout().lock();
        writeln!(out, "stored {id} {n} {revision}").expect("the parent reads");
    }
}

fn number(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("text");
    text.split(' ').next().expect("first").parse().expect("number")
}

#[test]
fn killed_at_any_moment_it_keeps_what_it_acknowledged() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..2 {
        let folder = TempDir::new().expect("folder");
        let mut acknowledged = Acknowledged::default();
        for kill in 0..KILLS {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // The first kills come as early as can be: while the file is made or opened.
            let lines = if kill < 5 { kill / 2 } else { random % 120 };
            acknowledged.run_and_kill(folder.path(), lines);
            acknowledged.check(folder.path());
        }
        assert!(
            acknowledged.revision > Revision(100),
            "little was written: {acknowledged:?}"
        );
    }
}

/// What the children were told is stored.
#[derive(Debug, Default)]
struct Acknowledged {
    revision: Revision,
    numbers: BTreeMap<u64, u64>,
}

impl Acknowledged {
    /// Runs a child and kills it after it has written `lines` lines.
    fn run_and_kill(&mut self, folder: &Path, lines: u64) {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("run it again");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut seen = 0;
        let mut line = String::new();
        while seen <= lines && out.read_line(&mut line).expect("read") > 0 {
            seen += u64::from(self.note(&line));
            line.clear();
        }
        child.kill().expect("kill");
        // What it was told before it died counts too.
        for line in out.lines() {
            self.note(&line.expect("read"));
        }
        let status = child.wait().expect("wait");
        assert_eq!(status.code(), None, "it ended by itself: {status}");
    }

    /// Whether `line` is one of the child's own.
    fn note(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["stored", id, n, revision] = words.as_slice() {
            let revision = Revision(revision.parse().expect("number"));
            self.numbers
                .insert(id.parse().expect("number"), n.parse().expect("number"));
            self.revision = self.revision.max(revision);
        }
        // The test harness puts its own words before the first line.
        matches!(words.first(), Some(&"stored")) || matches!(words.last(), Some(&"opening"))
    }

    fn check(&mut self, folder: &Path) {
        let store = Store::open(folder).expect("open after a kill");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let (revision, entries) = store.range("/").await.expect("range");
            assert!(revision >= self.revision, "{revision} after {self:?}");
            let found: BTreeMap<&str, _> = entries
                .iter()
                .map(|e| (e.key.as_str(), (&e.value, e.revision)))
                .collect();
            for id in 0..WRITERS {
                let left = found.get(format!("/{id}/left").as_str());
                assert_eq!(
                    left,
                    found.get(format!("/{id}/right").as_str()),
                    "half of a commit"
                );
                let told = self.numbers.get(&id).copied().unwrap_or(0);
                let stored = left.map_or(0, |(value, _)| number(value));
                assert!(
                    stored == told || stored == told + 1,
                    "writer {id} was told {told}, stored is {stored}"
                );
                self.numbers.insert(id, stored);
            }
            let next = store
                .commit(
                    &[],
                    &[Write::Put {
                        key: "/checked".into(),
                        value: Vec::new(),
                    }],
                )
                .await;
            assert_eq!(next, Ok(revision.next()));
            assert!(matches!(
                store.commit(&[Check::absent("/format")], &[]).await,
                Err(CommitError::Conflict { .. })
            ));
            self.revision = revision.next();
        });
    }
}
