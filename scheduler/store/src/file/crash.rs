//! Crashes, tried: a disk in memory that records what is written and synced, and rebuilds what a power cut at
//! any moment could have left of it.
//!
//! The rule of the disk: what was written before a completed sync is there; of what was written after it,
//! each write is there, or not, or in part, by whole sectors. Over that disk run the file's own tables,
//! opened and committed to as in life.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

use super::{
    open::{builder, establish},
    tables::Tables,
};
use crate::{Check, CommitError, Revision, Write};

/// What a disk keeps or loses as one (the smallest in use).
const SECTOR_BYTES: usize = 512;
/// Workloads whose crashes are tried.
const WORKLOADS: u64 = 24;
/// Crashes of each workload.
const CRASHES: u64 = 16;
/// Workloads in which a write fails.
const FAULTS: u64 = 160;

/// Bits that are flipped, one at a time.
const FLIPS: u64 = 400;

#[derive(Debug, Clone)]
enum Op {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
    Sync,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    log: Vec<Op>,
    fault: Option<Fault>,
}

/// From the operation `at` on, writes and syncs fail: all of them, or the first only.
#[derive(Debug, Clone, Copy)]
struct Fault {
    at: usize,
    once: bool,
}

#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            bytes,
            ..State::default()
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with the lock")
    }

    fn log_len(&self) -> usize {
        self.state().log.len()
    }

    fn act(&self, op: Op) -> io::Result<()> {
        let mut state = self.state();
        if let Some(fault) = state.fault
            && state.log.len() >= fault.at
        {
            if fault.once {
                state.fault = None;
            }
            return Err(io::Error::other("injected"));
        }
        apply(&mut state.bytes, &op);
        state.log.push(op);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).expect("fits");
        let state = self.state();
        let bytes = state
            .bytes
            .get(offset..offset + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.act(Op::SetLen(usize::try_from(len).expect("fits")))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.act(Op::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.act(Op::Write {
            offset: usize::try_from(offset).expect("fits"),
            data: data.to_vec(),
        })
    }
}

fn apply(bytes: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write { offset, data } => {
            if bytes.len() < offset + data.len() {
                bytes.resize(offset + data.len(), 0);
            }
            bytes[*offset..offset + data.len()].copy_from_slice(data);
        }
        Op::SetLen(len) => bytes.resize(*len, 0),
        Op::Sync => {}
    }
}

/// What a power cut after the first `at` operations leaves on a disk that held `before`.
fn image(before: &[u8], log: &[Op], at: usize, random: &mut Random) -> Vec<u8> {
    let synced = log[..at]
        .iter()
        .rposition(|op| matches!(op, Op::Sync))
        .map_or(0, |last| last + 1);
    let mut bytes = before.to_vec();
    for op in &log[..synced] {
        apply(&mut bytes, op);
    }
    for op in &log[synced..at] {
        match (random.below(4), op) {
            (0, _) => {}
            (1, Op::Write { offset, data }) => {
                for (n, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                    if random.below(2) == 0 {
                        apply(
                            &mut bytes,
                            &Op::Write {
                                offset: offset + n * SECTOR_BYTES,
                                data: sector.to_vec(),
                            },
                        );
                    }
                }
            }
            _ => apply(&mut bytes, op),
        }
    }
    bytes
}

/// Xorshift (Marsaglia 2003): the same numbers for the same seed, on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn of(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
}

type Contents = BTreeMap<String, (Revision, Vec<u8>)>;

/// Opens the store on a disk. (That a new file is whole before it has its name is the business of
/// `open::make`.)
fn open(disk: &Disk) -> Tables {
    let database = builder()
        .create_with_backend(disk.clone())
        .expect("open after a crash");
    establish(database, Path::new("data"), Path::new("data/store")).expect("a store after a crash")
}

fn contents(tables: &Tables) -> Contents {
    let (revision, lists) = tables.ranges(&["/".to_string()]).expect("read");
    let contents: Contents = lists
        .into_iter()
        .flatten()
        .map(|e| (e.key, (e.revision, e.value)))
        .collect();
    assert!(
        contents.values().all(|(at, _)| *at <= revision),
        "an entry of a later revision"
    );
    contents
}

/// A commit of random size to random keys.
fn random_writes(random: &mut Random) -> Vec<Write> {
    let mut writes = BTreeMap::new();
    for _ in 0..=random.below(4) {
        let key = format!("/k/{}", random.below(12));
        // Mostly records of a usual size; at times one of many pages, so that the file grows and shrinks.
        let bytes = if random.below(6) == 0 {
            random.below(60_000)
        } else {
            random.below(400)
        };
        let value =
            vec![u8::try_from(random.below(256)).expect("a byte"); usize::try_from(bytes).expect("fits")];
        let delete = random.below(4) == 0;
        writes.insert(
            key.clone(),
            if delete {
                Write::Delete { key }
            } else {
                Write::Put { key, value }
            },
        );
    }
    writes.into_values().collect()
}

fn apply_writes(contents: &mut Contents, revision: Revision, writes: &[Write]) {
    for write in writes {
        match write {
            Write::Put { key, value } => drop(contents.insert(key.clone(), (revision, value.clone()))),
            Write::Delete { key } => drop(contents.remove(key)),
        }
    }
}

/// The contents after each acknowledged group, with the length of the disk's log when it was acknowledged.
struct History {
    acknowledged: Vec<(usize, Contents)>,
}

/// Commits groups until one is not acknowledged, which is returned with what was answered.
fn work(
    tables: &Tables,
    disk: &Disk,
    groups: u64,
    random: &mut Random,
) -> (History, Option<(Contents, CommitError)>) {
    let mut now = contents(tables);
    let mut revision = tables.get("/none").expect("read").0;
    let mut history = History {
        acknowledged: vec![(disk.log_len(), now.clone())],
    };
    for _ in 0..groups {
        let size = 1 + random.below(3);
        let group: Vec<Vec<Write>> = (0..size).map(|_| random_writes(random)).collect();
        let refused = [Check::at("/k/never", Revision(1))];
        let mut commits: Vec<(&[Check], &[Write])> = group.iter().map(|w| (&[][..], w.as_slice())).collect();
        commits.push((&refused, &group[0]));
        let mut then = now.clone();
        for writes in &group {
            revision = revision.next();
            apply_writes(&mut then, revision, writes);
        }
        let answers = tables.commit_group(&commits);
        match &answers[0] {
            Ok(_) => {
                assert_eq!(answers[group.len() - 1], Ok(revision), "revisions strictly grow");
                assert_eq!(
                    answers[group.len()],
                    Err(CommitError::Conflict {
                        key: "/k/never".into()
                    })
                );
                now = then;
                history.acknowledged.push((disk.log_len(), now.clone()));
            }
            Err(error) => {
                assert!(
                    answers[..group.len()]
                        .iter()
                        .all(|answer| answer.as_ref() == Err(error))
                );
                return (history, Some((then, error.clone())));
            }
        }
    }
    (history, None)
}

/// Opens what a crash left and checks that it is a state that was acknowledged last, or was about to be.
fn survives(history: &History, at: usize, bytes: Vec<u8>, what: &str) -> (Disk, Tables) {
    let disk = Disk::holding(bytes);
    let tables = open(&disk);
    let found = contents(&tables);
    let states = &history.acknowledged;
    let last = states
        .iter()
        .rposition(|(acknowledged_at, _)| *acknowledged_at <= at);
    let (first, next) = last.map_or((0, 0), |last| (last, last + 1));
    let fits = states[first..states.len().min(next + 1)]
        .iter()
        .any(|(_, contents)| *contents == found);
    assert!(
        fits,
        "{what}: acknowledged state {last:?} was lost, or half of the next one happened"
    );
    (disk, tables)
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_and_halves_nothing() {
    for workload in 0..WORKLOADS {
        let mut random = Random::of(workload);
        let disk = Disk::default();
        let tables = open(&disk);
        let made_at = disk.log_len();
        let (history, failed) = work(&tables, &disk, 12, &mut random);
        assert!(failed.is_none());
        let log = disk.state().log.clone();
        for crash in 0..CRASHES {
            let at = made_at + usize::try_from(random.below((log.len() - made_at) as u64 + 1)).expect("fits");
            let what = format!(
                "workload {workload}, crash {crash} after operation {at} of {}",
                log.len()
            );
            let bytes = image(&[], &log, at, &mut random);
            let (after, tables) = survives(&history, at, bytes.clone(), &what);

            // A second power cut, while it was opened or soon after.
            let (second, failed) = work(&tables, &after, 2, &mut random);
            assert!(failed.is_none(), "{what}: it takes no writes");
            let log = after.state().log.clone();
            let at = usize::try_from(random.below(log.len() as u64 + 1)).expect("fits");
            let image = image(&bytes, &log, at, &mut random);
            survives(&second, at, image, &format!("{what}, then operation {at}"));
        }
    }
}

#[test]
fn after_a_failed_write_the_store_is_read_only_and_acknowledges_nothing() {
    let mut unknown = 0;
    for case in 0..FAULTS {
        let mut random = Random::of(1_000_000 + case);
        let disk = Disk::default();
        let tables = open(&disk);
        let at = disk.log_len() + usize::try_from(random.below(240)).expect("fits");
        disk.state().fault = Some(Fault {
            at,
            once: random.below(2) == 0,
        });
        let (history, failed) = work(&tables, &disk, 40, &mut random);
        let Some((attempted, error)) = failed else {
            panic!("case {case}: the fault at {at} was not met")
        };
        let (_, acknowledged) = history.acknowledged.last().expect("the first state");

        assert!(
            tables.failure().is_some_and(|reason| reason.contains("injected")),
            "case {case}"
        );
        assert_eq!(
            contents(&tables),
            *acknowledged,
            "case {case}: a state is shown that may be lost"
        );
        let log_len = disk.log_len();
        let answers = tables.commit_group(&[(&[], &[Write::Delete { key: "/k/1".into() }])]);
        assert!(
            matches!(&answers[0], Err(CommitError::Unavailable { reason, .. }) if reason.contains("injected"))
        );
        assert_eq!(disk.log_len(), log_len, "case {case}: it still writes");

        // The process ends and starts again: what the disk took is there.
        disk.state().fault = None;
        let bytes = disk.state().bytes.clone();
        let found = contents(&open(&Disk::holding(bytes)));
        match error {
            CommitError::OutcomeUnknown { .. } => {
                unknown += 1;
                assert!(
                    found == *acknowledged || found == attempted,
                    "case {case}: half of a commit happened"
                );
            }
            CommitError::Unavailable { .. } => assert_eq!(found, *acknowledged, "case {case}"),
            other => panic!("case {case}: {other}"),
        }
    }
    assert!(unknown > FAULTS / 8, "only {unknown} faults hit a commit");
}

#[test]
fn a_flipped_bit_anywhere_gives_the_truth_or_an_error() {
    let mut random = Random::of(7);
    let disk = Disk::default();
    let tables = open(&disk);
    let (history, _) = work(&tables, &disk, 20, &mut random);
    drop(tables);
    let whole = disk.state().bytes.clone();
    let truth = &history.acknowledged.last().expect("a state").1;
    let (mut told, mut refused) = (0, 0);
    for case in 0..FLIPS {
        let mut bytes = whole.clone();
        // Half of them where the file's own structure is, the others anywhere.
        let reach = if case % 2 == 0 { 8_192 } else { bytes.len() };
        let at = usize::try_from(random.below(reach as u64)).expect("fits");
        bytes[at] ^= 1 << random.below(8);
        match read_all(bytes) {
            Ok(found) => {
                assert_eq!(found, *truth, "case {case}: byte {at} changes what is read");
                told += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(told > 0 && refused > 0, "{told} told, {refused} refused");
}

fn read_all(bytes: Vec<u8>) -> Result<Contents, String> {
    let database = builder()
        .create_with_backend(Disk::holding(bytes))
        .map_err(|error| error.to_string())?;
    let tables =
        establish(database, Path::new("data"), Path::new("data/store")).map_err(|error| error.to_string())?;
    let (_, lists) = tables
        .ranges(&["/".to_string()])
        .map_err(|error| error.to_string())?;
    Ok(lists
        .into_iter()
        .flatten()
        .map(|e| (e.key, (e.revision, e.value)))
        .collect())
}
