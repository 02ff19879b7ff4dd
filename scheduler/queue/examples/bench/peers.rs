//! What users would write themselves: a table with `SKIP LOCKED`, a list in Redis. A worker has one job at a time and a
//! connection of its own.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use super::{PAYLOAD_BYTES, PUT_TIME, PUTTERS, TIMED, WAITING, per_second, quantile, rate};

/// Workers of a peer, each with a connection.
const WORKERS: usize = 16;
/// How often a consumer looks that nobody wakes.
const LOOK: Duration = Duration::from_millis(50);
/// A deadline for Redis to start.
const START_MAX: Duration = Duration::from_secs(10);

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connect");
    tokio::spawn(async move { drop(connection.await) });
    client
}

const TAKE: &str =
    "DELETE FROM plain WHERE id = (SELECT id FROM plain ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
     RETURNING payload";

/// A table from which each worker deletes one row at a time.
pub(super) async fn skip_locked(url: &str) {
    let first = connect(url).await;
    let made = "CREATE TABLE plain (id bigserial PRIMARY KEY, payload bytea NOT NULL)";
    first.batch_execute(made).await.expect("table");
    let mut clients = Vec::new();
    for _ in 0..PUTTERS {
        let client = connect(url).await;
        let put = client
            .prepare("INSERT INTO plain (payload) VALUES ($1)")
            .await
            .expect("statement");
        let take = client.prepare(TAKE).await.expect("statement");
        clients.push((client, put, take));
    }
    let clients = Arc::new(clients);
    let putting = Arc::clone(&clients);
    let puts = rate(PUTTERS, move |caller| {
        let clients = Arc::clone(&putting);
        async move {
            let (client, put, _) = &clients[caller];
            client
                .execute(put, &[&vec![7_u8; PAYLOAD_BYTES]])
                .await
                .expect("put");
        }
    })
    .await;
    first.batch_execute("TRUNCATE plain").await.expect("empty");
    let fill = format!(
        "INSERT INTO plain (payload) SELECT repeat('7', {PAYLOAD_BYTES})::bytea FROM generate_series(1, {WAITING})"
    );
    first.batch_execute(&fill).await.expect("fill");
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let clients = Arc::clone(&clients);
        workers.spawn(async move {
            let (client, _, take) = &clients[worker];
            let mut done = 0;
            // A part of them: one at a time takes long.
            while begun.elapsed() < PUT_TIME && !client.query(take, &[]).await.expect("take").is_empty() {
                done += 1;
            }
            done
        });
    }
    let done: usize = workers.join_all().await.into_iter().sum();
    let done = per_second(done, begun);
    first.batch_execute("TRUNCATE plain").await.expect("empty");
    let (client, put, _) = &clients[0];
    let looking = Arc::clone(&clients);
    let (found, mut founds) = tokio::sync::mpsc::channel(1);
    let looker = tokio::spawn(async move {
        let (client, _, take) = &looking[1];
        loop {
            if client.query(take, &[]).await.expect("take").is_empty() {
                tokio::time::sleep(LOOK).await;
            } else if found.send(Instant::now()).await.is_err() {
                return;
            }
        }
    });
    let mut times = Vec::new();
    for _ in 0..TIMED / 3 {
        let begun = Instant::now();
        client
            .execute(put, &[&vec![7_u8; PAYLOAD_BYTES]])
            .await
            .expect("put");
        let found = founds.recv().await.expect("found");
        times.push(u64::try_from((found - begun).as_micros()).unwrap_or(u64::MAX));
    }
    looker.abort();
    print(
        &format!("a table with SKIP LOCKED, a look every {LOOK:?}"),
        puts,
        done,
        &mut times,
    );
}

fn print(name: &str, puts: f64, done: f64, times: &mut [u64]) {
    println!(
        "{name:<44} {puts:>8.0} {done:>10.0} {:>9.2} {:>9.2}",
        quantile(times, 50),
        quantile(times, 99)
    );
}

struct Redis {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    /// None when it is not here.
    fn start(fsync: &str) -> Option<Self> {
        let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_string());
        let folder = tempfile::tempdir().expect("folder");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a port")
            .port();
        let mut command = Command::new(program);
        command.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--save",
            "",
            "--appendonly",
            "yes",
        ]);
        command.args(["--appendfsync", fsync, "--dir"]).arg(folder.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let redis = Self {
            child,
            port,
            _folder: folder,
        };
        let end = Instant::now() + START_MAX;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(redis)
    }

    fn connect(&self) -> Line {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        stream.set_nodelay(true).expect("no delay");
        Line(BufReader::new(stream))
    }
}

/// A connection: one command at a time.
struct Line(BufReader<TcpStream>);

impl Line {
    /// Sends a command and reads its answer; whether there was one but nil.
    fn ask(&mut self, words: &[&[u8]]) -> bool {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).bytes());
            command.extend_from_slice(word);
            command.extend(b"\r\n");
        }
        self.0.get_mut().write_all(&command).expect("send");
        let head = self.line();
        match head.as_bytes()[0] {
            b'*' if head.starts_with("*-1") => false,
            b'*' => {
                (0..4).for_each(|_| drop(self.line()));
                true
            }
            b'$' if head.starts_with("$-1") => false,
            b'$' => {
                self.line();
                true
            }
            b'-' => panic!("{head}"),
            _ => true,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        line
    }
}

/// A list: `LPUSH`, and a worker that has popped a job and dies has lost it.
pub(super) async fn redis(fsync: &str) {
    let name = format!("a list in Redis, appendfsync {fsync}");
    let Some(redis) = Redis::start(fsync) else {
        println!("{name:<44} redis-server is not here");
        return;
    };
    // Blocking threads: the client is not what is measured.
    let measured = tokio::task::spawn_blocking(move || {
        let payload = [7_u8 + b'0'; PAYLOAD_BYTES];
        let each = |threads: usize, until: Duration, words: &[&[u8]]| {
            let begun = Instant::now();
            let done: usize = std::thread::scope(|scope| {
                let all: Vec<_> = (0..threads)
                    .map(|_| {
                        let mut line = redis.connect();
                        scope.spawn(move || {
                            let mut n = 0;
                            while begun.elapsed() < until && line.ask(words) {
                                n += 1;
                            }
                            n
                        })
                    })
                    .collect();
                all.into_iter().map(|thread| thread.join().expect("ends")).sum()
            });
            per_second(done, begun)
        };
        let puts = each(PUTTERS, PUT_TIME, &[b"LPUSH", b"jobs", &payload]);
        let done = each(WORKERS, PUT_TIME, &[b"RPOP", b"jobs"]);
        redis.connect().ask(&[b"DEL", b"jobs"]);
        let mut times = Vec::new();
        let (mut putter, mut popper) = (redis.connect(), redis.connect());
        let (begin, begins) = std::sync::mpsc::sync_channel::<()>(0);
        let (found, founds) = std::sync::mpsc::sync_channel(1);
        let worker = std::thread::spawn(move || {
            while begins.recv().is_ok() {
                popper.ask(&[b"BRPOP", b"jobs", b"0"]);
                let _ = found.send(Instant::now());
            }
        });
        for _ in 0..TIMED {
            begin.send(()).expect("it waits");
            std::thread::sleep(Duration::from_millis(2));
            let begun = Instant::now();
            putter.ask(&[b"LPUSH", b"jobs", &payload]);
            let found: Instant = founds.recv().expect("found");
            times.push(u64::try_from((found - begun).as_micros()).unwrap_or(u64::MAX));
        }
        drop(begin);
        worker.join().expect("ends");
        (puts, done, times)
    });
    let (puts, done, mut times) = measured.await.expect("measured");
    print(&name, puts, done, &mut times);
}
