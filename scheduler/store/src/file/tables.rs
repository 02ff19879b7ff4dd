//! Reading and committing, synchronously: what the writer thread and the reading threads call.

use std::{collections::HashMap, fmt, ops::Bound, sync::OnceLock};

use gilliam_model::code::Code;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, Table, WriteTransaction};

use super::table::{self, ENTRIES, META, META_REVISION};
use crate::{
    Check, CommitError, Entry, RangeError, Revision, Write,
    changes::{Changes, Extent},
};

/// Bytes of values in a page of a scan, but for its last one: some of the largest values.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// An open file.
///
/// Invariant: only one thread calls `commit_group`.
#[derive(Debug)]
pub(super) struct Tables {
    database: Database,
    changes: Changes,
    /// Set by the first write that failed; from then on nothing is written.
    failure: OnceLock<String>,
}

/// A group that failed.
enum GroupError {
    /// Before anything of it was made durable.
    Before(String),
    /// While it was made durable.
    Unknown(String),
}

impl<E: Into<redb::Error>> From<E> for GroupError {
    fn from(error: E) -> Self {
        Self::Before(error.into().to_string())
    }
}

type Answer = Result<Revision, CommitError>;

impl Tables {
    /// The tables of `database`, whose last commit has `revision`.
    pub(super) fn new(database: Database, revision: Revision) -> Self {
        Self {
            database,
            changes: Changes::after(revision),
            failure: OnceLock::new(),
        }
    }

    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    /// Reads each of `prefixes`, all at one revision.
    pub(super) fn ranges(&self, prefixes: &[String]) -> Result<(Revision, Vec<Vec<Entry>>), RangeError> {
        let snapshot = Snapshot::new(&self.database)?;
        let lists = prefixes
            .iter()
            .map(|prefix| snapshot.range(prefix))
            .collect::<Result<_, _>>()?;
        Ok((snapshot.revision()?, lists))
    }

    /// Reads one key.
    pub(super) fn get(&self, key: &str) -> Result<(Revision, Option<Entry>), RangeError> {
        let snapshot = Snapshot::new(&self.database)?;
        Ok((snapshot.revision()?, snapshot.get(key)?))
    }

    /// Reads everything, as of now.
    pub(super) fn scan(&self) -> Result<(Revision, FileScan), RangeError> {
        let snapshot = Snapshot::new(&self.database)?;
        let revision = snapshot.revision()?;
        Ok((revision, FileScan { snapshot, last: None }))
    }

    /// Makes the revisions that follow later than `floor`.
    pub(super) fn raise(&self, floor: Revision) -> Result<(), redb::Error> {
        let transaction = begin(&self.database)?;
        {
            let mut meta = transaction.open_table(META)?;
            let now = meta.get(META_REVISION)?.map_or(0, |found| found.value());
            meta.insert(META_REVISION, now.max(floor.0))?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Does the commits of a group, each as if alone and in order, and makes them durable together.
    ///
    /// Answers come only after that, refusals too: a check that was compared with a write of the same group
    /// says nothing if that write is lost.
    pub(super) fn commit_group(&self, commits: &[(&[Check], &[Write])]) -> Vec<Answer> {
        if let Some(reason) = self.failure() {
            return commits.iter().map(|_| Err(unavailable(&reason))).collect();
        }
        let failed = match self.try_commit_group(commits) {
            Ok(answers) => {
                self.publish(commits, &answers);
                return answers;
            }
            Err(failed) => failed,
        };
        let (GroupError::Before(reason) | GroupError::Unknown(reason)) = &failed;
        tracing::error!(code = %Code::S10, reason, "writing failed; the store is read-only until it is opened again");
        let reason = self.failure.get_or_init(|| reason.clone());
        let answer = |writes: &[Write]| match failed {
            GroupError::Unknown(_) if !writes.is_empty() => CommitError::OutcomeUnknown {
                reason: reason.clone(),
            },
            _ => unavailable(reason),
        };
        commits.iter().map(|(_, writes)| Err(answer(writes))).collect()
    }

    fn try_commit_group(&self, commits: &[(&[Check], &[Write])]) -> Result<Vec<Answer>, GroupError> {
        let transaction = begin(&self.database)?;
        let (answers, written) = {
            let mut group = Group::new(&transaction)?;
            let before = group.revision;
            let answers = commits
                .iter()
                .map(|(checks, writes)| group.commit(checks, writes))
                .collect::<Result<Vec<Answer>, GroupError>>()?;
            group.finish()?;
            (answers, group.revision > before)
        };
        if written {
            transaction
                .commit()
                .map_err(|error| GroupError::Unknown(error.to_string()))?;
        } else {
            transaction.abort()?;
        }
        Ok(answers)
    }

    fn publish(&self, commits: &[(&[Check], &[Write])], answers: &[Answer]) {
        for ((_, writes), answer) in commits.iter().zip(answers) {
            if let (Ok(revision), false) = (answer, writes.is_empty()) {
                self.changes
                    .publish(*revision, writes.iter().map(Write::change), Extent::Whole);
            }
        }
    }
}

/// Begins a transaction that is durable, in two phases, when it is committed, and after which a crash needs
/// no repair.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction
        .set_durability(Durability::Immediate)
        .map_err(redb::Error::from)?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn unavailable(reason: &str) -> CommitError {
    CommitError::Unavailable {
        code: Code::S10,
        reason: format!("an earlier write failed: {reason}"),
    }
}

/// The entries and the revision, in a transaction that writes.
struct Group<'t> {
    entries: Table<'t, &'static str, &'static [u8]>,
    meta: Table<'t, &'static str, u64>,
    revision: Revision,
}

impl<'t> Group<'t> {
    fn new(transaction: &'t WriteTransaction) -> Result<Self, GroupError> {
        let entries = transaction.open_table(ENTRIES)?;
        let meta = transaction.open_table(META)?;
        let revision = meta.get(META_REVISION)?.map_or(0, |found| found.value());
        Ok(Self {
            entries,
            meta,
            revision: Revision(revision),
        })
    }

    fn commit(&mut self, checks: &[Check], writes: &[Write]) -> Result<Answer, GroupError> {
        for check in checks {
            let found = match self.entries.get(check.key.as_str())? {
                None => None,
                Some(bytes) => match table::revision(&check.key, bytes.value()) {
                    Ok(revision) => Some(revision),
                    Err(error) => {
                        return Ok(Err(CommitError::Unavailable {
                            code: Code::S11,
                            reason: error.to_string(),
                        }));
                    }
                },
            };
            if !check.expect.holds(found) {
                return Ok(Err(CommitError::Conflict {
                    key: check.key.clone(),
                }));
            }
        }
        if !writes.is_empty() {
            self.revision = self.revision.next();
        }
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    let bytes = table::encode(key, self.revision, value);
                    self.entries.insert(key.as_str(), bytes.as_slice())?;
                }
                Write::Delete { key } => {
                    self.entries.remove(key.as_str())?;
                }
            }
        }
        Ok(Ok(self.revision))
    }

    fn finish(&mut self) -> Result<(), GroupError> {
        self.meta.insert(META_REVISION, self.revision.0)?;
        Ok(())
    }
}

/// A reading of everything, page by page; what is committed meanwhile is not in it.
pub(crate) struct FileScan {
    snapshot: Snapshot,
    /// The last key that was read.
    last: Option<String>,
}

impl FileScan {
    /// The next entries; none when all are read. Blocks on the file.
    pub(crate) fn next(&mut self) -> Result<Vec<Entry>, RangeError> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        let from = self.last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = self
            .snapshot
            .entries
            .range::<&str>((from, Bound::Unbounded))
            .map_err(failed)?;
        for item in range {
            let (key, value) = item.map_err(failed)?;
            bytes += value.value().len();
            page.push(table::decode(key.value(), value.value())?);
            if bytes > PAGE_BYTES_MAX {
                break;
            }
        }
        self.last = page.last().map(|entry| entry.key.clone()).or(self.last.take());
        Ok(page)
    }
}

impl fmt::Debug for FileScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileScan")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

/// The entries and the revision, as they were when it was made.
pub(super) struct Snapshot {
    entries: redb::ReadOnlyTable<&'static str, &'static [u8]>,
    meta: redb::ReadOnlyTable<&'static str, u64>,
}

impl Snapshot {
    pub(super) fn new(database: &Database) -> Result<Self, RangeError> {
        let transaction = database.begin_read().map_err(failed)?;
        let entries = transaction.open_table(ENTRIES).map_err(failed)?;
        let meta = transaction.open_table(META).map_err(failed)?;
        Ok(Self { entries, meta })
    }

    pub(super) fn meta(&self) -> Result<HashMap<String, u64>, RangeError> {
        let mut numbers = HashMap::new();
        for item in self.meta.iter().map_err(failed)? {
            let (name, number) = item.map_err(failed)?;
            numbers.insert(name.value().to_string(), number.value());
        }
        Ok(numbers)
    }

    fn revision(&self) -> Result<Revision, RangeError> {
        let found = self.meta.get(META_REVISION).map_err(failed)?;
        Ok(Revision(found.map_or(0, |found| found.value())))
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Entry>, RangeError> {
        let found = self.entries.get(key).map_err(failed)?;
        found.map(|bytes| table::decode(key, bytes.value())).transpose()
    }

    fn range(&self, prefix: &str) -> Result<Vec<Entry>, RangeError> {
        let mut entries = Vec::new();
        for item in self.entries.range(prefix..).map_err(failed)? {
            let (key, bytes) = item.map_err(failed)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            entries.push(table::decode(key.value(), bytes.value())?);
        }
        Ok(entries)
    }
}

fn failed(error: impl Into<redb::Error>) -> RangeError {
    RangeError::Unavailable {
        reason: error.into().to_string(),
    }
}
