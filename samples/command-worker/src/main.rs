//! A worker that is a program of its own: it takes jobs from a queue of its app in a loop, and says what became
//! of each.
//!
//! `worker.wasm QUEUE`. While it waits for jobs it is suspended, and costs the node next to nothing. A job whose
//! payload begins with `fail` is tried again a second later, one with `never` is discarded, one with `crash` ends the
//! program.

mod http;

use std::{env, process::ExitCode};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;

/// Longest wait for jobs in one request; the platform ends it a little later at the latest.
const WAIT_MS: u64 = 20_000;

#[derive(Deserialize)]
struct Taken {
    jobs: Vec<Job>,
}

/// A job, and the number of the lease under which we have it: every word about it names that.
#[derive(Deserialize)]
struct Job {
    id: String,
    lease: u32,
    attempt: u32,
    payload: String,
}

fn main() -> ExitCode {
    let Some(queue) = env::args().nth(1) else {
        eprintln!("usage: worker.wasm QUEUE");
        return ExitCode::FAILURE;
    };
    println!("waits for jobs of {queue}");
    loop {
        let path = format!("/{queue}/take?max=1&wait_ms={WAIT_MS}");
        let jobs = match http::post(&path, b"") {
            Ok((200, body)) => serde_json::from_slice::<Taken>(&body).map(|taken| taken.jobs),
            Ok((status, body)) => {
                // The platform starts us again, later each time.
                eprintln!("no jobs: {status} {}", String::from_utf8_lossy(&body));
                return ExitCode::FAILURE;
            }
            Err(reason) => {
                eprintln!("no jobs: {reason}");
                return ExitCode::FAILURE;
            }
        };
        for job in jobs.unwrap_or_default() {
            let payload = BASE64.decode(&job.payload).unwrap_or_default();
            let payload = String::from_utf8_lossy(&payload);
            println!("job {} attempt {}: {payload}", job.id, job.attempt);
            let (verb, reason) = match payload.split(' ').next() {
                Some("crash") => return ExitCode::FAILURE,
                Some("fail") => ("retry", payload.as_bytes()),
                Some("never") => ("discard", payload.as_bytes()),
                _ => ("done", &b""[..]),
            };
            let after = if verb == "retry" { "&after_ms=1000" } else { "" };
            let path = format!("/{queue}/jobs/{}/{verb}?lease={}{after}", job.id, job.lease);
            match http::post(&path, reason) {
                Ok((200, _)) => {}
                // 409: the lease has passed on, and somebody else has the job.
                Ok((status, body)) => eprintln!("{verb}: {status} {}", String::from_utf8_lossy(&body)),
                Err(reason) => eprintln!("{verb}: {reason}"),
            }
        }
    }
}
