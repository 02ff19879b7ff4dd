//! Writes: a group of them in one transaction, with `now` given.
//!
//! Invariant: a request is done whole or not at all: what may refuse it is looked at before it changes anything.

use redb::{Database, ReadableTable as _, Table, WriteTransaction};
use tokio::sync::oneshot;

use super::{
    KeyValueError, Settings, Ttl, When, Written,
    error::broken,
    file::begin,
    table::{DATA, EXPIRES, META, META_BYTES, META_KEYS, META_VERSION, Row, cost},
};

/// Expired keys that one group removes: so many that they keep nobody waiting, and more than a group can add.
const SWEPT_MAX: usize = 2_048;

type Answer<T> = oneshot::Sender<Result<T, KeyValueError>>;

/// A write that waits.
pub(super) enum Request {
    Change {
        change: Change,
        answer: Answer<Written>,
    },
    Increment {
        key: String,
        by: i64,
        answer: Answer<i64>,
    },
    /// Remove what has expired.
    Sweep,
    /// Close the file.
    Close {
        answer: oneshot::Sender<()>,
    },
}

/// What is to be changed.
pub(super) enum Change {
    Set {
        key: String,
        value: Vec<u8>,
        ttl: Ttl,
        when: When,
    },
    SetMany {
        pairs: Vec<(String, Vec<u8>)>,
        ttl: Ttl,
    },
    Delete {
        key: String,
        when: When,
    },
    DeleteMany {
        keys: Vec<String>,
    },
}

/// What to do with a request's answer once its group is durable, or is not.
type Reply = Box<dyn FnOnce(Option<&KeyValueError>)>;

/// Does a group of writes; answers them when they are durable. Says when the first key expires. An error says that
/// the file is to be opened anew; all were answered with it.
pub(super) fn commit(
    database: &Database,
    settings: &Settings,
    requests: Vec<Request>,
    now_ms: u64,
) -> Result<Option<u64>, KeyValueError> {
    let mut replies: Vec<Reply> = Vec::with_capacity(requests.len());
    let done = write(database, settings, requests, now_ms, &mut replies);
    replies.into_iter().for_each(|reply| reply(done.as_ref().err()));
    done
}

fn write(
    database: &Database,
    settings: &Settings,
    requests: Vec<Request>,
    now_ms: u64,
    replies: &mut Vec<Reply>,
) -> Result<Option<u64>, KeyValueError> {
    let begun = begin(database);
    let transaction = match begun {
        Ok(transaction) => transaction,
        Err(error) => {
            requests.into_iter().for_each(|request| request.refuse(&error));
            return Err(error);
        }
    };
    let mut broken_by = None;
    let worked = Work::begin(&transaction, settings, now_ms).and_then(|mut work| {
        for request in requests {
            match &broken_by {
                Some(error) => request.refuse(error),
                None => broken_by = request.run(&mut work, replies),
            }
        }
        work.sweep(SWEPT_MAX)?;
        work.end()
    });
    let (next, has_changed) = match (broken_by, worked) {
        (Some(error), _) | (None, Err(error)) => return Err(error),
        (None, Ok(ended)) => ended,
    };
    match has_changed {
        true => transaction.commit().map_err(broken)?,
        false => transaction.abort().map_err(broken)?,
    }
    Ok(next)
}

/// Whether an error says that nothing more can be done in this transaction.
fn is_broken(error: &KeyValueError) -> bool {
    matches!(error, KeyValueError::Unavailable(_) | KeyValueError::Corrupt(_))
}

impl Request {
    /// Does it; the answer waits among `replies`. An error says that nothing more can be done.
    fn run(self, work: &mut Work<'_>, replies: &mut Vec<Reply>) -> Option<KeyValueError> {
        match self {
            Request::Change { change, answer } => reply(work.change(change), answer, replies),
            Request::Increment { key, by, answer } => reply(work.increment(&key, by), answer, replies),
            Request::Sweep | Request::Close { .. } => None,
        }
    }

    pub(super) fn refuse(self, error: &KeyValueError) {
        // An error of `send` says that nobody waits any more.
        match self {
            Request::Change { answer, .. } => drop(answer.send(Err(error.clone()))),
            Request::Increment { answer, .. } => drop(answer.send(Err(error.clone()))),
            Request::Sweep => {}
            Request::Close { answer } => drop(answer.send(())),
        }
    }

    pub(super) fn closed(self) {
        if let Request::Close { answer } = self {
            // An error says that nobody waits any more.
            let _ = answer.send(());
        }
    }
}

fn reply<T: 'static>(
    done: Result<T, KeyValueError>,
    answer: Answer<T>,
    replies: &mut Vec<Reply>,
) -> Option<KeyValueError> {
    let broken = done.as_ref().err().filter(|error| is_broken(error)).cloned();
    replies.push(Box::new(move |failure| {
        // An error says that nobody waits any more.
        let _ = answer.send(match failure {
            Some(error) => Err(error.clone()),
            None => done,
        });
    }));
    broken
}

impl Change {
    /// Bytes that it holds while it waits.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Change::Set { key, value, .. } => key.len() + value.len(),
            Change::SetMany { pairs, .. } => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Change::Delete { key, .. } => key.len(),
            Change::DeleteMany { keys } => keys.iter().map(String::len).sum(),
        }
    }
}

/// A key as it is, whether it has expired or not.
struct Found {
    version: u64,
    expires: u64,
    value_bytes: usize,
    has_expired: bool,
}

impl Found {
    /// What it takes of the quota that nothing else can: what has expired gives way by itself.
    fn cost(&self, key: &str) -> u64 {
        match self.has_expired {
            true => 0,
            false => cost(key, self.value_bytes),
        }
    }

    fn version_now(found: Option<&Self>) -> Option<u64> {
        found
            .filter(|found| !found.has_expired)
            .map(|found| found.version)
    }
}

struct Work<'a> {
    data: Table<'a, &'static str, &'static [u8]>,
    expires: Table<'a, (u64, &'static str), ()>,
    meta: Table<'a, &'static str, u64>,
    settings: &'a Settings,
    now_ms: u64,
    keys: u64,
    bytes: u64,
    version: u64,
    has_changed: bool,
}

impl<'a> Work<'a> {
    fn begin(
        transaction: &'a WriteTransaction,
        settings: &'a Settings,
        now_ms: u64,
    ) -> Result<Self, KeyValueError> {
        let meta = transaction.open_table(META).map_err(broken)?;
        let number = |name: &str| -> Result<u64, KeyValueError> {
            Ok(meta.get(name).map_err(broken)?.map_or(0, |number| number.value()))
        };
        let (keys, bytes, version) = (number(META_KEYS)?, number(META_BYTES)?, number(META_VERSION)?);
        Ok(Self {
            data: transaction.open_table(DATA).map_err(broken)?,
            expires: transaction.open_table(EXPIRES).map_err(broken)?,
            meta,
            settings,
            now_ms,
            keys,
            bytes,
            version,
            has_changed: false,
        })
    }

    /// Writes the sums down; says when the first key expires, and whether anything changed.
    fn end(mut self) -> Result<(Option<u64>, bool), KeyValueError> {
        for (name, number) in [
            (META_KEYS, self.keys),
            (META_BYTES, self.bytes),
            (META_VERSION, self.version),
        ] {
            self.meta.insert(name, number).map_err(broken)?;
        }
        let first = self.expires.first().map_err(broken)?;
        Ok((first.map(|(key, _)| key.value().0), self.has_changed))
    }

    fn change(&mut self, change: Change) -> Result<Written, KeyValueError> {
        match change {
            Change::Set {
                key,
                value,
                ttl,
                when,
            } => {
                let found = self.found(&key)?;
                let there = Found::version_now(found.as_ref());
                if !holds(when, there) {
                    return Ok(Written::Unmet(there));
                }
                let taken = found.map_or(0, |found| found.cost(&key));
                self.room(cost(&key, value.len()), taken)?;
                let expires = self.settings.expires(ttl, self.now_ms);
                Ok(Written::Done(self.put(&key, &value, expires)?))
            }
            Change::SetMany { pairs, ttl } => {
                let (mut wanted, mut taken) = (0, 0);
                for (key, value) in &pairs {
                    wanted += cost(key, value.len());
                    taken += self.found(key)?.map_or(0, |found| found.cost(key));
                }
                self.room(wanted, taken)?;
                let expires = self.settings.expires(ttl, self.now_ms);
                for (key, value) in &pairs {
                    self.put(key, value, expires)?;
                }
                Ok(Written::Done(self.version))
            }
            Change::Delete { key, when } => {
                let there = Found::version_now(self.found(&key)?.as_ref());
                if !holds(when, there) {
                    return Ok(Written::Unmet(there));
                }
                self.remove(&key)?;
                Ok(Written::Done(0))
            }
            Change::DeleteMany { keys } => {
                keys.iter().try_for_each(|key| self.remove(key))?;
                Ok(Written::Done(0))
            }
        }
    }

    fn increment(&mut self, key: &str, by: i64) -> Result<i64, KeyValueError> {
        let found = self.found(key)?.filter(|found| !found.has_expired);
        let (before, expires) = match &found {
            None => (0, self.settings.expires(Ttl::Default, self.now_ms)),
            Some(found) => (self.number(key)?, found.expires),
        };
        let sum = before.checked_add(by).ok_or_else(|| KeyValueError::Overflow {
            key: key.to_string(),
            by,
        })?;
        let text = sum.to_string();
        let taken = found.map_or(0, |found| found.cost(key));
        self.room(cost(key, text.len()), taken)?;
        self.put(key, text.as_bytes(), expires)?;
        Ok(sum)
    }

    /// The number that a key has, which is there.
    fn number(&self, key: &str) -> Result<i64, KeyValueError> {
        let row = self.data.get(key).map_err(broken)?;
        let bytes = row.as_ref().map_or(&[][..], |row| row.value());
        let text = std::str::from_utf8(Row::read(bytes)?.value).ok();
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| KeyValueError::NotANumber { key: key.to_string() })
    }

    fn found(&self, key: &str) -> Result<Option<Found>, KeyValueError> {
        let row = self.data.get(key).map_err(broken)?;
        let Some(row) = row else { return Ok(None) };
        let row = Row::read(row.value())?;
        Ok(Some(Found {
            version: row.version,
            expires: row.expires,
            value_bytes: row.value.len(),
            has_expired: row.has_expired(self.now_ms),
        }))
    }

    /// Makes sure that there is room for `wanted` in place of `taken`: what has expired gives way first.
    fn room(&mut self, wanted: u64, taken: u64) -> Result<(), KeyValueError> {
        let max = self.settings.quota_bytes_max();
        // What takes less than before is let through, so that an app can get below a quota that was lowered.
        let fits = |bytes: u64| wanted <= taken || bytes.saturating_sub(taken).saturating_add(wanted) <= max;
        if fits(self.bytes) {
            return Ok(());
        }
        self.sweep(usize::MAX)?;
        let bytes = self.bytes.saturating_sub(taken).saturating_add(wanted);
        match fits(self.bytes) {
            true => Ok(()),
            false => Err(KeyValueError::Quota { bytes, max }),
        }
    }

    fn put(&mut self, key: &str, value: &[u8], expires: u64) -> Result<u64, KeyValueError> {
        self.remove(key)?;
        self.version += 1;
        let row = Row {
            version: self.version,
            expires,
            value,
        };
        self.data.insert(key, row.write().as_slice()).map_err(broken)?;
        if expires != 0 {
            self.expires.insert((expires, key), ()).map_err(broken)?;
        }
        self.has_changed = true;
        self.keys += 1;
        self.bytes += cost(key, value.len());
        Ok(self.version)
    }

    fn remove(&mut self, key: &str) -> Result<(), KeyValueError> {
        let removed = self.data.remove(key).map_err(broken)?;
        let Some(removed) = removed else { return Ok(()) };
        let row = Row::read(removed.value())?;
        self.has_changed = true;
        self.keys = self.keys.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(cost(key, row.value.len()));
        if row.expires != 0 {
            self.expires.remove((row.expires, key)).map_err(broken)?;
        }
        Ok(())
    }

    /// Removes up to `most` keys that have expired.
    fn sweep(&mut self, most: usize) -> Result<(), KeyValueError> {
        for _ in 0..most {
            let first = self.expires.first().map_err(broken)?;
            let expired = first.and_then(|(entry, _)| {
                let (at, key) = entry.value();
                (at <= self.now_ms).then(|| key.to_string())
            });
            match expired {
                Some(key) => self.remove(&key)?,
                None => break,
            }
        }
        Ok(())
    }
}

/// Whether a write may be done where the version `there` is.
fn holds(when: When, there: Option<u64>) -> bool {
    match when {
        When::Always => true,
        When::Absent => there.is_none(),
        When::Present => there.is_some(),
        When::Version(version) => there == Some(version),
    }
}
