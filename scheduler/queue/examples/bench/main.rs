//! What queues cost: jobs put and done per second, the time from put to handler, and what poison does to other jobs, on
//! a file and on a PostgreSQL of this machine, beside what users would otherwise write: a table with `SKIP LOCKED`, and
//! a list in Redis. `make bench-queue` runs it.
//!
//! All are durable: each answer follows an `fsync` (Redis: `appendfsync always`, and its own default beside it).

mod peers;
#[path = "../../tests/postgres_process/mod.rs"]
mod postgres_process;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use gilliam_model::{
    Timestamp,
    queue::{Leased, NewJob, Outcome, QueueId, SayJob},
};
use gilliam_queue::{Queues, Want};
use tokio::task::JoinSet;

/// Callers that put one job at a time.
const PUTTERS: usize = 64;
/// Time of a measurement of puts.
const PUT_TIME: Duration = Duration::from_secs(3);
/// Jobs that wait when it is measured how fast they are done.
const WAITING: usize = 30_000;
/// Who takes and acknowledges so many at a time: nodes with room for as many.
const TAKERS: usize = 4;
const TAKEN: usize = 100;
/// Jobs whose way to the handler is timed, one after another.
const TIMED: usize = 300;
/// The size of a small job.
const PAYLOAD_BYTES: usize = 100;
/// With and without poison: jobs a second, for this time, one in ten of them poison.
const POISON_TIME: Duration = Duration::from_secs(6);
const POISON_PACE: Duration = Duration::from_millis(4);
const POISON_WORKERS: usize = 8;

fn queue() -> QueueId {
    Queues::id(&"bench".parse().expect("app"), &"jobs".parse().expect("queue"))
}

fn job(payload: Vec<u8>) -> NewJob {
    NewJob {
        payload,
        ..NewJob::default()
    }
}

async fn put(queues: &Queues, jobs: Vec<NewJob>) {
    queues.put(&queue(), jobs, Timestamp::now()).await.expect("put");
}

async fn take(queues: &Queues, jobs: usize) -> Vec<Leased> {
    let want = Want {
        queue: queue(),
        jobs,
        running_max: None,
        rate: None,
    };
    queues
        .take(vec![want], "n/w.1", Timestamp::now())
        .await
        .expect("take")
}

async fn say(queues: &Queues, jobs: &[Leased], outcome: impl Fn(&Leased) -> Outcome) {
    let said = jobs.iter().map(|job| SayJob {
        queue: job.queue.clone(),
        id: job.id,
        lease: job.lease,
        outcome: outcome(job),
    });
    queues
        .settle(said.collect(), Timestamp::now())
        .await
        .expect("settle");
}

/// Times an operation is done a second by so many at once.
async fn rate<F: Future<Output = ()> + Send + 'static>(
    callers: usize,
    once: impl Fn(usize) -> F + Clone + Send + 'static,
) -> f64 {
    let (begun, end) = (Instant::now(), Instant::now() + PUT_TIME);
    let mut all = JoinSet::new();
    for caller in 0..callers {
        let once = once.clone();
        let run = move || async move {
            let mut n = 0_u32;
            while Instant::now() < end {
                once(caller).await;
                n += 1;
            }
            n
        };
        all.spawn(run());
    }
    let n: u32 = all.join_all().await.into_iter().sum();
    f64::from(n) / begun.elapsed().as_secs_f64()
}

/// Jobs done a second while none comes.
async fn done_rate(queues: &Queues) -> f64 {
    for _ in 0..WAITING / 1_000 {
        put(queues, vec![job(vec![7; PAYLOAD_BYTES]); 1_000]).await;
    }
    let begun = Instant::now();
    let mut takers = JoinSet::new();
    for _ in 0..TAKERS {
        let queues = queues.clone();
        takers.spawn(async move {
            let mut done = 0;
            loop {
                let jobs = take(&queues, TAKEN).await;
                if jobs.is_empty() {
                    return done;
                }
                done += jobs.len();
                say(&queues, &jobs, |_| Outcome::Done).await;
            }
        });
    }
    let done: usize = takers.join_all().await.into_iter().sum();
    per_second(done, begun)
}

fn per_second(n: usize, begun: Instant) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX)) / begun.elapsed().as_secs_f64()
}

/// Microseconds since the program began, in a payload.
fn stamp(begun: Instant) -> Vec<u8> {
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    micros.to_be_bytes().to_vec()
}

fn since(begun: Instant, payload: &[u8]) -> u64 {
    let then = payload
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX) - then
}

/// The time from put to handler when nothing else happens: the job is put, a waiting worker is woken and takes it.
async fn latencies(queues: &Queues) -> Vec<u64> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while !take(queues, TAKEN).await.is_empty() {}
    for _ in 0..TIMED {
        let taker = queues.clone();
        let mut ready = taker.ready();
        ready.mark_unchanged();
        let woken = tokio::spawn(async move {
            loop {
                ready.changed().await.expect("open");
                if let Some(job) = take(&taker, 1).await.pop() {
                    return (since(begun, &job.payload), job);
                }
            }
        });
        put(queues, vec![job(stamp(begun))]).await;
        let (time, job) = woken.await.expect("a job");
        times.push(time);
        say(queues, &[job], |_| Outcome::Done).await;
    }
    times
}

/// How long good jobs wait, in microseconds, while one in ten is poison, or none.
async fn waits(queues: &Queues, with_poison: bool) -> Vec<u64> {
    let begun = Instant::now();
    let end = begun + POISON_TIME;
    let mut workers = JoinSet::new();
    for _ in 0..POISON_WORKERS {
        let queues = queues.clone();
        workers.spawn(async move {
            let mut times = Vec::new();
            let mut ready = queues.ready();
            while Instant::now() < end + Duration::from_millis(500) {
                ready.mark_unchanged();
                let jobs = take(&queues, 1).await;
                if jobs.is_empty() {
                    let _ = tokio::time::timeout(Duration::from_millis(50), ready.changed()).await;
                }
                for job in jobs {
                    let is_poison = job.payload.len() > 8;
                    if !is_poison {
                        times.push(since(begun, &job.payload));
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    let outcome = |_: &Leased| match is_poison {
                        false => Outcome::Done,
                        true => Outcome::Retry {
                            error: "poison".to_string(),
                            after_ms: Some(300),
                        },
                    };
                    say(&queues, &[job], outcome).await;
                }
            }
            times
        });
    }
    let ticker = queues.clone();
    let ticks = tokio::spawn(async move {
        loop {
            ticker.tick(Timestamp::now()).await.expect("tick");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut pace = tokio::time::interval(POISON_PACE);
    for n in 0_u64.. {
        if Instant::now() >= end {
            break;
        }
        pace.tick().await;
        let mut payload = stamp(begun);
        if with_poison && n % 10 == 0 {
            payload.push(0);
        }
        put(
            queues,
            vec![NewJob {
                attempts_max: Some(5),
                ..job(payload)
            }],
        )
        .await;
    }
    let times = workers.join_all().await.into_iter().flatten().collect();
    ticks.abort();
    times
}

/// The share of the times that are at most this long.
fn quantile(times: &mut [u64], share: usize) -> f64 {
    times.sort_unstable();
    let time = times
        .get(times.len() * share / 100)
        .or(times.last())
        .copied()
        .unwrap_or(0);
    f64::from(u32::try_from(time).unwrap_or(u32::MAX)) / 1_000.0
}

async fn ours(name: &str, queues: &Queues) {
    let puts = {
        let queues = queues.clone();
        rate(PUTTERS, move |_| {
            let queues = queues.clone();
            async move { put(&queues, vec![job(vec![7; PAYLOAD_BYTES])]).await }
        })
        .await
    };
    while !take(queues, 1_000).await.is_empty() {}
    let done = done_rate(queues).await;
    let mut idle = latencies(queues).await;
    println!(
        "{name:<44} {puts:>8.0} {done:>10.0} {:>9.2} {:>9.2}",
        quantile(&mut idle, 50),
        quantile(&mut idle, 99)
    );
}

/// Prints what poison does to other jobs.
async fn poison(name: &str, queues: &Queues) {
    let mut found = BTreeMap::new();
    for with_poison in [false, true] {
        let mut times = waits(queues, with_poison).await;
        found.insert(with_poison, (quantile(&mut times, 95), times.len()));
    }
    let ((without, n), (with, m)) = (found[&false], found[&true]);
    println!(
        "{name:<44} p95 wait of good jobs {without:.2} ms ({n} jobs), with one in ten poison {with:.2} ms ({m})"
    );
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("folder");
    let file = Queues::open(folder.path()).expect("opens");
    let database = postgres_process::database();
    let shared = Queues::postgres(database.url().parse().expect("a URL"));
    println!(
        "{:<44} {:>8} {:>10} {:>9} {:>9}",
        "", "put/s", "done/s", "p50 ms", "p99 ms"
    );
    ours("gilliam, in a file", &file).await;
    ours("gilliam, in PostgreSQL", &shared).await;
    peers::skip_locked(&database.url()).await;
    for fsync in ["always", "everysec"] {
        peers::redis(fsync).await;
    }
    println!();
    poison("gilliam, in a file", &file).await;
    poison("gilliam, in PostgreSQL", &shared).await;
}
