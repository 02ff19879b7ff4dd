//! A process that puts jobs, takes jobs and does them, until its share is put and the queues are empty, or it is
//! killed.

use std::{
    fmt,
    fs::File,
    io::Write as _,
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use gilliam_model::{
    Timestamp,
    queue::{Leased, NewJob, Outcome, QueueId, SayJob},
};
use gilliam_queue::{Queues, Settled, Want};
use tokio::task::JoinSet;

/// What a process is told by its environment: a folder or a URL, its log, its part, the processes whose leases end.
pub(super) const PLACE: &str = "GILLIAM_SOAK_PLACE";
pub(super) const LOG: &str = "GILLIAM_SOAK_LOG";
pub(super) const PART: &str = "GILLIAM_SOAK_PART";
pub(super) const DEAD: &str = "GILLIAM_SOAK_DEAD";

/// One of so many jobs goes through the queue that has one worker.
const ORDERED_SHARE: u64 = 50;
/// Jobs put, and taken, at once at most.
const PUT_MAX: u64 = 50;
const TAKE_MAX: usize = 20;
const PUTTERS: u64 = 4;
const WORKERS: usize = 4;
/// Longest wait for a word that there are jobs, and between two looks at the clock.
const LOOK: Duration = Duration::from_millis(100);

/// What a process is to do: its number, how many jobs it puts, and whether the ordered queue is its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) jobs: u64,
    pub(super) is_first: bool,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.number, self.jobs, self.is_first)
    }
}

impl FromStr for Part {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<&str> = text.split(' ').collect();
        Ok(Self {
            number: words[0].parse().map_err(drop)?,
            jobs: words[1].parse().map_err(drop)?,
            is_first: words[2].parse().map_err(drop)?,
        })
    }
}

#[derive(Clone)]
struct Process {
    queues: Queues,
    log: Arc<File>,
    part: Part,
    /// Jobs that are put, and their numbers so far.
    next: Arc<AtomicU64>,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn queue(name: &str) -> QueueId {
    Queues::id(&"soak".parse().expect("app"), &name.parse().expect("queue"))
}

pub(super) fn run(place: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let queues = match place.starts_with("postgres://") {
            true => Queues::postgres(place.parse().expect("a URL")),
            false => Queues::open(Path::new(place)).expect("opens"),
        };
        for dead in variable(DEAD).split_whitespace() {
            queues
                .holder_gone(dead, Timestamp::now())
                .await
                .expect("holder gone");
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(variable(LOG))
            .expect("log");
        let process = Process {
            queues,
            log: Arc::new(log),
            part: variable(PART).parse().expect("a part"),
            next: Arc::default(),
        };
        process.work().await;
    });
}

impl Process {
    async fn work(self) {
        let ordered = if self.part.is_first {
            self.part.jobs / ORDERED_SHARE
        } else {
            0
        };
        let many = self.part.jobs - ordered;
        let mut putters = JoinSet::new();
        putters.spawn(self.clone().put_all("ordered", "q", ordered));
        for putter in 0..PUTTERS {
            let jobs = many / PUTTERS + u64::from(putter < many % PUTTERS);
            putters.spawn(self.clone().put_all("many", "a", jobs));
        }
        // They end with the process.
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            workers.spawn(self.clone().take_all("many", "t", worker, TAKE_MAX));
        }
        if self.part.is_first {
            workers.spawn(self.clone().take_all("ordered", "o", WORKERS, 1));
        }
        workers.spawn(self.clone().tick());
        putters.join_all().await;
        while !self.is_empty().await {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn write(&self, lines: &str) {
        // One write: what is in the file outlives the process.
        (&*self.log).write_all(lines.as_bytes()).expect("log");
    }

    async fn put_all(self, name: &str, kind: &str, jobs: u64) {
        let queue = queue(name);
        let mut left = jobs;
        while left > 0 {
            let n = fastrand::u64(1..=PUT_MAX).min(left);
            // All numbers have as many digits.
            let first = (self.part.number + 1) * 1_000_000_000 + self.next.fetch_add(n, Ordering::Relaxed);
            let job = |n: u64| NewJob {
                payload: n.to_string().into_bytes(),
                ..NewJob::default()
            };
            let put = (first..first + n).map(job).collect();
            self.queues.put(&queue, put, Timestamp::now()).await.expect("put");
            let lines: String = (first..first + n).map(|n| format!("{kind} {n}\n")).collect();
            self.write(&lines);
            left -= n;
        }
    }

    async fn take_all(self, name: &str, kind: &str, worker: usize, most: usize) {
        let queue = queue(name);
        let holder = format!("p{}/w.{worker}", self.part.number);
        let mut ready = self.queues.ready();
        loop {
            ready.mark_unchanged();
            let want = Want {
                queue: queue.clone(),
                jobs: most,
                running_max: None,
                rate: None,
            };
            let jobs = self
                .queues
                .take(vec![want], &holder, Timestamp::now())
                .await
                .expect("take");
            if jobs.is_empty() {
                let _ = tokio::time::timeout(LOOK, ready.changed()).await;
                continue;
            }
            let begun = |job: &Leased| {
                let n = String::from_utf8_lossy(&job.payload);
                format!("{kind} {} {n} {}\n", job.id, job.attempt)
            };
            self.write(&jobs.iter().map(begun).collect::<String>());
            self.done(&jobs).await;
        }
    }

    async fn done(&self, jobs: &[Leased]) {
        let said = jobs.iter().map(|job| SayJob {
            queue: job.queue.clone(),
            id: job.id,
            lease: job.lease,
            outcome: Outcome::Done,
        });
        let settled = self
            .queues
            .settle(said.collect(), Timestamp::now())
            .await
            .expect("settle");
        let kept = jobs
            .iter()
            .zip(settled)
            .filter(|(_, settled)| *settled == Settled::Kept(None));
        self.write(&kept.map(|(job, _)| format!("d {}\n", job.id)).collect::<String>());
    }

    async fn tick(self) {
        loop {
            self.queues.tick(Timestamp::now()).await.expect("tick");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn is_empty(&self) -> bool {
        let queues = self.queues.list(&queue("many").app).await.expect("list");
        let jobs = queues.iter().map(|queue| queue.counts);
        jobs.map(|counts| counts.ready + counts.running + counts.scheduled)
            .sum::<u64>()
            == 0
    }
}
