//! What holds for queues in PostgreSQL besides what holds for all: several servers, and a PostgreSQL that falters.

#[path = "../postgres_process/mod.rs"]
mod postgres_process;
mod tls;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gilliam_model::{
    Timestamp,
    code::Code,
    queue::{JobState, Leased, NewJob, Outcome, QueueId, SayJob},
};
use gilliam_queue::{PostgresConfig, Put, QueueError, Queues, Settled, Trouble, Want};
use postgres_process::{Database, Postgres};

/// Longest wait for a state.
const DEADLINE: Duration = Duration::from_secs(60);

fn emails() -> QueueId {
    Queues::id(&"shop".parse().expect("app"), &"emails".parse().expect("queue"))
}

fn job(text: &str) -> NewJob {
    NewJob {
        payload: text.as_bytes().to_vec(),
        ..NewJob::default()
    }
}

fn open(url: &str) -> Queues {
    Queues::postgres(url.parse().expect("a URL"))
}

async fn put(queues: &Queues, text: &str) -> Result<Put, QueueError> {
    let put = queues.put(&emails(), vec![job(text)], Timestamp::now()).await;
    put.map(|put| put[0])
}

async fn take(queues: &Queues, jobs: usize) -> Result<Vec<Leased>, QueueError> {
    let want = Want {
        queue: emails(),
        jobs,
        running_max: None,
        rate: None,
    };
    queues.take(vec![want], "n/w.1", Timestamp::now()).await
}

async fn done(queues: &Queues, jobs: &[Leased]) -> Vec<Settled> {
    let said = jobs.iter().map(|job| SayJob {
        queue: job.queue.clone(),
        id: job.id,
        lease: job.lease,
        outcome: Outcome::Done,
    });
    let settled = queues.settle(said.collect(), Timestamp::now()).await;
    settled.expect("settle")
}

/// What is wrong, as users are told.
async fn trouble(queues: &Queues) -> (Trouble, Code, String) {
    let error = put(queues, "x").await.expect_err("it cannot be put");
    let QueueError::Engine { trouble, .. } = error else {
        panic!("{error}");
    };
    let text = format!("{error}; {}", error.hint().expect("a hint"));
    assert!(!text.contains("s3cret"), "{text}");
    (trouble, error.code(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_share_queues_and_wake_each_other() {
    let database = postgres_process::database();
    let [one, other] = [(); 2].map(|()| open(&database.url()));
    // Both are connected from here on.
    assert_eq!(take(&one, 1).await, Ok(Vec::new()));
    assert_eq!(take(&other, 1).await, Ok(Vec::new()));
    database.wait_for_listeners(2);
    let mut ready = other.ready();
    ready.mark_unchanged();
    put(&one, "a").await.expect("put");
    let woken = tokio::time::timeout(DEADLINE, ready.changed()).await;
    woken.expect("it is told without looking").expect("open");
    assert_eq!(other.giving(&[emails()]), [emails()]);
    let taken = take(&other, 5).await.expect("take");
    assert_eq!(taken.len(), 1);
    assert_eq!(take(&one, 5).await, Ok(Vec::new()), "it is leased");
    one.tick(Timestamp::now()).await.expect("tick");
    assert_eq!(one.giving(&[emails()]), []);
    assert_eq!(
        done(&one, &taken).await,
        [Settled::Kept(None)],
        "any server hears a worker"
    );
    assert_eq!(done(&other, &taken).await, [Settled::Lost]);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_which_no_notice_came_are_found_by_looking() {
    let database = postgres_process::database();
    let [one, other] = [(); 2].map(|()| open(&database.url()));
    put(&one, "a").await.expect("put");
    drop(one);
    other.tick(Timestamp::now()).await.expect("tick");
    assert_eq!(other.giving(&[emails()]), [emails()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_the_way_out_and_all_goes_on_once_it_is_mended() {
    let postgres = Postgres::start("");
    let database = postgres.database();
    let wrong = open(&database.url().replace("s3cret", "wrong"));
    let (found, code, text) = trouble(&wrong).await;
    assert_eq!((found, code), (Trouble::Credentials, Code::S13), "{text}");
    let missing = open(&format!("{}_missing", database.url()));
    let (found, _, text) = trouble(&missing).await;
    assert_eq!(found, Trouble::Database, "{text}");
    database.sql("CREATE USER bob PASSWORD 's3cret'");
    let poor = open(&database.url().replace("ada", "bob"));
    let (found, code, text) = trouble(&poor).await;
    assert_eq!((found, code), (Trouble::Forbidden, Code::S10), "{text}");

    let queues = open(&database.url());
    put(&queues, "before").await.expect("put");
    postgres.kill();
    let (found, code, text) = trouble(&queues).await;
    assert_eq!((found, code), (Trouble::Away, Code::S13), "{text}");
    assert!(queues.tick(Timestamp::now()).await.is_err());
    postgres.run_again();
    let end = Instant::now() + DEADLINE;
    while put(&queues, "after").await.is_err() {
        assert!(Instant::now() < end, "it does not go on");
    }
    let jobs = take(&queues, 9).await.expect("take");
    let texts: Vec<&[u8]> = jobs.iter().map(|job| job.payload.as_slice()).collect();
    assert_eq!(texts, [b"before".as_slice(), b"after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_another_cluster_and_of_a_newer_program_are_left_alone() {
    let database = postgres_process::database();
    let of = |cluster: &str| {
        let config: PostgresConfig = database.url().parse().expect("a URL");
        Queues::postgres(config.of_cluster(cluster.to_string()))
    };
    put(&of("one"), "a").await.expect("put");
    put(&of("one"), "b").await.expect("put");
    let (found, _, text) = trouble(&of("other")).await;
    assert_eq!(found, Trouble::Foreign, "{text}");
    database.sql("UPDATE gilliam_queue.layout SET number = 99");
    let (found, _, text) = trouble(&of("one")).await;
    assert_eq!(found, Trouble::Newer, "{text}");
}

/// PostgreSQL is killed while four callers put: what was acknowledged is there, each once.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_when_postgresql_is_killed() {
    let postgres = Postgres::start("");
    let database = postgres.database();
    let queues = open(&database.url());
    let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let putters = (0..4).map(|putter| {
        let (queues, acknowledged) = (queues.clone(), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            for n in 0.. {
                let text = format!("{putter}.{n}");
                if put(&queues, &text).await.is_ok() {
                    let mut acknowledged = acknowledged.lock().expect("lock");
                    acknowledged.insert(text);
                    if acknowledged.len() >= 600 {
                        return;
                    }
                }
            }
        })
    });
    let putters: Vec<_> = putters.collect();
    for least in [150, 350] {
        let end = Instant::now() + DEADLINE;
        while acknowledged.lock().expect("lock").len() < least {
            assert!(Instant::now() < end, "jobs are not put");
            tokio::task::yield_now().await;
        }
        postgres.kill();
        postgres.run_again();
    }
    for putter in putters {
        let ended = tokio::time::timeout(DEADLINE, putter).await;
        ended.expect("in time").expect("ends");
    }
    let mut seen = BTreeSet::new();
    loop {
        let jobs = take(&queues, 100).await.expect("take");
        if jobs.is_empty() {
            break;
        }
        for job in &jobs {
            let text = String::from_utf8(job.payload.clone()).expect("text");
            assert!(seen.insert(text), "twice: {job:?}");
        }
        assert!(
            done(&queues, &jobs)
                .await
                .iter()
                .all(|settled| *settled == Settled::Kept(None))
        );
    }
    let acknowledged = acknowledged.lock().expect("lock");
    let lost: Vec<_> = acknowledged.difference(&seen).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Statements go by indexes, however full the tables are.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_all_jobs() {
    let postgres = Postgres::start("autovacuum = off");
    let database = postgres.database();
    let scans = || {
        database.wait_until_alone();
        database.sql("SELECT seq_scan FROM pg_stat_all_tables WHERE relid = 'gilliam_queue.jobs'::regclass")
    };
    put(&open(&database.url()), "to make the tables")
        .await
        .expect("put");
    let before = scans();
    let queues = open(&database.url());
    let now = Timestamp::now();
    for round in 0..20 {
        let jobs: Vec<_> = (0..500).map(|n| job(&format!("{round}.{n}"))).collect();
        queues.put(&emails(), jobs, now).await.expect("put");
    }
    let keyed = NewJob {
        key: Some("k".to_string()),
        not_before: Some(now + Duration::from_secs(60)),
        ..job("x")
    };
    queues
        .put(&emails(), vec![keyed.clone(), keyed], now)
        .await
        .expect("put");
    let jobs = take(&queues, 300).await.expect("take");
    done(&queues, &jobs[..100]).await;
    let said = |outcome: Outcome, job: &Leased| SayJob {
        queue: emails(),
        id: job.id,
        lease: job.lease,
        outcome,
    };
    let error = || "no".to_string();
    let words = [
        said(Outcome::Discard { error: error() }, &jobs[100]),
        said(Outcome::Extend { for_ms: 60_000 }, &jobs[101]),
    ];
    queues.settle(words.into(), now).await.expect("settle");
    queues.tick(now + Duration::from_secs(61)).await.expect("tick");
    queues.holder_gone("n", now).await.expect("holder gone");
    for state in JobState::ALL {
        queues.jobs(&emails(), state, 20).await.expect("jobs");
    }
    queues.retry(&emails(), None, now).await.expect("retry");
    queues.list(&emails().app).await.expect("list");
    queues.purge(&emails(), &JobState::ALL).await.expect("purge");
    queues.remove(&emails().app).await.expect("remove");
    drop(queues);
    assert_eq!(scans(), before);
    assert_eq!(database.sql("SELECT count(*) FROM gilliam_queue.jobs"), "0");
}

impl Database {
    fn wait(&self, what: &str, sql: &str, expected: &str) {
        let end = Instant::now() + DEADLINE;
        while self.sql(sql) != expected {
            assert!(Instant::now() < end, "{what}");
        }
    }

    fn wait_for_listeners(&self, n: usize) {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND query = 'LISTEN gilliam_queue' AND state = 'idle'";
        self.wait("servers listen", sql, &n.to_string());
    }

    fn wait_until_alone(&self) {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        self.wait("all connections end", sql, "0");
    }
}
