//! The one thread that writes.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use gilliam_model::{
    Timestamp,
    name::AppName,
    queue::{JobId, JobState, Leased, NewJob, QueueId, SayJob},
};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _, WriteTransaction,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    state::Books,
    table::{
        self, DEAD, DUE, HOLDERS, JOBS, KEYS, LEASES, META, META_LAYOUT, PAYLOADS, QUEUES, QueueRecord, READY,
    },
    work::{Done, Ended, Fault, Work},
};
use crate::{OpenError, Put, QueueError, Settled, Want};

/// The file in the data folder.
const FILE_NAME: &str = "queues.redb";
/// Version of the tables.
const LAYOUT: u64 = 1;
/// Operations in one transaction: together they share one `fsync`, and the first of them waits for the last.
const GROUP_MAX: usize = 256;
/// Pages that redb keeps in memory.
const CACHE_BYTES_MAX: usize = 64 << 20;

type Answer<T> = oneshot::Sender<Result<T, QueueError>>;

/// An operation that waits.
pub(super) enum Request {
    Put {
        queue: QueueId,
        jobs: Vec<NewJob>,
        now: Timestamp,
        answer: Answer<Vec<Put>>,
    },
    Take {
        wants: Vec<Want>,
        holder: String,
        now: Timestamp,
        answer: Answer<Vec<Leased>>,
    },
    Settle {
        said: Vec<SayJob>,
        now: Timestamp,
        answer: Answer<Vec<Settled>>,
    },
    HolderGone {
        holder: String,
        now: Timestamp,
        answer: Answer<u64>,
    },
    Tick {
        now: Timestamp,
        answer: Answer<Option<Timestamp>>,
    },
    Pause {
        queue: QueueId,
        paused: bool,
        answer: Answer<bool>,
    },
    Purge {
        queue: QueueId,
        states: Vec<JobState>,
        answer: Answer<u64>,
    },
    Retry {
        queue: QueueId,
        id: Option<JobId>,
        now: Timestamp,
        answer: Answer<u64>,
    },
    Remove {
        app: AppName,
        answer: Answer<()>,
    },
}

/// What to do with an operation's answer once its group is durable, or is not.
type Reply = Box<dyn FnOnce(Option<&QueueError>)>;

/// What the writer and readers share.
#[derive(Debug)]
pub(super) struct Shared {
    database: Database,
    path: PathBuf,
    /// Set by the first write that failed; from then on nothing is written.
    failure: OnceLock<QueueError>,
    /// Queues that give out jobs, as of the last commit.
    giving: Mutex<HashSet<QueueId>>,
}

pub(super) fn refused(data: &Path, reason: &str) -> OpenError {
    OpenError::File {
        path: data.join(FILE_NAME),
        reason: reason.to_string(),
    }
}

impl Shared {
    /// Opens the file, or makes it; its tables are there afterwards.
    pub(super) fn open(data: &Path) -> Result<Self, OpenError> {
        let path = data.join(FILE_NAME);
        let failed = |error: redb::Error| refused(data, &error.to_string());
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES_MAX);
        let database = builder.create(&path).map_err(|error| failed(error.into()))?;
        match make(&database).map_err(failed)? {
            LAYOUT => Ok(Self {
                database,
                path,
                failure: OnceLock::new(),
                giving: Mutex::default(),
            }),
            found => Err(OpenError::Newer {
                path,
                found,
                known: LAYOUT,
            }),
        }
    }

    /// Everything as of the last commit.
    pub(super) fn snapshot(&self) -> Result<ReadTransaction, QueueError> {
        let begun = self.database.begin_read();
        begun.map_err(|error| QueueError::Corrupt(error.to_string()))
    }

    /// Those of `queues` from which a job could be taken.
    pub(super) fn giving(&self, queues: &[QueueId]) -> Vec<QueueId> {
        let giving = self.giving.lock().unwrap_or_else(PoisonError::into_inner);
        let found = queues.iter().filter(|queue| giving.contains(*queue));
        found.cloned().collect()
    }

    fn note(&self, changed: Vec<(QueueId, bool)>) {
        let mut giving = self.giving.lock().unwrap_or_else(PoisonError::into_inner);
        for (queue, gives) in changed {
            match gives {
                true => giving.insert(queue),
                false => giving.remove(&queue),
            };
        }
    }

    fn books(&self) -> Result<Books, QueueError> {
        let read = |error: redb::Error| QueueError::Corrupt(error.to_string());
        let snapshot = self.snapshot()?;
        let queues = snapshot.open_table(QUEUES).map_err(|error| read(error.into()))?;
        let mut books = Books::default();
        for entry in queues.iter().map_err(|error| read(error.into()))? {
            let (key, bytes) = entry.map_err(|error| read(error.into()))?;
            let name = key.value();
            let corrupt = || QueueError::Corrupt(format!("a queue has the name {name:?}"));
            let (app, queue) = name.split_once('/').ok_or_else(corrupt)?;
            let id = QueueId {
                app: app.parse().map_err(|_| corrupt())?,
                queue: queue.parse().map_err(|_| corrupt())?,
            };
            let record: QueueRecord = table::decode("a queue", bytes.value())?;
            books.add(id, record);
        }
        Ok(books)
    }
}

/// Makes the tables that are not there; answers the file's layout.
fn make(database: &Database) -> Result<u64, redb::Error> {
    let transaction = begin(database)?;
    let layout = {
        transaction.open_table(JOBS)?;
        transaction.open_table(PAYLOADS)?;
        transaction.open_table(READY)?;
        transaction.open_table(DUE)?;
        transaction.open_table(LEASES)?;
        transaction.open_table(HOLDERS)?;
        transaction.open_table(DEAD)?;
        transaction.open_table(KEYS)?;
        transaction.open_table(QUEUES)?;
        let mut meta = transaction.open_table(META)?;
        let found = meta.get(META_LAYOUT)?.map(|layout| layout.value());
        match found {
            Some(layout) => layout,
            None => {
                meta.insert(META_LAYOUT, LAYOUT)?;
                LAYOUT
            }
        }
    };
    transaction.commit()?;
    Ok(layout)
}

fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    // A file that was cut off is opened without a scan of it.
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Does the operations that wait, together, until every handle is gone.
pub(super) fn run(shared: &Shared, mut requests: mpsc::Receiver<Request>, woken: &watch::Sender<u64>) {
    let mut books = match shared.books() {
        Ok(books) => books,
        Err(error) => {
            // An error says that it was set before.
            let _ = shared.failure.set(error);
            Books::default()
        }
    };
    shared.note(books.giving());
    let mut group = Vec::with_capacity(GROUP_MAX);
    while requests.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
        if let Some(error) = shared.failure.get() {
            group.drain(..).for_each(|request| request.refuse(error));
            continue;
        }
        let mut replies = Vec::with_capacity(group.len());
        let ended = commit(shared, &mut books, group.drain(..), &mut replies);
        if let Err(error) = &ended {
            tracing::error!(path = %shared.path.display(), "{error}");
            let _ = shared.failure.set(error.clone());
        }
        let failure = ended.as_ref().err().cloned();
        if let Ok(ended) = ended {
            shared.note(ended.queues);
            if ended.woke {
                woken.send_modify(|n| *n += 1);
            }
        }
        replies.into_iter().for_each(|reply| reply(failure.as_ref()));
    }
}

fn commit(
    shared: &Shared,
    books: &mut Books,
    group: impl Iterator<Item = Request>,
    replies: &mut Vec<Reply>,
) -> Result<Ended, QueueError> {
    let read_only = |error: redb::Error| QueueError::ReadOnly(error.to_string());
    let transaction = begin(&shared.database).map_err(read_only)?;
    let mut broken = None;
    let worked = Work::begin(&transaction, books).and_then(|mut work| {
        for request in group {
            match broken.as_ref() {
                Some(error) => request.refuse(error),
                None => broken = request.run(&mut work, replies),
            }
        }
        work.end()
    });
    let ended = match (broken, worked) {
        (Some(error), _) | (None, Err(Fault::Broken(error) | Fault::Refused(error))) => return Err(error),
        (None, Ok(ended)) => ended,
    };
    transaction.commit().map_err(|error| read_only(error.into()))?;
    Ok(ended)
}

impl Request {
    /// Does it; the answer waits among `replies`. An error says that nothing more can be done.
    fn run(self, work: &mut Work<'_>, replies: &mut Vec<Reply>) -> Option<QueueError> {
        match self {
            Request::Put {
                queue,
                jobs,
                now,
                answer,
            } => reply(work.put(&queue, &jobs, now), answer, replies),
            Request::Take {
                wants,
                holder,
                now,
                answer,
            } => reply(work.take(&wants, &holder, now), answer, replies),
            Request::Settle { said, now, answer } => {
                let settled = said.iter().map(|said| work.settle(said, now)).collect();
                reply(settled, answer, replies)
            }
            Request::HolderGone { holder, now, answer } => {
                reply(work.holder_gone(&holder, now), answer, replies)
            }
            Request::Tick { now, answer } => reply(work.tick(now), answer, replies),
            Request::Pause {
                queue,
                paused,
                answer,
            } => reply(work.pause(&queue, paused), answer, replies),
            Request::Purge {
                queue,
                states,
                answer,
            } => reply(work.purge(&queue, &states), answer, replies),
            Request::Retry {
                queue,
                id,
                now,
                answer,
            } => reply(work.retry(&queue, id, now), answer, replies),
            Request::Remove { app, answer } => reply(work.remove(&app), answer, replies),
        }
    }

    fn refuse(self, error: &QueueError) {
        fn no<T>(answer: Answer<T>, error: &QueueError) {
            // An error says that nobody waits any more.
            let _ = answer.send(Err(error.clone()));
        }
        match self {
            Request::Put { answer, .. } => no(answer, error),
            Request::Take { answer, .. } => no(answer, error),
            Request::Settle { answer, .. } => no(answer, error),
            Request::HolderGone { answer, .. } => no(answer, error),
            Request::Tick { answer, .. } => no(answer, error),
            Request::Pause { answer, .. } => no(answer, error),
            Request::Purge { answer, .. } => no(answer, error),
            Request::Retry { answer, .. } => no(answer, error),
            Request::Remove { answer, .. } => no(answer, error),
        }
    }
}

fn reply<T: 'static>(done: Done<T>, answer: Answer<T>, replies: &mut Vec<Reply>) -> Option<QueueError> {
    let (result, broken) = match done {
        Ok(value) => (Ok(value), None),
        Err(Fault::Refused(error)) => (Err(error), None),
        Err(Fault::Broken(error)) => (Err(error.clone()), Some(error)),
    };
    replies.push(Box::new(move |failure| {
        // An error says that nobody waits any more.
        let _ = answer.send(match failure {
            Some(error) => Err(error.clone()),
            None => result,
        });
    }));
    broken
}
