//! Reading: several prefixes at one revision, in pages.
//!
//! Invariant: every reading is linearizable: a member that lags behind answers only after it has caught up.

use etcd_client::{GetOptions, GetResponse, KeyValue, Txn, TxnOp, TxnOpResponse};

use super::{
    layout::Layout,
    members::{Failure, Members},
};
use crate::{Entry, RangeError, Revision};

/// Longest answer that is taken as one message: some of the largest values, or a page of usual ones.
pub(super) const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Keys in a page; fewer when they do not fit into a message. For each page etcd counts all keys that follow, so that
/// small pages of a large state cost it many times what is read.
const PAGE_KEYS_MAX: i64 = 10_000;
/// Prefixes that are asked for at once: below etcd's 128 operations in a transaction.
const PREFIXES_AT_ONCE_MAX: usize = 100;
/// Times a reading begins anew because what it reads was compacted meanwhile: etcd keeps minutes of history,
/// so once is rare.
const BEGINNINGS_MAX: usize = 5;

/// Reads each of `prefixes`, all at one revision.
pub(super) async fn ranges(
    members: &Members,
    layout: &Layout,
    prefixes: &[&str],
) -> Result<(Revision, Vec<Vec<Entry>>), RangeError> {
    for _ in 0..BEGINNINGS_MAX {
        let mut reading = Reading::new(members, layout, prefixes);
        match reading.read_all().await {
            Ok(()) => return reading.finish(),
            Err(Failure::Compacted) => {}
            Err(failure) => return Err(unavailable(failure)),
        }
    }
    Err(RangeError::Unavailable {
        reason: "etcd compacts its history faster than it can be read".into(),
    })
}

/// Reads one key.
pub(super) async fn get(
    members: &Members,
    layout: &Layout,
    key: &str,
) -> Result<(Revision, Option<Entry>), RangeError> {
    let etcd_key = layout.etcd_key(key);
    let mut answer = members
        .ask(|client| {
            let etcd_key = etcd_key.clone();
            let mut client = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
            async move { client.get(etcd_key, None).await }
        })
        .await
        .map_err(unavailable)?;
    let revision = layout.revision(revision_of(&answer));
    let found = answer.take_kvs().pop();
    Ok((revision, found.map(|kv| entry(layout, kv)).transpose()?))
}

/// The revision of the last commit, if there was one since heads are written; and etcd's newest.
pub(super) async fn head(
    members: &Members,
    layout: &Layout,
) -> Result<(Option<Revision>, Revision), RangeError> {
    let head = layout.head();
    let answer = members
        .ask(|mut client| {
            let head = head.clone();
            async move { client.get(head, None).await }
        })
        .await
        .map_err(unavailable)?;
    let committed = answer.kvs().first().map(|kv| layout.revision(kv.mod_revision()));
    Ok((committed, layout.revision(revision_of(&answer))))
}

/// A page of the keys with a prefix.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) revision: i64,
    pub(super) kvs: Vec<KeyValue>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<Vec<u8>>,
}

/// Reads a page of the keys from `first` to before `end` as of `revision` (of etcd's; 0 is the newest).
///
/// `limit` is halved until the page fits into a message, and stays so.
pub(super) async fn page(
    members: &Members,
    first: &[u8],
    end: &[u8],
    revision: i64,
    limit: &mut i64,
) -> Result<Page, Failure> {
    loop {
        let options = GetOptions::new()
            .with_range(end)
            .with_limit(*limit)
            .with_revision(revision);
        let answer = members
            .ask(|client| {
                let (first, options) = (first.to_vec(), options.clone());
                let mut client = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
                async move { client.get(first, Some(options)).await }
            })
            .await;
        match answer {
            Ok(mut answer) => return Ok(page_of(&mut answer)),
            Err(Failure::LongAnswer) if *limit > 1 => *limit /= 2,
            Err(failure) => return Err(failure),
        }
    }
}

/// A reading of everything, page by page.
#[derive(Debug)]
pub(crate) struct EtcdScan {
    /// Those of the first page, which told the revision.
    ready: Vec<KeyValue>,
    next: Option<Vec<u8>>,
    end: Vec<u8>,
    revision: i64,
    page_keys: i64,
}

/// Begins to read everything; gives etcd's revision that is read.
pub(super) async fn scan(members: &Members, layout: &Layout) -> Result<(i64, EtcdScan), RangeError> {
    let (first, end) = layout.range("");
    let mut page_keys = PAGE_KEYS_MAX;
    let page = page(members, &first, &end, 0, &mut page_keys)
        .await
        .map_err(unavailable)?;
    let scan = EtcdScan {
        ready: page.kvs,
        next: page.next,
        end,
        revision: page.revision,
        page_keys,
    };
    Ok((page.revision, scan))
}

/// The next entries of a scan; none when all are read.
pub(super) async fn next_page(
    members: &Members,
    layout: &Layout,
    scan: &mut EtcdScan,
) -> Result<Vec<Entry>, RangeError> {
    let mut kvs = std::mem::take(&mut scan.ready);
    if kvs.is_empty()
        && let Some(first) = scan.next.take()
    {
        let page = page(members, &first, &scan.end, scan.revision, &mut scan.page_keys)
            .await
            .map_err(unavailable)?;
        kvs = page.kvs;
        scan.next = page.next;
    }
    kvs.into_iter().map(|kv| entry(layout, kv)).collect()
}

/// An entry of ours.
pub(super) fn entry(layout: &Layout, kv: KeyValue) -> Result<Entry, RangeError> {
    let revision = layout.revision(kv.mod_revision());
    let (key, value) = kv.into_key_value();
    match layout.key(&key) {
        Some(key) => Ok(Entry {
            key: key.to_string(),
            value,
            revision,
        }),
        None => Err(RangeError::Corrupt {
            key: String::from_utf8_lossy(&key).into_owned(),
            reason: "it is no key of gilliam's".into(),
        }),
    }
}

/// Why nothing was read.
pub(super) fn unavailable(failure: Failure) -> RangeError {
    let reason = match failure {
        Failure::Unreachable(said) => format!("no member of etcd answered in time: {said}"),
        Failure::Unknown(said) | Failure::Refused(said) => format!("etcd refused: {said}"),
        Failure::Compacted => "the revision is no longer kept".into(),
        Failure::LongAnswer => "an answer of etcd's is too long".into(),
        Failure::NoSpace => "etcd's database is full".into(),
    };
    RangeError::Unavailable { reason }
}

fn page_of(answer: &mut GetResponse) -> Page {
    let (more, revision) = (answer.more(), revision_of(answer));
    let kvs = answer.take_kvs();
    let next = kvs.last().filter(|_| more).map(|last| {
        // The first key after it.
        let mut next = last.key().to_vec();
        next.push(0);
        next
    });
    Page { revision, kvs, next }
}

fn revision_of(answer: &GetResponse) -> i64 {
    answer.header().map_or(0, |header| header.revision())
}

/// A reading on its way.
struct Reading<'a> {
    members: &'a Members,
    layout: &'a Layout,
    /// etcd's revision; 0 until the first answer.
    revision: i64,
    lists: Vec<List>,
    page_keys: i64,
}

/// What is read of one prefix.
struct List {
    /// Where the next page begins; none when all is read.
    next: Option<Vec<u8>>,
    end: Vec<u8>,
    kvs: Vec<KeyValue>,
}

impl<'a> Reading<'a> {
    fn new(members: &'a Members, layout: &'a Layout, prefixes: &[&str]) -> Self {
        let list = |prefix: &&str| {
            let (first, end) = layout.range(prefix);
            List {
                next: Some(first),
                end,
                kvs: Vec::new(),
            }
        };
        Self {
            members,
            layout,
            revision: 0,
            lists: prefixes.iter().map(list).collect(),
            page_keys: PAGE_KEYS_MAX,
        }
    }

    async fn read_all(&mut self) -> Result<(), Failure> {
        match self.read_first_pages().await {
            // Each by itself, then.
            Ok(()) | Err(Failure::LongAnswer) => {}
            Err(failure) => return Err(failure),
        }
        for list in &mut self.lists {
            while let Some(first) = list.next.take() {
                let page = page(
                    self.members,
                    &first,
                    &list.end,
                    self.revision,
                    &mut self.page_keys,
                )
                .await?;
                // All that follows is read as of the first answer's revision.
                if self.revision == 0 {
                    self.revision = page.revision;
                }
                list.kvs.extend(page.kvs);
                list.next = page.next;
            }
        }
        Ok(())
    }

    /// Reads the first page of many lists in one transaction: all of a usual state by one message.
    async fn read_first_pages(&mut self) -> Result<(), Failure> {
        let ops: Vec<TxnOp> = self
            .lists
            .iter()
            .take(PREFIXES_AT_ONCE_MAX)
            .filter_map(|list| {
                let options = GetOptions::new()
                    .with_range(list.end.clone())
                    .with_limit(self.page_keys);
                Some(TxnOp::get(list.next.clone()?, Some(options)))
            })
            .collect();
        if ops.len() < 2 {
            return Ok(());
        }
        let txn = Txn::new().and_then(ops);
        let answer = self
            .members
            .ask(|client| {
                let txn = txn.clone();
                let mut client = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
                async move { client.txn(txn).await }
            })
            .await?;
        self.revision = answer.header().map_or(0, |header| header.revision());
        for (list, answer) in self.lists.iter_mut().zip(answer.op_responses()) {
            if let TxnOpResponse::Get(mut answer) = answer {
                let page = page_of(&mut answer);
                list.kvs = page.kvs;
                list.next = page.next;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(Revision, Vec<Vec<Entry>>), RangeError> {
        let entries = |list: List| list.kvs.into_iter().map(|kv| entry(self.layout, kv)).collect();
        let lists = self.lists.into_iter().map(entries).collect::<Result<_, _>>()?;
        Ok((self.layout.revision(self.revision), lists))
    }
}
