//! Concurrent writers over a cluster of three while members are killed and paused: what was recorded is
//! linearizable for each key, no acknowledged change is lost and none is done twice.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gilliam_store::{Check, CommitError, Expect, Revision, Store, Write};

use crate::{
    DEADLINE,
    etcd_process::{Etcd, FAULTS, Falter},
    linearizable::{OPERATIONS_MAX, Operation, is_linearizable},
    register::{Register, What},
    until,
};

/// Keys that are written at once: each gives one history.
const KEYS: usize = 14;
/// Writers of each key, each by a store of its own that begins with another member.
const WRITERS: usize = 3;
/// Operations of each writer on a key; one more reads at the end.
const STEPS: usize = (OPERATIONS_MAX - 1) / WRITERS;
/// Pause of a writer between two operations, so that a history lasts through the fault and its end.
const PACE: Duration = Duration::from_millis(70);
/// The fault begins when so many operations of each history have ended.
const BEFORE_FAULT: usize = 2 * WRITERS;
/// How long the fault lasts: beyond an election, so that writers meet the time before, in and after it.
const FAULT_LASTS: Duration = Duration::from_millis(900);
/// Rounds of each fault; `make soak` runs more by the variable.
const ROUNDS: usize = 3;
const ROUNDS_VARIABLE: &str = "GILLIAM_ETCD_ROUNDS";

/// What was recorded of a key.
#[derive(Debug, Default)]
struct History {
    operations: Vec<Operation<What>>,
    /// The revision with which each value was acknowledged or read.
    revisions: BTreeMap<u64, Revision>,
}

impl History {
    /// Notes that `value` has `revision`, once and for all: a change that is done twice has two.
    fn note(&mut self, value: u64, revision: Revision) {
        let known = self.revisions.insert(value, revision);
        assert!(
            known.is_none_or(|known| known == revision),
            "{value} was written twice"
        );
    }
}

/// How often each way to end came about.
#[derive(Debug, Default)]
struct Tally {
    histories: usize,
    acknowledged: usize,
    conflicts: usize,
    unknown: usize,
    /// Refused, or not read: nothing happened.
    refused: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_members_histories_are_linearizable() {
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |n| n.parse().expect("a number"));
    let etcd = Etcd::start(3, &["--heartbeat-interval", "50", "--election-timeout", "500"]);
    let stores = open(&etcd).await;
    let mut tally = Tally::default();
    for round in 0..rounds * FAULTS.len() {
        let fault = FAULTS[round % FAULTS.len()];
        let histories = run(&etcd, &stores, round, fault).await;
        for (key, history) in histories.iter().enumerate() {
            assert!(
                is_linearizable(&history.operations, Register(None)),
                "{fault:?}, key {key}: {:#?}",
                history.operations
            );
            tally.count(history);
        }
        // Each wakes for what comes after the fault.
        let key = format!("/{round}/end");
        let end = put(&stores[0], &key).await;
        for store in &stores {
            let woken = store.changed(&key, Revision(end.0 - 1));
            assert_eq!(tokio::time::timeout(DEADLINE, woken).await.expect("woken"), end);
        }
    }
    println!("{tally:?}");
    assert!(tally.histories >= rounds * FAULTS.len() * KEYS);
    assert!(
        tally.acknowledged > tally.histories * STEPS / 4,
        "little was done: {tally:?}"
    );
}

async fn open(etcd: &Etcd) -> Vec<Store> {
    let mut stores = Vec::new();
    for n in 0..WRITERS {
        let mut config = etcd.config("histories");
        config.members.rotate_left(n);
        config.deadline = Duration::from_secs(2);
        stores.push(Store::open_etcd(config).await.expect("open"));
    }
    stores
}

async fn put(store: &Store, key: &str) -> Revision {
    let write = Write::Put {
        key: key.into(),
        value: Vec::new(),
    };
    let writing = async {
        loop {
            if let Ok(revision) = store.commit(&[], std::slice::from_ref(&write)).await {
                return revision;
            }
        }
    };
    tokio::time::timeout(DEADLINE, writing)
        .await
        .expect("all is well again")
}

/// Lets writers write while a fault comes and goes.
async fn run(etcd: &Etcd, stores: &[Store], round: usize, fault: Falter) -> Vec<History> {
    let start = Instant::now();
    let histories: Vec<_> = (0..KEYS)
        .map(|_| Arc::new(Mutex::new(History::default())))
        .collect();
    let mut writers = Vec::new();
    for (key, history) in histories.iter().enumerate() {
        for (id, store) in stores.iter().enumerate() {
            let writer = Writer {
                store: store.clone(),
                key: format!("/{round}/{key}"),
                history: history.clone(),
                start,
                next: u64::try_from(id).expect("small") + 1,
            };
            writers.push(tokio::spawn(writer.write()));
        }
    }
    let is_under_way = |history: &Arc<Mutex<History>>| {
        let history = history.lock().expect("lock");
        history.operations.len() >= BEFORE_FAULT
    };
    until("every key to be written", async || {
        histories.iter().all(is_under_way).then_some(())
    })
    .await;
    let ended = tokio::task::block_in_place(|| etcd.falter(fault));
    tokio::time::sleep(FAULT_LASTS).await;
    tokio::task::block_in_place(|| etcd.recover(fault, &ended));
    for writer in writers {
        writer.await.expect("writer");
    }
    for (key, history) in histories.iter().enumerate() {
        read_at_the_end(&stores[0], &format!("/{round}/{key}"), history, start).await;
    }
    histories
        .into_iter()
        .map(|history| {
            Arc::into_inner(history)
                .expect("the last")
                .into_inner()
                .expect("lock")
        })
        .collect()
}

async fn read_at_the_end(store: &Store, key: &str, history: &Mutex<History>, start: Instant) {
    let begin = since(start);
    let reading = async {
        loop {
            if let Ok((_, found)) = store.get(key).await {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(DEADLINE, reading)
        .await
        .expect("all is well again");
    let value = found.map(|entry| (number(&entry.value), entry.revision));
    let mut history = history.lock().expect("lock");
    if let Some((value, revision)) = value {
        history.note(value, revision);
    }
    history.operations.push(Operation {
        begin,
        end: Some(since(start)),
        what: What::Read(value.map(|(value, _)| value)),
    });
}

fn since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).expect("fits")
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).expect("text").parse().expect("number")
}

struct Writer {
    store: Store,
    key: String,
    history: Arc<Mutex<History>>,
    start: Instant,
    /// The next value; each writer has its own.
    next: u64,
}

impl Writer {
    /// Reads, swaps what it read last, and puts, by turns.
    async fn write(mut self) {
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen: Option<(u64, Revision)> = None;
        for step in 0..STEPS {
            pace.tick().await;
            match step % 4 {
                0 => seen = self.read(seen).await,
                3 => seen = self.put(seen).await,
                _ => seen = self.swap(seen).await,
            }
        }
    }

    async fn read(&self, seen: Option<(u64, Revision)>) -> Option<(u64, Revision)> {
        let begin = since(self.start);
        match self.store.get(&self.key).await {
            Ok((_, found)) => {
                let found = found.map(|entry| (number(&entry.value), entry.revision));
                self.record(begin, true, What::Read(found.map(|(value, _)| value)), found);
                found
            }
            Err(_) => seen,
        }
    }

    async fn put(&mut self, seen: Option<(u64, Revision)>) -> Option<(u64, Revision)> {
        let to = self.value();
        self.commit(&[], seen, to, What::Put(to)).await
    }

    async fn swap(&mut self, seen: Option<(u64, Revision)>) -> Option<(u64, Revision)> {
        let to = self.value();
        let check = Check {
            key: self.key.clone(),
            expect: Expect::unchanged(seen.map(|(_, revision)| revision)),
        };
        let from = seen.map(|(value, _)| value);
        self.commit(&[check], seen, to, What::Swap { from, to }).await
    }

    async fn commit(
        &self,
        checks: &[Check],
        seen: Option<(u64, Revision)>,
        to: u64,
        what: What,
    ) -> Option<(u64, Revision)> {
        let begin = since(self.start);
        let write = Write::Put {
            key: self.key.clone(),
            value: to.to_string().into_bytes(),
        };
        match self.store.commit(checks, &[write]).await {
            Ok(revision) => {
                self.record(begin, true, what, Some((to, revision)));
                Some((to, revision))
            }
            Err(CommitError::Conflict { .. }) => {
                let from = seen.map(|(value, _)| value);
                self.record(begin, true, What::Conflict { from }, None);
                seen
            }
            Err(CommitError::OutcomeUnknown { .. }) => {
                self.record(begin, false, what, None);
                seen
            }
            // Nothing happened: its value must never be read, and it is in no history.
            Err(CommitError::Unavailable { .. }) => seen,
            Err(error) => panic!("{error}"),
        }
    }

    fn record(&self, begin: u64, is_known: bool, what: What, noted: Option<(u64, Revision)>) {
        let end = is_known.then(|| since(self.start));
        let mut history = self.history.lock().expect("lock");
        if let Some((value, revision)) = noted {
            history.note(value, revision);
        }
        history.operations.push(Operation { begin, end, what });
    }

    fn value(&mut self) -> u64 {
        let value = self.next;
        self.next += u64::try_from(WRITERS).expect("small");
        value
    }
}

impl Tally {
    fn count(&mut self, history: &History) {
        self.histories += 1;
        let asked = WRITERS * STEPS + 1;
        self.refused += asked - history.operations.len();
        for operation in &history.operations {
            match (operation.what, operation.end) {
                (What::Conflict { .. }, _) => self.conflicts += 1,
                (What::Put(_) | What::Swap { .. }, None) => self.unknown += 1,
                (What::Put(_) | What::Swap { .. }, Some(_)) => self.acknowledged += 1,
                (What::Read(_), _) => {}
            }
        }
    }
}
