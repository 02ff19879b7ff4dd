//! Queues for one test, whatever keeps them, and words for what is done to them.

use gilliam_model::{
    Timestamp,
    queue::{Leased, NewJob, Outcome, QueueId, SayJob},
};
use gilliam_queue::{OpenError, Put, Queues, Settled, Want};
use tempfile::TempDir;

use crate::postgres_process::{self, Database};

pub(crate) struct Bench {
    pub(crate) queues: Queues,
    place: Place,
}

/// What keeps the queues, and goes with the bench.
enum Place {
    File(TempDir),
    Postgres(Database),
}

impl Place {
    fn open(&self) -> Result<Queues, OpenError> {
        match self {
            Place::File(folder) => Queues::open(folder.path()),
            Place::Postgres(database) => Ok(Queues::postgres(database.url().parse().expect("a URL"))),
        }
    }
}

impl Bench {
    fn of(place: Place) -> Self {
        let queues = place.open().expect("opens");
        Self { queues, place }
    }

    pub(crate) fn file() -> Self {
        Self::of(Place::File(tempfile::tempdir().expect("folder")))
    }

    pub(crate) fn postgres() -> Self {
        Self::of(Place::Postgres(postgres_process::database()))
    }

    /// As after a crash of the program: what was answered is there.
    pub(crate) fn again(self) -> Self {
        let Self { queues, place } = self;
        let ended = queues.ready();
        drop(queues);
        // Its thread lets go of the file when it has ended, and of the channel before.
        while ended.has_changed().is_ok() {
            std::thread::yield_now();
        }
        let open = || place.open();
        let queues = std::iter::repeat_with(open).find_map(Result::ok).expect("opens");
        Self { queues, place }
    }

    pub(crate) async fn put(&self, jobs: &[NewJob]) -> Vec<Put> {
        self.queues
            .put(&emails(), jobs.to_vec(), at(0))
            .await
            .expect("put")
    }

    pub(crate) async fn put_texts(&self, texts: &[&str]) {
        let jobs: Vec<_> = texts.iter().map(|text| job(text)).collect();
        self.put(&jobs).await;
    }

    pub(crate) async fn take(&self, jobs: usize, seconds: i64) -> Vec<Leased> {
        self.take_as("node/worker.1", jobs, seconds).await
    }

    pub(crate) async fn take_as(&self, holder: &str, jobs: usize, seconds: i64) -> Vec<Leased> {
        let want = Want {
            queue: emails(),
            jobs,
            running_max: None,
            rate: None,
        };
        self.queues
            .take(vec![want], holder, at(seconds))
            .await
            .expect("take")
    }

    pub(crate) async fn say(&self, job: &Leased, outcome: Outcome, seconds: i64) -> Settled {
        let said = SayJob {
            queue: job.queue.clone(),
            id: job.id,
            lease: job.lease,
            outcome,
        };
        let said = self.queues.settle(vec![said], at(seconds)).await.expect("settle");
        said[0]
    }

    pub(crate) async fn counts(&self) -> [u64; 4] {
        let info = self.queues.info(&emails()).await.expect("info").expect("a queue");
        let counts = info.counts;
        [counts.ready, counts.scheduled, counts.running, counts.dead]
    }
}

pub(crate) fn emails() -> QueueId {
    Queues::id(&"shop".parse().expect("app"), &"emails".parse().expect("queue"))
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("time")
}

pub(crate) fn job(text: &str) -> NewJob {
    NewJob {
        payload: text.as_bytes().to_vec(),
        ..NewJob::default()
    }
}

pub(crate) fn texts(jobs: &[Leased]) -> Vec<String> {
    let texts = jobs.iter().map(|job| String::from_utf8(job.payload.clone()));
    texts.map(|text| text.expect("text")).collect()
}

pub(crate) fn retry(error: &str) -> Outcome {
    Outcome::Retry {
        error: error.to_string(),
        after_ms: None,
    }
}
