//! Reads, as of the last commit.

use std::ops::Bound;

use gilliam_model::Timestamp;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _};
use tokio::sync::oneshot;

use super::{
    KeyValueError, Page, Usage, Value,
    error::broken,
    limits,
    table::{DATA, META, META_BYTES, META_KEYS, Row},
};

type Answer<T> = oneshot::Sender<Result<T, KeyValueError>>;

/// A read that waits.
pub(super) enum Read {
    Get {
        key: String,
        answer: Answer<Option<Value>>,
    },
    GetMany {
        keys: Vec<String>,
        answer: Answer<Vec<Option<Value>>>,
    },
    List {
        prefix: String,
        after: Option<String>,
        limit: usize,
        answer: Answer<Page>,
    },
    Usage {
        answer: Answer<Usage>,
    },
}

type Data = ReadOnlyTable<&'static str, &'static [u8]>;

/// Answers reads from one snapshot.
pub(super) fn answer(database: &Database, requests: Vec<Read>, now_ms: u64) {
    let opened = database.begin_read().map_err(broken).and_then(|snapshot| {
        let data = snapshot.open_table(DATA).map_err(broken)?;
        Ok((snapshot, data))
    });
    let (snapshot, data) = match opened {
        Ok(opened) => opened,
        Err(error) => return requests.into_iter().for_each(|request| request.refuse(&error)),
    };
    // An error of `send` says that nobody waits any more.
    for request in requests {
        match request {
            Read::Get { key, answer } => drop(answer.send(get(&data, &key, now_ms))),
            Read::GetMany { keys, answer } => drop(answer.send(get_many(&data, &keys, now_ms))),
            Read::List {
                prefix,
                after,
                limit,
                answer,
            } => drop(answer.send(list(&data, &prefix, after.as_deref(), limit, now_ms))),
            Read::Usage { answer } => drop(answer.send(usage(&snapshot))),
        }
    }
}

impl Read {
    pub(super) fn refuse(self, error: &KeyValueError) {
        match self {
            Read::Get { answer, .. } => drop(answer.send(Err(error.clone()))),
            Read::GetMany { answer, .. } => drop(answer.send(Err(error.clone()))),
            Read::List { answer, .. } => drop(answer.send(Err(error.clone()))),
            Read::Usage { answer } => drop(answer.send(Err(error.clone()))),
        }
    }
}

fn get(data: &Data, key: &str, now_ms: u64) -> Result<Option<Value>, KeyValueError> {
    let Some(found) = data.get(key).map_err(broken)? else {
        return Ok(None);
    };
    let row = Row::read(found.value())?;
    if row.has_expired(now_ms) {
        return Ok(None);
    }
    let expires = match row.expires {
        0 => None,
        at => i64::try_from(at)
            .ok()
            .and_then(|at| Timestamp::from_millisecond(at).ok()),
    };
    Ok(Some(Value {
        bytes: row.value.to_vec(),
        version: row.version,
        expires,
    }))
}

fn get_many(data: &Data, keys: &[String], now_ms: u64) -> Result<Vec<Option<Value>>, KeyValueError> {
    let mut values = Vec::with_capacity(keys.len());
    let mut bytes = 0;
    for key in keys {
        let value = get(data, key, now_ms)?;
        bytes += value.as_ref().map_or(0, |value| value.bytes.len());
        limits::check_bytes(bytes)?;
        values.push(value);
    }
    Ok(values)
}

fn list(
    data: &Data,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    now_ms: u64,
) -> Result<Page, KeyValueError> {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let mut page = Page::default();
    for entry in data.range::<&str>((from, Bound::Unbounded)).map_err(broken)? {
        let (key, row) = entry.map_err(broken)?;
        if !key.value().starts_with(prefix) {
            break;
        }
        if Row::read(row.value())?.has_expired(now_ms) {
            continue;
        }
        if page.keys.len() == limit {
            page.next = page.keys.last().cloned();
            break;
        }
        page.keys.push(key.value().to_string());
    }
    Ok(page)
}

fn usage(snapshot: &ReadTransaction) -> Result<Usage, KeyValueError> {
    let meta = snapshot.open_table(META).map_err(broken)?;
    let number = |name: &str| -> Result<u64, KeyValueError> {
        Ok(meta.get(name).map_err(broken)?.map_or(0, |number| number.value()))
    };
    Ok(Usage {
        keys: number(META_KEYS)?,
        bytes: number(META_BYTES)?,
    })
}
